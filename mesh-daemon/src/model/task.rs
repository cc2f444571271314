//! A task: one run of a service's container on one node, from its making to its end. A task is never
//! restarted; another takes its slot.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::cidr::Cidr;
use super::container::ContainerSpec;
use super::id::{NetworkId, NodeId, ServiceId, TaskId};
use super::meta::{Annotations, Meta, Version};
use super::payload::Payload;
use super::resources::{GenericResource, Placement, ResourceRequirements};
use super::service::{Endpoint, Port};
use super::state::TaskState;

/// What a task is made from: a service's template.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskSpec {
    /// What runs.
    pub container: ContainerSpec,
    /// What it may use, and reserves.
    pub resources: ResourceRequirements,
    /// Whether and when another takes its place.
    pub restart: RestartPolicy,
    /// Where it may run.
    pub placement: Placement,
    /// Where its output goes. None: the runtime's default.
    pub log_driver: Option<LogDriver>,
    /// The networks it is in.
    pub networks: Vec<NetworkAttachmentSpec>,
    /// A number that a user raises to have the tasks replaced although nothing else changed.
    pub force_update: u64,
    /// The runtime asked for by name. Empty: containers.
    pub runtime: String,
    /// Who asks the image's registry, as docker clients say it: for the node that runs the task, and never
    /// shown. No part of what a task is: others do not replace it.
    pub registry_auth: Option<Payload>,
    /// What the client of the Docker API sent, so that what we do not know comes back to it.
    /// `api` alone reads it.
    pub docker: Option<serde_json::Value>,
}

/// A network that tasks are to be in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkAttachmentSpec {
    /// Which.
    pub network_id: NetworkId,
    /// Names that the service has in it beside its own.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Options to the network's driver.
    #[serde(default)]
    pub driver_options: BTreeMap<String, String>,
    /// Addresses asked for; empty: any.
    #[serde(default)]
    pub addresses: Vec<std::net::IpAddr>,
}

/// Whether another task takes the place of one that ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RestartPolicy {
    /// After which ends.
    pub condition: RestartCondition,
    /// Between the end and the start of the next.
    pub delay: Duration,
    /// How often within the window. 0: no limit.
    pub max_attempts: u64,
    /// 0: since the slot was made.
    pub window: Duration,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self {
            condition: RestartCondition::Any,
            delay: Duration::from_secs(5),
            max_attempts: 0,
            window: Duration::ZERO,
        }
    }
}

/// After which ends of a task another takes its place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartCondition {
    /// After none.
    None,
    /// Only if the task failed.
    OnFailure,
    /// After any; of a job, only if the task failed.
    #[default]
    Any,
}

/// Where output goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogDriver {
    /// `json-file`, `local`, `none`, ...
    pub name: String,
    /// Options to it.
    pub options: BTreeMap<String, String>,
}

/// A task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Its id.
    pub id: TaskId,
    /// Version and times.
    #[serde(default)]
    pub meta: Meta,
    /// Its own name and labels. An empty name: `SERVICE.SLOT.ID`, see [`Task::name`].
    #[serde(default)]
    pub annotations: Annotations,
    /// The service's template when the task was made.
    pub spec: TaskSpec,
    /// Which version of the service's spec that was.
    #[serde(default)]
    pub spec_version: Version,
    /// None: a container that a user attached to a network, no service's.
    pub service_id: Option<ServiceId>,
    /// The name of the service when the task was made.
    #[serde(default)]
    pub service_name: String,
    /// The labels of the service when the task was made.
    #[serde(default)]
    pub service_labels: super::meta::Labels,
    /// Its place among the replicas, from 1; 0 for a task of a global service, whose place is its node.
    #[serde(default)]
    pub slot: u64,
    /// Where it runs: chosen by the scheduler, or by the orchestrator of a global service.
    #[serde(default)]
    pub node_id: Option<NodeId>,
    /// What the cluster wants of it.
    pub desired_state: TaskState,
    /// What was seen of it.
    #[serde(default)]
    pub status: TaskStatus,
    /// The networks it is in, once it has its addresses.
    #[serde(default)]
    pub networks: Vec<NetworkAttachment>,
    /// The service's endpoint when its addresses were given.
    #[serde(default)]
    pub endpoint: Option<Endpoint>,
    /// Generic resources it got.
    #[serde(default)]
    pub generic_resources: Vec<GenericResource>,
    /// Of a job: in which execution it was made.
    #[serde(default)]
    pub job_iteration: Option<Version>,
}

impl Task {
    /// A new task with nothing decided.
    #[must_use]
    pub fn new(id: TaskId, service_id: Option<ServiceId>, spec: TaskSpec) -> Self {
        Self {
            id,
            meta: Meta::default(),
            annotations: Annotations::default(),
            spec,
            spec_version: Version::default(),
            service_id,
            service_name: String::new(),
            service_labels: super::meta::Labels::new(),
            slot: 0,
            node_id: None,
            desired_state: TaskState::Running,
            status: TaskStatus::default(),
            networks: Vec::new(),
            endpoint: None,
            generic_resources: Vec::new(),
            job_iteration: None,
        }
    }

    /// How people call it: `web.1.<id>`, or `web.<node id>.<id>` for a task of a global service.
    #[must_use]
    pub fn name(&self) -> String {
        if !self.annotations.name.is_empty() {
            return self.annotations.name.clone();
        }
        match self.node_id {
            Some(node) if self.slot == 0 => format!("{}.{node}.{}", self.service_name, self.id),
            _ => format!("{}.{}.{}", self.service_name, self.slot, self.id),
        }
    }
}

/// What was seen of a task.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskStatus {
    /// When.
    pub timestamp: Timestamp,
    /// The state.
    pub state: TaskState,
    /// A word about it: `started`.
    pub message: String,
    /// Why it is not what it should be. Empty: nothing is wrong.
    pub err: String,
    /// Of its container, once there is one.
    pub container: Option<ContainerStatus>,
    /// Ports of its node that lead to it.
    pub ports: Vec<Port>,
    /// Who applied this state, when a node did.
    pub applied_by: Option<NodeId>,
}

/// What was seen of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerStatus {
    /// As its runtime names it.
    pub container_id: String,
    /// Its first process, 0 if it has none.
    pub pid: u32,
    /// How its first process ended.
    pub exit_code: i32,
}

/// A network that a task is in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkAttachment {
    /// Which.
    pub network_id: NetworkId,
    /// Its addresses there, with the prefix of their subnets: one a family.
    pub addresses: Vec<Cidr>,
    /// Names that it has there beside its service's.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Options to the network's driver.
    #[serde(default)]
    pub driver_options: BTreeMap<String, String>,
}
