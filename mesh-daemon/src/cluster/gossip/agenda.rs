//! What is to be done when. Time is the time since some start, and the caller's.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use foca::Timer;

use super::member::{Identity, NodeKey};

/// Something to be done at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// A timer of the protocol.
    Protocol(Timer<Identity>),
    /// Speak to nodes that are known and not members.
    Announce,
    /// Compare what is known with a member.
    Hint,
    /// A knock at the place of this node, of this generation, had time to be answered.
    Unanswered(NodeKey, u64),
    /// This node, of this generation, has been away for too long.
    Overdue(NodeKey, u64),
}

#[derive(Debug, PartialEq, Eq)]
struct Entry {
    at: Duration,
    rank: u8,
    number: u64,
    event: Event,
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.rank, self.number).cmp(&(other.at, other.rank, other.number))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// Events in the order of their times; at one time, in the order the protocol needs.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    heap: BinaryHeap<Reverse<Entry>>,
    number: u64,
}

impl Agenda {
    pub(super) fn add(&mut self, at: Duration, event: Event) {
        self.number += 1;
        self.heap.push(Reverse(Entry { at, rank: rank(&event), number: self.number, event }));
    }

    /// As [`Agenda::add`], in the place of any other time for the same.
    pub(super) fn set(&mut self, at: Duration, event: Event) {
        self.heap.retain(|Reverse(entry)| entry.event != event);
        self.add(at, event);
    }

    pub(super) fn next(&self) -> Option<Duration> {
        self.heap.peek().map(|Reverse(entry)| entry.at)
    }

    pub(super) fn pop_due(&mut self, now: Duration) -> Option<Event> {
        self.next().filter(|at| *at <= now)?;
        self.heap.pop().map(|Reverse(entry)| entry.event)
    }

    /// Puts everything off: the time that passed did not count.
    pub(super) fn shift(&mut self, by: Duration) {
        let entries = std::mem::take(&mut self.heap).into_vec();
        let later = |Reverse(entry): Reverse<Entry>| Reverse(Entry { at: entry.at.saturating_add(by), ..entry });
        self.heap = entries.into_iter().map(later).collect();
    }
}

/// Others must be asked before the probe they are asked for is over.
fn rank(event: &Event) -> u8 {
    match event {
        Event::Protocol(Timer::SendIndirectProbe { .. }) => 0,
        Event::Protocol(Timer::ProbeRandomMember(_)) => 1,
        Event::Protocol(Timer::ChangeSuspectToDown { .. }) => 2,
        Event::Protocol(
            Timer::PeriodicAnnounce(_)
            | Timer::PeriodicAnnounceDown(_)
            | Timer::PeriodicGossip(_)
            | Timer::RemoveDown(_),
        )
        | Event::Announce
        | Event::Hint
        | Event::Unanswered(..)
        | Event::Overdue(..) => 3,
    }
}
