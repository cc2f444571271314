//! Managers agree: one log of transactions, the same on all, carried out in the same order.
//!
//! openraft decides who leads and what is in the log; this module gives it a file ([`Disk`], encrypted
//! under a [`Cipher`](super::ca::Cipher)), a wire ([`Transport`]) and a state machine (the store's replica), and hides it: no
//! other module knows that it is there.
//!
//! The life of a manager:
//!
//! - [`Disk::open`] reads and checks its file, with the key that `ca` keeps (with autolock: once it is
//!   unlocked). [`Raft::start`] begins from it.
//! - The first manager of a cluster calls [`Raft::found`]. Any other waits until the leader has called
//!   [`Raft::add`] for it, and later [`Raft::promote`]. To leave: [`Raft::demote`], [`Raft::remove`].
//!   Any manager may be asked for these: it asks the leader. A leader that is to lose its vote gives the
//!   lead away first.
//! - [`Raft::handle`] answers what other managers ask; the wire calls it once it knows that the other
//!   side is a manager of this cluster.
//! - [`Raft::store`] is the store: written through any manager.
//! - [`Raft::watch`] tells who leads: the controllers of a leader run from the moment its
//!   [`Status::leads`] says so, and write with [`crate::store::Store::update_fenced`] in that term.
//! - [`Raft::stop`] ends it.
//!
//! Times ([`Timing`]) are for a LAN: writes go on within 2 s of a leader's crash; without a quorum they
//! fail within 2 s, and the error names the managers that do not answer. Reads of the store never wait:
//! they may be stale, [`crate::store::Store::fresh_view`] is not.
//!
//! [`backup`] writes what one manager has; [`Remains`] is what a cluster begins anew from: a backup, or a manager's
//! own log after the others are lost.

mod disk;
mod epoch;
mod log;
mod machine;
mod members;
mod peer;
mod propose;
mod revive;
mod runtime;
mod serve;
#[cfg(test)]
mod tests;
mod transport;
mod types;
mod wire;

pub use disk::{Disk, DiskError, Threads, Work};
pub use members::MemberError;
pub use peer::{Raft, StartError, Status, StatusWatch, Timing};
pub use revive::{Remains, ReviveError, backup};
pub use runtime::seed_this_thread;
pub use transport::{Transport, TransportError};
pub use types::{Member, RaftId};
pub use wire::Refusal;
