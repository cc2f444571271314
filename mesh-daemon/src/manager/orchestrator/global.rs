//! A task on every node that fits.

use std::collections::BTreeMap;

use crate::model::node::{Availability, Node, NodeState};
use crate::model::service::Service;
use crate::model::state::TaskState;

use super::super::step::Step;
use super::slot::{Place, Slot, fits};
use super::{Context, Plan};

/// Adds a task where one is missing, stops those that are where none should be; returns the places that stay.
pub(super) fn plan<'a>(
    context: &mut Context<'_>,
    service: &Service,
    slots: &'a BTreeMap<Place, Slot>,
    plan: &mut Plan,
) -> Vec<&'a Slot> {
    let mut staying = Vec::new();
    let view = context.view;
    for node in view.nodes().iter() {
        let place = Place::Node(node.id);
        let slot = slots.get(&place).filter(|slot| context.is_filled(service, slot));
        match (standing(service, node), slot) {
            (Standing::Wanted, None) => {
                plan.steps.push(Step::Create(context.task(service, place, TaskState::Running)));
            }
            (Standing::Wanted | Standing::Kept, Some(slot)) => staying.push(slot),
            (Standing::Unwanted, Some(slot)) => stop(slot, plan),
            (Standing::Kept | Standing::Unwanted, None) => {}
        }
    }
    let gone = slots.values().filter(|slot| match slot.place {
        Place::Node(node) => view.nodes().get(node).is_none(),
        Place::Slot(_) => true, // not placed by this rule: the service was not global, or its node is gone
    });
    for slot in gone {
        let tasks = slot.tasks.iter().filter(|task| task.desired_state < TaskState::Remove);
        plan.steps.extend(tasks.map(|task| Step::Want { task: task.id, state: TaskState::Remove }));
    }
    staying
}

fn stop(slot: &Slot, plan: &mut Plan) {
    plan.steps.extend(slot.live().map(|task| Step::Want { task: task.id, state: TaskState::Shutdown }));
}

enum Standing {
    /// The node should have a task.
    Wanted,
    /// It keeps the one it has.
    Kept,
    /// It should have none. A node that is down is among these, so that an update need not wait for it.
    Unwanted,
}

fn standing(service: &Service, node: &Node) -> Standing {
    if !fits(node, &service.spec.task.placement.constraints) || node.status.state == NodeState::Down {
        return Standing::Unwanted;
    }
    match (node.spec.availability, node.status.state) {
        (Availability::Drain, _) => Standing::Unwanted,
        (Availability::Active, NodeState::Ready) => Standing::Wanted,
        (Availability::Active | Availability::Pause, _) => Standing::Kept,
    }
}
