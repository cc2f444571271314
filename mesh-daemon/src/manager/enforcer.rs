//! Takes tasks away from nodes that no longer fit them: labels or resources changed.

use std::sync::Arc;

use crate::model::id::NodeId;
use crate::model::node::{Availability, Node};
use crate::model::state::TaskState;
use crate::model::task::Task;
use crate::store::{Key, Tables};

use super::scheduler::constraint::Constraint;
use super::step::Step;

/// The tasks that must leave a node.
pub(super) fn plan(view: &Tables, node: NodeId) -> Vec<Step> {
    let Some(node) = view.nodes().get(node) else { return Vec::new() };
    // A drained node is emptied by the orchestrator, in order.
    if node.spec.availability == Availability::Drain {
        return Vec::new();
    }
    let mut tasks: Vec<_> = view
        .tasks()
        .by_key(Key::Node(node.id))
        .filter(|task| task.status.state.is_on_node() && task.desired_state <= TaskState::Complete)
        .collect();
    tasks.sort_by_key(|task| (task.meta.created_at, task.id));
    let (mut cpus, mut memory) = node.description.as_ref().map_or((i64::MAX, i64::MAX), |description| {
        (description.resources.nano_cpus, description.resources.memory_bytes)
    });
    let mut steps = Vec::new();
    for task in tasks {
        let reserved = &task.spec.resources.reservations;
        let fits = reserved.nano_cpus <= cpus && reserved.memory_bytes <= memory;
        let reason = if !meets_constraints(node, task) {
            Some("assigned node no longer meets constraints")
        } else if fits {
            None
        } else {
            Some("assigned node no longer has the resources")
        };
        match reason {
            Some(reason) => steps.push(Step::Evict { task: task.id, reason: reason.to_owned() }),
            None => {
                cpus -= reserved.nano_cpus;
                memory -= reserved.memory_bytes;
            }
        }
    }
    steps
}

fn meets_constraints(node: &Node, task: &Arc<Task>) -> bool {
    let constraints = &task.spec.placement.constraints;
    constraints.iter().all(|text| Constraint::parse(text).is_ok_and(|constraint| constraint.fits(node)))
}
