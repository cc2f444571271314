//! Why a transaction does not happen.

use super::object::Kind;
use super::proposer::ProposeError;
use super::{MAX_BYTES, MAX_CHANGES};
use crate::model::state::TaskState;

/// Why a transaction was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such object.
    #[error("{kind} {id} not found")]
    NotFound {
        /// Its kind.
        kind: Kind,
        /// Its id, or what the user called it.
        id: String,
    },
    /// The object was changed since its writer looked.
    #[error("update out of sequence")]
    OutOfSequence,
    /// The transaction has too many changes.
    #[error("a transaction has at most {MAX_CHANGES} changes")]
    TooManyChanges,
    /// The transaction is too large.
    #[error("{bytes} bytes in one transaction: at most {MAX_BYTES} fit")]
    TooManyBytes {
        /// How large it would be.
        bytes: usize,
    },
    /// An object cannot be written as JSON.
    #[error("write {kind} as JSON")]
    Encode {
        /// Its kind.
        kind: Kind,
        /// Why.
        source: serde_json::Error,
    },
    /// The writer refuses, for a reason of its own, which is shown to the user.
    #[error("{0}")]
    Refused(String),
    /// The changes do not fit what is there.
    #[error(transparent)]
    Rejected(Rejection),
    /// The cluster cannot agree now.
    #[error(transparent)]
    Propose(ProposeError),
}

impl From<Rejection> for Error {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

impl From<ProposeError> for Error {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::Rejected(rejection) => Self::Rejected(rejection),
            other => Self::Propose(other),
        }
    }
}

/// Why changes do not fit what is there. Every replica comes to the same answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
pub enum Rejection {
    /// Another writer came first.
    #[error("update out of sequence: {kind} {id} has changed")]
    OutOfSequence {
        /// Of what.
        kind: Kind,
        /// Which.
        id: String,
    },
    /// An object with this id exists.
    #[error("{kind} {id} already exists")]
    Exists {
        /// Of what.
        kind: Kind,
        /// Which.
        id: String,
    },
    /// An object of this kind has the name.
    #[error("{kind} {name} already exists")]
    NameTaken {
        /// Of what.
        kind: Kind,
        /// The name.
        name: String,
    },
    /// A task would go back.
    #[error("task {id} cannot go from {from} back to {to}")]
    TaskWentBack {
        /// Which.
        id: String,
        /// Where it is.
        from: TaskState,
        /// Where it would be.
        to: TaskState,
    },
    /// Another manager leads now.
    #[error("the leadership of term {term} has ended")]
    TermEnded {
        /// The term in which the transaction was to happen.
        term: u64,
    },
}

impl Rejection {
    /// Whether the same writer may succeed on what is there now.
    #[must_use]
    pub fn is_race(&self) -> bool {
        match self {
            Self::OutOfSequence { .. } => true,
            Self::Exists { .. } | Self::NameTaken { .. } | Self::TaskWentBack { .. } | Self::TermEnded { .. } => false,
        }
    }
}
