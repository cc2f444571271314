//! Tests on several nodes in one process.
//!
<<<<<<< HEAD
//! `agreement`: nodes, each on its own, come to the same decisions. `raft`: managers agree, whatever
//! befalls them.

mod agreement;
<<<<<<< HEAD
mod members;
=======
mod raft;
>>>>>>> store
=======
//! `agreement`: nodes, each on its own, come to the same decisions; no sockets, no time. A failing case is
//! printed and kept by proptest, and runs first the next time. `trust`: managers and nodes on real sockets of
//! the loopback, on a wall clock that the test moves.

mod agreement;
mod trust;
>>>>>>> trust
