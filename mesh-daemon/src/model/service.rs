//! A service: what should run, how often, how it changes, and how it is reached.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::cidr::Cidr;
use super::id::{NetworkId, ServiceId};
use super::meta::{Annotations, Meta, Version};
use super::task::{NetworkAttachmentSpec, TaskSpec};

/// The label by which a service asks for its tasks to be moved to nodes that have fewer: seconds between two
/// moves.
pub const REBALANCE_LABEL: &str = "mesh.rebalance-seconds";

/// The label by which a service says who gets a new flow.
pub const BALANCING_LABEL: &str = "mesh.balancing";

/// What that label may say.
pub const BALANCINGS: &[&str] = &["maglev", "round-robin", "least-connections", "client", "prefer-local"];

/// The label by which a service says for how many seconds a client keeps its task.
pub const AFFINITY_LABEL: &str = "mesh.affinity-seconds";

/// The label by which a service says how replies go to clients.
pub const RETURN_LABEL: &str = "mesh.return-path";

/// What that label may say.
pub const RETURN_PATHS: &[&str] = &["tunnel", "direct"];

/// What a user wants of a service.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceSpec {
    /// Name and labels.
    pub annotations: Annotations,
    /// What its tasks are made from.
    pub task: TaskSpec,
    /// How many.
    pub mode: ServiceMode,
    /// How a change goes. None: the defaults.
    pub update: Option<UpdateConfig>,
    /// How the way back goes. None: the defaults.
    pub rollback: Option<UpdateConfig>,
    /// Networks of the service, where those of the template are not given (old clients).
    pub networks: Vec<NetworkAttachmentSpec>,
    /// How it is reached.
    pub endpoint: EndpointSpec,
    /// What the client of the Docker API sent, so that what we do not know comes back to it.
    /// `api` alone reads it.
    pub docker: Option<serde_json::Value>,
}

impl ServiceSpec {
    /// The networks of its tasks: those of the template, else those of the service.
    #[must_use]
    pub fn networks(&self) -> &[NetworkAttachmentSpec] {
        if self.task.networks.is_empty() { &self.networks } else { &self.task.networks }
    }

    /// How a change goes.
    #[must_use]
    pub fn update(&self) -> UpdateConfig {
        self.update.clone().unwrap_or_default()
    }

    /// How the way back goes.
    #[must_use]
    pub fn rollback(&self) -> UpdateConfig {
        self.rollback.clone().unwrap_or_default()
    }
}

/// How many tasks a service has, and whether they end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServiceMode {
    /// So many.
    Replicated {
        /// How many.
        replicas: u64,
    },
    /// One on each node that fits.
    Global,
    /// So many runs to their end.
    ReplicatedJob {
        /// At most so many at once.
        max_concurrent: u64,
        /// How many in all.
        total_completions: u64,
    },
    /// One run to its end on each node that fits.
    GlobalJob,
}

impl Default for ServiceMode {
    fn default() -> Self {
        Self::Replicated { replicas: 1 }
    }
}

impl ServiceMode {
    /// Whether its tasks run to their end.
    #[must_use]
    pub const fn is_job(self) -> bool {
        match self {
            Self::ReplicatedJob { .. } | Self::GlobalJob => true,
            Self::Replicated { .. } | Self::Global => false,
        }
    }

    /// Whether each node that fits has a task.
    #[must_use]
    pub const fn is_global(self) -> bool {
        match self {
            Self::Global | Self::GlobalJob => true,
            Self::Replicated { .. } | Self::ReplicatedJob { .. } => false,
        }
    }
}

/// How tasks are replaced.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct UpdateConfig {
    /// So many slots at once. 0: all.
    pub parallelism: u64,
    /// Between one batch and the next.
    pub delay: Duration,
    /// What to do when too many fail.
    pub failure_action: FailureAction,
    /// So long after its start a new task's failure counts.
    pub monitor: Duration,
    /// Which share of the tasks may fail.
    pub max_failure_ratio: f32,
    /// Which of the two tasks of a slot comes first.
    pub order: UpdateOrder,
}

impl Default for UpdateConfig {
    fn default() -> Self {
        Self {
            parallelism: 1,
            delay: Duration::ZERO,
            failure_action: FailureAction::Pause,
            monitor: Duration::from_secs(5),
            max_failure_ratio: 0.0,
            order: UpdateOrder::StopFirst,
        }
    }
}

