//! What is still to be reported: of each task the newest status, until the managers have it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::model::assignment::Report;
use crate::model::id::TaskId;
use crate::model::task::TaskStatus;

/// Statuses on their way. Of one task only the newest is kept, so that it is bounded by the node's tasks.
#[derive(Clone, Default)]
pub(super) struct Outbox {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    waiting: Mutex<Waiting>,
    news: Notify,
}

#[derive(Default)]
struct Waiting {
    statuses: BTreeMap<TaskId, (u64, TaskStatus)>,
    /// Grows with every status.
    last: u64,
}

impl Outbox {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.inner.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn put(&self, task: TaskId, status: TaskStatus) {
        let mut waiting = self.waiting();
        waiting.last += 1;
        let number = waiting.last;
        waiting.statuses.insert(task, (number, status));
        drop(waiting);
        self.inner.news.notify_one();
    }

    /// Waits until something is to be reported.
    pub(super) async fn news(&self) {
        self.inner.news.notified().await;
    }

    /// At most so many statuses of what waits, oldest first, and the number of the newest of them.
    pub(super) fn report(&self, most: usize) -> Option<(u64, Report)> {
        let waiting = self.waiting();
        let mut all: Vec<_> =
            waiting.statuses.iter().map(|(task, (number, status))| (*number, *task, status)).collect();
        all.sort_unstable_by_key(|(number, ..)| *number);
        all.truncate(most);
        let (number, ..) = *all.last()?;
        let statuses = all.into_iter().map(|(_, task, status)| (task, status.clone())).collect();
        Some((number, Report { statuses }))
    }

    /// The managers have everything up to this number.
    pub(super) fn taken(&self, number: u64) {
        self.waiting().statuses.retain(|_, (of, _)| *of > number);
    }
}
