//! Answers what other managers ask.

use bytes::Bytes;
use openraft::error::{ClientWriteError, LinearizableReadError, RaftError};
use openraft::{ReadPolicy, Snapshot as Complete};

use super::peer::Raft;
use super::types::{Command, Outcome, RaftId, SnapshotMeta, Types, Vote};
use super::wire::{Question, Reply, Request, SnapshotPiece};

/// A snapshot that arrives has at most so many bytes.
const SNAPSHOT_BYTES: usize = 4 * 1024 * 1024 * 1024;

/// A snapshot of which some pieces have arrived.
pub(super) struct Arriving {
    from: RaftId,
    vote: Vote,
    meta: SnapshotMeta,
    bytes: Vec<u8>,
}

impl Raft {
    /// Answers another manager of this cluster; that it is one, the caller has proven.
    pub async fn handle(&self, question: &[u8]) -> Bytes {
        let reply = match serde_json::from_slice::<Question>(question) {
            Ok(question) => self.answer(question).await,
            Err(error) => Reply::Failed(format!("the question is not understood: {error}")),
        };
        // All replies can be written: they hold no maps whose keys are not texts.
        serde_json::to_vec(&reply).unwrap_or_default().into()
    }

    async fn answer(&self, question: Question) -> Reply {
        let Question { epoch, from, request } = question;
        match self.inner.asker.epoch.is_shared(epoch).await {
            Ok(true) => {}
            Ok(false) => return Reply::Failed("it is of another cluster, or of one that was forced anew".to_owned()),
            Err(error) => return Reply::Failed(error.to_string()),
        }
        let engine = &self.inner.engine;
        match request {
            Request::Append(request) => replied(engine.append_entries(request).await, Reply::Append),
            Request::Vote(request) => replied(engine.vote(request).await, Reply::Vote),
            Request::PreVote(request) => replied(engine.pre_vote(request).await, Reply::Vote),
            Request::Snapshot(piece) => self.take_piece(from, piece).await,
            Request::Transfer(request) => replied(engine.handle_transfer_leader(request).await, Reply::Transferred),
            Request::Ping => Reply::Pong,
            Request::Propose(command) => self.lead_write(command).await,
            Request::ReadIndex => self.lead_read().await,
            Request::Change(change) => self.lead_change(change).await,
        }
    }

    /// Puts a transaction into the log, if this manager leads.
    pub(super) async fn lead_write(&self, command: Command) -> Reply {
        match self.inner.engine.client_write(command).await {
            Ok(done) => Reply::Proposed(done.data),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to))) => Reply::NotLeader(to.leader_id),
            Err(RaftError::APIError(ClientWriteError::LogEntryDiscarded(_))) => Reply::Interrupted,
            Err(error) => Reply::Failed(self.reason(&error)),
        }
    }

    /// How far the log is, once most managers have said that this one leads still.
    pub(super) async fn lead_read(&self) -> Reply {
        match self.inner.engine.get_read_log_id(ReadPolicy::ReadIndex).await {
            Ok((read, _)) => Reply::ReadIndex(read.index()),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(to))) => Reply::NotLeader(to.leader_id),
            Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => Reply::NotLeader(None),
            Err(error) => Reply::Failed(self.reason(&error)),
        }
    }

    /// What went wrong: the disk's own words, if it was the disk.
    fn reason(&self, error: &impl std::fmt::Display) -> String {
        self.inner.disk.failure().unwrap_or_else(|| error.to_string())
    }

    /// Pieces come in order, from one leader at a time; anything else begins anew.
    async fn take_piece(&self, from: RaftId, piece: SnapshotPiece) -> Reply {
        let mut arriving = self.inner.arriving.lock().await;
        let SnapshotPiece { vote, meta, offset, bytes, last } = piece;
        if offset == 0 {
            *arriving = Some(Arriving { from, vote, meta, bytes: Vec::new() });
        }
        let fits = |it: &&mut Arriving| it.from == from && it.vote == vote && it.bytes.len() as u64 == offset;
        let Some(snapshot) = arriving.as_mut().filter(fits) else {
            return Reply::Failed("a piece of a snapshot is missing".to_owned());
        };
        if snapshot.bytes.len() + bytes.0.len() > SNAPSHOT_BYTES {
            *arriving = None;
            return Reply::Failed(format!("a snapshot has at most {SNAPSHOT_BYTES} bytes"));
        }
        snapshot.bytes.extend_from_slice(&bytes.0);
        if !last {
            return Reply::Piece;
        }
        let Some(Arriving { vote, meta, bytes, .. }) = arriving.take() else {
            return Reply::Failed("a piece of a snapshot is missing".to_owned());
        };
        drop(arriving);
        let complete = Complete { meta, snapshot: Bytes::from(bytes) };
        replied(self.inner.engine.install_full_snapshot(vote, complete).await, Reply::Snapshot)
    }
}

fn replied<T, E: std::fmt::Display>(result: Result<T, E>, reply: impl FnOnce(T) -> Reply) -> Reply {
    result.map_or_else(|error| Reply::Failed(error.to_string()), reply)
}

impl From<Outcome> for Reply {
    fn from(outcome: Outcome) -> Self {
        Self::Proposed(outcome)
    }
}

/// What openraft calls its errors of one request.
pub(super) type WriteError = RaftError<Types, ClientWriteError<Types>>;
