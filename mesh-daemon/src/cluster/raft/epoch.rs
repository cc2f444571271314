//! Which life of the cluster this manager is in.
//!
//! A cluster that was forced anew from one manager begins another life. Managers of the old one that
//! come back must not take part: their questions carry another number, and are refused. A manager that
//! is new takes the number of the first who asks.

use std::sync::atomic::{AtomicU64, Ordering};

use super::disk::{Disk, DiskError};

pub(super) const EPOCH: &str = "epoch";

/// No life yet.
const NONE: u64 = 0;

/// The number of this manager's life.
pub(super) struct Epoch {
    number: AtomicU64,
    disk: Disk,
}

impl Epoch {
    /// Reads it. May block: done before anything runs.
    pub(super) fn open(disk: Disk) -> Result<Self, DiskError> {
        let number: Option<u64> = disk.file().fact(EPOCH)?;
        Ok(Self { number: AtomicU64::new(number.unwrap_or(NONE)), disk })
    }

    pub(super) fn get(&self) -> u64 {
        self.number.load(Ordering::Acquire)
    }

    /// Whether one who asks is of the same life; who has none takes it on, for ever.
    pub(super) async fn is_shared(&self, theirs: u64) -> std::io::Result<bool> {
        if self.get() == NONE && theirs != NONE {
            self.begin(theirs).await?;
        }
        Ok(self.get() == theirs)
    }

    /// Begins a life.
    pub(super) async fn begin(&self, number: u64) -> std::io::Result<()> {
        self.disk.run(move |file| file.write(|pages| pages.put_fact(EPOCH, &number))).await?;
        self.number.store(number, Ordering::Release);
        Ok(())
    }
}
