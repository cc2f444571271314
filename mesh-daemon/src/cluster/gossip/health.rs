//! How far a node trusts itself (Lifeguard: Dadgar, Phillips, Currey 2018).
//!
//! A node that is starved, stopped or cut off sees everybody else silent. Signs of that make it more
//! patient with the others, up to fivefold; each probe that succeeds takes one back.

use std::time::Duration;

const WORST: u32 = 4;

/// The score of a node's own health: 0 is well.
#[derive(Debug, Default)]
pub(super) struct Health {
    score: u32,
}

impl Health {
    /// A timer came much too late: the process did not run.
    pub(super) fn stalled(&mut self) {
        self.worsen(2);
    }

    /// A probe failed while nobody else was heard either.
    pub(super) fn deaf(&mut self) {
        self.worsen(1);
    }

    /// Another member does not hear this one.
    pub(super) fn accused(&mut self) {
        self.worsen(1);
    }

    /// A probe was answered.
    pub(super) fn heard(&mut self) {
        self.score = self.score.saturating_sub(1);
    }

    /// A timeout, as long as this node needs it.
    pub(super) fn stretch(&self, timeout: Duration) -> Duration {
        timeout.saturating_mul(1 + self.score)
    }

    pub(super) fn score(&self) -> u32 {
        self.score
    }

    fn worsen(&mut self, by: u32) {
        self.score = (self.score + by).min(WORST);
    }
}
