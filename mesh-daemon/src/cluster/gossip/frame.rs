//! What nodes say under the seal.

use foca::{Invalidates, State};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::member::{Identity, NodeKey};
use super::notices::{Mark, Notice, Topic};

/// A member as a bulk list has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) id: Identity,
    pub(super) incarnation: u16,
    pub(super) state: Belief,
}

/// The states of a member on the wire. Numbers are appended, never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Belief {
    Alive,
    Suspect,
    Down,
}

/// A message. By datagram but for [`Frame::Sync`]. Kinds are appended, never reused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Frame {
    /// A message of the protocol.
    Protocol(Vec<u8>),
    /// To a suspect: object, if you can.
    Accuse(Entry),
    /// A member is dead, or says that it is not: told at once to all, where they are few.
    News(Entry),
    /// A notice, told at once to all, where they are few.
    Notice(Notice),
    /// What the sender knows, as one number.
    Hint(u64),
    /// One of the three steps of an exchange.
    Sync(Sync),
}

/// What one node tells another in bulk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sync {
    pub(super) members: Vec<Entry>,
    /// What the sender has.
    pub(super) has: Vec<Mark>,
    pub(super) notices: Vec<Notice>,
    /// What the receiver has once it took the notices.
    pub(super) then: Vec<Mark>,
}

impl Frame {
    pub(super) fn to_bytes(&self) -> Option<Vec<u8>> {
        to_bytes(self)
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        from_bytes(bytes)
    }
}

impl Notice {
    pub(super) fn to_bytes(&self) -> Option<Vec<u8>> {
        to_bytes(self)
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        from_bytes(bytes)
    }
}

fn to_bytes(value: &impl Serialize) -> Option<Vec<u8>> {
    postcard::to_allocvec(value).ok()
}

/// All of the bytes, and nothing behind them.
fn from_bytes<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let (value, rest) = postcard::take_from_bytes(bytes).ok()?;
    rest.is_empty().then_some(value)
}

impl From<&foca::Member<Identity>> for Entry {
    fn from(member: &foca::Member<Identity>) -> Self {
        let state = match member.state() {
            State::Alive => Belief::Alive,
            State::Suspect => Belief::Suspect,
            State::Down => Belief::Down,
        };
        Self { id: *member.id(), incarnation: member.incarnation(), state }
    }
}

impl From<Entry> for foca::Member<Identity> {
    fn from(entry: Entry) -> Self {
        let state = match entry.state {
            Belief::Alive => State::Alive,
            Belief::Suspect => State::Suspect,
            Belief::Down => State::Down,
        };
        Self::new(entry.id, entry.incarnation, state)
    }
}

/// What a rumour is about: a later one on the same makes an earlier one idle talk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct About {
    pub(super) origin: NodeKey,
    pub(super) topic: Topic,
    pub(super) age: (u64, u32),
}

impl Invalidates for About {
    fn invalidates(&self, other: &Self) -> bool {
        self.origin == other.origin && self.topic == other.topic && self.age >= other.age
    }
}
