//! Has the cluster agree.

use std::future::Future;
use std::pin::Pin;

use super::change::Proposal;
use super::error::Rejection;
use crate::model::meta::Version;

/// An answer that takes time.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Has the cluster agree on transactions, and feeds what it agreed on to the replica of this manager.
pub trait Proposer: Send + Sync {
    /// Has the cluster agree on a transaction; returns the version that it made.
    fn propose(&self, proposal: Proposal) -> Pending<'_, Result<Version, ProposeError>>;

    /// Returns when the replica of this manager holds everything that was acknowledged before the call.
    fn barrier(&self) -> Pending<'_, Result<(), ProposeError>>;
}

/// Why the cluster does not agree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// The transaction does not fit what is there.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// Too few managers answer. What was proposed may or may not happen later.
    #[error("the swarm does not have a leader: {needed} of {total} managers must answer, and {} {}", missing_names(missing), if missing.len() == 1 { "does not" } else { "do not" })]
    NoQuorum {
        /// So many must answer.
        needed: usize,
        /// So many there are.
        total: usize,
        /// Those that do not: address and number.
        missing: Vec<String>,
    },
    /// Managers answer, but none led for as long as we waited. What was proposed may or may not happen
    /// later.
    #[error("the swarm has not agreed in {waited_ms} ms: its managers are electing a leader, or it is overloaded")]
    Late {
        /// How long we waited.
        waited_ms: u64,
    },
    /// The leader was lost while it worked on this: it may or may not have happened.
    #[error("the leader was lost while it worked on this: it may or may not have happened")]
    Interrupted,
    /// This manager has stopped, for this reason.
    #[error("this manager has stopped: {reason}")]
    Stopped {
        /// Why.
        reason: String,
    },
    /// So many transactions wait that another is not let in.
    #[error("{limit} transactions wait already")]
    Overloaded {
        /// How many may.
        limit: usize,
    },
    /// Managers do not understand each other.
    #[error("the answer of the leader is not understood: {what}")]
    Garbled {
        /// What was wrong with it.
        what: String,
    },
}

fn missing_names(missing: &[String]) -> String {
    if missing.is_empty() { "some".to_owned() } else { missing.join(", ") }
}
