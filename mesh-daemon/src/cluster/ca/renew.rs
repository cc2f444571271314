//! When a node asks for another certificate.

use std::time::{Duration, SystemTime};

use super::peer::Peer;

/// Renewal falls between these parts of a certificate's life, in percent, so that nodes that joined
/// together do not come back together.
const EARLIEST: f64 = 0.5;
const LATEST: f64 = 0.8;

/// When to renew a certificate. `chance` is from 0 to 1; draw it once a certificate.
pub fn renew_at(own: &Peer, chance: f64) -> SystemTime {
    let life = own.not_after.duration_since(own.not_before).unwrap_or_default();
    own.not_before + life.mul_f64(EARLIEST + (LATEST - EARLIEST) * chance.clamp(0.0, 1.0))
}

/// How long to wait for the next attempt after this many failed: from a second to a minute.
pub fn retry_after(failed: u32) -> Duration {
    Duration::from_secs(1 << failed.min(6)).min(Duration::from_secs(60))
}
