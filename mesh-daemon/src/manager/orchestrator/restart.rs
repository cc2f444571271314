//! Whether and when another task takes the place of one that ended.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use jiff::Timestamp;

use crate::model::id::ServiceId;
use crate::model::meta::Version;
use crate::model::service::Service;
use crate::model::state::TaskState;
use crate::model::task::{RestartCondition, Task};
use crate::store::Tables;

use super::slot::{Place, Seat, Slot, is_over, seat};

/// A successor waits so long for a task to end that does not.
const PATIENCE: Duration = Duration::from_mins(1);
/// So many restarts of a place are remembered: more than anyone sets as a limit.
const REMEMBERED: usize = 1024;

/// Restarts of one place, of one version of the service.
#[derive(Debug, Default)]
struct History {
    version: Version,
    count: u64,
    times: VecDeque<Timestamp>,
}

/// What was restarted, as long as this manager leads.
#[derive(Debug, Default)]
pub(super) struct Restarts {
    places: HashMap<(ServiceId, Place), History>,
}

impl Restarts {
    /// A task of this place is replaced because it ended.
    pub(super) fn add(&mut self, service: &Service, place: Place, now: Timestamp) {
        let history = self.places.entry((service.id, place)).or_default();
        if history.version != service.spec_version {
            *history = History { version: service.spec_version, ..History::default() };
        }
        history.count += 1;
        if history.times.len() >= REMEMBERED {
            history.times.pop_front();
        }
        history.times.push_back(now);
    }

    pub(super) fn forget(&mut self, service: ServiceId) {
        self.places.retain(|(of, _), _| *of != service);
    }

    /// Whether a task that ended, or whose node is lost, is replaced.
    pub(super) fn wanted(&self, service: &Service, place: Place, task: &Task, now: Timestamp) -> bool {
        let policy = &task.spec.restart;
        let ended_well = task.status.state == TaskState::Complete;
        let by_condition = match policy.condition {
            RestartCondition::None => false,
            RestartCondition::OnFailure => !ended_well,
            RestartCondition::Any => !(ended_well && service.spec.mode.is_job()),
        };
        by_condition
            && (policy.max_attempts == 0 || self.attempts(service, place, policy.window, now) < policy.max_attempts)
    }

    fn attempts(&self, service: &Service, place: Place, window: Duration, now: Timestamp) -> u64 {
        let Some(history) = self.places.get(&(service.id, place)) else { return 0 };
        if history.version != service.spec_version {
            return 0;
        }
        if window.is_zero() {
            return history.count;
        }
        let recent = history.times.iter().filter(|time| now.duration_since(**time).unsigned_abs() <= window);
        u64::try_from(recent.count()).unwrap_or(u64::MAX)
    }
}

/// When a task that waits in `Ready` may run: now, at a time, or when something else happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// Now.
    Now,
    /// Then, if nothing happens before.
    At(Timestamp),
}

/// When a successor may start: when those before it have ended, and after the delay of its policy if
/// they ended by themselves. A lost node is not the task's failure: there is no delay then.
pub(super) fn start(view: &Tables, slot: &Slot, task: &Task, now: Timestamp) -> Start {
    let created = task.meta.created_at;
    let mut start = created;
    for before in slot.before(task) {
        let ended = is_over(before);
        let failed = matches!(before.status.state, TaskState::Complete | TaskState::Failed | TaskState::Rejected);
        if !ended && seat(view, before) != Seat::Lost {
            start = start.max(later(created, PATIENCE));
        } else if failed
            && slot.tasks.iter().rfind(|other| other.id != task.id).is_some_and(|last| last.id == before.id)
        {
            start = start.max(later(created, task.spec.restart.delay));
        }
    }
    if start <= now { Start::Now } else { Start::At(start) }
}

/// A time so much later; the end of time, if there is none.
pub(in crate::manager) fn later(time: Timestamp, by: Duration) -> Timestamp {
    jiff::SignedDuration::try_from(by).ok().and_then(|by| time.checked_add(by).ok()).unwrap_or(Timestamp::MAX)
}
