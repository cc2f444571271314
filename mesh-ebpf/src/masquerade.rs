//! Lends flows a port of this node: those of tasks to the outside, which have the node's address
//! there, and those of the node's own processes to a service, where theirs is known to nobody else.
//!
//! Such a flow stands in `FLOWS` twice: as its owner sends it, which finds the port lent, and as the
//! other end answers it, which finds the owner. The second has interface 0. A port is lent once for
//! each other end, so there are as many flows as ports to each.

use mesh_common::addr::{Addr, Mac};
use mesh_common::counter::Counter;
use mesh_common::drop::DropReason;
use mesh_common::endpoint::Link;
use mesh_common::flow::{self, Flow, FlowKey, state};
use mesh_common::header::{EthHeader, proto, tcp_flag};
use mesh_common::maglev;
use mesh_common::node::{LOOPBACK, NodeConfig};
use mesh_common::route::route_flag;

use crate::conntrack::{self, Side};
use crate::dial::Dial;
use crate::local;
use crate::maps::{self, Found};
use crate::nat::{self, End};
use crate::packet::Packet;
use crate::verdict::{Packed, Step, Verdict};

/// How many ports are looked at for one packet. One that finds none is refused; the next looks at others.
const TRIES: u32 = 8;

/// Opens a flow of a task to the outside, or to this node; `dial.flow` is what `send` makes of it.
#[inline(always)]
pub(crate) fn leave(dial: &mut Dial, link: &Link, ifindex: u32) -> Result<(), DropReason> {
    way_out(dial, link).step()?;
    let peer = dial.ip.dst;
    lend(dial, &peer, ifindex)
}

/// The address and the interface by which a task's flow leaves, into `dial.flow`.
///
/// A function of its own in the kernel too: see `verdict`.
#[inline(never)]
fn way_out(dial: &mut Dial, link: &Link) -> Packed {
    Packed::of_step(find_way(dial, link))
}

#[inline(always)]
fn find_way(dial: &mut Dial, link: &Link) -> Result<Step, DropReason> {
    if maps::is_internal(link.vni) {
        return Err(DropReason::Internal);
    }
    if !dial.ip.dst.is_of_one_host() {
        return Err(DropReason::NoRoute);
    }
    if maps::is_local(dial.ip.dst) {
        // As a host does that talks to itself: from the address that it talks to.
        (dial.flow.dialled, dial.flow.origin) = (dial.ip.dst, LOOPBACK);
        return Ok(Step::Pass);
    }
    let route = maps::route(dial.ip.dst).ok_or(DropReason::NoRoute)?;
    if route.flags & route_flag::OVERLAY != 0 {
        return Err(DropReason::OtherNetwork);
    }
    if route.ifindex == 0 || route.source == Addr::ZERO {
        return Err(DropReason::NoRoute);
    }
    (dial.flow.dialled, dial.flow.origin) = (route.source, route.ifindex);
    Ok(Step::Pass)
}

/// Finds a port for a new flow behind `ifindex` to `peer`, remembers the flow in both directions, and
/// leaves the port in `dial.flow`, where the node's address and the interface out are already.
#[inline(always)]
pub(crate) fn lend(dial: &mut Dial, peer: &Addr, ifindex: u32) -> Result<(), DropReason> {
    if dial.ip.proto == proto::TCP && !local::opens(dial.transport.tcp_flags) {
        return Err(DropReason::UnknownFlow);
    }
    let port = free_port(dial, peer, ifindex) as u16;
    if port == 0 {
        return Err(DropReason::PortsExhausted);
    }
    dial.flow.dialled_port = port.to_be_bytes();
    dial.flow.state = state::PUBLISHED | state::OUTWARD;
    note_outside(dial, peer, ifindex);
    note_inside(dial, peer, ifindex);
    maps::count(Counter::Masqueraded);
    Ok(())
}

