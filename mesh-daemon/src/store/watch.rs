//! Follows the store: what every transaction did, in order.

use std::sync::Arc;

use tokio::sync::broadcast;

use super::View;
use super::object::AnyObject;

/// What happened to an object.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// It was made.
    Created(AnyObject),
    /// It was changed.
    Changed {
        /// What it was.
        before: AnyObject,
        /// What it is.
        after: AnyObject,
    },
    /// It is gone.
    Removed(AnyObject),
}

impl Event {
    /// The object: as it is, or was before it went.
    #[must_use]
    pub fn object(&self) -> &AnyObject {
        match self {
            Self::Created(object) | Self::Changed { after: object, .. } | Self::Removed(object) => object,
        }
    }
}

/// What one transaction did.
pub struct Transaction {
    /// All objects after it.
    pub view: View,
    /// What happened, in no order.
    pub events: Vec<Event>,
}

/// What a watch says.
#[derive(Clone)]
pub enum Notice {
    /// A transaction happened, right after the one before.
    Transaction(Arc<Transaction>),
    /// Transactions were missed, or the tables were put back from a snapshot: take a new view, and look
    /// at everything.
    Resync,
}

/// Follows the store.
pub struct Watch {
    receiver: broadcast::Receiver<Notice>,
}

impl Watch {
    pub(super) fn new(receiver: broadcast::Receiver<Notice>) -> Self {
        Self { receiver }
    }

    /// What happened next; None when the store is gone.
    pub async fn next(&mut self) -> Option<Notice> {
        match self.receiver.recv().await {
            Ok(notice) => Some(notice),
            Err(broadcast::error::RecvError::Lagged(_)) => Some(self.resync()),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }

    /// What has happened already, without waiting; None if there is nothing new.
    pub fn try_next(&mut self) -> Option<Notice> {
        match self.receiver.try_recv() {
            Ok(notice) => Some(notice),
            Err(broadcast::error::TryRecvError::Lagged(_)) => Some(self.resync()),
            Err(broadcast::error::TryRecvError::Empty | broadcast::error::TryRecvError::Closed) => None,
        }
    }

    /// Who missed some gets the rest too, but a view taken now has them in: they are skipped.
    fn resync(&mut self) -> Notice {
        self.receiver = self.receiver.resubscribe();
        Notice::Resync
    }
}
