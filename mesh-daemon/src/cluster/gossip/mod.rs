//! Membership: which nodes are alive, and what they have to tell at once.
//!
//! SWIM (Das, Gupta, Motivala 2002) by the crate foca, tuned so that a killed node is known dead by
//! all in less than a second on a LAN of a few tens of nodes. It serves two things only: the
//! liveness of nodes, and notices that cannot wait for a manager: a task is gone, a node drains.
//! What *should* exist comes from managers; nothing here is the truth about it.
//!
//! | part | holds |
//! |---|---|
//! | [`Detector`] | the state machine: no socket, no clock, no chance but what it is given |
//! | `agenda`, `health` | its timers; how far it trusts itself |
//! | `knock` | asks whether the place of a member that is missed is held |
//! | [`KeyRing`], `seal` | keys from managers; encryption, senders, replay |
//! | [`Fact`], `notices` | what nodes tell each other, by origin and number |
//! | `sync` | one exchange by TCP after which two nodes know the same |
//! | [`Endpoint`] | the sockets, and the one task that drives a detector |
//!
//! Whoever assembles a node makes an [`Endpoint`] with [`Endpoint::bind`], takes its [`Handle`],
//! and awaits [`Endpoint::run`] as a task of its own. Through the handle it passes in what managers
//! say ([`Handle::introduce`], [`Handle::rotate`], [`Handle::forget`]) and what this node has to tell
//! ([`Handle::tell`]), and watches [`Handle::members`] and [`Handle::gone`].
//!
//! A simulation drives a [`Detector`] itself: [`Detector::receive`], [`Detector::tick`] at
//! [`Detector::deadline`], then [`Detector::transmits`].

mod agenda;
mod detector;
mod frame;
mod health;
mod knock;
mod member;
mod notices;
mod seal;
mod sync;
mod timing;
mod transport;

#[cfg(test)]
mod tests;

pub use detector::{Counters, Detector, Exchange, MAX_ABSENCE, Place, Transmit};
pub use member::{Liveness, Member, Members, NodeKey, Peer, TaskKey};
pub use notices::{Fact, FactError, Gone, MAX_METADATA};
pub use seal::{KeyRing, KeyRingError, MAX_KEYS, Me, Rejected, RingKey};
pub use timing::{Timing, TimingError};
pub use transport::{Endpoint, GossipError, Handle};

/// The port of membership, for UDP and for TCP, as in Swarm.
pub const PORT: u16 = 7946;

/// How many nodes one node keeps in mind, dead ones included. What is beyond is refused and counted.
pub const MAX_MEMBERS: usize = 4096;

/// Up to this many members are told of what is urgent one by one, in place of by rumour.
pub const TOLD_DIRECTLY: usize = 64;
