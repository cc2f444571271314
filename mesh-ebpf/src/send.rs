//! Takes what a task sends: checks that it speaks for itself, and sends it to the task, the service
//! or the client it is for. Reads `ENDPOINTS` and `SERVICES`.

use mesh_common::addr::Mac;
use mesh_common::counter::Counter;
use mesh_common::drop::DropReason;
use mesh_common::endpoint::{Endpoint, Link};
use mesh_common::flow::{FlowKey, state};
use mesh_common::header::{EthHeader, Ports, proto};
use mesh_common::maglev;
use mesh_common::node::{LOOPBACK, NodeConfig};
use mesh_common::parse::{self, Bytes as _, ETH_LEN, Transport};
use mesh_common::service::ServiceKey;
use mesh_common::watch::hook;

use crate::conntrack::{self, Side};
use crate::dial::Dial;
use crate::local::Origin;
use crate::maps::Found;
use crate::nat::{self, End};
use crate::packet::{MARK, Packet, TcPacket};
use crate::refuse::Back;
use crate::verdict::{Packed, Step, Verdict};
use crate::{maps, masquerade, vxlan};

/// Longest headers looked at: Ethernet, IPv6 and TCP.
const PULL: usize = ETH_LEN + 40 + 20;

/// Is the frame's sender who it says?
#[inline(always)]
pub(crate) fn admit(packet: &mut TcPacket<'_>, link: &Link) -> Result<(), DropReason> {
    packet.pull(PULL);
    let source: Mac = packet.need(core::mem::offset_of!(EthHeader, src))?;
    if source != link.mac {
        return Err(DropReason::SpoofedMac);
    }
    if packet.is_tagged() {
        return Err(DropReason::UnknownProtocol); // the tag would end up on the tunnel
    }
    Ok(())
}

/// Sends the frame where it is meant to go.
#[inline(always)]
pub(crate) fn onward(packet: &mut TcPacket<'_>, link: &Link, dial: &mut Dial) -> Result<Verdict, DropReason> {
    match examine(packet, link, dial).step()? {
        // To the outside, and no flow yet, or none that still has its port: `outward` is next in line.
        Step::Outside => Ok(Verdict::Pass),
        Step::Reply if !masquerade::goes_on(dial) => Ok(Verdict::Pass),
        Step::Reply => reply(packet, link, dial).outcome(),
        Step::Balance => dial.balance(packet),
        _ => {
            dial.back = Back::Interface(packet.ifindex());
            let outcome = to_endpoint(packet, link, dial);
            dial.or_refuse(packet, outcome)
        }
    }
}

/// Opens a flow to the outside for a frame that [`onward`] passed on, and sends it.
#[inline(always)]
pub(crate) fn outward(packet: &mut TcPacket<'_>, link: &Link) -> Result<Verdict, DropReason> {
    packet.pull(PULL);
    let dial = maps::dial_room()?;
    (dial.vni, dial.hook) = (link.vni, hook::OUTWARD);
    // What `onward` saw, read again: what lies in the room is not told from program to program.
    let (Step::Outside | Step::Reply) = examine(packet, link, dial).step()? else { return Ok(Verdict::Pass) };
    dial.back = Back::Interface(packet.ifindex());
    match masquerade::leave(dial, link, packet.ifindex()) {
        Ok(()) => reply(packet, link, dial).outcome(),
        // RFC 1122 section 3.2.2: what names many, or nobody that others know, is not answered.
        Err(reason) if !dial.ip.dst.is_of_one_host() => Err(reason),
        Err(reason) => dial.or_refuse(packet, Err(reason)),
    }
}

/// Reads the packet's headers into `dial` and says what it is.
///
/// A function of its own in the kernel too: see `verdict`.
#[inline(never)]
fn examine(packet: &mut TcPacket<'_>, link: &Link, dial: &mut Dial) -> Packed {
    Packed::of_step(step_of(packet, link, dial))
}

#[inline(always)]
fn step_of(packet: &mut TcPacket<'_>, link: &Link, dial: &mut Dial) -> Result<Step, DropReason> {
    dial.eth = packet.need(0)?;
    dial.ip = parse::ip(packet, &dial.eth, 0)?.ok_or(DropReason::UnknownProtocol)?;
    if dial.eth.dst.is_group() {
        return Err(DropReason::GroupTraffic);
    }
    if dial.ip.src != link.addr4 && dial.ip.src != link.addr6 {
        return Err(DropReason::SpoofedAddress);
    }
    let config = maps::node_config()?;
    let to_router = dial.eth.dst == Mac::ROUTER;
    let Some(transport) = parse::transport(packet, &dial.ip)? else {
        // No port leads to a service: another protocol, or a fragment.
        dial.transport = Transport { ports: Ports { src: [0; 2], dst: [0; 2] }, tcp_flags: 0 };
        return match (to_router, dial.ip.fragment) {
            (false, _) => Ok(Step::Endpoint),
            (true, true) => Err(DropReason::Fragment),
            (true, false) => Err(DropReason::UnsupportedTransport),
        };
    };
    dial.transport = transport;
    if is_reply(packet, config, dial) {
        return Ok(Step::Reply);
    }
    if dial.ip.proto == proto::UDP && transport.ports.dst == config.vxlan_port {
        // A task that speaks VXLAN to the overlay's own port wants to be taken for a node.
        return Err(DropReason::Nested);
    }
    if !to_router {
        return Ok(Step::Endpoint);
    }
    let Some(service) = maps::service(&ServiceKey::vip(link.vni, dial.ip.dst)) else { return Ok(Step::Outside) };
    dial.service = service;
    maps::count(Counter::Vip);
    dial.origin = Origin { bits: 0, number: 0 };
    dial.back = Back::Interface(packet.ifindex());
    Ok(Step::Balance)
}

