//! One manager among those that agree: its start, its state, its end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::{Config, RaftMetrics, ServerState, SnapshotPolicy};
use tokio::sync::{Semaphore, watch};

use super::disk::{Disk, DiskError, Failure};
use super::epoch::Epoch;
use super::log::Log;
use super::machine::Machine;
use super::serve::Arriving;
use super::transport::{Asker, Transport};
use super::types::{Member, RaftId, Types};
use crate::store::{Clock, Replica, Store};

pub(super) type Engine = openraft::Raft<Types, Machine>;

/// So many transactions may wait at a manager at once.
pub(super) const WAITING: usize = 8192;

/// How long things take, and how much is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// Between two signs of life of a leader.
    pub heartbeat: Duration,
    /// Without one for this long, and up to twice as long by chance, a manager stands for election.
    pub election: Duration,
    /// A write that is not done asks after this time whether enough managers answer.
    pub patience: Duration,
    /// A write that is not done is given up after this time.
    pub deadline: Duration,
    /// A snapshot is made after so many entries.
    pub snapshot_entries: u64,
    /// So many entries are kept behind a snapshot, for managers that lag.
    pub kept_entries: u64,
}

impl Default for Timing {
    /// The leader's crash is noticed in 600 ms, as openraft lets followers wait for the longest election
    /// time before the election, and the election takes 300 to 600 ms more. Snapshots are Swarm's.
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(100),
            election: Duration::from_millis(300),
            patience: Duration::from_millis(1400),
            deadline: Duration::from_secs(20),
            snapshot_entries: 10_000,
            kept_entries: 500,
        }
    }
}

/// Why a manager does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its file cannot be used.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The times contradict each other.
    #[error("the times of the log contradict each other")]
    Timing(#[source] openraft::ConfigError),
    /// The consensus library does not start.
    #[error("start the log: {0}")]
    Engine(String),
}

/// A manager among those that agree. A copy is the same manager.
#[derive(Clone)]
pub struct Raft {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) id: RaftId,
    pub(super) engine: Engine,
    pub(super) asker: Asker,
    pub(super) replica: Replica,
    pub(super) disk: Disk,
    pub(super) timing: Timing,
    pub(super) room: Semaphore,
    pub(super) arriving: tokio::sync::Mutex<Option<Arriving>>,
}

impl Raft {
    /// Starts a manager from its file, whatever is in it.
    ///
    /// # Errors
    ///
    /// If the file is damaged, or the times contradict each other.
    pub async fn start(
        id: RaftId,
        disk: Disk,
        transport: Arc<dyn Transport>,
        timing: Timing,
    ) -> Result<Self, StartError> {
        let replica = Replica::default();
        let machine = Machine::open(disk.clone(), replica.clone())?;
        let epoch = Arc::new(Epoch::open(disk.clone())?);
        let asker = Asker { me: id, epoch, transport };
        let config = Arc::new(configured(&timing)?);
        let engine = Engine::new(id, config, asker.clone(), Log::new(disk.clone()), machine).await;
        let engine = engine.map_err(|error| StartError::Engine(error.to_string()))?;
        let (room, arriving) = (Semaphore::new(WAITING), tokio::sync::Mutex::new(None));
        Ok(Self { inner: Arc::new(Inner { id, engine, asker, replica, disk, timing, room, arriving }) })
    }

    /// This manager's number.
    #[must_use]
    pub fn id(&self) -> RaftId {
        self.inner.id
    }

    /// The cluster's objects, read here and written through the leader.
    #[must_use]
    pub fn store(&self, clock: Clock) -> Store {
        Store::new(self.inner.replica.clone(), Arc::new(self.clone()), clock)
    }

    /// What this manager knows of the others and of itself.
    #[must_use]
    pub fn status(&self) -> Status {
        Status::of(&self.inner.engine.metrics().borrow_watched(), self.inner.disk.failure())
    }

    /// Follows [`Raft::status`].
    #[must_use]
    pub fn watch(&self) -> StatusWatch {
        let (metrics, failure) = (self.inner.engine.metrics(), self.inner.disk.watch_failure());
        StatusWatch { raft: self.clone(), metrics, failure, last: None }
    }

    /// Makes a snapshot now, and forgets the entries before it but for those that are kept.
    ///
    /// # Errors
    ///
    /// If this manager has stopped.
    pub async fn compact(&self) -> Result<(), StartError> {
        let done = self.inner.engine.trigger().snapshot().await;
        done.map_err(|error| StartError::Engine(error.to_string()))
    }

