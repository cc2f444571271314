//! Moves tasks of a service to nodes that have fewer of them, if the service asks for it by the label
//! `mesh.rebalance-seconds`: one at a time, the new one first, and not before so long after the last.
//!
//! Where a task would go is the scheduler's to say: a move is begun only if that is a node with at least two
//! tasks of the service fewer, so that none ever goes back.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::super::scheduler::{Candidate, Decision, Failures, schedule};
use super::super::step::Step;
use super::restart::later;
use super::slot::{Seat, Slot, is_current, seat};
use super::{Context, Plan};
use crate::model::id::{NodeId, ServiceId, TaskId};
use crate::model::meta::Labels;
use crate::model::service::{REBALANCE_LABEL, Service, ServiceMode, UpdateState};
use crate::model::state::TaskState;
use crate::model::task::Task;
use crate::store::Tables;

/// After moves that failed, the wait is doubled so often at most.
const DOUBLINGS: u32 = 6;

/// Moves that were begun, as long as this manager leads.
#[derive(Debug, Default)]
pub(super) struct Moves {
    services: HashMap<ServiceId, Move>,
}

#[derive(Debug)]
struct Move {
    new: TaskId,
    begun: Timestamp,
    /// How many before it failed, one after the other.
    failures: u32,
}

impl Moves {
    pub(super) fn forget(&mut self, service: ServiceId) {
        self.services.remove(&service);
    }
}

/// How long a service wants between two moves; None: it is not to be moved.
fn wait(labels: &Labels) -> Option<Duration> {
    let seconds = labels.get(REBALANCE_LABEL)?.parse().ok()?;
    (seconds > 0).then(|| Duration::from_secs(seconds))
}

/// Begins a move, or ends one.
pub(super) fn plan(context: &mut Context<'_>, service: &Service, slots: &[&Slot], plan: &mut Plan) {
    let asked = wait(&service.spec.annotations.labels);
    let (Some(wait), ServiceMode::Replicated { .. }) = (asked, service.spec.mode) else { return };
    for slot in slots {
        end(slot, plan);
    }
    if !is_quiet(context.view, service, slots) {
        return;
    }
    let failures = settle(context, service, slots);
    let last_start = slots.iter().flat_map(|slot| slot.live()).map(|task| task.status.timestamp).max();
    let last_move = context.memory.moves.services.get(&service.id).map(|last| last.begun);
    let Some(last) = last_start.max(last_move) else { return };
    let due = later(last, wait * 2_u32.pow(failures.min(DOUBLINGS)));
    if due > context.now {
        plan.wake_at(due);
        return;
    }
    // Nodes come back without a word to this service.
    plan.wake_at(later(context.now, wait));
    let Some(moving) = candidate(context.view, service, slots, context.now) else { return };
    let new = context.task(service, moving.place, TaskState::Running);
    context.memory.moves.services.insert(service.id, Move { new: new.id, begun: context.now, failures });
    plan.steps.push(Step::Create(new));
}

/// Where a second task of a place runs, the first has been moved.
fn end(slot: &Slot, plan: &mut Plan) {
    let mut live: Vec<_> = slot.live().collect();
    let Some(newest) = live.pop() else { return };
    if newest.status.state == TaskState::Running {
        plan.steps.extend(live.iter().map(|task| Step::Want { task: task.id, state: TaskState::Shutdown }));
    }
}

/// Nothing else is going on: every place has one task, which runs where it may and is what is wanted.
fn is_quiet(view: &Tables, service: &Service, slots: &[&Slot]) -> bool {
    let changes = service
        .update_status
        .as_ref()
        .is_some_and(|status| !matches!(status.state, UpdateState::Completed | UpdateState::RollbackCompleted));
    let is_still = |slot: &&Slot| {
        let mut live = slot.live();
        let one = live.next().is_some_and(|task| {
            task.status.state == TaskState::Running && seat(view, task) == Seat::Fine && is_current(view, service, task)
        });
        one && live.next().is_none()
    };
    !changes && slots.iter().all(is_still)
}

/// How many moves failed in a row, the last one counted.
fn settle(context: &mut Context<'_>, service: &Service, slots: &[&Slot]) -> u32 {
    let Some(last) = context.memory.moves.services.get_mut(&service.id) else { return 0 };
    let runs = slots.iter().any(|slot| slot.live().any(|task| task.id == last.new));
    if runs {
        last.failures = 0;
        return 0;
    }
    // Counted once: from now on it is one of those before.
    if slots.iter().any(|slot| slot.tasks.iter().any(|task| task.id == last.new)) {
        last.failures += 1;
        last.new = TaskId::from_u128(0);
    }
    last.failures
}

/// The place to move: of the fullest node the last, if the scheduler would now put it on a node with at least
/// two tasks of the service fewer.
fn candidate<'a>(view: &Tables, service: &Service, slots: &[&'a Slot], now: Timestamp) -> Option<&'a Slot> {
    let mut on_node: BTreeMap<NodeId, Vec<&'a Slot>> = BTreeMap::new();
    for slot in slots {
        if let Some(node) = slot.live().next().and_then(|task| task.node_id) {
            on_node.entry(node).or_default().push(slot);
        }
    }
    let (from, fullest) = on_node.iter().max_by_key(|(node, slots)| (slots.len(), std::cmp::Reverse(**node)))?;
    let slot = fullest.iter().max_by_key(|slot| slot.place)?;
    let moving = slot.live().next()?;
    let to = target(view, service, moving, now)?;
    let there = on_node.get(&to).map_or(0, Vec::len);
    (to != *from && there + 2 <= fullest.len()).then_some(*slot)
}

/// Where the scheduler would put a task, were it not there yet.
fn target(view: &Tables, service: &Service, moving: &Task, now: Timestamp) -> Option<NodeId> {
    let mut nodes: Vec<_> = view.nodes().iter().map(|node| Candidate::new(Arc::clone(node))).collect();
    let places: BTreeMap<_, _> = view.nodes().iter().enumerate().map(|(place, node)| (node.id, place)).collect();
    let others = view.tasks().iter().filter(|task| task.id != moving.id && task.status.state >= TaskState::Assigned);
    for task in others {
        let place = task.node_id.and_then(|node| places.get(&node));
        if let Some(candidate) = place.and_then(|place| nodes.get_mut(*place)) {
            candidate.count(task);
        }
    }
    let mut task = moving.clone();
    task.node_id = None;
    task.service_id = Some(service.id);
    let decided = schedule(&mut nodes, &[Arc::new(task)], &Failures::default(), now);
    decided.into_iter().find_map(|decision| match decision {
        Decision::Place { node, .. } => Some(node),
        Decision::Wait { .. } => None,
    })
}
