//! A change of a service: place by place, as many at once as it says, watched for failures.
//!
//! All that must outlive this manager's leadership is in the service's update status and in its tasks;
//! what is remembered beside is how many places there were and which tasks failed.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;

use crate::model::id::{ServiceId, TaskId};
use crate::model::meta::Version;
use crate::model::service::{FailureAction, Service, UpdateConfig, UpdateOrder, UpdateState, UpdateStatus};
use crate::model::state::TaskState;
use crate::model::task::Task;
use crate::store::Tables;

use super::super::step::Step;
use super::restart::later;
use super::slot::{Slot, is_current, is_live, is_over};
use super::{Context, Plan};

/// One change of one service.
#[derive(Debug, Default)]
struct Progress {
    version: Version,
    places: usize,
    /// When a new task was first seen running.
    running: BTreeMap<TaskId, Timestamp>,
    failed: BTreeSet<TaskId>,
    last_done: Option<Timestamp>,
}

/// The changes under way, as long as this manager leads.
#[derive(Debug, Default)]
pub(super) struct Updates {
    services: HashMap<ServiceId, Progress>,
}

impl Updates {
    pub(super) fn forget(&mut self, service: ServiceId) {
        self.services.remove(&service);
    }
}

/// Moves the change of a service on, if there is one.
pub(super) fn plan(context: &mut Context<'_>, service: &Service, slots: &[&Slot], plan: &mut Plan) {
    let view = context.view;
    let state = service.update_status.as_ref().map(|status| status.state);
    let dirty: Vec<_> = slots.iter().copied().filter(|slot| is_dirty(view, service, slot)).collect();
    match state {
        // Only the user goes on from here.
        Some(UpdateState::Paused | UpdateState::RollbackPaused) => return,
        Some(UpdateState::Updating | UpdateState::RollbackStarted) => {}
        None | Some(UpdateState::Completed | UpdateState::RollbackCompleted) => {
            if !dirty.is_empty() {
                plan.steps.push(Step::Update { service: service.id, status: begun(context.now) });
            }
            context.memory.updates.forget(service.id);
            return;
        }
    }
    let is_rollback = state == Some(UpdateState::RollbackStarted);
    let config = if is_rollback { service.spec.rollback() } else { service.spec.update() };
    let progress = context.memory.updates.services.entry(service.id).or_default();
    if progress.version != service.spec_version {
        *progress = Progress { version: service.spec_version, places: dirty.len(), ..Progress::default() };
    }
    progress.observe(service, slots, &config, context.now);
    if let Some(failed) = progress.too_many(&config) {
        let failed = failed.to_string();
        if act_on_failure(service, &config, is_rollback, &failed, context.now, plan) {
            return;
        }
    }
    let pending: Vec<_> = slots.iter().copied().filter(|slot| is_under_way(view, service, slot)).collect();
    for slot in &pending {
        finish(view, service, slot, plan);
    }
    if dirty.is_empty() && pending.is_empty() {
        complete(service, progress, &config, is_rollback, context.now, plan);
        return;
    }
    begin(context, service, &dirty, pending.len(), &config, plan);
}

fn begun(now: Timestamp) -> UpdateStatus {
    UpdateStatus {
        state: UpdateState::Updating,
        started_at: Some(now),
        completed_at: None,
        message: "update in progress".to_owned(),
    }
}

impl Progress {
    fn observe(&mut self, service: &Service, slots: &[&Slot], config: &UpdateConfig, now: Timestamp) {
        let new = |task: &&std::sync::Arc<Task>| task.spec_version == service.spec_version;
        for task in slots.iter().flat_map(|slot| &slot.tasks).filter(new) {
            match task.status.state {
                TaskState::Running => {
                    if let std::collections::btree_map::Entry::Vacant(entry) = self.running.entry(task.id) {
                        entry.insert(task.status.timestamp);
                        self.last_done = self.last_done.max(Some(task.status.timestamp.min(now)));
                    }
                }
                TaskState::Failed | TaskState::Rejected | TaskState::Complete => {
                    // One that ended well was not to end, unless it is a job's.
                    let early = self
                        .running
                        .get(&task.id)
                        .is_none_or(|since| task.status.timestamp <= later(*since, config.monitor));
                    if early && task.desired_state <= TaskState::Shutdown {
                        self.failed.insert(task.id);
                    }
                }
                _ => {}
            }
        }
    }

    /// The task whose failure is one too many.
    #[expect(clippy::cast_precision_loss, reason = "SwarmKit compares as floating-point numbers, and places are few")]
    fn too_many(&self, config: &UpdateConfig) -> Option<TaskId> {
        let share = self.failed.len() as f32 / self.places.max(1) as f32;
        self.failed.last().copied().filter(|_| share > config.max_failure_ratio)
    }
}

