//! Which tasks there should be.
//!
//! [`Orchestrator::plan`] looks at one service, its tasks and its nodes, and says what to change. It is
//! pure but for a memory of what a task's own record does not hold (how often a place was restarted,
//! how a change goes), which a new leader does without. It looks at how things stand, not at what
//! happened: called twice it says the same, and after any loss it finds its way.
//!
//! Places first (`replicated`, `global`, `job`), then what ended (`restart`), then changes (`update`), then
//! what could stand better (`rebalance`).

mod global;
mod job;
mod reaper;
mod rebalance;
mod replicated;
mod restart;
mod slot;
mod update;

use jiff::Timestamp;

use self::rebalance::Moves;
pub(super) use self::restart::later;
use self::restart::{Restarts, Start};
use self::slot::{Place, Seat, Slot, seat};
use self::update::Updates;
use super::step::Step;
use crate::model::id::{ServiceId, TaskId};
use crate::model::service::{Service, ServiceMode, UpdateOrder};
use crate::model::state::TaskState;
use crate::model::task::Task;
use crate::store::Tables;

/// Makes ids.
pub type Ids = Box<dyn FnMut() -> TaskId + Send>;

/// What is remembered while a manager leads.
#[derive(Debug, Default)]
struct Memory {
    restarts: Restarts,
    updates: Updates,
    moves: Moves,
}

/// Decides which tasks there should be.
pub struct Orchestrator {
    memory: Memory,
    ids: Ids,
}

/// What to do, and when to look again although nothing has changed.
#[derive(Debug, Default)]
pub struct Plan {
    /// What to change.
    pub steps: Vec<Step>,
    /// When to look again.
    pub wake: Option<Timestamp>,
}

impl Plan {
    fn wake_at(&mut self, time: Timestamp) {
        self.wake = Some(self.wake.map_or(time, |wake| wake.min(time)));
    }
}

/// What the rules look at.
struct Context<'a> {
    view: &'a Tables,
    memory: &'a mut Memory,
    ids: &'a mut Ids,
    now: Timestamp,
}

impl Context<'_> {
    /// A new task for a place.
    fn task(&mut self, service: &Service, place: Place, desired: TaskState) -> Box<Task> {
        let mut task = Task::new((self.ids)(), Some(service.id), slot::template(service));
        task.spec_version = service.spec_version;
        task.service_name.clone_from(&service.spec.annotations.name);
        task.service_labels.clone_from(&service.spec.annotations.labels);
        task.desired_state = desired;
        "created".clone_into(&mut task.status.message);
        task.status.timestamp = self.now;
        task.job_iteration = service.spec.mode.is_job().then_some(service.spec_version);
        match place {
            Place::Slot(number) => task.slot = number,
            Place::Node(node) => task.node_id = Some(node),
        }
        Box::new(task)
    }

    /// Whether a place has a task that is wanted, or one that ended and is not to be replaced.
    fn is_filled(&self, service: &Service, slot: &Slot) -> bool {
        let ended = slot.newest().is_some_and(|task| {
            task.desired_state == TaskState::Shutdown
                && task.status.state.is_terminal()
                && task.status.state != TaskState::Shutdown
                && !self.memory.restarts.wanted(service, slot.place, task, self.now)
        });
        slot.is_live() || ended
    }
}

impl Orchestrator {
    /// One that remembers nothing.
    #[must_use]
    pub fn new(ids: Ids) -> Self {
        Self { memory: Memory::default(), ids }
    }

