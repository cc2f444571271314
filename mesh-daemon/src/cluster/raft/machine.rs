//! Carries out the log: feeds the replica, and makes and takes snapshots of it.

use std::io;

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};

use super::disk::{Disk, DiskError};
use super::types::{Entry, LogId, Outcome, Snapshot, SnapshotMeta, StoredMembership, Types};
use crate::store::{Proposal, Rejection, Replica, View};

pub(super) const SNAPSHOT_META: &str = "snapshot-meta";

/// The state of this manager as its log has made it.
pub(super) struct Machine {
    replica: Replica,
    disk: Disk,
    applied: Option<LogId>,
    membership: StoredMembership,
}

impl Machine {
    /// Begins with the snapshot on disk, if there is one. May block: done before anything runs.
    pub(super) fn open(disk: Disk, replica: Replica) -> Result<Self, DiskError> {
        let file = disk.file();
        let meta: Option<SnapshotMeta> = file.fact(SNAPSHOT_META)?;
        let meta = meta.unwrap_or_default();
        let bytes = file.snapshot()?;
        if !bytes.is_empty() {
            replica.restore(&bytes[..]).map_err(|error| file.damaged(format!("its snapshot: {error}")))?;
        }
        Ok(Self { replica, disk, applied: meta.last_log_id, membership: meta.last_membership })
    }

    /// Carries one entry out.
    pub(super) fn carry_out(&mut self, entry: Entry) -> Outcome {
        self.applied = Some(entry.log_id);
        match entry.payload {
            EntryPayload::Blank => Outcome::Nothing,
            EntryPayload::Membership(membership) => {
                self.membership = StoredMembership::new(Some(entry.log_id), membership);
                Outcome::Nothing
            }
            EntryPayload::Normal(command) => transact(&self.replica, &command.0, entry.log_id),
        }
    }

    pub(super) fn snapshot(&self) -> Maker {
        let meta = SnapshotMeta { last_log_id: self.applied, last_membership: self.membership.clone() };
        Maker { view: self.replica.view(), meta, disk: self.disk.clone() }
    }
}

/// A transaction that only the leader of one term may carry out must lie in an entry of that term.
fn transact(replica: &Replica, proposal: &Proposal, log_id: LogId) -> Outcome {
    let term = log_id.committed_leader_id().term;
    match proposal.fence.filter(|fence| *fence != term) {
        Some(term) => Outcome::Rejected(Rejection::TermEnded { term }),
        None => replica.apply(proposal).map_or_else(Outcome::Rejected, Outcome::Applied),
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = Bytes;
    type SnapshotBuilder = Maker;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            let outcome = self.carry_out(entry);
            if let Some(responder) = responder {
                responder.send(outcome);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Maker {
        self.snapshot()
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: Bytes) -> Result<(), io::Error> {
        self.replica.restore(&snapshot[..]).map_err(io::Error::other)?;
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        keep(&self.disk, meta.clone(), snapshot).await
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        let read = |file: &super::disk::File| {
            let meta: Option<SnapshotMeta> = file.fact(SNAPSHOT_META)?;
            meta.map(|meta| Ok(Snapshot { meta, snapshot: Bytes::from(file.snapshot()?) })).transpose()
        };
        self.disk.run(read).await
    }
}

/// Makes a snapshot of one moment while the machine goes on.
pub(super) struct Maker {
    view: View,
    meta: SnapshotMeta,
    disk: Disk,
}

impl RaftSnapshotBuilder<Types> for Maker {
    type SnapshotData = Bytes;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let view = View::clone(&self.view);
        let write = move |file: &super::disk::File| {
            let mut bytes = Vec::new();
            Replica::save(&view, &mut bytes).map_err(|error| file.damaged(error.to_string()))?;
            Ok(Bytes::from(bytes))
        };
        let snapshot = self.disk.run(write).await?;
        keep(&self.disk, self.meta.clone(), snapshot.clone()).await?;
        Ok(Snapshot { meta: self.meta.clone(), snapshot })
    }
}

async fn keep(disk: &Disk, meta: SnapshotMeta, bytes: Bytes) -> io::Result<()> {
    let write = move |file: &super::disk::File| {
        file.write(|pages| {
            pages.put_snapshot(&bytes)?;
            pages.put_fact(SNAPSHOT_META, &meta)
        })
    };
    disk.run(write).await
}
