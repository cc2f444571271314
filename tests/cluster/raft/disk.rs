//! A disk that keeps what was synced, and in a crash an arbitrary part of the rest.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{fmt, io};

use mesh_daemon::cluster::raft::Work;
use mesh_daemon::store::Pending;
use redb::StorageBackend;

use super::Chance;

/// What a crash keeps or loses whole.
const SECTOR: usize = 512;

#[derive(Default)]
struct Platter {
    synced: Vec<u8>,
    seen: Vec<u8>,
    /// Since the last sync: where, and what; None for a change of the length.
    pending: Vec<(u64, Option<Vec<u8>>)>,
    /// Who may use it: a handle of an earlier life may not.
    life: u64,
}

/// A disk. It outlives its manager.
#[derive(Clone)]
pub(super) struct SimDisk {
    platter: Arc<Mutex<Platter>>,
    chance: Chance,
    slow_ms: Arc<AtomicU64>,
}

/// The disk, in one life of its manager.
#[derive(Clone)]
pub(super) struct Handle {
    disk: SimDisk,
    life: u64,
}

impl SimDisk {
    pub(super) fn new(chance: Chance) -> Self {
        Self { platter: Arc::default(), chance, slow_ms: Arc::default() }
    }

    /// A handle for a new life.
    pub(super) fn open(&self) -> Handle {
        let life = self.platter.lock().unwrap().life;
        Handle { disk: self.clone(), life }
    }

    /// Has every sync take up to so long.
    pub(super) fn slow(&self, ms: u64) {
        self.slow_ms.store(ms, Ordering::Relaxed);
    }

    /// The power fails: what was not synced is lost, or kept, sector by sector, in any order.
    pub(super) fn crash(&self) {
        let mut platter = self.platter.lock().unwrap();
        let mut left = std::mem::take(&mut platter.synced);
        for (at, bytes) in std::mem::take(&mut platter.pending) {
            match bytes {
                None if self.chance.percent(50) => left.resize(at as usize, 0),
                None => {}
                Some(bytes) => {
                    for (number, sector) in bytes.chunks(SECTOR).enumerate() {
                        let at = at as usize + number * SECTOR;
                        if self.chance.percent(50) && at + sector.len() <= left.len() {
                            left[at..at + sector.len()].copy_from_slice(sector);
                        }
                    }
                }
            }
        }
        platter.seen = left.clone();
        platter.synced = left;
        platter.life += 1;
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "life {}", self.life)
    }
}

impl Handle {
    fn with<T>(&self, what: impl FnOnce(&mut Platter) -> T) -> Result<T, io::Error> {
        let mut platter = self.disk.platter.lock().unwrap();
        if platter.life != self.life {
            return Err(io::Error::other("this manager has crashed"));
        }
        Ok(what(&mut platter))
    }
}

impl StorageBackend for Handle {
    fn len(&self) -> Result<u64, io::Error> {
        self.with(|platter| platter.seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let at = offset as usize;
        self.with(|platter| out.copy_from_slice(&platter.seen[at..at + out.len()]))
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.with(|platter| {
            platter.seen.resize(len as usize, 0);
            platter.pending.push((len, None));
        })
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        self.with(|platter| {
            for (at, bytes) in std::mem::take(&mut platter.pending) {
                match bytes {
                    None => platter.synced.resize(at as usize, 0),
                    Some(bytes) => {
                        let at = at as usize;
                        platter.synced[at..at + bytes.len()].copy_from_slice(&bytes);
                    }
                }
            }
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        let at = offset as usize;
        self.with(|platter| {
            platter.seen[at..at + data.len()].copy_from_slice(data);
            platter.pending.push((offset, Some(data.to_vec())));
        })
    }
}

impl Work for Handle {
    fn run(&self, job: Box<dyn FnOnce() + Send>) -> Pending<'_, ()> {
        Box::pin(async move {
            let slow = self.disk.slow_ms.load(Ordering::Relaxed);
            let micros = self.disk.chance.of(100..1000 + slow * 1000);
            tokio::time::sleep(Duration::from_micros(micros)).await;
            job();
        })
    }
}
