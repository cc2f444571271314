//! The tables of one manager, as its log feeds them.

use std::io::{BufRead, Write};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{broadcast, watch};

use super::change::Proposal;
use super::error::Rejection;
use super::snapshot::{self, SnapshotError};
use super::tables::Tables;
use super::watch::{Notice, Transaction, Watch};
use super::{View, WATCH_BATCHES};
use crate::model::meta::Version;

/// The tables of one manager. Only what carries out the log writes them.
#[derive(Clone)]
pub struct Replica {
    shared: Arc<Shared>,
}

struct Shared {
    view: Mutex<View>,
    notices: broadcast::Sender<Notice>,
    version: watch::Sender<Version>,
}

impl Default for Replica {
    fn default() -> Self {
        let shared = Shared {
            view: Mutex::default(),
            notices: broadcast::Sender::new(WATCH_BATCHES),
            version: watch::Sender::new(Version::default()),
        };
        Self { shared: Arc::new(shared) }
    }
}

impl Replica {
    /// All objects as they are.
    #[must_use]
    pub fn view(&self) -> View {
        Arc::clone(&self.shared.view.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn watch(&self) -> (View, Watch) {
        let view = self.shared.view.lock().unwrap_or_else(PoisonError::into_inner);
        (Arc::clone(&view), Watch::new(self.shared.notices.subscribe()))
    }

    /// Carries out what was agreed on. Replicas that are fed the same in the same order are equal.
    ///
    /// # Errors
    ///
    /// If the transaction does not fit what is there: then nothing changes, on any replica.
    pub fn apply(&self, proposal: &Proposal) -> Result<Version, Rejection> {
        let mut view = self.shared.view.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = Tables::clone(&view);
        let events = next.apply(proposal)?;
        let version = next.version();
        *view = Arc::new(next);
        let transaction = Transaction { view: Arc::clone(&view), events };
        self.tell(version, Notice::Transaction(Arc::new(transaction)));
        Ok(version)
    }

    /// Writes all objects, as JSON, one a line.
    ///
    /// # Errors
    ///
    /// If writing fails.
    pub fn save(view: &View, writer: impl Write) -> Result<(), SnapshotError> {
        snapshot::save(view, writer)
    }

    /// Puts all objects back that [`Replica::save`] wrote. After an error nothing has changed.
    ///
    /// # Errors
    ///
    /// If reading fails, or what is read is not what was written.
    pub fn restore(&self, reader: impl BufRead) -> Result<(), SnapshotError> {
        let tables = snapshot::load(reader)?;
        let version = tables.version();
        let mut view = self.shared.view.lock().unwrap_or_else(PoisonError::into_inner);
        *view = Arc::new(tables);
        self.tell(version, Notice::Resync);
        Ok(())
    }

    /// Returns when this version is in.
    pub(super) async fn reached(&self, version: Version) {
        let mut seen = self.shared.version.subscribe();
        // The sender lives as long as self.
        let _ = seen.wait_for(|at| *at >= version).await;
    }

    /// Called with the view locked, so that notices come in the order of their transactions.
    fn tell(&self, version: Version, notice: Notice) {
        let _ = self.shared.notices.send(notice); // it fails if nobody watches
        self.shared.version.send_replace(version);
    }
}
