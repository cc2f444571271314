//! The cluster itself: its settings, its trust, its keys. There is one object of this kind.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::cidr::Cidr;
use super::id::{ClusterId, NodeId};
use super::meta::{Annotations, Meta};
use super::node::Node;
use super::payload::Payload;
use super::task::LogDriver;

/// The UDP port of tunnels, unless the cluster was made with another.
pub const DATA_PATH_PORT: u16 = 4789;
/// The length of the prefix of a network's subnet from the pools.
pub const SUBNET_SIZE: u8 = 24;

/// What users set for the whole cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClusterSpec {
    /// The name is `default`.
    pub annotations: Annotations,
    /// Of orchestrators.
    pub orchestration: OrchestrationSpec,
    /// Of the managers' log.
    pub raft: RaftSpec,
    /// Of the stream between nodes and managers.
    pub dispatcher: DispatcherSpec,
    /// Of certificates.
    pub ca: CaSpec,
    /// Of what managers keep on disk.
    pub encryption: EncryptionSpec,
    /// Of tasks that do not say otherwise.
    pub task_defaults: TaskDefaults,
    /// What the client of the Docker API sent, so that what we do not know comes back to it.
    /// `api` alone reads it.
    pub docker: Option<serde_json::Value>,
}

impl Default for ClusterSpec {
    fn default() -> Self {
        Self {
            annotations: Annotations::named("default"),
            orchestration: OrchestrationSpec::default(),
            raft: RaftSpec::default(),
            dispatcher: DispatcherSpec::default(),
            ca: CaSpec::default(),
            encryption: EncryptionSpec::default(),
            task_defaults: TaskDefaults::default(),
            docker: None,
        }
    }
}

/// Settings of orchestrators.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OrchestrationSpec {
    /// How many tasks that ended are kept, a slot or a node. Negative: all.
    pub task_history_retention_limit: i64,
}

impl Default for OrchestrationSpec {
    fn default() -> Self {
        Self { task_history_retention_limit: 5 }
    }
}

/// Settings of the managers' log. The ticks are what Docker's API shows and takes; the log has times
/// of its own (docs/design/control-plane.md).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RaftSpec {
    /// A snapshot is made after so many entries.
    pub snapshot_interval: u64,
    /// How many snapshots are kept beside the newest.
    pub keep_old_snapshots: u64,
    /// How many entries are kept behind a snapshot, for managers that lag.
    pub log_entries_for_slow_followers: u64,
    /// Ticks without a leader until an election.
    pub election_tick: u32,
    /// Ticks between heartbeats.
    pub heartbeat_tick: u32,
}

impl Default for RaftSpec {
    fn default() -> Self {
        Self {
            snapshot_interval: 10_000,
            keep_old_snapshots: 0,
            log_entries_for_slow_followers: 500,
            election_tick: 10,
            heartbeat_tick: 1,
        }
    }
}

/// Settings of the stream between nodes and managers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DispatcherSpec {
    /// Between two heartbeats of a node.
    pub heartbeat_period: Duration,
}

impl Default for DispatcherSpec {
    fn default() -> Self {
        Self { heartbeat_period: Duration::from_secs(5) }
    }
}

/// Settings of certificates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CaSpec {
    /// How long a node's certificate lasts.
    pub node_cert_expiry: Duration,
    /// Who signs instead of the managers.
    pub external_cas: Vec<ExternalCa>,
    /// The root that a user wants to be signed with, PEM. Empty: the cluster makes one.
    pub signing_ca_cert: String,
    /// Its key, PEM.
    pub signing_ca_key: Payload,
    /// A number that a user raises to have the root rotated.
    pub force_rotate: u64,
}

impl Default for CaSpec {
    fn default() -> Self {
        Self {
            node_cert_expiry: Duration::from_hours(90 * 24),
            external_cas: Vec::new(),
            signing_ca_cert: String::new(),
            signing_ca_key: Payload::default(),
            force_rotate: 0,
        }
    }
}

/// A CA outside the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExternalCa {
    /// `cfssl`.
    pub protocol: String,
    /// Where.
    pub url: String,
    /// Options to the protocol.
    pub options: std::collections::BTreeMap<String, String>,
    /// Its root, PEM.
    pub ca_cert: String,
}

/// Settings of what managers keep on disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EncryptionSpec {
    /// Whether a manager that restarts waits for the unlock key.
    pub auto_lock_managers: bool,
}