/// How the owner's packets find the flow.
#[inline(always)]
fn inside(dial: &Dial, peer: &Addr, ifindex: u32) -> FlowKey {
    let ports = dial.transport.ports;
    FlowKey { client: *peer, ifindex, client_port: ports.dst, task_port: ports.src, proto: dial.ip.proto }
}

/// How the other end's packets find the flow. An echo has one identifier for both ends.
#[inline(always)]
fn outside(dial: &Dial, peer: &Addr, lent: [u8; 2]) -> FlowKey {
    let protocol = dial.ip.proto;
    // All ones if there are ports. Arithmetic, since this stands in a loop.
    let is_not = |other: u8| flow::is_zero(u64::from(protocol ^ other)) ^ 1;
    let mask = ((is_not(proto::TCP) & is_not(proto::UDP)) as u16).wrapping_sub(1);
    let client_port = u16::from_ne_bytes(dial.transport.ports.dst) & mask | u16::from_ne_bytes(lent) & !mask;
    FlowKey { client: *peer, ifindex: 0, client_port: client_port.to_ne_bytes(), task_port: lent, proto: protocol }
}

/// A port that no other flow to the same end has, or 0.
#[inline(never)]
fn free_port(dial: &Dial, peer: &Addr, ifindex: u32) -> u64 {
    let Ok(config) = maps::node_config() else { return 0 };
    let hash = maglev::mix(inside(dial, peer, ifindex).set(u32::MAX), conntrack::now());
    let mut attempt = 0;
    let mut chosen = 0;
    // The first that is free, by arithmetic, and no way out of the loop: the verifier would follow each.
    while attempt < TRIES {
        let port = config.lent_port(maglev::finish(maglev::mix(hash, attempt)));
        let free = is_free(&outside(dial, peer, port), config.flow_mask);
        let taken = free & flow::is_zero(chosen);
        chosen |= u64::from(u16::from_be_bytes(port)) & taken.wrapping_neg();
        attempt += 1;
    }
    chosen
}

/// 1 if nobody has the place of this key, or has given it up.
#[inline(never)]
fn is_free(key: &FlowKey, mask: u32) -> u64 {
    match maps::flow_set(key.set(mask)) {
        Some(places) => places.gives_up(key, conntrack::now()),
        None => 0,
    }
}

/// Remembers how answers find the owner, who is behind `ifindex`.
#[inline(never)]
fn note_outside(dial: &Dial, peer: &Addr, ifindex: u32) {
    let key = outside(dial, peer, dial.flow.dialled_port);
    let (Ok(room), Ok(config)) = (maps::flow_room(), maps::node_config()) else { return };
    *room = Flow {
        client: key.client,
        dialled: dial.ip.src,
        ifindex: key.ifindex,
        client_port: key.client_port,
        task_port: key.task_port,
        dialled_port: dial.transport.ports.src,
        proto: key.proto,
        state: state::OUTWARD,
        origin: ifindex,
        seen: conntrack::now(),
        backend: 0,
        sequence: 0,
    };
    conntrack::remember(&key, config.flow_mask, room);
}

/// Remembers which port the owner's packets get.
#[inline(never)]
fn note_inside(dial: &Dial, peer: &Addr, ifindex: u32) {
    let key = inside(dial, peer, ifindex);
    let (Ok(room), Ok(config)) = (maps::flow_room(), maps::node_config()) else { return };
    *room = Flow {
        client: key.client,
        dialled: dial.flow.dialled,
        ifindex: key.ifindex,
        client_port: key.client_port,
        task_port: key.task_port,
        dialled_port: dial.flow.dialled_port,
        proto: key.proto,
        state: dial.flow.state,
        origin: dial.flow.origin,
        seen: conntrack::now(),
        backend: 0,
        sequence: 0,
    };
    conntrack::remember(&key, config.flow_mask, room);
}

/// Must the other half of a flow hear of this packet? Its state moves, or the time does: both halves
/// grow old together, so that neither is given up before the other.
#[inline(always)]
fn is_news(found: &Found, tcp_flags: u8) -> bool {
    tcp_flags & (tcp_flag::FIN | tcp_flag::RST) != 0 || found.seen != conntrack::now()
}

