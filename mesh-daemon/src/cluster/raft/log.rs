//! The log and the vote on disk, as openraft asks for them.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};

use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};

use super::disk::Disk;
use super::types::{Entry, LogId, Types, Vote};

pub(super) const VOTE: &str = "vote";
pub(super) const COMMITTED: &str = "committed";
pub(super) const PURGED: &str = "purged";

/// A message to another manager carries entries of so many bytes, but one at least.
const MESSAGE_BYTES: usize = 1024 * 1024;

/// The log of this manager.
#[derive(Clone)]
pub(super) struct Log {
    disk: Disk,
}

impl Log {
    pub(super) fn new(disk: Disk) -> Self {
        Self { disk }
    }
}

impl RaftLogReader<Types> for Log {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let (first, end) = half_open(&range);
        self.disk.run(move |file| file.entries(first, end, usize::MAX)).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        self.disk.run(|file| file.fact(VOTE)).await
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        self.disk.run(move |file| file.entries(start, end, MESSAGE_BYTES)).await
    }
}

fn half_open(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let first = match range.start_bound() {
        Bound::Included(first) => *first,
        Bound::Excluded(before) => before + 1,
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(last) => last + 1,
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    (first, end)
}

impl RaftLogStorage<Types> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let read = |file: &super::disk::File| {
            let purged: Option<LogId> = file.fact(PURGED)?;
            let Some((_, last)) = file.bounds()? else {
                return Ok(LogState { last_purged_log_id: purged, last_log_id: purged });
            };
            let last: Vec<Entry> = file.entries(last, last + 1, usize::MAX)?;
            Ok(LogState { last_purged_log_id: purged, last_log_id: last.first().map(|entry| entry.log_id) })
        };
        self.disk.run(read).await
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let vote = *vote;
        self.disk.run(move |file| file.write(|pages| pages.put_fact(VOTE, &vote))).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        // Lost in a crash, it is learned again from the leader: no reason to wait for the disk.
        self.disk.run(move |file| file.write_later(|pages| pages.put_fact(COMMITTED, &committed))).await
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        self.disk.run(|file| file.fact::<Option<LogId>>(COMMITTED)).await.map(Option::flatten)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let write = move |file: &super::disk::File| {
            file.write(|pages| entries.iter().try_for_each(|entry| pages.put_entry(entry.log_id.index, entry)))
        };
        self.disk.run(write).await?;
        callback.io_completed(Ok(()));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let first = last.map_or(0, |last| last.index + 1);
        self.disk.run(move |file| file.write(|pages| pages.cut_from(first))).await
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        let purge = move |file: &super::disk::File| {
            file.write(|pages| {
                pages.put_fact(PURGED, &log_id)?;
                pages.cut_to(log_id.index)
            })
        };
        self.disk.run(purge).await
    }
}
