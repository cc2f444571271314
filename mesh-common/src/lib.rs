//! The contract between the kernel programs of mesh and its daemon.
//!
//! Everything here is needed on both sides of the system-call boundary: the types that lie in
//! BPF maps, the byte layouts of packets, and the arithmetic both must agree on. It allocates
//! nothing, does no I/O and depends on nothing (`aya` only, behind the feature `user`, to let the
//! daemon copy the types in and out of maps).
#![no_std]

#[macro_use]
pub mod abi;
pub mod addr;
pub mod checksum;
pub mod counter;
pub mod drop;
pub mod endpoint;
pub mod flow;
pub mod header;
pub mod layouts;
pub mod limits;
pub mod maglev;
pub mod node;
pub mod parse;
pub mod route;
pub mod service;
pub mod tally;
pub mod watch;

/// Version of every layout in this crate. Pinned maps carry it in their path, so that an upgrade
/// never reads bytes of another shape. It moves whenever a layout moves; `cargo xtask gen`
/// refuses the one without the other.
pub const ABI_VERSION: u32 = 6;

#[cfg(test)]
extern crate std;
#[cfg(test)]
mod tests;
