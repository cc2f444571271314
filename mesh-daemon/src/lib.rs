//! The code map of meshd, the node daemon of mesh, and of meshctl, its command line.
//!
//! - [`datapath`]: how packets move. Give it a [`datapath::Desired`], it makes the kernel so.
//! - [`cluster`]: how nodes find, trust and agree.
//! - [`dns`]: how names resolve for tasks.
//! - [`cli`]: what a user types.
//!
//! Modules depend downward only; `cargo xtask tidy` knows the allowed edges.

pub mod cli;
pub mod cluster;
pub mod datapath;
pub mod dns;
