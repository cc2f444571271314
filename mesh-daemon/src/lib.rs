//! The code map of meshd, the node daemon of mesh, and of meshctl, its command line.
//!
//! - [`cluster`]: how nodes find, trust and agree with each other.
//! - [`datapath`]: how packets move. Give it a [`datapath::Desired`], it makes the kernel so.
//! - [`model`]: what the system is, as plain data.
//! - [`store`]: what the cluster agrees on.
//! - [`cluster`]: how nodes find, trust and agree with each other.
//! - [`cli`]: what a user types.
//!
//! Modules depend downward only; `cargo xtask tidy` knows the allowed edges.

pub mod cli;
pub mod cluster;
pub mod datapath;
pub mod model;
pub mod store;
