//! Hands a packet for a service to a task of this node: remembers the flow, gives the packet the
//! task's address, and sends it into the task's link.

use mesh_common::addr::{Addr, Mac};
use mesh_common::counter::Counter;
use mesh_common::drop::DropReason;
use mesh_common::flow::{Flow, FlowKey, state};
use mesh_common::header::{EthHeader, proto, tcp_flag};

use crate::conntrack::{self, Side};
use crate::dial::Dial;
use crate::maps;
use crate::nat::{self, End};
use crate::packet::Packet;
use crate::verdict::{Packed, Verdict};

/// The task a packet is for.
pub(crate) struct Task {
    /// Host side of its link.
    pub(crate) ifindex: u32,
    /// Its link-layer address.
    pub(crate) mac: Mac,
    /// Its address, in the family of the packet.
    pub(crate) addr: Addr,
    /// Its number among the backends.
    pub(crate) backend: u32,
    /// The port it listens on; 0 keeps the one dialled.
    pub(crate) port: [u8; 2],
}

impl Task {
    /// The port that packets to `dialled` get.
    #[inline(always)]
    fn port_for(&self, dialled: [u8; 2]) -> [u8; 2] {
        if self.port == [0; 2] { dialled } else { self.port }
    }
}

/// Where a packet for a service comes from.
#[derive(Clone, Copy)]
pub(crate) struct Origin {
    /// Bits of [`state`] that say so: `PUBLISHED`, `HERE`, `DIRECT`.
    pub(crate) bits: u8,
    /// The node that was dialled, or the interface of the client with `HERE`.
    pub(crate) number: u32,
}

/// Finds or makes the flow of a packet to `task`.
///
/// # Errors
/// `UnknownFlow`: the packet belongs to a TCP connection that this node never saw open.
#[inline(never)]
pub(crate) fn track(dial: &Dial) -> Result<(), DropReason> {
    let task = &dial.task;
    let (ip, ports) = (&dial.ip, &dial.transport.ports);
    let hairpin = is_hairpin(dial, task);
    let key = FlowKey {
        // What the task will see as the other end.
        client: if hairpin { ip.dst } else { ip.src },
        ifindex: task.ifindex,
        client_port: ports.src,
        task_port: if has_ports(ip.proto) { task.port_for(ports.dst) } else { ports.dst },
        proto: ip.proto,
    };
    let mask = maps::node_config()?.flow_mask;
    let opens = ip.proto == proto::TCP && opens(dial.transport.tcp_flags);
    if !opens && conntrack::find(&key, mask, Side::Client, dial.transport.tcp_flags).is_some() {
        return Ok(());
    }
    if ip.proto == proto::TCP && !opens {
        return Err(DropReason::UnknownFlow);
    }
    let flow = maps::flow_room()?;
    *flow = Flow {
        client: key.client,
        dialled: ip.dst,
        ifindex: key.ifindex,
        client_port: key.client_port,
        task_port: key.task_port,
        dialled_port: ports.dst,
        proto: key.proto,
        state: dial.origin.bits | if hairpin { state::HAIRPIN } else { 0 },
        origin: dial.origin.number,
        seen: conntrack::now(),
        backend: task.backend,
        sequence: 0,
    };
    conntrack::remember(&key, mask, flow);
    Ok(())
}

/// Gives the packet, whose flow is tracked, to the task.
#[inline(never)]
pub(crate) fn hand_over<P: Packet>(packet: &mut P, dial: &Dial) -> Packed {
    Packed::new(translate(packet, dial, &dial.task))
}

#[inline(always)]
fn translate<P: Packet>(packet: &mut P, dial: &Dial, task: &Task) -> Result<Verdict, DropReason> {
    packet.write(0, &EthHeader { dst: task.mac, src: Mac::ROUTER, ether_type: dial.eth.ether_type })?;
    let port = task.port_for(dial.transport.ports.dst);
    nat::rewrite(packet, &dial.ip, End::Destination, &task.addr, Some(port))?;
    if is_hairpin(dial, task) {
        // The task would take its own address as a source for a forgery.
        nat::rewrite(packet, &dial.ip, End::Source, &dial.ip.dst, None)?;
    }
    maps::count(Counter::Local);
    Ok(Verdict::Redirect(task.ifindex))
}

/// Does the task dial itself?
#[inline(always)]
fn is_hairpin(dial: &Dial, task: &Task) -> bool {
    // A client outside may have, by chance, an address that a task has in some network.
    dial.origin.bits & state::PUBLISHED == 0 && dial.ip.src == task.addr
}

/// Do these flags open a connection?
#[inline(always)]
pub(crate) fn opens(tcp_flags: u8) -> bool {
    tcp_flags & (tcp_flag::SYN | tcp_flag::ACK | tcp_flag::RST) == tcp_flag::SYN
}

/// Has the protocol ports that may be rewritten?
#[inline(always)]
pub(crate) fn has_ports(protocol: u8) -> bool {
    protocol == proto::TCP || protocol == proto::UDP
}
