//! How nodes find, trust and agree with each other.
//!
//! - [`raft`]: managers keep the same log, and so the same store.

pub mod raft;
