//! What the leader decides: which tasks there are, what they get, and where they run.
//!
//! [`lead`] runs while this manager leads. It follows the store, has [`Controllers`] look at what
//! changed, and writes what they decide, fenced by the term: once another leads, nothing more of this
//! one is carried out. Controllers never call each other; they meet in the store:
//!
//! - [`allocator`] gives networks, services and tasks what the cluster has once (`New` to `Pending`)
//! - [`orchestrator`] makes tasks, replaces those that ended, changes services, removes records
//! - [`scheduler`] gives tasks their nodes (`Pending` to `Assigned`)
//! - `enforcer` takes tasks from nodes that no longer fit
//!
//! [`dispatcher`] carries it to the nodes.
//!
//! They begin with a pass over everything, so that whatever the leader before left half done is mended.

pub mod allocator;
mod controller;
pub mod dispatcher;
mod enforcer;
pub mod orchestrator;
pub mod scheduler;
pub mod step;
#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::Timestamp;

use crate::store::{Clock, Error, Notice, Rejection, Store, View, Watch};

pub use self::controller::{Controllers, Pass};
pub use self::orchestrator::Ids;

/// Changes that follow each other so closely are looked at together.
const SETTLE: Duration = Duration::from_millis(5);
/// After a pass that could not be written, until the next try.
const RETRY: Duration = Duration::from_millis(200);

/// Runs the controllers until the store is gone or another manager leads; drop it to stop at once.
///
/// # Errors
///
/// If another leads now.
pub async fn lead(store: &Store, term: u64, clock: &Clock, ids: Ids) -> Result<(), Error> {
    let (mut view, mut watch) = store.watch();
    let mut controllers = Controllers::new(ids);
    controllers.resync(&view);
    loop {
        let now = clock();
        let pass = controllers.pass(&view, now);
        let idle = pass.steps.is_empty();
        if let Err((_, error)) = store.batch(Some(term), &pass.steps, |tx, step| step.apply(tx, now)).await {
            if matches!(error, Error::Rejected(Rejection::TermEnded { .. })) {
                return Err(error);
            }
            tracing::warn!(%error, "decisions were not written");
            tokio::time::sleep(RETRY).await;
            (view, watch) = store.watch();
            controllers.undone(&view);
            continue;
        }
        let patience = if idle { wait_time(pass.wake, clock()) } else { Some(SETTLE) };
        match next(&mut watch, patience).await {
            None => return Ok(()),
            Some(notice) => follow(store, &mut controllers, &mut view, &mut watch, notice, now),
        }
    }
}

/// Takes in what happened, and all that has happened since.
fn follow(
    store: &Store,
    controllers: &mut Controllers,
    view: &mut View,
    watch: &mut Watch,
    first: Option<Notice>,
    now: Timestamp,
) {
    let mut notice = first;
    while let Some(one) = notice {
        match one {
            Notice::Transaction(transaction) => {
                *view = std::sync::Arc::clone(&transaction.view);
                transaction.events.iter().for_each(|event| controllers.note(view, event, now));
            }
            Notice::Resync => {
                (*view, *watch) = store.watch();
                controllers.resync(view);
            }
        }
        notice = watch.try_next();
    }
}

fn wait_time(wake: Option<Timestamp>, now: Timestamp) -> Option<Duration> {
    wake.map(|wake| Duration::try_from(wake.duration_since(now)).unwrap_or(Duration::ZERO))
}

/// The next notice; `Some(None)` if there was none for so long, None when the store is gone.
async fn next(watch: &mut Watch, patience: Option<Duration>) -> Option<Option<Notice>> {
    match patience {
        None => watch.next().await.map(Some),
        Some(patience) => match tokio::time::timeout(patience, watch.next()).await {
            Ok(notice) => notice.map(Some),
            Err(_) => Some(None),
        },
    }
}
