//! Remembers flows, finds them, and lets the least missed one go. Owns `FLOWS`.
//!
//! Several CPUs may look at a set while one writes into it. A writer claims a place by making its
//! sequence odd, writes, and makes it even again; a reader that saw the sequence move did not find
//! the flow. State and time of an established flow are written without a claim: the worst a lost
//! write does is that a flow looks a little older or less answered than it is.

use mesh_common::counter::Counter;
use mesh_common::flow::{self, CLOSED, Flow, FlowKey, TICK, state};
use mesh_common::header::tcp_flag;

use crate::dial::Dial;
use crate::maps::{self, FlowPlaces, Found};
use crate::packet;

/// Which end of a flow a packet comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// The one that dialled.
    Client,
    /// The task.
    Task,
}

/// Now, in units of [`Flow::seen`].
#[inline(always)]
pub(crate) fn now() -> u32 {
    (packet::jiffies() >> TICK) as u32
}

/// The flow of this key, told that a packet of that side with these TCP flags passed.
#[inline(always)]
pub(crate) fn find(key: &FlowKey, mask: u32, side: Side, tcp_flags: u8) -> Option<Found> {
    let (places, way, flow) = look(key, mask)?;
    pass(&places, way, &flow, flow.state | passed(side, tcp_flags));
    Some(flow)
}

/// What a client's packet of this key is to the flows that are remembered. One that belongs to a flow
/// is noted there.
///
/// A task sees a client by address and port alone, whatever it dialled. Of two connections from one
/// port of a client to one task only one is remembered, and a packet of the other is not of that flow.
#[inline(always)]
pub(crate) fn of_client(key: &FlowKey, mask: u32, dial: &Dial, opens: bool) -> Client {
    let Some((places, way, flow)) = look(key, mask) else { return Client::Unknown };
    let same = flow.dialled == dial.ip.dst && flow.dialled_port == dial.transport.ports.dst;
    if opens {
        let taken = !same && flow::holds_port(flow.state, flow.seen, now());
        return if taken { Client::Taken } else { Client::Unknown };
    }
    if !same {
        return Client::Unknown;
    }
    pass(&places, way, &flow, flow.state | passed(Side::Client, dial.transport.tcp_flags));
    Client::Known
}

/// See [`of_client`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Client {
    /// Of a flow.
    Known,
    /// Of none.
    Unknown,
    /// Its port has a living connection to the task, through another address.
    Taken,
}

/// The flow of a key, and its place.
#[inline(always)]
pub(crate) fn look(key: &FlowKey, mask: u32) -> Option<(FlowPlaces, usize, Found)> {
    let places = maps::flow_set(key.set(mask))?;
    let way = places.way_of(key)?;
    let flow = places.read(way)?;
    Some((places, way, flow))
}

/// Notes a packet of a flow, whose state becomes `bits`.
#[inline(always)]
pub(crate) fn pass(places: &FlowPlaces, way: usize, flow: &Found, bits: u8) {
    let time = now();
    if bits != flow.state || time != flow.seen {
        places.touch(way, bits, time);
    }
}

/// Remembers a flow, in the place of the one that is missed least.
///
/// If every place of its set is being written the flow is not remembered: this packet still reaches
/// the task, and the client's next one tries again.
#[inline(always)]
pub(crate) fn remember(key: &FlowKey, mask: u32, flow: &Flow) {
    if note(key, mask, flow) {
        maps::count(Counter::FlowNew);
    }
}

/// As [`remember`], of what is no flow of a task; was it written?
#[inline(always)]
pub(crate) fn note(key: &FlowKey, mask: u32, flow: &Flow) -> bool {
    let Some(places) = maps::flow_set(key.set(mask)) else { return false };
    let place = match places.way_of(key) {
        Some(way) => Some((way, CLOSED)), // a new connection from the port of an old one
        None => places.least_missed(flow.seen),
    };
    let Some((way, score)) = place else { return false };
    let written = places.replace(way, flow);
    if written && score < CLOSED {
        maps::count(Counter::FlowEvicted);
    }
    written
}

#[inline(always)]
fn passed(side: Side, tcp_flags: u8) -> u8 {
    let done = match side {
        Side::Client => state::CLIENT_DONE,
        Side::Task => state::TASK_DONE,
    };
    let mut bits = if side == Side::Task { state::ANSWERED } else { 0 };
    if tcp_flags & tcp_flag::FIN != 0 {
        bits |= done;
    }
    if tcp_flags & tcp_flag::RST != 0 {
        bits |= state::RESET;
    }
    bits
}
