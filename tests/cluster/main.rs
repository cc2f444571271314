//! Tests on several nodes in memory: no kernel, no sockets, no time. A failing case is printed and kept
//! by proptest, and runs first the next time.
//!
//! `agreement`: nodes, each on its own, come to the same decisions. `raft`: managers agree, whatever
//! befalls them.

mod agreement;
#[cfg(test)]
mod raft;
