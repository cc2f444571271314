//! Health checks: what they are of a spec and an image, when the next probe is due, and what the answers
//! so far mean. Runtimes that have no checks of their own run probes by it.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::Health;
use super::images::ImageHealthcheck;
use crate::model::container::Healthcheck;

/// What of a probe's output is kept.
pub(super) const OUTPUT_BYTES: usize = 4096;

/// A health check with nothing left open.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Check {
    /// The program and its arguments.
    pub(super) command: Vec<String>,
    interval: Duration,
    pub(super) timeout: Duration,
    retries: u32,
    start_period: Duration,
    start_interval: Duration,
}

impl Check {
    /// The check of a spec, filled up from the image's; None if there is none or it is switched off.
    pub(super) fn of(spec: Option<&Healthcheck>, image: Option<&ImageHealthcheck>) -> Option<Self> {
        let empty = Healthcheck::default();
        let spec = spec.unwrap_or(&empty);
        let image = image.cloned().unwrap_or_default();
        let test = if spec.test.is_empty() { image.test.unwrap_or_default() } else { spec.test.clone() };
        let command = match test.split_first() {
            Some((kind, rest)) if kind == "CMD" && !rest.is_empty() => rest.to_vec(),
            Some((kind, rest)) if kind == "CMD-SHELL" && !rest.is_empty() => {
                vec!["/bin/sh".to_owned(), "-c".to_owned(), rest.join(" ")]
            }
            _ => return None,
        };
        let time = |spec: Option<Duration>, image: u64, default: Duration| {
            let set = |duration: &Duration| !duration.is_zero();
            let image = Duration::from_nanos(image);
            spec.filter(set).or(Some(image).filter(set)).unwrap_or(default)
        };
        let retries = spec.retries.filter(|retries| *retries > 0).unwrap_or(image.retries);
        Some(Self {
            command,
            interval: time(spec.interval, image.interval, Healthcheck::INTERVAL),
            timeout: time(spec.timeout, image.timeout, Healthcheck::TIMEOUT),
            retries: if retries == 0 { Healthcheck::RETRIES } else { retries },
            start_period: time(spec.start_period, image.start_period, Duration::ZERO),
            start_interval: time(spec.start_interval, image.start_interval, Healthcheck::START_INTERVAL),
        })
    }
}

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Probed {
    pub(super) well: bool,
    pub(super) output: String,
}

/// What the answers so far mean.
#[derive(Debug)]
struct Judge<'a> {
    check: &'a Check,
    failures: u32,
    health: Health,
}

impl<'a> Judge<'a> {
    fn new(check: &'a Check, health: Health) -> Self {
        Self { check, failures: 0, health }
    }

    /// Counts an answer that came so long after the container's start.
    fn hear(&mut self, probed: Probed, since_start: Duration) {
        if probed.well {
            self.failures = 0;
            self.health = Health::Healthy;
            return;
        }
        // Until it was well once, failures in the start period do not count.
        if self.health == Health::Starting && since_start < self.check.start_period {
            return;
        }
        self.failures += 1;
        if self.failures >= self.check.retries {
            self.health = Health::Unhealthy { output: probed.output };
        }
    }

    fn pause(&self, since_start: Duration) -> Duration {
        let starts = self.health == Health::Starting && since_start < self.check.start_period;
        if starts { self.check.start_interval.min(self.check.interval) } else { self.check.interval }
    }
}

/// Probes again and again and tells what that means. Ends when nobody listens any more. `age` is how long
/// the container runs already.
pub(super) async fn watch<F>(check: Check, age: Duration, told: watch::Sender<Health>, mut probe: impl FnMut() -> F)
where
    F: Future<Output = Probed>,
{
    let begun = Instant::now();
    let since_start = || age + begun.elapsed();
    let mut judge = Judge::new(&check, told.borrow().clone());
    loop {
        tokio::select! {
            () = tokio::time::sleep(judge.pause(since_start())) => {}
            () = told.closed() => return,
        }
        let asked = since_start();
        judge.hear(probe().await, asked);
        told.send_if_modified(|health| {
            let changed = *health != judge.health;
            health.clone_from(&judge.health);
            changed
        });
    }
}

#[cfg(test)]
mod tests;
