//! What openraft is told of us.

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};

use openraft::impls::leader_id_std;
use serde::{Deserialize, Serialize};

use crate::model::id::NodeId;
use crate::model::meta::Version;
use crate::store::{Proposal, Rejection};

/// A manager's number among the managers that agree. Never given twice in the life of a cluster: one who
/// comes back without its disk is another.
pub type RaftId = u64;

/// A manager: which node it is, and where other managers find it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Which node.
    pub node_id: NodeId,
    /// Where.
    pub addr: SocketAddr,
}

impl Default for Member {
    fn default() -> Self {
        Self { node_id: NodeId::from_u128(0), addr: (Ipv6Addr::UNSPECIFIED, 0).into() }
    }
}

/// What became of an entry of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Outcome {
    /// A transaction was carried out.
    Applied(Version),
    /// A transaction does not fit what is there.
    Rejected(Rejection),
    /// There was nothing to carry out.
    Nothing,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Applied(version) => write!(f, "version {}", version.0),
            Self::Rejected(rejection) => rejection.fmt(f),
            Self::Nothing => f.write_str("nothing"),
        }
    }
}

/// An entry's payload, so that openraft can print it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Command(pub(super) Proposal);

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} changes", self.0.changes.len())
    }
}

openraft::declare_raft_types!(
    /// The types of our log. One leader a term, as the Raft paper has it.
    pub(super) Types:
        D = Command,
        R = Outcome,
        NodeId = RaftId,
        Node = Member,
        LeaderId = leader_id_std::LeaderId<u64, RaftId>,
        AsyncRuntime = super::runtime::Runtime,
);

pub(super) type Entry = openraft::alias::EntryOf<Types>;
pub(super) type LogId = openraft::alias::LogIdOf<Types>;
pub(super) type Vote = openraft::alias::VoteOf<Types>;
pub(super) type StoredMembership = openraft::alias::StoredMembershipOf<Types>;
pub(super) type SnapshotMeta = openraft::alias::SnapshotMetaOf<Types>;
pub(super) type Snapshot = openraft::alias::SnapshotOf<Types, bytes::Bytes>;
