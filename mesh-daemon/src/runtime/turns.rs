//! One at a time does a thing of a name; things of other names go on meanwhile.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedMutexGuard;

/// Who has the turn, by name.
#[derive(Debug, Default)]
pub(super) struct Turns(Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>);

/// The turn; dropping it gives it to the next.
#[derive(Debug)]
pub(super) struct Turn(#[expect(dead_code, reason = "its life is its meaning")] OwnedMutexGuard<()>);

impl Turns {
    /// Waits for the turn.
    pub(super) async fn take(&self, name: impl Into<String>) -> Turn {
        let lock = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // Those that nobody has or waits for are forgotten.
            all.retain(|_, lock| Arc::strong_count(lock) > 1);
            all.entry(name.into()).or_default().clone()
        };
        Turn(lock.lock_owned().await)
    }
}
