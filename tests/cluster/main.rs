//! Tests on several nodes in one process.
//!
//! `agreement`: nodes, each on its own, come to the same decisions. `raft`: managers agree, whatever
//! befalls them. `trust`: managers and nodes on real sockets of the loopback, on a wall clock that the test
//! moves.

mod agreement;
mod raft;
mod trust;
