//! How nodes find, trust and agree with each other.
//!
//! - [`raft`]: managers keep the same log, and so the same store.
//! - [`ca`]: whom a cluster trusts, and how its managers keep secrets. No sockets.
//! - [`rpc`]: the wire between nodes.
//! - [`trust`]: getting, giving and renewing certificates, over that wire.
//! - [`Line`]: the questions of `raft` over `rpc`.
//! - [`gossip`]: which nodes are alive.
//! - [`backup`]: all that a cluster agreed on, as a file.
//!
//! A node is put together so:
//!
//! 1. [`trust::Keeper::open`] says who it is: nobody yet, a locked manager, or a node.
//! 2. Nobody yet: [`trust::found`] makes a cluster (its [`crate::model::cluster::RootCa`] goes into the store),
//!    [`trust::join`] joins one; [`trust::Keeper::adopt`] keeps what came of it. A locked manager:
//!    [`trust::LockedNode::unlock`].
//! 3. All nodes: [`rpc::Peers`] over [`trust::Keeper::credentials`]; a [`trust::Renewal`] that runs.
//!    [`rpc::Downward::Renew`] goes to [`trust::Keeper::trust`] and, if it says so, [`trust::Renewal::at_once`].
//! 4. Managers: [`raft::Disk`] with the cipher of [`trust::Keeper::cipher`], [`raft::Raft`] over [`Line`]; a
//!    [`trust::Authority`] over the store; an [`rpc::Server`] with the authority as `trust` and as gate, the raft as
//!    `raft`, an [`rpc::Relays`] as `relay`, and what `api` and `manager` make for the rest. It stops when the node
//!    is demoted.
//! 5. The node's role changes: it renews, then does or undoes 4. `Peers` dial anew by themselves.
//! 6. The leader looks after a rotation of the root, which [`ca::follow`] begins: when [`ca::has_renewed`] holds of all
//!    nodes, [`ca::finish_rotation`]. When the unlock key changes, each manager calls [`trust::Keeper::lock`].
//! 7. The node leaves: [`ca::NodeFiles::remove`].

pub mod backup;
pub mod ca;
mod clock;
pub mod gossip;
mod line;
pub mod raft;
pub mod rpc;
pub mod trust;

pub use clock::Clock;
pub use line::Line;