/// What to do when too many new tasks fail.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FailureAction {
    /// Stop, until the user changes the service again.
    #[default]
    Pause,
    /// Go on.
    Continue,
    /// Go back to the spec before. In a way back, the same as `Pause`.
    Rollback,
}

/// Which of the two tasks of a slot comes first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UpdateOrder {
    /// The old one stops, then the new one starts.
    #[default]
    StopFirst,
    /// The new one runs, then the old one stops.
    StartFirst,
}

/// How a service is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointSpec {
    /// By a VIP or by the tasks' own addresses.
    pub mode: EndpointMode,
    /// Ports it publishes.
    pub ports: Vec<Port>,
}

/// What the name of a service resolves to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EndpointMode {
    /// Its virtual address.
    #[default]
    Vip,
    /// The addresses of its tasks.
    Dnsrr,
}

/// A port that leads to a service.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Port {
    /// For people.
    pub name: String,
    /// Protocol.
    pub protocol: Protocol,
    /// What the tasks listen on.
    pub target_port: u16,
    /// What clients dial. 0: to be given by the allocator, or for mode `Host` by the node.
    pub published_port: u16,
    /// Who answers.
    pub publish_mode: PublishMode,
}

/// A protocol with ports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// Which nodes answer at a published port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PublishMode {
    /// All.
    #[default]
    Ingress,
    /// The node of each task, for this task.
    Host,
}

/// How a service is reached, as the allocator has decided.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Endpoint {
    /// The spec that this answers.
    pub spec: EndpointSpec,
    /// Its ports, none of them 0 in mode `Ingress`.
    pub ports: Vec<Port>,
    /// Its virtual addresses: one a network and family.
    pub vips: Vec<Vip>,
    /// The most replicas that it was ever to have: its tables keep the room that they had, for connections find
    /// their tasks by their place in them.
    pub most_tasks: u64,
}

/// A virtual address of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vip {
    /// In which network.
    pub network_id: NetworkId,
    /// The address, with the prefix of its subnet.
    pub address: Cidr,
}

/// How far a change of a service is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UpdateStatus {
    /// Where it stands.
    pub state: UpdateState,
    /// When it began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
    /// A sentence for people: `update in progress`.
    pub message: String,
}

/// Where a change of a service stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpdateState {
    /// It goes on.
    #[default]
    Updating,
    /// Too many tasks failed: it stopped.
    Paused,
    /// It is done.
    Completed,
    /// The way back goes on.
    RollbackStarted,
    /// The way back failed too.
    RollbackPaused,
    /// The way back is done.
    RollbackCompleted,
}

/// How often a job was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobStatus {
    /// Names the execution: the version of the service that began it.
    pub iteration: Version,
    /// When it began.
    pub last_execution: Option<Timestamp>,
}

/// A service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// Its id.
    pub id: ServiceId,
    /// Version and times.
    #[serde(default)]
    pub meta: Meta,
    /// What the user wants.
    pub spec: ServiceSpec,
    /// Which version of the service brought this spec.
    #[serde(default)]
    pub spec_version: Version,
    /// What the user wanted before.
    #[serde(default)]
    pub previous_spec: Option<Box<ServiceSpec>>,
    /// The version of `previous_spec`.
    #[serde(default)]
    pub previous_spec_version: Option<Version>,
    /// How it is reached; None until the allocator has decided.
    #[serde(default)]
    pub endpoint: Option<Endpoint>,
    /// How far its last change is.
    #[serde(default)]
    pub update_status: Option<UpdateStatus>,
    /// Of a job.
    #[serde(default)]
    pub job_status: Option<JobStatus>,
    /// Why the allocator cannot give what it needs. Empty: nothing is wrong.
    #[serde(default)]
    pub allocation_error: String,
}

impl Service {
    /// A new service with nothing decided.
    #[must_use]
    pub fn new(id: ServiceId, spec: ServiceSpec) -> Self {
        Self {
            id,
            meta: Meta::default(),
            spec,
            spec_version: Version::default(),
            previous_spec: None,
            previous_spec_version: None,
            endpoint: None,
            update_status: None,
            job_status: None,
            allocation_error: String::new(),
        }
    }
}
