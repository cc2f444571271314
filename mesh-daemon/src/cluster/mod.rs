//! How nodes find, trust and agree with each other.
//!
//! - [`ca`]: whom a cluster trusts, and how its managers keep secrets.
//! - [`rpc`]: the wire between nodes.

pub mod ca;
mod clock;
pub mod rpc;
pub mod trust;

pub use clock::Clock;
