//! Where tasks run.
//!
//! [`schedule`] is pure: nodes with their tasks and the tasks that wait in, decisions out. A task is
//! placed once and never moved; who no longer fits is taken away by `enforcer`.
//!
//! Like tasks (of one service and version) are placed together: conditions that hold for one hold
//! for all, and only what placing changes (resources, ports, number on the node) is asked again.

mod candidate;
pub mod constraint;
mod failures;
mod filter;
mod resources;
mod spread;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use self::filter::{Filters, Refusals};
use self::spread::{Rank, Spread};
use crate::model::id::{NodeId, ServiceId, TaskId};
use crate::model::meta::Version;
use crate::model::resources::GenericResource;
use crate::model::task::Task;

pub use self::candidate::Candidate;
pub use self::failures::Failures;

/// What is decided about a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It runs there, with these generic resources.
    Place {
        /// The task.
        task: TaskId,
        /// Its node.
        node: NodeId,
        /// What it got of what its node counts or names.
        resources: Vec<GenericResource>,
    },
    /// No node takes it, for this reason; it goes on waiting.
    Wait {
        /// The task.
        task: TaskId,
        /// A sentence for people.
        reason: String,
    },
}

/// Decides about every task that waits. Nodes are counted on as tasks are placed.
pub fn schedule(nodes: &mut [Candidate], waiting: &[Arc<Task>], failures: &Failures, now: Timestamp) -> Vec<Decision> {
    let mut decisions = Vec::with_capacity(waiting.len());
    let places: BTreeMap<NodeId, usize> =
        nodes.iter().enumerate().map(|(place, candidate)| (candidate.node.id, place)).collect();
    let mut groups: BTreeMap<(Option<ServiceId>, Version), Vec<&Arc<Task>>> = BTreeMap::new();
    for task in waiting {
        match task.node_id {
            Some(node) => decisions.push(confirm(nodes, places.get(&node).copied(), task)),
            None => groups.entry((task.service_id, task.spec_version)).or_default().push(task),
        }
    }
    for group in groups.values_mut() {
        group.sort_by_key(|task| (task.slot, task.id));
        place(nodes, group, failures, now, &mut decisions);
    }
    decisions
}

/// A task of a global service has its node already: only whether that takes it is asked.
fn confirm(nodes: &mut [Candidate], place: Option<usize>, task: &Task) -> Decision {
    let mut refusals = Refusals::default();
    if let Some(candidate) = place.and_then(|place| nodes.get_mut(place)) {
        match Filters::new(task).refusal(candidate) {
            None => {
                let resources = candidate.place(task);
                return Decision::Place { task: task.id, node: candidate.node.id, resources };
            }
            Some(filter) => refusals.add(filter),
        }
    }
    Decision::Wait { task: task.id, reason: refusals.explain() }
}

fn place(
    nodes: &mut [Candidate],
    group: &[&Arc<Task>],
    failures: &Failures,
    now: Timestamp,
    decisions: &mut Vec<Decision>,
) {
    let Some(first) = group.first() else { return };
    let preferences = &first.spec.placement.preferences;
    let rank = |place: usize, candidate: &Candidate| -> Rank {
        let failed = failures.too_many(candidate.node.id, first.service_id, first.spec_version, now);
        (failed, candidate.tasks_of(first.service_id), candidate.tasks, place)
    };
    let filters = Filters::new(first);
    let mut spread = Spread::new();
    for (place, candidate) in nodes.iter().enumerate() {
        if filters.refusal(candidate).is_none() {
            spread.add(preferences, &candidate.node, rank(place, candidate));
        }
    }
    let mut left = group.iter();
    let mut rest = None;
    for task in left.by_ref() {
        let mut placed = None;
        spread.place(&mut |place| {
            let candidate = nodes.get_mut(place)?;
            if filters.refusal(candidate).is_some() {
                return None;
            }
            let resources = candidate.place(task);
            placed = Some(Decision::Place { task: task.id, node: candidate.node.id, resources });
            Some(rank(place, candidate))
        });
        match placed {
            Some(decision) => decisions.push(decision),
            None => {
                rest = Some(task);
                break;
            }
        }
    }
    // What no node takes is refused to all that follow for the same reasons.
    let Some(first) = rest else { return };
    let mut refusals = Refusals::default();
    nodes.iter().filter_map(|candidate| filters.refusal(candidate)).for_each(|filter| refusals.add(filter));
    let reason = refusals.explain();
    let waiting = std::iter::once(first).chain(left);
    decisions.extend(waiting.map(|task| Decision::Wait { task: task.id, reason: reason.clone() }));
}
