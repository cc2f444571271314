//! Makes managers of nodes that should be, and workers of managers that should not: the leader's affair.
//!
//! A node that should be a manager is given a number first, which it is told in its session; it then opens
//! its log, and is added to the others' and given a vote. The way back is the same, from its end.

use std::time::Duration;

use crate::cluster::raft::{Member, Raft};
use crate::model::id::NodeId;
use crate::model::node::{ManagerStatus, Node, NodeState, Reachability, Role};
use crate::store::{Error, Rejection, Store, Tables};

/// How often it looks although nothing happened: a manager that was added may need time.
const LOOK: Duration = Duration::from_millis(300);

/// What is to be done with a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Move {
    /// It gets this number.
    Number(NodeId, Member),
    /// It joins the log.
    Add(u64, Member),
    /// It is to be a manager no longer.
    Drop(NodeId, u64),
    /// It need not become one any more.
    Demote(NodeId),
    /// A number whose node is gone leaves the log.
    Forget(u64),
    /// What is shown of it changes.
    Show(NodeId, ManagerStatus),
}

/// Runs while this manager leads.
///
/// # Errors
///
/// If another leads now.
pub(super) async fn lead(raft: &Raft, store: &Store, term: u64) -> Result<(), Error> {
    let (_, mut watch) = store.watch();
    loop {
        for step in plan(&store.view(), &raft.status()) {
            if let Err(error) = carry_out(raft, store, term, &step).await {
                if matches!(error, Error::Rejected(Rejection::TermEnded { .. })) {
                    return Err(error);
                }
                tracing::debug!(%error, ?step, "not yet");
            }
        }
        // Either way it looks again.
        let _noticed = tokio::time::timeout(LOOK, watch.next()).await;
        while watch.try_next().is_some() {}
    }
}

/// What is to be done, from what is wanted and what the log knows.
pub(super) fn plan(view: &Tables, status: &crate::cluster::raft::Status) -> Vec<Move> {
    let mut moves = Vec::new();
    for node in view.nodes().iter() {
        match (node.spec.role, &node.manager) {
            (Role::Manager, None) => {
                if let Some(addr) = node.listens {
                    moves.push(Move::Number(node.id, Member { node_id: node.id, addr }));
                }
            }
            (Role::Manager, Some(manager)) => {
                if !status.voters.contains_key(&manager.raft_id) {
                    moves.push(Move::Add(manager.raft_id, Member { node_id: node.id, addr: manager.addr }));
                }
                let leader = status.leader == Some(manager.raft_id);
                let reachable = leader || node.status.state == NodeState::Ready;
                let reachability = if reachable { Reachability::Reachable } else { Reachability::Unreachable };
                let shown = ManagerStatus { leader, reachability, ..manager.clone() };
                if shown != *manager {
                    moves.push(Move::Show(node.id, shown));
                }
            }
            (Role::Worker, Some(manager)) => moves.push(Move::Drop(node.id, manager.raft_id)),
            // It was to be one and has never begun.
            (Role::Worker, None) if node.role == Role::Manager => moves.push(Move::Demote(node.id)),
            (Role::Worker, None) => {}
        }
    }
    let known = |raft_id: u64| {
        view.nodes().iter().any(|node| node.manager.as_ref().is_some_and(|manager| manager.raft_id == raft_id))
    };
    let members = status.voters.keys().chain(status.learners.keys());
    moves.extend(members.filter(|raft_id| !known(**raft_id)).map(|raft_id| Move::Forget(*raft_id)));
    moves
}

async fn carry_out(raft: &Raft, store: &Store, term: u64, step: &Move) -> Result<(), Error> {
    match step {
        Move::Number(id, member) => {
            let done = store.update_fenced(Some(term), |tx| {
                let Some(cluster) = tx.cluster().map(|cluster| cluster.id) else { return Ok(()) };
                let mut raft_id = 0;
                tx.modify::<crate::model::cluster::Cluster>(cluster, |cluster| {
                    cluster.last_raft_id += 1;
                    raft_id = cluster.last_raft_id;
                })?;
                tx.modify::<Node>(*id, |node| {
                    node.role = Role::Manager;
                    node.manager = Some(ManagerStatus {
                        raft_id,
                        addr: member.addr,
                        leader: false,
                        reachability: Reachability::Unknown,
                    });
                })
            });
            done.await
        }
        Move::Add(raft_id, member) => {
            let joined = async {
                raft.add(*raft_id, *member).await?;
                raft.promote(*raft_id).await
            };
            joined.await.map_err(|error| Error::Refused(error.to_string()))
        }
        Move::Drop(id, raft_id) => {
            leave(raft, *raft_id).await?;
            let done = store.update_fenced(Some(term), |tx| {
                tx.modify::<Node>(*id, |node| (node.role, node.manager) = (Role::Worker, None))
            });
            done.await
        }
        Move::Demote(id) => {
            store.update_fenced(Some(term), |tx| tx.modify::<Node>(*id, |node| node.role = Role::Worker)).await
        }
        Move::Forget(raft_id) => leave(raft, *raft_id).await,
        Move::Show(id, status) => {
            store
                .update_fenced(Some(term), |tx| tx.modify::<Node>(*id, |node| node.manager = Some(status.clone())))
                .await
        }
    }
}

async fn leave(raft: &Raft, raft_id: u64) -> Result<(), Error> {
    let left = async {
        if raft.status().voters.contains_key(&raft_id) {
            raft.demote(raft_id).await?;
        }
        raft.remove(raft_id).await
    };
    left.await.map_err(|error| Error::Refused(error.to_string()))
}
