//! Changes who agrees. Asked of any manager, done by the leader.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::error::{ChangeMembershipError, ClientWriteError, RaftError};
use tokio::time::{sleep, timeout};

use super::peer::{Raft, StartError};
use super::propose::Answer;
use super::serve::WriteError;
use super::types::{Member, RaftId};
use super::wire::{MemberChange, Refusal, Reply, Request};
use crate::store::ProposeError;

/// A manager that is to get a vote has caught up within this time.
const CATCH_UP: Duration = Duration::from_secs(10);
/// The lead has moved within this time, or does not.
const TRANSFER: Duration = Duration::from_secs(3);
/// How often one looks whether it has.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Why managers were not changed.
#[derive(Debug, thiserror::Error)]
pub enum MemberError {
    /// The change cannot be.
    #[error(transparent)]
    Refused(Refusal),
    /// The cluster cannot agree now.
    #[error(transparent)]
    Propose(#[from] ProposeError),
}

impl Raft {
    /// Founds a cluster of this manager alone. `epoch` is a number of chance, not 0: it tells this
    /// cluster's life from others'. Does nothing on a file that belongs to a cluster already.
    ///
    /// # Errors
    ///
    /// If the disk fails.
    pub async fn found(&self, member: Member, epoch: u64) -> Result<(), StartError> {
        let failed = |error: &dyn std::fmt::Display| StartError::Engine(error.to_string());
        let engine = &self.inner.engine;
        if engine.is_initialized().await.map_err(|error| failed(&error))? {
            return Ok(());
        }
        self.inner.asker.epoch.begin(epoch).await.map_err(|error| failed(&error))?;
        let alone = BTreeMap::from([(self.id(), member)]);
        engine.initialize(alone).await.map_err(|error| failed(&error))
    }

    /// Has a manager get the log, without a vote.
    ///
    /// # Errors
    ///
    /// If the number is another's, or the cluster cannot agree.
    pub async fn add(&self, id: RaftId, member: Member) -> Result<(), MemberError> {
        self.change(MemberChange::Add(id, member)).await
    }

    /// Gives a manager a vote, once it has caught up.
    ///
    /// # Errors
    ///
    /// If it is not known or does not catch up, or the cluster cannot agree.
    pub async fn promote(&self, id: RaftId) -> Result<(), MemberError> {
        self.change(MemberChange::Promote(id)).await
    }

    /// Takes a manager's vote. It still gets the log.
    ///
    /// # Errors
    ///
    /// If it is the last that has one, or the cluster cannot agree.
    pub async fn demote(&self, id: RaftId) -> Result<(), MemberError> {
        self.change(MemberChange::Demote(id)).await
    }

    /// Takes a manager out: it gets nothing more, and its number is never used again.
    ///
    /// # Errors
    ///
    /// If it is the last, or the cluster cannot agree.
    pub async fn remove(&self, id: RaftId) -> Result<(), MemberError> {
        self.change(MemberChange::Remove(id)).await
    }

    /// Has a manager lead.
    ///
    /// # Errors
    ///
    /// If it has no vote or lags, or the cluster cannot agree.
    pub async fn lead_by(&self, id: RaftId) -> Result<(), MemberError> {
        self.change(MemberChange::Lead(id)).await
    }

    /// Has others find a manager elsewhere.
    ///
    /// # Errors
    ///
    /// If it is not known, or the cluster cannot agree.
    pub async fn relocate(&self, id: RaftId, member: Member) -> Result<(), MemberError> {
        self.change(MemberChange::Move(id, member)).await
    }

    async fn change(&self, change: MemberChange) -> Result<(), MemberError> {
        let work = async {
            loop {
                // Each of these changes comes to the same if it is done twice.
                if let Answer::Reply(reply) = self.ask_leader(|| Request::Change(change.clone())).await? {
                    return Ok(reply);
                }
            }
        };
        match self.patiently(work).await? {
            Reply::Changed => Ok(()),
            Reply::Refused(refusal) => Err(MemberError::Refused(refusal)),
            other => Err(ProposeError::Garbled { what: format!("{other:?}") }.into()),
        }
    }