/// Does the packet answer a flow of a service, or go on with one to the outside? Then the flow is in
/// `dial.flow`.
#[inline(always)]
fn is_reply(packet: &TcPacket<'_>, config: &NodeConfig, dial: &mut Dial) -> bool {
    let Transport { ports, tcp_flags } = dial.transport;
    let key = FlowKey {
        client: dial.ip.dst,
        ifindex: packet.ifindex(),
        client_port: ports.dst,
        task_port: ports.src,
        proto: dial.ip.proto,
    };
    let Some(flow) = conntrack::find(&key, config.flow_mask, Side::Task, tcp_flags) else { return false };
    dial.flow = flow;
    true
}

/// Gives a reply the address that was dialled as its source, and sends it the way its client is.
///
/// A function of its own in the kernel too: see `verdict`.
#[inline(never)]
fn reply(packet: &mut TcPacket<'_>, link: &Link, dial: &mut Dial) -> Packed {
    let flow = dial.flow;
    Packed::new(translate(packet, link, dial, &flow))
}

#[inline(always)]
fn translate(packet: &mut TcPacket<'_>, link: &Link, dial: &mut Dial, flow: &Found) -> Result<Verdict, DropReason> {
    let ip = &dial.ip;
    nat::rewrite(packet, ip, End::Source, &flow.dialled, Some(flow.dialled_port))?;
    maps::count(Counter::Reply);
    // What a task says to the outside is nothing of its service.
    if flow.state & state::OUTWARD != state::OUTWARD {
        maps::tally_reply(link.tally, packet.len());
    }
    let ether_type = dial.eth.ether_type;
    if flow.state & state::HAIRPIN != 0 {
        let own = if ip.src.is_v4() { link.addr4 } else { link.addr6 };
        nat::rewrite(packet, ip, End::Destination, &own, None)?;
        packet.write(0, &EthHeader { dst: link.mac, src: Mac::ROUTER, ether_type })?;
        return Ok(Verdict::Redirect(packet.ifindex()));
    }
    if flow.state & state::PUBLISHED == 0 {
        return to_endpoint(packet, link, dial);
    }
    if flow.state & state::HERE != 0 {
        let dialled_here = flow.state & state::OUTWARD == state::HERE;
        // What a task sends to this node may be for a published port of it: no mark.
        let mark = if dialled_here { MARK } else { 0 };
        return Ok(if flow.origin == LOOPBACK { Verdict::Home(mark) } else { Verdict::Route(flow.origin) });
    }
    let config = maps::node_config()?;
    if flow.state & state::DIRECT != 0 {
        return Ok(Verdict::Route(config.uplink));
    }
    packet.write(0, &EthHeader { dst: Mac::ROUTER, src: link.mac, ether_type })?;
    vxlan::wrap(packet, flow.origin, config.ingress_vni, peer_hash(dial)).outcome()
}

/// The hash that both directions of a flow would share if the peer were its client.
#[inline(always)]
fn peer_hash(dial: &Dial) -> u32 {
    let ports = dial.transport.ports;
    maglev::Tuple { client: dial.ip.dst, client_port: ports.dst, port: ports.src, proto: dial.ip.proto }.hash()
}

/// Sends the frame to the task of its link-layer address.
#[inline(always)]
fn to_endpoint(packet: &mut TcPacket<'_>, link: &Link, dial: &mut Dial) -> Result<Verdict, DropReason> {
    let endpoint = maps::endpoint(link.vni, dial.eth.dst).ok_or(DropReason::UnknownEndpoint)?;
    if endpoint.node == Endpoint::HERE {
        maps::count(Counter::Local);
        return Ok(Verdict::Redirect(endpoint.ifindex));
    }
    if let Err(reason) = vxlan::check_fit(packet, endpoint.node) {
        dial.far = endpoint.node;
        return Err(reason);
    }
    let out = vxlan::wrap(packet, endpoint.node, link.vni, peer_hash(dial)).outcome()?;
    maps::count(Counter::Encap);
    Ok(out)
}
