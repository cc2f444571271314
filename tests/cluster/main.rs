//! Tests on several nodes in one process.
//!
//! `agreement`: nodes, each on its own, come to the same decisions; no sockets, no time. A failing case is
//! printed and kept by proptest, and runs first the next time. `raft`: managers agree, whatever befalls
//! them. `members`: nodes know who is alive. `trust`: managers and nodes on real sockets of the loopback, on
//! a wall clock that the test moves.

mod agreement;
mod members;
#[cfg(test)]
mod raft;
mod trust;
