//! Tests on several nodes in memory: no kernel, no sockets, no time. A failing case is printed and kept
//! by proptest, and runs first the next time.
//!
//! What there is of a cluster today is that nodes, each on its own, come to the same decisions. The
//! simulation of managers will stand here too.

mod agreement;
mod members;
