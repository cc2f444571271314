//! How packets move: makes the kernel's programs, maps and attachments equal a desired state.
//!
//! [`Desired`] (plain data) and [`facts::Facts`] (what the kernel says of its interfaces) are
//! rendered into [`tables::Tables`], compared with the tables in force, and only the differences
//! are applied. Everything is pinned below one bpffs directory, so packets flow while no daemon
//! runs, and the next one adopts what it finds.
//!
//! It has never heard of Raft, tasks or Docker.

pub mod anchor;
pub mod attach;
pub mod balancing;
mod clsact;
pub mod desired;
pub mod facts;
pub mod file;
mod kinds;
pub mod loader;
mod loopback;
pub mod maglev;
pub mod maps;
pub mod pins;
pub mod preflight;
pub mod reconcile;
pub mod render;
pub mod routes;
pub mod seeing;
pub mod standalone;
pub mod status;
pub mod subnet;
pub mod tables;

pub use desired::Desired;
pub use mesh_common::addr::Mac;
pub use pins::Pins;