/// Settings of tasks that do not say otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskDefaults {
    /// Where their output goes.
    pub log_driver: Option<LogDriver>,
}

/// What lets a machine join.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct JoinTokens {
    /// As a worker.
    pub worker: String,
    /// As a manager.
    pub manager: String,
}

impl fmt::Debug for JoinTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinTokens") // they are secret
    }
}

/// The cluster's trust.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RootCa {
    /// The root certificate in force, PEM.
    pub certificate: String,
    /// Its key, PEM. Empty: an external CA signs.
    pub key: Payload,
    /// SHA-256 of the certificate, as `sha256:<hex>`.
    pub digest: String,
    /// What lets a machine join.
    pub join_tokens: JoinTokens,
    /// The root that takes its place, while it does.
    pub rotation: Option<RootRotation>,
    /// The `force_rotate` that was carried out last.
    pub last_forced_rotation: u64,
}

/// A root that takes the place of another.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RootRotation {
    /// The new root, PEM.
    pub certificate: String,
    /// Its key, PEM.
    pub key: Payload,
    /// The new root signed by the old one, PEM: those who trust the old one trust it.
    pub cross_signed: String,
    /// When it began.
    pub started_at: Option<Timestamp>,
}

/// A key that the cluster's nodes share.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SharedKey {
    /// Which use: `gossip`.
    pub subsystem: String,
    /// Counts the keys of a use; the highest is what senders use.
    pub generation: u64,
    /// The key.
    pub key: Payload,
    /// When it was made.
    pub created_at: Timestamp,
}

/// So many removed nodes are remembered. Who is forgotten is still refused: as one that nobody knows.
const MAX_REMOVED: usize = 4096;

/// A node that was removed and whose certificate has not ended yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedNode {
    /// Which.
    pub node_id: NodeId,
    /// When its certificate ends by itself; from then on nobody need remember it.
    pub until: Timestamp,
}

/// The cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    /// Its id.
    pub id: ClusterId,
    /// Version and times.
    #[serde(default)]
    pub meta: Meta,
    /// What users set.
    pub spec: ClusterSpec,
    /// Its trust.
    #[serde(default)]
    pub root_ca: RootCa,
    /// What unlocks managers that restart, where `spec.encryption` wants it. Empty: none.
    #[serde(default)]
    pub unlock_key: Payload,
    /// Keys that nodes share.
    #[serde(default)]
    pub shared_keys: Vec<SharedKey>,
    /// Nodes whose certificates are no longer good.
    #[serde(default)]
    pub removed_nodes: Vec<RemovedNode>,
    /// Whence networks get their subnets.
    #[serde(default)]
    pub default_address_pools: Vec<Cidr>,
    /// How long the prefix of such a subnet is.
    #[serde(default)]
    pub subnet_size: u8,
    /// The UDP port of tunnels.
    #[serde(default)]
    pub data_path_port: u16,
    /// How many managers there have ever been: the last number given to one.
    #[serde(default)]
    pub last_raft_id: u64,
}

impl Cluster {
    /// A new cluster, with the addresses and ports of Swarm.
    #[must_use]
    pub fn new(id: ClusterId) -> Self {
        let pool = Cidr { address: std::net::Ipv4Addr::new(10, 0, 0, 0).into(), prefix: 8 };
        Self {
            id,
            meta: Meta::default(),
            spec: ClusterSpec::default(),
            root_ca: RootCa::default(),
            unlock_key: Payload::default(),
            shared_keys: Vec::new(),
            removed_nodes: Vec::new(),
            default_address_pools: vec![pool],
            subnet_size: SUBNET_SIZE,
            data_path_port: DATA_PATH_PORT,
            last_raft_id: 0,
        }
    }

    /// Remembers that a node was removed, as long as its certificate may be good: nobody comes back with it.
    pub fn remember_removed(&mut self, node: &Node, now: Timestamp) {
        self.removed_nodes.retain(|removed| removed.until > now);
        // Where nothing is recorded, nobody knows when it ends.
        let until = node.certificate.not_after.unwrap_or(Timestamp::MAX);
        if until > now {
            self.removed_nodes.push(RemovedNode { node_id: node.id, until });
        }
        if self.removed_nodes.len() > MAX_REMOVED {
            self.removed_nodes.sort_by_key(|removed| std::cmp::Reverse(removed.until));
            self.removed_nodes.truncate(MAX_REMOVED);
        }
    }
}
