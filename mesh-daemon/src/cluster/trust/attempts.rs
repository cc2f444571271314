//! How often one may try to join with a wrong token: often enough for people, not for guessing.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::cluster::rpc::{Code, Refusal, neighbourhood};

/// Failures in a row that an address has free.
const FREE: u32 = 10;
/// One more is free again after this.
const REGAINED: Duration = Duration::from_secs(6);
/// Addresses that are remembered. At the bound, the one that is nearest to being forgiven is forgotten.
const MAX_ADDRESSES: usize = 4096;

/// The failures of late, by address.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    /// When all of an address's failures are forgiven.
    forgiven: Mutex<HashMap<IpAddr, Instant>>,
}

impl Attempts {
    /// Whether somebody may try.
    ///
    /// # Errors
    /// After too many failures; it says how long to wait.
    pub(super) fn may_try(&self, from: IpAddr, now: Instant) -> Result<(), Refusal> {
        let forgiven = self.forgiven.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(until) = forgiven.get(&neighbourhood(from)) else {
            return Ok(());
        };
        let owed = until.saturating_duration_since(now);
        let wait = (owed + REGAINED).saturating_sub(REGAINED * FREE);
        if wait.is_zero() {
            return Ok(());
        }
        let seconds = wait.as_secs() + 1;
        let text = format!("too many attempts to join from {}: try again in {seconds} s", from.to_canonical());
        Err(Refusal::new(Code::ResourceExhausted, text))
    }

    /// Somebody tried with a wrong token.
    pub(super) fn failed(&self, from: IpAddr, now: Instant) {
        let address = neighbourhood(from);
        let mut forgiven = self.forgiven.lock().unwrap_or_else(PoisonError::into_inner);
        if forgiven.len() >= MAX_ADDRESSES && !forgiven.contains_key(&address) {
            forgiven.retain(|_, until| *until > now);
            if forgiven.len() >= MAX_ADDRESSES {
                let nearest = forgiven.iter().min_by_key(|(_, until)| **until).map(|(address, _)| *address);
                nearest.map(|nearest| forgiven.remove(&nearest));
            }
        }
        let until = forgiven.entry(address).or_insert(now);
        *until = (*until).max(now) + REGAINED;
    }
}
