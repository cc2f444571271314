//! Tasks that run to their end: a number of them, or one on each node that fits.
//!
//! A job runs anew when its spec changes; tasks of the run before are removed.

use std::collections::BTreeMap;

use crate::model::node::{Availability, NodeState};
use crate::model::service::{JobStatus, Service};
use crate::model::state::TaskState;
use crate::model::task::Task;

use super::super::step::Step;
use super::slot::{Place, Slot, fits, is_live};
use super::{Context, Plan};

/// Removes what is left of the run before, and notes that this one began.
pub(super) fn begin(context: &Context<'_>, service: &Service, slots: &BTreeMap<Place, Slot>, plan: &mut Plan) {
    let iteration = service.spec_version;
    if service.job_status.map(|status| status.iteration) != Some(iteration) {
        let status = JobStatus { iteration, last_execution: Some(context.now) };
        plan.steps.push(Step::Job { service: service.id, status });
    }
    let old = slots.values().flat_map(|slot| &slot.tasks).filter(|task| !is_of_run(service, task));
    let old = old.filter(|task| task.desired_state < TaskState::Remove);
    plan.steps.extend(old.map(|task| Step::Want { task: task.id, state: TaskState::Remove }));
}

/// So many runs to their end, at most so many at once.
pub(super) fn replicated(
    context: &mut Context<'_>,
    service: &Service,
    slots: &BTreeMap<Place, Slot>,
    (max_concurrent, total): (u64, u64),
    plan: &mut Plan,
) {
    let states = |slot: &Slot| {
        let tasks: Vec<_> = slot.tasks.iter().filter(|task| is_of_run(service, task)).cloned().collect();
        let done = tasks.iter().any(|task| task.status.state == TaskState::Complete);
        let busy = tasks.iter().any(|task| is_live(task) && !task.status.state.is_terminal());
        (done, busy, !tasks.is_empty())
    };
    let (mut busy, mut free) = (0, Vec::new());
    for number in 1..=total {
        let place = Place::Slot(number);
        match slots.get(&place).map(states) {
            Some((true, ..)) => {}
            Some((_, true, _)) => busy += 1,
            // A place whose task failed for good is not tried again.
            Some((.., true)) => {}
            Some(_) | None => free.push(place),
        }
        if free.len() > usize::try_from(max_concurrent).unwrap_or(usize::MAX) {
            break;
        }
    }
    let room = usize::try_from(max_concurrent).unwrap_or(usize::MAX).saturating_sub(busy);
    for place in free.into_iter().take(room) {
        plan.steps.push(Step::Create(context.task(service, place, TaskState::Complete)));
    }
}

/// One run to its end on each node that fits.
pub(super) fn global(context: &mut Context<'_>, service: &Service, slots: &BTreeMap<Place, Slot>, plan: &mut Plan) {
    let view = context.view;
    for node in view.nodes().iter() {
        let place = Place::Node(node.id);
        let has = slots.get(&place).is_some_and(|slot| slot.tasks.iter().any(|task| is_of_run(service, task)));
        let takes = node.status.state == NodeState::Ready && node.spec.availability == Availability::Active;
        if !has && takes && fits(node, &service.spec.task.placement.constraints) {
            plan.steps.push(Step::Create(context.task(service, place, TaskState::Complete)));
        }
    }
}

fn is_of_run(service: &Service, task: &Task) -> bool {
    task.job_iteration == Some(service.spec_version)
}
