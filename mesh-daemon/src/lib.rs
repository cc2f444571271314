//! The code map of meshd, the node daemon of mesh, and of meshctl, its command line.
//!
//! - [`model`]: what the system is, as plain data.
//! - [`store`]: what the cluster agrees on.
//! - [`cluster`]: how nodes find, trust and agree with each other.
//! - [`cli`]: what a user types.
//!
//! Modules depend downward only; `cargo xtask tidy` knows the allowed edges.

pub mod agent;
pub mod cli;
pub mod cluster;
pub mod datapath;
pub mod manager;
pub mod model;
pub mod store;
