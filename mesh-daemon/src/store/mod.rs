//! What the cluster agrees on: its objects, the same on all managers.
//!
//! A [`Store`] is read by [`Store::view`], which costs nothing and never changes under its reader, and
//! written by [`Store::update`]: a closure sees a view and collects changes, a [`Proposer`] (the
//! cluster's log; [`Local`] in tests) has the cluster agree on them, and every manager's [`Replica`]
//! applies them, each in the same way. A change carries the version that its writer saw; if another
//! writer came first, the whole transaction is refused ("update out of sequence"), and `update` runs
//! the closure again on what is there now. So no lock is held while managers talk, and transactions of
//! several writers go to disk as one.
//!
//! Controllers meet here and nowhere else. They follow a [`Watch`].
//!
//! Everything is bounded: a transaction ([`MAX_CHANGES`], [`MAX_BYTES`]), how often `update` tries again
//! ([`MAX_TRIES`]), how far a watch may lag ([`WATCH_BATCHES`]); at that bound it is told to look at
//! everything anew.

mod change;
mod error;
mod local;
mod object;
mod proposer;
mod replica;
mod snapshot;
mod table;
mod tables;
#[cfg(test)]
mod tests;
mod tx;
mod watch;

use std::sync::Arc;

use jiff::Timestamp;

use crate::model::meta::Version;

pub use change::{Change, Proposal};
pub use error::{Error, Rejection};
pub use local::Local;
pub use object::{AnyObject, Key, Kind, Object};
pub use proposer::{Pending, ProposeError, Proposer};
pub use replica::Replica;
pub use snapshot::SnapshotError;
pub use table::Table;
pub use tables::Tables;
pub use tx::Tx;
pub use watch::{Event, Notice, Transaction, Watch};

/// A transaction has at most so many changes.
pub const MAX_CHANGES: usize = 200;
/// A transaction has at most so many bytes, written as JSON.
pub const MAX_BYTES: usize = 1536 * 1024;
/// A transaction that others overtake is tried so often in all.
pub const MAX_TRIES: u32 = 16;
/// A watch may lag by so many transactions; then it is told to look at everything anew.
pub const WATCH_BATCHES: usize = 1024;

/// A transaction that has happened is waited for so long to be seen in the views of this manager.
pub const SHOWN_WITHIN: std::time::Duration = std::time::Duration::from_secs(5);

/// Tells the time.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// All tables at one moment. To keep one is cheap, and it never changes.
pub type View = Arc<Tables>;

/// The cluster's objects, to read and to write.
#[derive(Clone)]
pub struct Store {
    replica: Replica,
    proposer: Arc<dyn Proposer>,
    clock: Clock,
}

impl Store {
    /// A store that reads this replica and has its changes agreed on by `proposer`, which must feed the
    /// same replica.
    #[must_use]
    pub fn new(replica: Replica, proposer: Arc<dyn Proposer>, clock: Clock) -> Self {
        Self { replica, proposer, clock }
    }

    /// A store that nobody else shares: for tests and simulation.
    #[must_use]
    pub fn local(clock: Clock) -> Self {
        let replica = Replica::default();
        Self::new(replica.clone(), Arc::new(Local::new(replica)), clock)
    }

    /// The objects as this manager knows them: perhaps a moment behind the leader.
    #[must_use]
    pub fn view(&self) -> View {
        self.replica.view()
    }

    /// The objects, with everything in that was acknowledged to anyone before this call.
    ///
    /// # Errors
    ///
    /// If too few managers answer.
    pub async fn fresh_view(&self) -> Result<View, Error> {
        self.proposer.barrier().await?;
        Ok(self.view())
    }

    /// A view, and everything that happens after it.
    #[must_use]
    pub fn watch(&self) -> (View, Watch) {
        self.replica.watch()
    }

    /// Runs one transaction: when this returns, all of its changes are on the disks of most managers and
    /// in the views of this one (unless it lags by more than [`SHOWN_WITHIN`]), or none ever will be. The closure may run several times; what it
    /// decides must come from `tx` alone.
    ///
    /// # Errors
    ///
    /// What the closure returns; why the changes are refused; why the cluster cannot agree now.
    pub async fn update<R>(&self, run: impl Fn(&mut Tx) -> Result<R, Error>) -> Result<R, Error> {
        self.update_fenced(None, run).await
    }

    /// As [`Store::update`], for controllers: the transaction is refused unless the leader of this term
    /// carries it out, so that one who has lost leadership writes nothing more.
    ///
    /// # Errors
    ///
    /// As [`Store::update`]; [`Rejection::TermEnded`] if another leads.
    pub async fn update_fenced<R>(
        &self,
        term: Option<u64>,
        run: impl Fn(&mut Tx) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let mut tries = 1;
        loop {
            let view = self.view();
            let mut tx = Tx::new(View::clone(&view));
            let result = match run(&mut tx) {
                Ok(result) => result,
                // It may have decided on what was: a manager may lag behind the leader.
                Err(_) if tries < MAX_TRIES && self.moved_on_from(&view).await? => {
                    tries += 1;
                    continue;
                }
                Err(error) => return Err(error),
            };
            match self.propose(tx, term).await {
                Err(Error::Rejected(rejection)) if rejection.is_race() && tries < MAX_TRIES => tries += 1,
                outcome => return outcome.map(|()| result),
            }
        }
    }

    /// Whether there is anything newer in the cluster than in a view.
    async fn moved_on_from(&self, view: &View) -> Result<bool, Error> {
        Ok(self.fresh_view().await?.version() > view.version())
    }

    /// Runs `run` for each item, in as few transactions as the bounds allow: changes of one item stay
    /// together, those of several need not. Returns how many items were done before an error.
    ///
    /// # Errors
    ///
    /// As [`Store::update_fenced`], with the number of items that are done.
    pub async fn batch<T>(
        &self,
        term: Option<u64>,
        items: &[T],
        run: impl Fn(&mut Tx, &T) -> Result<(), Error>,
    ) -> Result<(), (usize, Error)> {
        let mut done = 0;
        while done < items.len() {
            let took = self.update_fenced(term, |tx| fill(tx, &items[done..], &run)).await;
            done += took.map_err(|error| (done, error))?;
        }
        Ok(())
    }

    async fn propose(&self, tx: Tx, fence: Option<u64>) -> Result<(), Error> {
        let changes = tx.into_changes();
        if changes.is_empty() {
            return Ok(());
        }
        let version = self.proposer.propose(Proposal { changes, at: (self.clock)(), fence }).await?;
        if self.version() < version {
            // It has happened; that this manager shows it is a courtesy, and a manager may be cut off.
            let _ = tokio::time::timeout(SHOWN_WITHIN, self.replica.reached(version)).await;
        }
        Ok(())
    }

    /// The version of the last transaction that this manager has applied.
    #[must_use]
    pub fn version(&self) -> Version {
        self.view().version()
    }
}

/// Runs items until the transaction is full; returns how many went in.
fn fill<T>(tx: &mut Tx, items: &[T], run: &impl Fn(&mut Tx, &T) -> Result<(), Error>) -> Result<usize, Error> {
    for (at, item) in items.iter().enumerate() {
        let before = tx.clone();
        match run(tx, item) {
            Err(Error::TooManyChanges | Error::TooManyBytes { .. }) if at > 0 => {
                *tx = before;
                return Ok(at);
            }
            outcome => outcome?,
        }
    }
    Ok(items.len())
}
