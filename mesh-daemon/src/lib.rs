//! The code map of meshd, the node daemon of mesh, and of meshctl, its command line.
//!
//! - [`model`]: what the system is, as plain data.
//! - [`store`]: what the cluster agrees on.
//! - [`cluster`]: how nodes find, trust and agree with each other.
//! - [`manager`]: what the leader decides.
//! - [`agent`]: what a worker does.
//! - [`runtime`]: how a task runs.
//! - [`dns`]: how names resolve.
//! - [`datapath`]: how packets move. Give it a [`datapath::Desired`], it makes the kernel so.
//! - [`doctor`]: what a machine lacks to be a node.
//! - [`api`]: how users speak.
//! - [`node`]: all of it together.
//! - [`cli`]: what a user types.
//!
//! Modules depend downward only; `cargo xtask tidy` knows the allowed edges.

pub mod agent;
pub mod api;
pub mod cli;
pub mod cluster;
pub mod datapath;
pub mod dns;
pub mod doctor;
pub mod manager;
pub mod model;
pub mod node;
pub mod runtime;
pub mod store;