    /// Changes who agrees, if this manager leads.
    pub(super) async fn lead_change(&self, change: MemberChange) -> Reply {
        let status = self.status();
        if status.leads().is_none() {
            return Reply::NotLeader(status.leader.filter(|leader| *leader != self.id()));
        }
        let is_voter = |id| status.voters.contains_key(&id);
        let known = |id| status.voters.get(&id).or_else(|| status.learners.get(&id));
        let one = |id| BTreeSet::from([id]);
        match change {
            MemberChange::Add(id, member) => match known(id) {
                Some(there) if *there == member => Reply::Changed,
                Some(_) => Reply::Refused(Refusal::NumberTaken(id)),
                None => self.commit(ChangeMembers::AddNodes(BTreeMap::from([(id, member)])), true).await,
            },
            MemberChange::Promote(id) if is_voter(id) => Reply::Changed,
            MemberChange::Promote(id) => match known(id) {
                None => Reply::Refused(Refusal::Unknown(id)),
                Some(member) => self.promote_known(id, *member).await,
            },
            MemberChange::Demote(id) | MemberChange::Remove(id) if is_voter(id) && status.voters.len() == 1 => {
                Reply::Refused(Refusal::LastManager)
            }
            MemberChange::Demote(id) | MemberChange::Remove(id) if id == self.id() => self.step_aside().await,
            MemberChange::Demote(id) if is_voter(id) => self.commit(ChangeMembers::RemoveVoters(one(id)), true).await,
            MemberChange::Demote(id) if known(id).is_some() => Reply::Changed,
            MemberChange::Demote(id) => Reply::Refused(Refusal::Unknown(id)),
            MemberChange::Remove(id) if is_voter(id) => self.commit(ChangeMembers::RemoveVoters(one(id)), false).await,
            MemberChange::Remove(id) if known(id).is_some() => {
                self.commit(ChangeMembers::RemoveNodes(one(id)), false).await
            }
            MemberChange::Remove(_) => Reply::Changed,
            MemberChange::Lead(id) if id == self.id() => Reply::Changed,
            MemberChange::Lead(id) if is_voter(id) => self.give_lead(id).await,
            MemberChange::Lead(id) => Reply::Refused(Refusal::Unknown(id)),
            MemberChange::Move(id, _) if known(id).is_none() => Reply::Refused(Refusal::Unknown(id)),
            MemberChange::Move(id, member) => {
                self.commit(ChangeMembers::SetNodes(BTreeMap::from([(id, member)])), true).await
            }
        }
    }

    async fn promote_known(&self, id: RaftId, member: Member) -> Reply {
        match timeout(CATCH_UP, self.inner.engine.add_learner(id, member, true)).await {
            Err(_) => Reply::Refused(Refusal::Lags(id)),
            Ok(Err(error)) => refused(error),
            Ok(Ok(_)) => self.commit(ChangeMembers::AddVoterIds(BTreeSet::from([id])), true).await,
        }
    }

    async fn commit(&self, change: ChangeMembers<RaftId, Member>, retain: bool) -> Reply {
        match self.inner.engine.change_membership(change, retain).await {
            Ok(_) => Reply::Changed,
            Err(error) => refused(error),
        }
    }

    /// Has another lead, so that this one can go; who asks turns to the new leader.
    async fn step_aside(&self) -> Reply {
        let status = self.status();
        for id in status.voters.into_keys().filter(|id| *id != self.id()) {
            if matches!(self.give_lead(id).await, Reply::Changed) {
                return Reply::NotLeader(Some(id));
            }
        }
        Reply::Refused(Refusal::Lags(self.id()))
    }

    async fn give_lead(&self, to: RaftId) -> Reply {
        let moved = async {
            self.inner.engine.trigger().transfer_leader(to).await?;
            while self.status().leader != Some(to) {
                sleep(LOOK_AGAIN).await;
            }
            Ok::<_, openraft::error::Fatal<super::types::Types>>(())
        };
        match timeout(TRANSFER, moved).await {
            Ok(Ok(())) => Reply::Changed,
            Ok(Err(error)) => Reply::Failed(error.to_string()),
            Err(_) => Reply::Refused(Refusal::Lags(to)),
        }
    }
}

fn refused(error: WriteError) -> Reply {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(to)) => Reply::NotLeader(to.leader_id),
        RaftError::APIError(ClientWriteError::LogEntryDiscarded(_)) => Reply::Interrupted,
        RaftError::APIError(ClientWriteError::ChangeMembershipError(
            ChangeMembershipError::InProgress(_) | ChangeMembershipError::UncommittedLeaderLog(_),
        )) => Reply::Refused(Refusal::Busy),
        RaftError::APIError(error) => Reply::Refused(Refusal::Impossible(error.to_string())),
        RaftError::Fatal(error) => Reply::Failed(error.to_string()),
    }
}
