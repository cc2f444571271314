//!
//! - [`model`]: what the system is, as plain data.
//! - [`store`]: what the cluster agrees on.
//! - [`manager`]: what the leader decides.
//! - [`agent`]: what a worker does.
//! - [`runtime`]: how a task runs.
//! - [`datapath`]: how packets move. Give it a [`datapath::Desired`], it makes the kernel so.
//! - [`api`]: how users speak.
//! - [`cli`]: what a user types.
//!
//! Modules depend downward only; `cargo xtask tidy` knows the allowed edges.

pub mod agent;
pub mod api;
pub mod cli;
pub mod cluster;
pub mod datapath;
pub mod manager;
pub mod model;
pub mod runtime;
pub mod store;
