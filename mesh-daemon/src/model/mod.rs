//! What the system is: services, tasks, nodes, networks, secrets, configs and the cluster, as plain
//! data.
//!
//! No I/O, no clock, no chance: times are written by the store, ids are made from a source that the
//! caller brings. An object has a spec (what its user wants), what controllers decided, a status
//! (what was seen) and a [`meta::Meta`]. Defaults are those of Docker Swarm
//! (docs/design/swarm-compatibility.md). Objects are kept and sent as JSON: members may be added with a
//! default, and none changes its meaning.
//!
//! - [`id`] names; [`meta`] versions, times, labels; [`cidr`] addresses with a prefix
//! - [`service`], [`task`], [`container`], [`resources`]: what runs, and [`state`]: how far it is
//! - [`node`], [`network`], [`payload`] (secrets and configs), [`cluster`]

pub mod cidr;
pub mod cluster;
pub mod container;
pub mod id;
pub mod meta;
pub mod network;
pub mod node;
pub mod payload;
pub mod resources;
pub mod service;
pub mod state;
pub mod task;
#[cfg(test)]
mod tests;
