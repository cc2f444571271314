//! Who takes part, as the protocol names them and as the rest of the daemon reads them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The 128 bits of a node's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeKey(pub u128);

/// The 128 bits of a task's id. A task is never started twice, so a key that is gone stays gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskKey(pub u128);

/// A member as packets name it. Of two identities of one node the later generation is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Identity {
    pub(super) node: NodeKey,
    pub(super) address: SocketAddr,
    pub(super) generation: u64,
}

impl foca::Identity for Identity {
    type Addr = NodeKey;

    /// What a node calls itself once the others have declared it dead: death is for ever, so it
    /// comes back as somebody else.
    fn renew(&self) -> Option<Self> {
        Some(Self { generation: self.generation.checked_add(1)?, ..*self })
    }

    fn addr(&self) -> NodeKey {
        self.node
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        // The address decides between two claims of one generation, so that all decide alike.
        (self.generation, self.address) > (adversary.generation, adversary.address)
    }
}

/// What is believed of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Liveness {
    /// It answers.
    Alive,
    /// It did not answer, and has a moment to object.
    Suspect,
    /// Its daemon does not answer, but its place is held: its tasks run, and it will be back.
    Away,
    /// It is dead, or has left.
    Down,
}

/// A node of the cluster other than this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Where its packets go.
    pub address: SocketAddr,
    /// Grows with each of its lives and each return from a false death.
    pub generation: u64,
    /// What is believed of it.
    pub liveness: Liveness,
    /// It said that its tasks are moving away.
    pub draining: bool,
    /// What it tells about itself; empty until it did.
    pub metadata: Arc<[u8]>,
}

/// All nodes known, by id, without this one.
pub type Members = BTreeMap<NodeKey, Member>;

/// A node that a manager tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its id.
    pub node: NodeKey,
    /// Where its membership listens.
    pub address: SocketAddr,
    /// Its generation, if the manager knows it to be alive. Without one, the node is asked first.
    pub generation: Option<u64>,
}
