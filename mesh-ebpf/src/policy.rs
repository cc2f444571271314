//! Chooses for services whose choice the hash of a flow does not decide, and remembers what it chose, so
//! that the flow stays there. Reads `SLOTS` and `BACKENDS`; writes `PACE`, `LIVE`, and choices into
//! `FLOWS`.
//!
//! Only the node that was dialled remembers. One that takes the flow over knows what all nodes know: the
//! slot.

use mesh_common::addr::Mac;
use mesh_common::flow::{Flow, FlowKey, state};
use mesh_common::header::{proto, tcp_flag};
use mesh_common::maglev::{self, finish};
use mesh_common::service::{backend_flag, service_flag};

use crate::dial::Dial;
use crate::maps::Found;
use crate::{conntrack, local, maps, packet};

/// The backend of a packet that dials a service here; `slot` is the one that its slot names.
///
/// A function of its own in the kernel too: see `verdict`.
#[inline(never)]
pub(crate) fn pick(dial: &Dial, slot: u32) -> u32 {
    let Ok(config) = maps::node_config() else { return slot };
    let sticky = is(dial, service_flag::CLIENT_AFFINITY);
    let (ip, ports) = (&dial.ip, &dial.transport.ports);
    let client_port = if sticky { [0; 2] } else { ports.src };
    let key = FlowKey::choice(ip.src, client_port, &ip.dst, ports.dst, ip.proto, dial.vni);
    let is_tcp = ip.proto == proto::TCP;
    let mid = is_tcp && !local::opens(dial.transport.tcp_flags);
    if let Some((places, way, flow)) = conntrack::look(&key, config.flow_mask)
        && flow.dialled == ip.dst
    {
        if mid || stays(dial, &flow) {
            let bits = flow.state | passed(dial, mid);
            if bits & !flow.state & state::RESET != 0 && is_tcp {
                maps::add_chosen(flow.backend, -1);
            }
            if sticky && flow.seen != conntrack::now() {
                places.follow(way, packet::second());
            }
            conntrack::pass(&places, way, &flow, bits);
            return flow.backend;
        }
        if is_tcp && !sticky && flow.state & state::RESET == 0 {
            maps::add_chosen(flow.backend, -1);
        }
    }
    if mid {
        return slot;
    }
    let number = choose(dial, slot);
    let Ok(flow) = maps::flow_room() else { return number };
    *flow = Flow {
        client: key.client,
        dialled: ip.dst,
        ifindex: key.ifindex,
        client_port,
        task_port: key.task_port,
        dialled_port: ports.dst,
        proto: key.proto,
        state: 0,
        origin: packet::second(),
        seen: conntrack::now(),
        backend: number,
        sequence: 0,
    };
    conntrack::note(&key, config.flow_mask, flow);
    if is_tcp && !sticky {
        maps::add_chosen(number, 1);
    }
    number
}

#[inline(always)]
fn is(dial: &Dial, flag: u16) -> bool {
    dial.service.flags & flag != 0
}

/// Does a packet that may open a flow follow an earlier choice?
#[inline(always)]
fn stays(dial: &Dial, flow: &Found) -> bool {
    let Some(backend) = maps::backend(flow.backend) else { return false };
    if backend.mac == Mac::ZERO || backend.flags & backend_flag::DRAINING != 0 {
        return false;
    }
    if is(dial, service_flag::CLIENT_AFFINITY) {
        return packet::second().wrapping_sub(flow.origin) < dial.service.affinity;
    }
    // A SYN that is sent again goes where the first one went; one from a port that was used is new.
    dial.ip.proto != proto::TCP || flow.state & state::ANSWERED == 0
}

/// What a packet tells of a choice. The node that was dialled need not see what the task sends: a
/// connection is over with the client's last word, and then its place may be taken.
#[inline(always)]
fn passed(dial: &Dial, mid: bool) -> u8 {
    if is(dial, service_flag::CLIENT_AFFINITY) {
        return state::ANSWERED;
    }
    let over = dial.transport.tcp_flags & (tcp_flag::FIN | tcp_flag::RST) != 0;
    (if mid { state::ANSWERED } else { 0 }) | if over { state::RESET } else { 0 }
}

#[inline(always)]
fn choose(dial: &Dial, slot: u32) -> u32 {
    let run = dial.service.entry();
    // A run has a power of two of slots.
    let at = |index: u32| maps::slot(run.at + (index & (run.len.wrapping_sub(1)))).map_or(slot, |slot| slot.current);
    if is(dial, service_flag::ROUND_ROBIN) {
        return at(maps::take_turn(run.at) as u32);
    }
    if is(dial, service_flag::LEAST_CONNECTIONS) {
        let other = at(maglev::slot(finish(dial.hash()), run.len));
        return if maps::chosen(other) < maps::chosen(slot) { other } else { slot };
    }
    slot
}