    /// Ends this manager's part. What was acknowledged is on disk already.
    pub async fn stop(&self) {
        // It fails only if it has stopped already.
        let _ = self.inner.engine.shutdown().await;
    }
}

fn configured(timing: &Timing) -> Result<Config, StartError> {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let config = Config {
        cluster_name: "mesh".to_owned(),
        heartbeat_interval: millis(timing.heartbeat),
        election_timeout_min: millis(timing.election),
        election_timeout_max: millis(timing.election).saturating_mul(2),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(timing.snapshot_entries),
        max_in_snapshot_log_to_keep: timing.kept_entries,
        replication_lag_threshold: timing.kept_entries.max(1),
        enable_pre_vote: Some(true),
        // A leader that restarts and leads on in its old term does not know what it had committed, and
        // answers reads from before that (seen in simulation). It stands for election like anyone else.
        enable_leader_restore: Some(false),
        install_snapshot_timeout: 120_000,
        ..Config::default()
    };
    config.validate().map_err(StartError::Timing)
}

/// What a manager knows of the others and of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Its number.
    pub id: RaftId,
    /// The term it is in.
    pub term: u64,
    /// Who leads, as far as it knows.
    pub leader: Option<RaftId>,
    /// Whether it leads; then, in which term is `term`.
    pub is_leader: bool,
    /// Those that have a vote.
    pub voters: BTreeMap<RaftId, Member>,
    /// Those that get the log and have no vote.
    pub learners: BTreeMap<RaftId, Member>,
    /// The last entry that is carried out here.
    pub applied: u64,
    /// The last entry of the log here.
    pub last: u64,
    /// The last entry that the snapshot has in it.
    pub snapshot: u64,
    /// Why it takes no part, if it does not: it has stopped, or its disk is full.
    pub stopped: Option<String>,
}

impl Status {
    fn of(metrics: &RaftMetrics<Types>, failure: Option<String>) -> Self {
        let members = metrics.membership_config.membership();
        let voters: std::collections::BTreeSet<RaftId> = members.voter_ids().collect();
        let (mut with, mut without) = (BTreeMap::new(), BTreeMap::new());
        for (id, member) in members.nodes() {
            let map = if voters.contains(id) { &mut with } else { &mut without };
            map.insert(*id, *member);
        }
        let stopped = metrics.running_state.as_ref().err().map(ToString::to_string);
        Self {
            id: metrics.id,
            term: metrics.current_term,
            leader: metrics.current_leader,
            is_leader: metrics.state == ServerState::Leader && metrics.current_leader == Some(metrics.id),
            voters: with,
            learners: without,
            applied: metrics.last_applied.as_ref().map_or(0, |log_id| log_id.index),
            last: metrics.last_log_index.unwrap_or(0),
            snapshot: metrics.snapshot.as_ref().map_or(0, |log_id| log_id.index),
            stopped: failure.or(stopped),
        }
    }

    /// The term in which this manager leads now; None if it does not.
    #[must_use]
    pub fn leads(&self) -> Option<u64> {
        (self.is_leader && self.stopped.is_none()).then_some(self.term)
    }

    /// How many managers may fail without an end to writing.
    #[must_use]
    pub fn tolerates(&self) -> usize {
        self.voters.len().saturating_sub(1) / 2
    }
}

/// Follows the status of a manager.
pub struct StatusWatch {
    raft: Raft,
    metrics: openraft::alias::WatchReceiverOf<Types, RaftMetrics<Types>>,
    failure: watch::Receiver<Option<Failure>>,
    last: Option<Status>,
}

impl StatusWatch {
    /// The status at first, and from then on whenever it is another; None when the manager has ended.
    pub async fn next(&mut self) -> Option<Status> {
        loop {
            let status = self.raft.status();
            if self.last.as_ref() != Some(&status) {
                self.last = Some(status.clone());
                return Some(status);
            }
            tokio::select! {
                changed = self.metrics.changed() => changed.ok()?,
                // Its disk lives as long as this does.
                Ok(()) = self.failure.changed() => {}
            }
        }
    }

    /// The first status of which this is true; None when the manager has ended.
    pub async fn until(&mut self, is: impl Fn(&Status) -> bool) -> Option<Status> {
        loop {
            let status = self.next().await?;
            if is(&status) {
                return Some(status);
            }
        }
    }
}
