//! Brings questions to other managers, and their answers back.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::error::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};
use openraft::{RaftNetworkFactory, RaftNetworkV2};

use super::epoch::Epoch;
use super::types::{Member, RaftId, Snapshot, Types, Vote};
use super::wire::{Question, Reply, Request, SnapshotPiece};
use crate::model::payload::Payload;
use crate::store::Pending;

/// Entries and votes have at least so long, whatever openraft would allow: a disk may be slow, and who
/// gives up too early asks again and again.
const CALL_TIMEOUT: Duration = Duration::from_millis(500);
/// A piece of a snapshot has so long.
const PIECE_TIMEOUT: Duration = Duration::from_secs(5);
/// Who has all pieces puts them in force, at least so many bytes a second.
const INSTALL_BYTES_PER_S: u64 = 4 * 1024 * 1024;
/// A snapshot travels in pieces of this size.
const PIECE_BYTES: usize = 1024 * 1024;

/// Why a question got no answer.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// It was surely never asked.
    #[error("{addr} cannot be reached: {why}")]
    Unreached {
        /// Who was to be asked.
        addr: String,
        /// Why.
        why: String,
    },
    /// It may have been asked, and even done.
    #[error("the answer of {addr} was lost: {why}")]
    Lost {
        /// Who was asked.
        addr: String,
        /// Why.
        why: String,
    },
}

/// Asks other managers. Both sides have proven to each other that they are managers of this cluster.
pub trait Transport: Send + Sync + 'static {
    /// Has [`super::Raft::handle`] of another manager answer. Bounds itself in no way: callers give up.
    fn call(&self, target: RaftId, member: &Member, question: Bytes) -> Pending<'_, Result<Bytes, TransportError>>;
}

/// Asks in the words of the log.
#[derive(Clone)]
pub(super) struct Asker {
    pub(super) me: RaftId,
    pub(super) epoch: Arc<Epoch>,
    pub(super) transport: Arc<dyn Transport>,
}

impl Asker {
    pub(super) async fn ask(&self, target: RaftId, member: &Member, request: Request) -> Result<Reply, TransportError> {
        let question = Question { epoch: self.epoch.get(), from: self.me, request };
        let addr = member.addr.to_string();
        let unreached = |why: String| TransportError::Unreached { addr: addr.clone(), why };
        let bytes = serde_json::to_vec(&question).map_err(|error| unreached(error.to_string()))?;
        let answer = self.transport.call(target, member, bytes.into()).await?;
        serde_json::from_slice(&answer).map_err(|error| TransportError::Lost { addr, why: error.to_string() })
    }
}

impl RaftNetworkFactory<Types> for Asker {
    type Network = Line;

    async fn new_client(&mut self, target: RaftId, member: &Member) -> Line {
        Line { asker: self.clone(), target, member: *member }
    }
}

/// To one other manager.
pub(super) struct Line {
    asker: Asker,
    target: RaftId,
    member: Member,
}

impl Line {
    async fn ask(&self, request: Request, timeout: Duration) -> Result<Reply, RPCError<Types>> {
        let asked = self.asker.ask(self.target, &self.member, request);
        match tokio::time::timeout(timeout, asked).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(error @ TransportError::Unreached { .. })) => Err(RPCError::Unreachable(Unreachable::new(&error))),
            Ok(Err(error @ TransportError::Lost { .. })) => Err(RPCError::Network(NetworkError::new(&error))),
            Err(_) => Err(failed(format!("{} does not answer in {} ms", self.member.addr, timeout.as_millis()))),
        }
    }

    fn unexpected(&self, reply: Reply) -> RPCError<Types> {
        match reply {
            Reply::Failed(why) => failed(format!("{}: {why}", self.member.addr)),
            other => failed(format!("{} answers with {other:?}", self.member.addr)),
        }
    }
}

fn failed(why: String) -> RPCError<Types> {
    RPCError::Network(NetworkError::new(&io::Error::other(why)))
}

impl RaftNetworkV2<Types> for Line {
    type SnapshotData = Bytes;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        match self.ask(Request::Append(request), option.hard_ttl().max(CALL_TIMEOUT)).await? {
            Reply::Append(answer) => Ok(answer),
            other => Err(self.unexpected(other)),
        }
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        match self.ask(Request::Vote(request), option.hard_ttl().max(CALL_TIMEOUT)).await? {
            Reply::Vote(answer) => Ok(answer),
            other => Err(self.unexpected(other)),
        }
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        match self.ask(Request::PreVote(request), option.hard_ttl().max(CALL_TIMEOUT)).await? {
            Reply::Vote(answer) => Ok(answer),
            other => Err(self.unexpected(other)),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = self.send_snapshot(vote, snapshot) => sent.map_err(StreamingError::from),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        _option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        match self.ask(Request::Transfer(request), CALL_TIMEOUT).await? {
            Reply::Transferred(answer) => Ok(answer),
            other => Err(self.unexpected(other)),
        }
    }
}

impl Line {
    async fn send_snapshot(&self, vote: Vote, snapshot: Snapshot) -> Result<SnapshotResponse<Types>, RPCError<Types>> {
        let mut rest = snapshot.snapshot;
        let mut offset = 0;
        loop {
            let bytes = rest.split_to(rest.len().min(PIECE_BYTES));
            let length = bytes.len() as u64;
            let last = rest.is_empty();
            let meta = snapshot.meta.clone();
            let piece = SnapshotPiece { vote, meta, offset, bytes: Payload(bytes.to_vec()), last };
            let install = Duration::from_secs((offset + length) / INSTALL_BYTES_PER_S);
            let timeout = if last { PIECE_TIMEOUT + install } else { PIECE_TIMEOUT };
            match self.ask(Request::Snapshot(piece), timeout).await? {
                Reply::Snapshot(answer) => return Ok(answer),
                Reply::Piece if !last => offset += length,
                other => return Err(self.unexpected(other)),
            }
        }
    }
}
