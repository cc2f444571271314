//! A node as the scheduler sees it: what is left of it, and what runs there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::id::ServiceId;
use crate::model::node::Node;
use crate::model::service::{Protocol, PublishMode};
use crate::model::state::TaskState;
use crate::model::task::Task;

use super::resources::Available;

/// A node with its tasks counted.
#[derive(Debug, Clone)]
pub struct Candidate {
    pub(super) node: Arc<Node>,
    pub(super) available: Available,
    pub(super) tasks: u64,
    pub(super) by_service: BTreeMap<ServiceId, u64>,
    pub(super) host_ports: BTreeSet<(Protocol, u16)>,
}

impl Candidate {
    /// A node without tasks.
    #[must_use]
    pub fn new(node: Arc<Node>) -> Self {
        let available =
            node.description.as_ref().map(|description| Available::new(&description.resources)).unwrap_or_default();
        Self { node, available, tasks: 0, by_service: BTreeMap::new(), host_ports: BTreeSet::new() }
    }

    /// Counts a task that is on the node or on its way there; one that has ended counts for nothing.
    pub fn count(&mut self, task: &Task) {
        if task.status.state.is_terminal() {
            return;
        }
        self.available.occupy(&task.spec.resources.reservations, &task.generic_resources);
        self.settle(task);
    }

    /// Counts a task that is placed here now, and returns the generic resources it gets.
    pub(super) fn place(&mut self, task: &Task) -> Vec<crate::model::resources::GenericResource> {
        let got = self.available.take(&task.spec.resources.reservations);
        self.settle(task);
        got
    }

    fn settle(&mut self, task: &Task) {
        self.host_ports.extend(host_ports(task));
        // A task that is to stop makes place for its successor.
        if task.desired_state <= TaskState::Complete {
            self.tasks += 1;
            if let Some(service) = task.service_id {
                *self.by_service.entry(service).or_default() += 1;
            }
        }
    }

    pub(super) fn tasks_of(&self, service: Option<ServiceId>) -> u64 {
        service.and_then(|service| self.by_service.get(&service).copied()).unwrap_or(0)
    }
}

/// The ports of its node that a task wants for itself. A port that the node chooses is never in the way.
pub(super) fn host_ports(task: &Task) -> impl Iterator<Item = (Protocol, u16)> + '_ {
    let ports = task.endpoint.iter().flat_map(|endpoint| &endpoint.ports);
    ports
        .filter(|port| port.publish_mode == PublishMode::Host && port.published_port != 0)
        .map(|port| (port.protocol, port.published_port))
}