/// Returns whether the change stops here.
fn act_on_failure(
    service: &Service,
    config: &UpdateConfig,
    is_rollback: bool,
    task: &str,
    now: Timestamp,
    plan: &mut Plan,
) -> bool {
    let why = |what: &str| format!("{what} due to failure or early termination of task {task}");
    let pause = |state, what: &str| Step::Update {
        service: service.id,
        status: UpdateStatus {
            state,
            started_at: service.update_status.as_ref().and_then(|status| status.started_at),
            completed_at: Some(now),
            message: why(what),
        },
    };
    match config.failure_action {
        FailureAction::Continue => return false,
        // Never roll back a rollback.
        FailureAction::Pause | FailureAction::Rollback if is_rollback => {
            plan.steps.push(pause(UpdateState::RollbackPaused, "rollback paused"));
        }
        FailureAction::Rollback if service.previous_spec.is_some() => {
            plan.steps.push(Step::RollBack { service: service.id, message: why("update rolled back") });
        }
        FailureAction::Pause | FailureAction::Rollback => {
            plan.steps.push(pause(UpdateState::Paused, "update paused"));
        }
    }
    true
}

fn complete(
    service: &Service,
    progress: &Progress,
    config: &UpdateConfig,
    is_rollback: bool,
    now: Timestamp,
    plan: &mut Plan,
) {
    if let Some(last) = progress.last_done {
        let end = later(last, config.monitor);
        if end > now {
            plan.wake_at(end);
            return;
        }
    }
    let (state, message) = if is_rollback {
        (UpdateState::RollbackCompleted, "rollback completed")
    } else {
        (UpdateState::Completed, "update completed")
    };
    let started_at = service.update_status.as_ref().and_then(|status| status.started_at);
    let status = UpdateStatus { state, started_at, completed_at: Some(now), message: message.to_owned() };
    plan.steps.push(Step::Update { service: service.id, status });
}

/// Begins as many places as may be under way at once.
fn begin(
    context: &mut Context<'_>,
    service: &Service,
    dirty: &[&Slot],
    pending: usize,
    config: &UpdateConfig,
    plan: &mut Plan,
) {
    let width =
        if config.parallelism == 0 { usize::MAX } else { usize::try_from(config.parallelism).unwrap_or(usize::MAX) };
    let room = width.saturating_sub(pending);
    let last = context.memory.updates.services.get(&service.id).and_then(|progress| progress.last_done);
    if let Some(next) = last.map(|last| later(last, config.delay)).filter(|next| *next > context.now) {
        plan.wake_at(next);
        return;
    }
    for slot in dirty.iter().take(room) {
        let new = |context: &mut Context<'_>, desired| context.task(service, slot.place, desired);
        let old: Vec<_> = slot.live().collect();
        match (config.order, old.split_first()) {
            (_, None) => plan.steps.push(Step::Create(new(context, TaskState::Running))),
            (UpdateOrder::StartFirst, Some(_)) => plan.steps.push(Step::Create(new(context, TaskState::Running))),
            (UpdateOrder::StopFirst, Some((first, others))) => {
                plan.steps.push(Step::Replace { old: first.id, new: new(context, TaskState::Ready) });
                plan.steps.extend(others.iter().map(|task| Step::Want { task: task.id, state: TaskState::Shutdown }));
            }
        }
    }
}

/// What is left to do in a place whose new task is there: when it runs, the old ones stop.
fn finish(view: &Tables, service: &Service, slot: &Slot, plan: &mut Plan) {
    let new_runs = slot.live().any(|task| is_current(view, service, task) && task.status.state == TaskState::Running);
    let old = slot.live().filter(|task| !is_current(view, service, task));
    if new_runs {
        plan.steps.extend(old.map(|task| Step::Want { task: task.id, state: TaskState::Shutdown }));
    }
}

/// A place of which no task that is wanted, or that ended last, is what the service wants now.
fn is_dirty(view: &Tables, service: &Service, slot: &Slot) -> bool {
    let mut live = slot.live().peekable();
    if live.peek().is_some() {
        live.all(|task| !is_current(view, service, task))
    } else {
        slot.newest().is_some_and(|task| !is_current(view, service, task))
    }
}

/// A place whose new task does not run yet, or whose old one has not ended yet.
fn is_under_way(view: &Tables, service: &Service, slot: &Slot) -> bool {
    if is_dirty(view, service, slot) {
        return false;
    }
    let (new, old): (Vec<_>, Vec<_>) = slot.tasks.iter().partition(|task| is_current(view, service, task));
    let old_there = old.iter().any(|task| !is_over(task) && !super::is_lost(view, task));
    let new_starts = new.iter().any(|task| is_live(task) && task.status.state < TaskState::Running);
    old_there || new_starts
}
