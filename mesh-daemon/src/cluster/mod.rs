//! How nodes find, trust and agree with each other.
//!
//! - [`ca`]: whom a cluster trusts, and how its managers keep secrets; [`trust`]: getting, giving and
//!   renewing certificates.
//! - [`rpc`]: the wire between nodes.
//! - [`raft`]: managers keep the same log, and so the same store.
//! - [`gossip`]: which nodes are alive.

pub mod ca;
mod clock;
pub mod gossip;
pub mod raft;
pub mod rpc;
pub mod trust;

pub use clock::Clock;
