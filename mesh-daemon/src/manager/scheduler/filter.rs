//! The conditions a node must meet to get a task, and how a refusal reads.

use crate::model::id::ServiceId;
use crate::model::node::NodeState;
use crate::model::resources::Platform;
use crate::model::task::Task;

use super::candidate::{Candidate, host_ports};
use super::constraint::{Constraint, architecture};

/// A condition. A new one is a variant, an arm of [`Filters::refuses`] and its words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Filter {
    /// The node is there and takes tasks.
    Ready,
    /// What the task reserves is left.
    Resources,
    /// The node meets the constraints.
    Constraints,
    /// The image runs on the node's platform.
    Platform,
    /// Ports of the node that the task wants are free.
    HostPorts,
    /// The service has not reached its number of tasks on a node.
    MaxReplicas,
}

impl Filter {
    const ALL: [Self; 6] =
        [Self::Ready, Self::Resources, Self::Constraints, Self::Platform, Self::HostPorts, Self::MaxReplicas];

    /// How so many refusals read, in SwarmKit's words.
    fn explain(self, nodes: usize) -> String {
        let on_nodes = |what: &str| match nodes {
            1 => format!("{what} on 1 node"),
            _ => format!("{what} on {nodes} nodes"),
        };
        match self {
            Self::Ready if nodes == 1 => "1 node not available for new tasks".to_owned(),
            Self::Ready => format!("{nodes} nodes not available for new tasks"),
            Self::Resources => on_nodes("insufficient resources"),
            Self::Constraints => on_nodes("scheduling constraints not satisfied"),
            Self::Platform => on_nodes("unsupported platform"),
            Self::HostPorts => on_nodes("host-mode port already in use"),
            Self::MaxReplicas => "max replicas per node limit exceed".to_owned(),
        }
    }
}

/// The conditions of a task, read once for all nodes.
pub(super) struct Filters<'a> {
    task: &'a Task,
    /// None if one of them cannot be read: then no node meets them.
    constraints: Option<Vec<Constraint>>,
    service: Option<ServiceId>,
}

impl<'a> Filters<'a> {
    pub(super) fn new(task: &'a Task) -> Self {
        let constraints = task.spec.placement.constraints.iter().map(|text| Constraint::parse(text));
        Self { task, constraints: constraints.collect::<Result<_, _>>().ok(), service: task.service_id }
    }

    /// The first condition that the node does not meet.
    pub(super) fn refusal(&self, node: &Candidate) -> Option<Filter> {
        Filter::ALL.into_iter().find(|filter| self.refuses(*filter, node))
    }

    fn refuses(&self, filter: Filter, node: &Candidate) -> bool {
        let placement = &self.task.spec.placement;
        match filter {
            Filter::Ready => node.node.status.state != NodeState::Ready || !node.node.takes_tasks(),
            Filter::Resources => !node.available.has(&self.task.spec.resources.reservations),
            Filter::Constraints => match &self.constraints {
                Some(constraints) => constraints.iter().any(|constraint| !constraint.fits(&node.node)),
                None => true,
            },
            Filter::Platform => {
                let own = node.node.description.as_ref().map(|description| &description.platform);
                let fits = |wanted: &Platform| own.is_some_and(|own| runs(wanted, own));
                !placement.platforms.is_empty() && !placement.platforms.iter().any(fits)
            }
            Filter::HostPorts => host_ports(self.task).any(|port| node.host_ports.contains(&port)),
            Filter::MaxReplicas => placement.max_replicas > 0 && node.tasks_of(self.service) >= placement.max_replicas,
        }
    }
}

fn runs(wanted: &Platform, own: &Platform) -> bool {
    let same = |wanted: &str, own: &str| wanted.is_empty() || wanted.eq_ignore_ascii_case(own);
    same(architecture(&wanted.architecture), architecture(&own.architecture)) && same(&wanted.os, &own.os)
}

/// How often each condition refused a node.
#[derive(Debug, Default)]
pub(super) struct Refusals([usize; Filter::ALL.len()]);

impl Refusals {
    pub(super) fn add(&mut self, filter: Filter) {
        if let Some(count) = Filter::ALL.iter().position(|one| *one == filter).and_then(|at| self.0.get_mut(at)) {
            *count += 1;
        }
    }

    /// The sentence for people, the most frequent reason first.
    pub(super) fn explain(&self) -> String {
        let mut reasons: Vec<_> = Filter::ALL.into_iter().zip(self.0).filter(|(_, nodes)| *nodes > 0).collect();
        reasons.sort_by_key(|(_, nodes)| std::cmp::Reverse(*nodes));
        let reasons: Vec<_> = reasons.into_iter().map(|(filter, nodes)| filter.explain(nodes)).collect();
        match reasons.as_slice() {
            [] => "no suitable node".to_owned(),
            reasons => format!("no suitable node ({})", reasons.join("; ")),
        }
    }
}