    /// What to change in a service.
    pub fn plan(&mut self, view: &Tables, id: ServiceId, now: Timestamp) -> Plan {
        let mut plan = Plan::default();
        let Some(service) = view.services().get(id) else {
            self.memory.restarts.forget(id);
            self.memory.updates.forget(id);
            self.memory.moves.forget(id);
            let tasks = slot::tasks(view, id).filter(|task| task.desired_state < TaskState::Remove);
            plan.steps.extend(tasks.map(|task| Step::Want { task: task.id, state: TaskState::Remove }));
            reaper::plan(view, id, 0, &mut plan);
            return plan;
        };
        // Until the allocator has decided, its tasks could not be given anything.
        if service.endpoint.is_none() {
            return plan;
        }
        let slots = slot::slots(view, service);
        let mut context = Context { view, memory: &mut self.memory, ids: &mut self.ids, now };
        let staying = match service.spec.mode {
            ServiceMode::Replicated { replicas } => {
                replicated::plan(&mut context, service, &slots, replicas, &mut plan)
            }
            ServiceMode::Global => global::plan(&mut context, service, &slots, &mut plan),
            ServiceMode::ReplicatedJob { max_concurrent, total_completions } => {
                job::begin(&context, service, &slots, &mut plan);
                job::replicated(&mut context, service, &slots, (max_concurrent, total_completions), &mut plan);
                slots.values().collect()
            }
            ServiceMode::GlobalJob => {
                job::begin(&context, service, &slots, &mut plan);
                job::global(&mut context, service, &slots, &mut plan);
                slots.values().collect()
            }
        };
        for slot in &staying {
            replace_ended(&mut context, service, slot, &mut plan);
            let live = slot.live().filter(|task| task.desired_state == TaskState::Ready);
            for task in live {
                match restart::start(view, slot, task, now) {
                    Start::Now => plan.steps.push(Step::Want { task: task.id, state: goal(service) }),
                    Start::At(time) => plan.wake_at(time),
                }
            }
        }
        if !service.spec.mode.is_job() {
            update::plan(&mut context, service, &staying, &mut plan);
            rebalance::plan(&mut context, service, &staying, &mut plan);
        }
        let limit = view.cluster().map_or(5, |cluster| cluster.spec.orchestration.task_history_retention_limit);
        reaper::plan(view, id, limit, &mut plan);
        plan
    }
}

/// What the tasks of a service are to come to.
fn goal(service: &Service) -> TaskState {
    if service.spec.mode.is_job() { TaskState::Complete } else { TaskState::Running }
}

/// Gives the place of a task that ended, or whose node is lost or to be emptied, to another one.
fn replace_ended(context: &mut Context<'_>, service: &Service, slot: &Slot, plan: &mut Plan) {
    let view = context.view;
    for task in slot.live() {
        if task.status.state.is_terminal() {
            if task.status.state == TaskState::Complete && service.spec.mode.is_job() {
                continue;
            }
            replace(context, service, slot, task, plan);
            continue;
        }
        match seat(view, task) {
            Seat::Fine => {}
            Seat::Lost => replace(context, service, slot, task, plan),
            Seat::Drained => leave(context, service, slot, task, plan),
        }
    }
}

fn replace(context: &mut Context<'_>, service: &Service, slot: &Slot, task: &Task, plan: &mut Plan) {
    // Another of the place may have come already: of a change that starts the new one first.
    let has_other = slot.live().any(|other| other.id != task.id);
    if has_other || !context.memory.restarts.wanted(service, slot.place, task, context.now) {
        plan.steps.push(Step::Want { task: task.id, state: TaskState::Shutdown });
        return;
    }
    context.memory.restarts.add(service, slot.place, context.now);
    plan.steps.push(Step::Replace { old: task.id, new: context.task(service, slot.place, TaskState::Ready) });
}

/// A task leaves a node that is emptied in the order in which its service changes: with `start-first` it
/// stays until another runs.
fn leave(context: &mut Context<'_>, service: &Service, slot: &Slot, task: &Task, plan: &mut Plan) {
    let others = || slot.live().filter(|other| other.id != task.id);
    let starts_first = service.spec.update().order == UpdateOrder::StartFirst && !service.spec.mode.is_job();
    if others().any(|other| other.status.state == TaskState::Running) || (others().next().is_some() && !starts_first) {
        plan.steps.push(Step::Want { task: task.id, state: TaskState::Shutdown });
    } else if others().next().is_none() {
        if starts_first {
            plan.steps.push(Step::Create(context.task(service, slot.place, TaskState::Running)));
        } else {
            let new = context.task(service, slot.place, TaskState::Ready);
            plan.steps.push(Step::Replace { old: task.id, new });
        }
    }
}

/// A task of which no more is heard.
fn is_lost(view: &Tables, task: &Task) -> bool {
    seat(view, task) == Seat::Lost
}
