//! Has the cluster agree, from any manager: asks the leader, and waits for one if there is none.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{sleep, timeout};

use super::peer::{Raft, WAITING};
use super::transport::TransportError;
use super::types::{Command, Member, Outcome, RaftId};
use super::wire::{Refusal, Reply, Request};
use crate::model::meta::Version;
use crate::store::{Pending, Proposal, ProposeError, Proposer};

/// Who has no leader looks again after this time.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// A manager that answers, answers within this time.
const PING_TIMEOUT: Duration = Duration::from_millis(400);
/// A follower that was told how far to read is there within this time, or too slow.
const CATCH_UP: Duration = Duration::from_secs(5);

/// What the leader said.
pub(super) enum Answer {
    Reply(Reply),
    Interrupted,
}

impl Proposer for Raft {
    fn propose(&self, proposal: Proposal) -> Pending<'_, Result<Version, ProposeError>> {
        Box::pin(async move {
            let _room = self.inner.room.try_acquire().map_err(|_| ProposeError::Overloaded { limit: WAITING })?;
            let command = Command(proposal);
            let ask = || Request::Propose(command.clone());
            match self.patiently(self.ask_leader(ask)).await? {
                Answer::Reply(Reply::Proposed(Outcome::Applied(version))) => Ok(version),
                Answer::Reply(Reply::Proposed(Outcome::Rejected(rejection))) => Err(rejection.into()),
                Answer::Reply(other) => Err(garbled(&other)),
                Answer::Interrupted => Err(ProposeError::Interrupted),
            }
        })
    }

    fn barrier(&self) -> Pending<'_, Result<(), ProposeError>> {
        Box::pin(async move {
            let read = async {
                loop {
                    match self.ask_leader(|| Request::ReadIndex).await? {
                        Answer::Reply(Reply::ReadIndex(index)) => return Ok(index),
                        Answer::Reply(other) => return Err(garbled(&other)),
                        Answer::Interrupted => {} // to read twice does no harm
                    }
                }
            };
            let index = self.patiently(read).await?;
            let reached = self.inner.engine.wait(Some(CATCH_UP)).applied_index_at_least(Some(index), "read").await;
            let waited_ms = u64::try_from(CATCH_UP.as_millis()).unwrap_or(u64::MAX);
            reached.map(drop).map_err(|_| self.stopped().unwrap_or(ProposeError::Late { waited_ms }))
        })
    }
}

fn garbled(reply: &Reply) -> ProposeError {
    ProposeError::Garbled { what: format!("{reply:?}") }
}

impl Raft {
    /// Works until it is done, or too few managers answer, or the deadline has passed.
    pub(super) async fn patiently<T>(
        &self,
        work: impl Future<Output = Result<T, ProposeError>>,
    ) -> Result<T, ProposeError> {
        let mut work = pin!(work);
        let (patience, deadline) = (self.inner.timing.patience, self.inner.timing.deadline);
        let mut waited = Duration::ZERO;
        while waited < deadline {
            if let Ok(done) = timeout(patience, &mut work).await {
                return done;
            }
            waited += patience;
            // Its disk is full: whether this happens yet, nobody knows.
            if let Some(stopped) = self.stopped() {
                return Err(stopped);
            }
            if let Some(error) = self.missing_quorum().await {
                return Err(error);
            }
        }
        Err(ProposeError::Late { waited_ms: u64::try_from(waited.as_millis()).unwrap_or(u64::MAX) })
    }

    /// Has the leader answer, whoever it is; waits while there is none.
    pub(super) async fn ask_leader(&self, ask: impl Fn() -> Request) -> Result<Answer, ProposeError> {
        let mut leader = self.status().leader;
        loop {
            if let Some(stopped) = self.stopped() {
                return Err(stopped);
            }
            let reply = match leader {
                Some(leader) if leader == self.id() => self.lead(ask()).await,
                Some(leader) => match self.ask_other(leader, ask()).await {
                    Ok(reply) => reply,
                    Err(TransportError::Unreached { .. }) => Reply::NotLeader(None),
                    Err(TransportError::Lost { .. }) => return Ok(Answer::Interrupted),
                },
                None => Reply::NotLeader(None),
            };
            match reply {
                Reply::NotLeader(Some(other)) if Some(other) != leader && other != self.id() => leader = Some(other),
                Reply::NotLeader(_) | Reply::Refused(Refusal::Busy) => {
                    sleep(LOOK_AGAIN).await;
                    leader = self.status().leader;
                }
                Reply::Interrupted => return Ok(Answer::Interrupted),
                Reply::Failed(reason) => return Err(self.stopped().unwrap_or(ProposeError::Stopped { reason })),
                other => return Ok(Answer::Reply(other)),
            }
        }
    }

    async fn lead(&self, request: Request) -> Reply {
        match request {
            Request::Propose(command) => self.lead_write(command).await,
            Request::ReadIndex => self.lead_read().await,
            Request::Change(change) => self.lead_change(change).await,
            other => Reply::Failed(format!("a leader is not asked for {other:?}")),
        }
    }

    async fn ask_other(&self, target: RaftId, request: Request) -> Result<Reply, TransportError> {
        let status = self.status();
        let Some(member) = status.voters.get(&target).or_else(|| status.learners.get(&target)) else {
            let addr = format!("manager {target}");
            return Err(TransportError::Unreached { addr, why: "it is not known here".to_owned() });
        };
        let lost = || TransportError::Lost { addr: member.addr.to_string(), why: "another leads now".to_owned() };
        tokio::select! {
            biased;
            reply = self.inner.asker.ask(target, member, request) => reply,
            () = self.leader_changes() => Err(lost()),
        }
    }

    /// Returns when this manager knows of another leader or term than now: who was asked may be cut off,
    /// and never answer.
    async fn leader_changes(&self) {
        let now = self.status();
        let changed = self.watch().until(|status| (status.term, status.leader) != (now.term, now.leader)).await;
        if changed.is_none() {
            std::future::pending::<()>().await; // this manager has ended: nothing changes any more
        }
    }

    fn stopped(&self) -> Option<ProposeError> {
        self.status().stopped.map(|reason| ProposeError::Stopped { reason })
    }

    /// Asks all managers whether they are there. An error names those that are not, if they are too many.
    async fn missing_quorum(&self) -> Option<ProposeError> {
        let voters = self.status().voters;
        let total = voters.len();
        let needed = total / 2 + 1;
        let others = voters.into_iter().filter(|(id, _)| *id != self.id());
        let missing: Vec<String> =
            join_all(others.map(|(id, member)| self.missing(id, member))).await.into_iter().flatten().collect();
        let too_few = total - missing.len() < needed;
        (too_few || total == 0).then_some(ProposeError::NoQuorum { needed, total, missing })
    }

    async fn missing(&self, id: RaftId, member: Member) -> Option<String> {
        let pinged = timeout(PING_TIMEOUT, self.inner.asker.ask(id, &member, Request::Ping)).await;
        match pinged {
            Ok(Ok(Reply::Pong)) => None,
            _ => Some(format!("{} (node {})", member.addr, member.node_id)),
        }
    }
}
