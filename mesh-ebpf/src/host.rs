//! What this node says to itself: takes packets of its own processes to published ports, which pass
//! the loopback interface. All else there is the host's, and goes on unchanged.

use mesh_common::addr::Addr;
use mesh_common::counter::Counter;
use mesh_common::drop::DropReason;
use mesh_common::flow::{FlowKey, state};
use mesh_common::header::EthHeader;
use mesh_common::node::{LOOPBACK, NodeConfig};
use mesh_common::parse::{self, Bytes as _, ETH_LEN};
use mesh_common::watch::hook;

use crate::conntrack::{self, Side};
use crate::dial::{self, Dial};
use crate::local::Origin;
use crate::nat::{self, End};
use crate::packet::{Packet as _, TcPacket};
use crate::refuse::Back;
use crate::verdict::{Packed, Step, Verdict};
use crate::{maps, masquerade};

/// Longest headers looked at: Ethernet, IPv6 and TCP.
const PULL: usize = ETH_LEN + 40 + 20;

/// Takes the packet if it dials a published port, or answers one who did.
#[inline(always)]
pub(crate) fn from_host(packet: &mut TcPacket<'_>) -> Result<Verdict, DropReason> {
    let comes_home = packet.take_mark();
    let dial = maps::dial_room()?;
    (dial.vni, dial.hook) = (0, hook::HOST);
    match examine(packet, dial).step()? {
        Step::Return => masquerade::to_owner(packet, dial).outcome(),
        Step::Balance if !comes_home => {
            maps::count(Counter::FromHost);
            dial.balance(packet)
        }
        _ => Ok(Verdict::Pass),
    }
}

/// Gives the packet an address that others know, if it dials a published port and has none.
#[inline(always)]
pub(crate) fn lend(packet: &mut TcPacket<'_>) -> Result<Verdict, DropReason> {
    // Sent here by our programs it is for a process, whatever its port.
    if packet.is_marked() {
        return Ok(Verdict::Pass);
    }
    let dial = maps::dial_room()?;
    (dial.vni, dial.hook) = (0, hook::HOST_LEND);
    let Step::Outside = examine(packet, dial).step()? else { return Ok(Verdict::Pass) };
    match enter(packet, dial) {
        Ok(()) => Ok(Verdict::Pass), // it dials by the node's address now, or is a process's
        Err(reason) => dial.or_refuse(packet, Err(reason)),
    }
}

/// Reads the packet's headers into `dial` and says what it is.
///
/// A function of its own in the kernel too: see `verdict`.
#[inline(never)]
fn examine(packet: &mut TcPacket<'_>, dial: &mut Dial) -> Packed {
    Packed::of_step(Ok(step_of(packet, dial)))
}

#[inline(always)]
fn step_of(packet: &mut TcPacket<'_>, dial: &mut Dial) -> Step {
    let Ok(config) = maps::node_config() else { return Step::Pass };
    packet.pull(PULL);
    let Some(eth) = packet.read::<EthHeader>(0) else { return Step::Pass };
    let Ok(Some(ip)) = parse::ip(packet, &eth, 0) else { return Step::Pass };
    let Ok(Some(transport)) = parse::transport(packet, &ip) else { return Step::Pass };
    (dial.eth, dial.ip, dial.transport) = (eth, ip, transport);
    if ip.src == ip.dst && config.is_lent(transport.ports.dst) && masquerade::find(config, dial) {
        return Step::Return;
    }
    dials(config, dial)
}

/// Does the packet dial a published port, and from which address will others see that it does?
#[inline(always)]
fn dials(config: &NodeConfig, dial: &mut Dial) -> Step {
    let by_loopback = dial.ip.dst.is_loopback();
    if by_loopback && dial.ip.src != dial.ip.dst {
        return Step::Pass;
    }
    let target = if by_loopback { config.own_like(&dial.ip.dst) } else { dial.ip.dst };
    let dialled = parse::Ip { dst: target, ..dial.ip };
    let Some(service) = dial::published(&dialled, &dial.transport) else { return Step::Pass };
    (dial.service, dial.vni) = (service, config.ingress_vni);
    dial.origin = Origin { bits: state::PUBLISHED | state::HERE, number: LOOPBACK };
    dial.back = Back::Home;
    dial.flow.dialled = target;
    dial.flow.origin = LOOPBACK;
    // An address that only this node knows, or one that the dialled does not lead back to.
    if dial.ip.src == target { Step::Balance } else { Step::Outside }
}

/// Gives the packet the node's address as both ends, and a port lent as its source.
#[inline(always)]
fn enter(packet: &mut TcPacket<'_>, dial: &mut Dial) -> Result<(), DropReason> {
    if known(dial).step().is_err() {
        // Who listens on the loopback address alone is not reached from outside, and keeps the port there.
        let is_v4 = dial.ip.dst.is_v4();
        if dial.ip.dst.is_loopback() && packet.is_awaited(is_v4, &dial.transport.ports, dial.ip.proto) {
            return Ok(());
        }
        let target = dial.flow.dialled;
        masquerade::lend(dial, &target, LOOPBACK)?;
    }
    translate(packet, dial).outcome().map(|_| ())
}

/// Puts the port that the flow has already into `dial.flow`, if it has one.
#[inline(never)]
fn known(dial: &mut Dial) -> Packed {
    let target = dial.flow.dialled;
    Packed::of_step(match is_known(dial, &target) {
        Ok(true) => Ok(Step::Pass),
        Ok(false) => Err(DropReason::UnknownFlow),
        Err(reason) => Err(reason),
    })
}

#[inline(never)]
fn translate(packet: &mut TcPacket<'_>, dial: &Dial) -> Packed {
    Packed::new(rewrite(packet, dial))
}

#[inline(always)]
fn rewrite(packet: &mut TcPacket<'_>, dial: &Dial) -> Result<Verdict, DropReason> {
    let target = dial.flow.dialled;
    nat::rewrite(packet, &dial.ip, End::Source, &target, Some(dial.flow.dialled_port))?;
    nat::rewrite(packet, &dial.ip, End::Destination, &target, None)?;
    Ok(Verdict::Pass)
}

/// Has the flow a port already? Then it is in `dial.flow`.
#[inline(always)]
fn is_known(dial: &mut Dial, target: &Addr) -> Result<bool, DropReason> {
    let ports = dial.transport.ports;
    let key = FlowKey {
        client: *target,
        ifindex: LOOPBACK,
        client_port: ports.dst,
        task_port: ports.src,
        proto: dial.ip.proto,
    };
    let mask = maps::node_config()?.flow_mask;
    let Some(flow) = conntrack::find(&key, mask, Side::Task, dial.transport.tcp_flags) else { return Ok(false) };
    let origin_kept = flow.dialled == *target;
    dial.flow = flow;
    Ok(origin_kept && masquerade::is_lent_still(dial, target))
}
