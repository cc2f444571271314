//! The one line that every client gets, and the count of clients being answered.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a shutdown waits for requests that are being answered.
const DRAIN_LIMIT: Duration = Duration::from_secs(2);

pub(crate) struct Answers {
    name: String,
    sequence: AtomicU64,
    busy: Mutex<usize>,
    idle: Condvar,
}

/// A request being answered.
pub(crate) struct Busy<'a>(&'a Answers);

impl Answers {
    pub(crate) fn new(name: String) -> Self {
        Self { name, sequence: AtomicU64::new(0), busy: Mutex::new(0), idle: Condvar::new() }
    }

    /// Who asked, whom, over what, and as which number since the start.
    pub(crate) fn reply(&self, proto: &str, peer: SocketAddr, local: Option<SocketAddr>, said: &str) -> String {
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed) + 1;
        // An IPv4 client of a socket for both families shows up in its mapped form.
        let (peer_ip, peer_port) = (peer.ip().to_canonical(), peer.port());
        let local = local.map(|local| SocketAddr::new(local.ip().to_canonical(), local.port()).to_string());
        format!(
            "{{\"name\":{},\"proto\":\"{proto}\",\"peer\":\"{peer_ip}\",\"port\":{peer_port},\"local\":\"{}\",\"seq\":{sequence},\"said\":{}}}\n",
            quoted(&self.name),
            local.unwrap_or_default(),
            quoted(said),
        )
    }

    pub(crate) fn busy(&self) -> Busy<'_> {
        *self.count() += 1;
        Busy(self)
    }

    /// Waits for the requests being answered; those that hang do not hold up the end for long.
    pub(crate) fn finish(&self) {
        let _ = self.idle.wait_timeout_while(self.count(), DRAIN_LIMIT, |busy| *busy > 0);
    }

    fn count(&self) -> MutexGuard<'_, usize> {
        // A number is whole even if a thread panicked while it held the lock.
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        *self.0.count() -= 1;
        self.0.idle.notify_all();
    }
}

/// A JSON string.
fn quoted(text: &str) -> String {
    let escaped = text.chars().flat_map(|char| match char {
        '"' | '\\' => vec!['\\', char],
        control if control < ' ' => format!("\\u{:04x}", u32::from(control)).chars().collect(),
        other => vec![other],
    });
    format!("\"{}\"", escaped.collect::<String>())
}
