//! Places of a service: what is in each, and the tasks made for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::id::{NodeId, ServiceId};
use crate::model::node::{Availability, Node, NodeState};
use crate::model::service::{PublishMode, Service};
use crate::model::state::TaskState;
use crate::model::task::{Task, TaskSpec};
use crate::store::{Key, Tables};

use super::super::scheduler::constraint::Constraint;

/// A place that one task of a service at a time is to fill: a number, or a node of a global service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Place {
    /// A replica.
    Slot(u64),
    /// A node.
    Node(NodeId),
}

/// A place with its tasks, oldest first.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    pub(super) place: Place,
    pub(super) tasks: Vec<Arc<Task>>,
}

impl Slot {
    /// Tasks that the cluster wants running, or run to their end.
    pub(super) fn live(&self) -> impl Iterator<Item = &Arc<Task>> {
        self.tasks.iter().filter(|task| is_live(task))
    }

    pub(super) fn newest(&self) -> Option<&Arc<Task>> {
        self.tasks.last()
    }

    pub(super) fn is_live(&self) -> bool {
        self.live().next().is_some()
    }

    pub(super) fn runs(&self) -> bool {
        self.live().any(|task| task.status.state == TaskState::Running)
    }

    /// The tasks that came before this one and may still hold what it needs.
    pub(super) fn before<'a>(&'a self, task: &'a Task) -> impl Iterator<Item = &'a Arc<Task>> {
        self.tasks.iter().filter(|other| order(other) < order(task))
    }
}

pub(super) fn is_live(task: &Task) -> bool {
    task.desired_state <= TaskState::Complete
}

/// Whether nothing of the task holds anything any more: it has ended, or was called off before it had a
/// node, which nobody will report.
pub(super) fn is_over(task: &Task) -> bool {
    task.status.state.is_terminal() || (!is_live(task) && task.status.state < TaskState::Assigned)
}

fn order(task: &Task) -> (crate::model::meta::Version, jiff::Timestamp, crate::model::id::TaskId) {
    (task.spec_version, task.meta.created_at, task.id)
}

/// The places of a service that have tasks.
pub(super) fn slots(view: &Tables, service: &Service) -> BTreeMap<Place, Slot> {
    let is_global = service.spec.mode.is_global();
    let mut slots = BTreeMap::new();
    for task in tasks(view, service.id) {
        let place = match task.node_id {
            Some(node) if is_global => Place::Node(node),
            _ => Place::Slot(task.slot),
        };
        let slot = slots.entry(place).or_insert_with(|| Slot { place, tasks: Vec::new() });
        slot.tasks.push(Arc::clone(task));
    }
    for slot in slots.values_mut() {
        slot.tasks.sort_by_key(|task| order(task));
    }
    slots
}

pub(super) fn tasks(view: &Tables, service: ServiceId) -> impl Iterator<Item = &Arc<Task>> {
    view.tasks().by_key(Key::Service(service))
}

/// What the service's tasks are made from, with the networks where they are read.
pub(super) fn template(service: &Service) -> TaskSpec {
    let networks = service.spec.networks().to_vec();
    TaskSpec { networks, ..service.spec.task.clone() }
}

/// Whether a task is what the service wants now. Where it may run is no part of what it is, as long as
/// it runs where it may; nor are the ports of all nodes, which the packet path changes without it.
pub(super) fn is_current(view: &Tables, service: &Service, task: &Task) -> bool {
    if task.spec_version == service.spec_version {
        return true;
    }
    let wanted = template(service);
    let same = TaskSpec {
        placement: wanted.placement.clone(),
        registry_auth: wanted.registry_auth.clone(),
        docker: None,
        ..task.spec.clone()
    } == TaskSpec { docker: None, ..wanted.clone() };
    let placed = task.spec.placement == wanted.placement
        || task
            .node_id
            .and_then(|node| view.nodes().get(node))
            .is_some_and(|node| fits(node, &wanted.placement.constraints));
    let host_ports = |ports: &[crate::model::service::Port]| -> Vec<_> {
        ports.iter().filter(|port| port.publish_mode == PublishMode::Host).cloned().collect()
    };
    let has = task.endpoint.as_ref().map(|endpoint| host_ports(&endpoint.spec.ports));
    same && placed && has.is_none_or(|has| has == host_ports(&service.spec.endpoint.ports))
}

/// Whether a node meets the constraints of a service.
pub(super) fn fits(node: &Node, constraints: &[String]) -> bool {
    constraints.iter().all(|text| Constraint::parse(text).is_ok_and(|constraint| constraint.fits(node)))
}

/// How things stand with the node of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seat {
    /// The task has none yet, or it is fine.
    Fine,
    /// It is down, or no longer of the cluster.
    Lost,
    /// It is to be emptied.
    Drained,
}

pub(super) fn seat(view: &Tables, task: &Task) -> Seat {
    let Some(id) = task.node_id else { return Seat::Fine };
    match view.nodes().get(id) {
        None => Seat::Lost,
        Some(node) if node.status.state == NodeState::Down => Seat::Lost,
        Some(node) if node.spec.availability == Availability::Drain => Seat::Drained,
        Some(_) => Seat::Fine,
    }
}
