//! Agrees alone: one replica, no log, no disk.

use super::change::Proposal;
use super::proposer::{Pending, ProposeError, Proposer};
use super::replica::Replica;
use crate::model::meta::Version;

/// A cluster of one that forgets when it stops: for tests and simulation.
pub struct Local {
    replica: Replica,
}

impl Local {
    /// Feeds this replica.
    #[must_use]
    pub fn new(replica: Replica) -> Self {
        Self { replica }
    }
}

impl Proposer for Local {
    fn propose(&self, proposal: Proposal) -> Pending<'_, Result<Version, ProposeError>> {
        Box::pin(async move { Ok(self.replica.apply(&proposal)?) })
    }

    fn barrier(&self) -> Pending<'_, Result<(), ProposeError>> {
        Box::pin(async { Ok(()) })
    }
}
