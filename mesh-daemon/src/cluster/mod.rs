//! How nodes find, trust and agree with each other.
//!
//! - [`raft`]: managers keep the same log, and so the same store.
//! - [`ca`]: whom a cluster trusts, and how its managers keep secrets. No sockets.
//! - [`rpc`]: the wire between nodes.
//! - [`trust`]: getting, giving and renewing certificates, over that wire.

pub mod ca;
mod clock;
pub mod raft;
pub mod rpc;
pub mod trust;

pub use clock::Clock;
