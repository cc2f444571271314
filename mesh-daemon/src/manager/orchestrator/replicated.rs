//! As many tasks as the service says.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::id::NodeId;
use crate::model::service::Service;
use crate::model::state::TaskState;

use super::super::step::Step;
use super::slot::{Place, Slot};
use super::{Context, Plan};

/// Adds or removes places until there are as many as wanted; returns those that stay.
pub(super) fn plan<'a>(
    context: &mut Context<'_>,
    service: &Service,
    slots: &'a BTreeMap<Place, Slot>,
    replicas: u64,
    plan: &mut Plan,
) -> Vec<&'a Slot> {
    let mut filled: Vec<_> = slots.values().filter(|slot| context.is_filled(service, slot)).collect();
    let wanted = usize::try_from(replicas).unwrap_or(usize::MAX);
    if filled.len() > wanted {
        let surplus = rank(&mut filled).split_off(wanted);
        for slot in surplus {
            let tasks = slot.tasks.iter().filter(|task| task.desired_state < TaskState::Remove);
            plan.steps.extend(tasks.map(|task| Step::Want { task: task.id, state: TaskState::Remove }));
        }
        filled.truncate(wanted);
    }
    let taken: BTreeSet<_> = filled.iter().map(|slot| slot.place).collect();
    let free = (1..).map(Place::Slot).filter(|place| !taken.contains(place));
    for place in free.take(wanted.saturating_sub(filled.len())) {
        plan.steps.push(Step::Create(context.task(service, place, TaskState::Running)));
    }
    filled
}

/// Those to keep first: one a node before a second one anywhere, running ones before others.
fn rank<'a>(slots: &mut Vec<&'a Slot>) -> Vec<&'a Slot> {
    slots.sort_by_key(|slot| (!slot.runs(), slot.place));
    let mut on_node: BTreeMap<Option<NodeId>, usize> = BTreeMap::new();
    let mut ranked: Vec<_> = slots
        .iter()
        .map(|slot| {
            let node = slot.live().next().and_then(|task| task.node_id);
            let nth = on_node.entry(node).or_default();
            *nth += 1;
            (!slot.runs(), *nth, slot.place, *slot)
        })
        .collect();
    ranked.sort_by_key(|(idle, nth, place, _)| (*idle, *nth, *place));
    *slots = ranked.into_iter().map(|(.., slot)| slot).collect();
    slots.clone()
}
