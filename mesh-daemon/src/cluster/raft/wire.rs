//! What managers say to each other about the log, as JSON.

use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, VoteRequest, VoteResponse,
};
use serde::{Deserialize, Serialize};

use super::types::{Command, Member, Outcome, RaftId, SnapshotMeta, Types, Vote};
use crate::model::payload::Payload;

/// A question, and what tells whether it is meant for us.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Question {
    /// Which life of the cluster: another begins when it is forced anew.
    pub(super) epoch: u64,
    /// Who asks.
    pub(super) from: RaftId,
    pub(super) request: Request,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Request {
    Append(AppendEntriesRequest<Types>),
    Vote(VoteRequest<Types>),
    PreVote(VoteRequest<Types>),
    Snapshot(SnapshotPiece),
    Transfer(TransferLeaderRequest<Types>),
    /// Are you there?
    Ping,
    Propose(Command),
    /// How far must one be who reads?
    ReadIndex,
    Change(MemberChange),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reply {
    Append(AppendEntriesResponse<Types>),
    Vote(VoteResponse<Types>),
    Snapshot(SnapshotResponse<Types>),
    /// More pieces are to come.
    Piece,
    Transferred(openraft::raft::TransferLeaderResponse<Types>),
    Pong,
    Proposed(Outcome),
    ReadIndex(u64),
    Changed,
    /// Ask this one.
    NotLeader(Option<RaftId>),
    /// The leader was lost while it worked: perhaps it happened.
    Interrupted,
    /// It cannot be done.
    Refused(Refusal),
    /// The one asked has stopped, or did not understand.
    Failed(String),
}

/// A part of a snapshot, in order.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SnapshotPiece {
    pub(super) vote: Vote,
    pub(super) meta: SnapshotMeta,
    pub(super) offset: u64,
    pub(super) bytes: Payload,
    pub(super) last: bool,
}

/// A change of who agrees.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum MemberChange {
    /// Gets the log, has no vote.
    Add(RaftId, Member),
    /// Gets a vote.
    Promote(RaftId),
    /// Loses its vote.
    Demote(RaftId),
    /// Gets nothing more.
    Remove(RaftId),
    /// Leads.
    Lead(RaftId),
    /// Is found elsewhere.
    Move(RaftId, Member),
}

/// Why managers are not changed so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Refusal {
    /// Nobody would be left.
    #[error("attempting to demote the last manager of the swarm")]
    LastManager,
    /// There is no such manager.
    #[error("manager {0} is not known")]
    Unknown(RaftId),
    /// The number is another's.
    #[error("the number {0} is another manager's")]
    NumberTaken(RaftId),
    /// It is not near enough to the leader to get a vote, or the lead.
    #[error("manager {0} does not answer, or lags too far behind")]
    Lags(RaftId),
    /// Another change has not ended.
    #[error("another change of the managers has not ended")]
    Busy,
    /// The consensus library refuses, for a reason it gives.
    #[error("the managers cannot be changed so: {0}")]
    Impossible(String),
}
