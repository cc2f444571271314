//! A node: a machine of the cluster, what its user wants of it, and what was seen of it.

use std::net::{IpAddr, SocketAddr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::id::NodeId;
use super::meta::{Annotations, Labels, Meta};
use super::resources::{Platform, Resources};

/// What a user wants of a node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeSpec {
    /// Name (mostly empty: the host name is what people see) and labels.
    pub annotations: Annotations,
    /// What it should be.
    pub role: Role,
    /// Whether it takes tasks.
    pub availability: Availability,
    /// What the client of the Docker API sent, so that what we do not know comes back to it.
    /// `api` alone reads it.
    pub docker: Option<serde_json::Value>,
}

/// What a node is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Runs tasks.
    #[default]
    Worker,
    /// Keeps the cluster's state too.
    Manager,
}

/// Whether a node takes tasks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Availability {
    /// Yes.
    #[default]
    Active,
    /// It keeps those it has.
    Pause,
    /// Those it has move away.
    Drain,
}

/// What a node says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeDescription {
    /// Host name.
    pub hostname: String,
    /// Processor and system.
    pub platform: Platform,
    /// What tasks may reserve in all.
    pub resources: Resources,
    /// Its runtime.
    pub engine: Engine,
    /// What it trusts and who it is.
    pub tls: TlsDescription,
}

/// A node's runtime.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Engine {
    /// Its version.
    pub version: String,
    /// Labels of the engine.
    pub labels: Labels,
    /// Its plugins, as kind and name: (`Network`, `overlay`).
    pub plugins: Vec<Plugin>,
}

/// Something that a runtime can do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Plugin {
    /// `Volume`, `Network`, `Log`, ...
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// What a node trusts, and who it says it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TlsDescription {
    /// The root certificates it trusts, PEM.
    pub trust_root: String,
    /// The subject of who issued its certificate, DER, in base 64.
    pub cert_issuer_subject: String,
    /// The public key of who issued its certificate, DER, in base 64.
    pub cert_issuer_public_key: String,
}

/// What was seen of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeStatus {
    /// Whether it is there.
    pub state: NodeState,
    /// Why.
    pub message: String,
    /// Whence it speaks.
    pub addr: String,
    /// When the state changed last.
    pub since: Option<Timestamp>,
}

/// Whether a node is there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// Nobody has asked it yet, or a new leader has not heard it yet.
    #[default]
    Unknown,
    /// It is not.
    Down,
    /// It is.
    Ready,
    /// It has said that it leaves.
    Disconnected,
}

/// Of a manager.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManagerStatus {
    /// Its number among the managers that agree; never given twice.
    pub raft_id: u64,
    /// Where other managers find it.
    pub addr: SocketAddr,
    /// Whether it leads.
    #[serde(default)]
    pub leader: bool,
    /// Whether the leader reaches it.
    #[serde(default)]
    pub reachability: Reachability,
}

/// Whether the leader reaches a manager.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reachability {
    /// Nobody has asked.
    #[default]
    Unknown,
    /// No.
    Unreachable,
    /// Yes.
    Reachable,
}

/// A node's certificate, as the cluster's CA sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Certificate {
    /// What it is issued for.
    pub role: Role,
    /// The request, PEM. Empty: none yet.
    pub csr: String,
    /// Where the request stands.
    pub state: CertificateState,
    /// Why it failed.
    pub err: String,
    /// The certificate and its chain, PEM.
    pub certificate: String,
    /// Its serial number, hexadecimal.
    pub serial: String,
    /// When it ends.
    pub not_after: Option<Timestamp>,
}

/// Where a request for a certificate stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CertificateState {
    /// None was made.
    #[default]
    Unknown,
    /// Waits to be signed.
    Pending,
    /// Signed.
    Issued,
    /// To be renewed because the root has changed.
    Rotate,
    /// Could not be signed.
    Failed,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Its id.
    pub id: NodeId,
    /// Version and times.
    #[serde(default)]
    pub meta: Meta,
    /// What the user wants.
    pub spec: NodeSpec,
    /// What it is; follows `spec.role`.
    #[serde(default)]
    pub role: Role,
    /// What it says of itself; None until it has spoken.
    #[serde(default)]
    pub description: Option<NodeDescription>,
    /// What was seen of it.
    #[serde(default)]
    pub status: NodeStatus,
    /// Of a manager.
    #[serde(default)]
    pub manager: Option<ManagerStatus>,
    /// Its certificate.
    #[serde(default)]
    pub certificate: Certificate,
    /// Where its tunnels end: one address a family of the underlay.
    #[serde(default)]
    pub vteps: Vec<IpAddr>,
    /// Addresses at which published ports answer.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
    /// What its membership agent is reached at.
    #[serde(default)]
    pub gossip_addr: Option<SocketAddr>,
    /// Where other managers will find it, should it be one.
    #[serde(default)]
    pub listens: Option<SocketAddr>,
}

impl Node {
    /// A new node of which nothing is known.
    #[must_use]
    pub fn new(id: NodeId, role: Role) -> Self {
        Self {
            id,
            meta: Meta::default(),
            spec: NodeSpec { role, ..NodeSpec::default() },
            role,
            description: None,
            status: NodeStatus::default(),
            manager: None,
            certificate: Certificate::default(),
            vteps: Vec::new(),
            addresses: Vec::new(),
            gossip_addr: None,
            listens: None,
        }
    }

    /// What people call it: its name, else its host name, else nothing.
    #[must_use]
    pub fn name(&self) -> &str {
        let hostname = self.description.as_ref().map_or("", |description| &description.hostname);
        if self.spec.annotations.name.is_empty() { hostname } else { &self.spec.annotations.name }
    }

    /// Whether it can be given tasks.
    #[must_use]
    pub fn takes_tasks(&self) -> bool {
        self.status.state == NodeState::Ready && self.spec.availability == Availability::Active
    }
}
