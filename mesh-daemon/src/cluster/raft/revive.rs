//! Saves what a manager has, puts it back, and begins a cluster anew from one manager.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, Write};

use openraft::vote::RaftLeaderId;
use openraft::{LogIdOptionExt, Membership};

use super::disk::{Disk, DiskError};
use super::epoch::EPOCH;
use super::log::{COMMITTED, PURGED, VOTE};
use super::machine::{Machine, SNAPSHOT_META};
use super::types::{Entry, LogId, Member, RaftId, SnapshotMeta, StoredMembership, Types, Vote};
use crate::store::{Replica, SnapshotError, View};

type LeaderId = openraft::alias::LeaderIdOf<Types>;

/// Why a cluster cannot be saved or revived.
#[derive(Debug, thiserror::Error)]
pub enum ReviveError {
    /// The file cannot be used.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// What was saved cannot be used.
    #[error("the backup cannot be used")]
    Snapshot(#[from] SnapshotError),
    /// There is nothing to begin with.
    #[error("this manager has never belonged to a cluster: there is nothing to begin anew from")]
    Empty,
    /// There is something already.
    #[error("this manager belongs to a cluster already: a backup is put into an empty directory only")]
    NotEmpty,
}

/// Writes all objects of a view, secrets and keys too: whoever gets it must be trusted as a manager is.
///
/// # Errors
///
/// If writing fails.
pub fn backup(view: &View, writer: impl Write) -> Result<(), ReviveError> {
    Ok(Replica::save(view, writer)?)
}

/// What is left of a cluster. Its objects may be changed before it begins anew: nobody agrees with anybody about
/// them by then.
pub struct Remains {
    /// Its objects.
    pub replica: Replica,
    past: Option<Past>,
}

impl Remains {
    /// Of what [`backup`] wrote.
    ///
    /// # Errors
    ///
    /// If it is not whole.
    pub fn of_backup(reader: impl BufRead) -> Result<Self, ReviveError> {
        let replica = Replica::default();
        replica.restore(reader)?;
        Ok(Self { replica, past: None })
    }

    /// Of everything that the log of a manager has, agreed on or not: what was acknowledged is among it, if this
    /// manager had it. May block; nothing else uses the file.
    ///
    /// # Errors
    ///
    /// If the file is damaged, or holds no cluster.
    pub fn of_log(disk: &Disk) -> Result<Self, ReviveError> {
        let file = disk.file();
        let vote: Option<Vote> = file.fact(VOTE)?;
        let replica = Replica::default();
        let mut machine = Machine::open(disk.clone(), replica.clone())?;
        let meta: Option<SnapshotMeta> = file.fact(SNAPSHOT_META)?;
        let mut last = meta.and_then(|meta| meta.last_log_id);
        if vote.is_none() && last.is_none() && file.bounds()?.is_none() {
            return Err(ReviveError::Empty);
        }
        let entries: Vec<Entry> = file.entries(last.next_index(), u64::MAX, usize::MAX)?;
        for entry in entries {
            last = Some(entry.log_id);
            machine.carry_out(entry);
        }
        let term = vote.map_or(0, |vote| vote.leader_id().term);
        let index = last.map_or(0, |log_id: LogId| log_id.index);
        Ok(Self { replica, past: Some(Past { term, index }) })
    }

    /// Begins the cluster anew with these objects and this manager alone. The others are no managers any more, and
    /// cannot come back but by joining. What comes of a backup is put into the file of a manager that is none yet.
    /// May block; nothing else uses the file.
    ///
    /// # Errors
    ///
    /// If the file is damaged, or holds something although a backup is put into it.
    pub fn begin(self, disk: &Disk, id: RaftId, member: Member, epoch: u64) -> Result<(), ReviveError> {
        let file = disk.file();
        let has: (Option<Vote>, Option<SnapshotMeta>) = (file.fact(VOTE)?, file.fact(SNAPSHOT_META)?);
        let is_empty = has == (None, None) && file.bounds()?.is_none();
        let past = match self.past {
            None if !is_empty => return Err(ReviveError::NotEmpty),
            None => Past { term: 0, index: 0 },
            Some(past) => past,
        };
        begin(disk, &self.replica, id, member, epoch, past)
    }
}

/// Where the log was.
struct Past {
    term: u64,
    index: u64,
}

/// Puts a snapshot in the place of everything, in one transaction. The log goes on after it, in a term
/// that is higher than any before.
fn begin(
    disk: &Disk,
    replica: &Replica,
    id: RaftId,
    member: Member,
    epoch: u64,
    past: Past,
) -> Result<(), ReviveError> {
    let mut bytes = Vec::new();
    Replica::save(&replica.view(), &mut bytes)?;
    let vote = Vote::new(past.term + 1, id);
    let last = LogId::new(LeaderId::new(past.term + 1, id).to_committed(), past.index + 1);
    let alone = Membership::new(vec![BTreeSet::from([id])], BTreeMap::from([(id, member)]));
    let alone = alone.map_err(|error| disk.file().damaged(error.to_string()))?;
    let last_membership = StoredMembership::new(Some(last), alone);
    let meta = SnapshotMeta { last_log_id: Some(last), last_membership };
    disk.file().write(|pages| {
        pages.cut_from(0)?;
        pages.put_snapshot(&bytes)?;
        pages.put_fact(SNAPSHOT_META, &meta)?;
        pages.put_fact(VOTE, &vote)?;
        pages.put_fact(PURGED, &last)?;
        pages.put_fact(COMMITTED, &Some(last))?;
        pages.put_fact(EPOCH, &epoch)
    })?;
    Ok(())
}