/// May a task's packet be translated as its flow, in `dial.flow`, says? One to the outside may have
/// lost its port.
#[inline(always)]
pub(crate) fn goes_on(dial: &Dial) -> bool {
    let is_lent = dial.flow.state & state::OUTWARD == state::OUTWARD;
    !is_lent || is_lent_still(dial, &dial.ip.dst)
}

/// Tells the answering half of `dial.flow` that its owner sent a packet; is the port still lent to it?
///
/// A connection that begins where another is over needs a port anew: the flow would stay over, and its port
/// free for others.
#[inline(always)]
pub(crate) fn is_lent_still(dial: &Dial, peer: &Addr) -> bool {
    let flags = dial.transport.tcp_flags;
    let begins_anew = dial.ip.proto == proto::TCP && local::opens(flags) && flow::is_over(dial.flow.state);
    !begins_anew && (!is_news(&dial.flow, flags) || tell_outside(dial, peer))
}

#[inline(never)]
fn tell_outside(dial: &Dial, peer: &Addr) -> bool {
    let Ok(config) = maps::node_config() else { return false };
    let ports = dial.transport.ports;
    let key = outside(dial, peer, dial.flow.dialled_port);
    let other = conntrack::find(&key, config.flow_mask, Side::Client, dial.transport.tcp_flags);
    other.is_some_and(|other| other.dialled == dial.ip.src && other.dialled_port == ports.src)
}

/// The flow that a packet to a port lent answers, into `dial.flow`; is there one?
#[inline(always)]
pub(crate) fn find(config: &NodeConfig, dial: &mut Dial) -> bool {
    let ports = dial.transport.ports;
    let key =
        FlowKey { client: dial.ip.src, ifindex: 0, client_port: ports.src, task_port: ports.dst, proto: dial.ip.proto };
    // To this half the answer is what comes in.
    let Some(flow) = conntrack::find(&key, config.flow_mask, Side::Task, dial.transport.tcp_flags) else {
        return false;
    };
    dial.flow = flow;
    true
}

/// Gives an answer, whose flow is in `dial.flow`, its owner's address, and sends it there.
///
/// A function of its own in the kernel too: see `verdict`.
#[inline(never)]
pub(crate) fn to_owner<P: Packet>(packet: &mut P, dial: &Dial) -> Packed {
    let flow = dial.flow;
    if is_news(&flow, dial.transport.tcp_flags) {
        tell_inside(dial);
    }
    Packed::new(translate(packet, dial, &flow))
}

#[inline(never)]
fn tell_inside(dial: &Dial) {
    let Ok(config) = maps::node_config() else { return };
    let (ports, flow) = (dial.transport.ports, &dial.flow);
    let key = FlowKey {
        client: dial.ip.src,
        ifindex: flow.origin,
        client_port: if local::has_ports(dial.ip.proto) { ports.src } else { flow.dialled_port },
        task_port: flow.dialled_port,
        proto: dial.ip.proto,
    };
    conntrack::find(&key, config.flow_mask, Side::Client, dial.transport.tcp_flags);
}

#[inline(always)]
fn translate<P: Packet>(packet: &mut P, dial: &Dial, flow: &Found) -> Result<Verdict, DropReason> {
    nat::rewrite(packet, &dial.ip, End::Destination, &flow.dialled, Some(flow.dialled_port))?;
    maps::count(Counter::Unmasqueraded);
    if flow.origin == LOOPBACK {
        if flow.dialled.is_loopback() {
            // Who dialled from there dialled the same.
            nat::rewrite(packet, &dial.ip, End::Source, &flow.dialled, None)?;
        }
        return Ok(Verdict::Pass);
    }
    let link = maps::link(flow.origin).ok_or(DropReason::UnknownLink)?;
    packet.write(0, &EthHeader { dst: link.mac, src: Mac::ROUTER, ether_type: dial.eth.ether_type })?;
    Ok(Verdict::Redirect(flow.origin))
}
