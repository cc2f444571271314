//! What a node is told: the tasks it is to run, and of the others what its packet path and its names
//! need.
//!
//! A node holds a [`Picture`]; managers send [`Batch`]es that change it. What is in it of the tasks of
//! other nodes is only how to reach them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::id::{NetworkId, NodeId, ServiceId, TaskId};
use super::meta::Labels;
use super::network::Network;
use super::node::{NodeDescription, Role};
use super::payload::{Config, Secret};
use super::service::{Endpoint, EndpointMode};
use super::task::{NetworkAttachment, NetworkAttachmentSpec, Task, TaskStatus};

/// A task that the node is to run, with what it needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Assigned {
    /// The task.
    pub task: Task,
    /// The secrets that its spec names.
    pub secrets: Vec<Secret>,
    /// The configs that its spec names.
    pub configs: Vec<Config>,
    /// Of a task that is to stop: no node sends new connections to it any more.
    pub drained: bool,
}

/// A node as others reach it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The node.
    pub id: NodeId,
    /// Its host name.
    pub hostname: String,
    /// Where its tunnels end: one address a family.
    pub vteps: Vec<IpAddr>,
    /// Where its membership agent is.
    pub gossip: Option<SocketAddr>,
}

/// A service as it is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reachable {
    /// The service.
    pub id: ServiceId,
    /// Its name.
    pub name: String,
    /// Its labels: some say how its connections are balanced.
    pub labels: Labels,
    /// What its name leads to.
    pub mode: EndpointMode,
    /// Its ports and virtual addresses.
    pub endpoint: Endpoint,
    /// Its networks, with the names it has there.
    pub networks: Vec<NetworkAttachmentSpec>,
}

/// A running task as it is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backend {
    /// The task.
    pub id: TaskId,
    /// As people call it.
    pub name: String,
    /// Its service.
    pub service: Option<ServiceId>,
    /// Where it runs.
    pub node: NodeId,
    /// Its addresses.
    pub networks: Vec<NetworkAttachment>,
    /// Whether it only finishes what it has begun.
    pub draining: bool,
}

/// What a node says of itself when its session begins, and when it changes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Announcement {
    /// Host, resources, engine.
    pub description: NodeDescription,
    /// Where it is reached, without a port.
    pub addr: String,
    /// Where its tunnels end.
    pub vteps: Vec<IpAddr>,
    /// Addresses at which published ports answer.
    pub addresses: Vec<IpAddr>,
    /// Where its membership agent is.
    pub gossip: Option<SocketAddr>,
    /// Where it listens for other managers, should it be one.
    pub listens: Option<SocketAddr>,
}

/// What became of tasks.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// The newest of each.
    pub statuses: Vec<(TaskId, TaskStatus)>,
}

/// What the managers hold of a node itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct OwnNode {
    /// What it should be.
    pub role: Role,
    /// The UDP port of tunnels.
    pub data_path_port: u16,
    /// Its number among managers, once it is to be one.
    pub raft_id: Option<u64>,
}

/// Names an item of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ItemKey {
    /// A network.
    Network(NetworkId),
    /// A node.
    Member(NodeId),
    /// A service.
    Service(ServiceId),
    /// A task of any node, as it is reached.
    Backend(TaskId),
    /// A task of this node.
    Task(TaskId),
}

/// An item of a picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Item {
    /// A network.
    Network(Box<Network>),
    /// A node.
    Member(Member),
    /// A service.
    Service(Box<Reachable>),
    /// A task of any node, as it is reached.
    Backend(Backend),
    /// A task of this node.
    Task(Box<Assigned>),
}

impl Item {
    /// Its name.
    #[must_use]
    pub fn key(&self) -> ItemKey {
        match self {
            Self::Network(network) => ItemKey::Network(network.id),
            Self::Member(member) => ItemKey::Member(member.id),
            Self::Service(service) => ItemKey::Service(service.id),
            Self::Backend(backend) => ItemKey::Backend(backend.id),
            Self::Task(assigned) => ItemKey::Task(assigned.task.id),
        }
    }
}

/// A change of a picture.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Batch {
    /// Items that are new or other than before.
    pub set: Vec<Item>,
    /// Items that are gone.
    pub gone: Vec<ItemKey>,
    /// Whether another piece follows: nothing is done before the last.
    pub more: bool,
}

/// What a node knows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Picture {
    /// Networks.
    pub networks: BTreeMap<NetworkId, Network>,
    /// Nodes.
    pub members: BTreeMap<NodeId, Member>,
    /// Services.
    pub services: BTreeMap<ServiceId, Reachable>,
    /// Running tasks of all nodes.
    pub backends: BTreeMap<TaskId, Backend>,
    /// The tasks of this node.
    pub tasks: BTreeMap<TaskId, Assigned>,
}

impl Picture {
    /// Takes a change in.
    pub fn apply(&mut self, batch: Batch) {
        for key in batch.gone {
            match key {
                ItemKey::Network(id) => drop(self.networks.remove(&id)),
                ItemKey::Member(id) => drop(self.members.remove(&id)),
                ItemKey::Service(id) => drop(self.services.remove(&id)),
                ItemKey::Backend(id) => drop(self.backends.remove(&id)),
                ItemKey::Task(id) => drop(self.tasks.remove(&id)),
            }
        }
        for item in batch.set {
            match item {
                Item::Network(network) => drop(self.networks.insert(network.id, *network)),
                Item::Member(member) => drop(self.members.insert(member.id, member)),
                Item::Service(service) => drop(self.services.insert(service.id, *service)),
                Item::Backend(backend) => drop(self.backends.insert(backend.id, backend)),
                Item::Task(assigned) => drop(self.tasks.insert(assigned.task.id, *assigned)),
            }
        }
    }
}
