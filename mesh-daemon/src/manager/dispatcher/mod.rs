//! Tells nodes what to do, and hears what became of it.
//!
//! Each node has one session, with the leader. Down go the items of the board that the node does
//! not know; up come statuses of tasks, and the version that the node has put in force. A session that breaks
//! goes on where it was. After a change of leader everything is sent again; nothing is restarted by that, for
//! a node compares what it is told with what it has.
//!
//! A task that is to stop is first drained: its node is told to stop it when every node with a session has
//! said that it sends it nothing new, or after [`DRAIN_PATIENCE`].

mod board;
mod liveness;
mod session;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use self::board::{Board, News};
use self::liveness::{Signs, judge};
use self::session::Session;
use crate::cluster::ca::Peer;
use crate::cluster::rpc::{self, Code, Downward, Hello, Reach, Refusal, Relays, Stream, Upward, async_trait};
use crate::model::assignment::{Announcement, Report};
use crate::model::id::{NodeId, TaskId};
use crate::model::node::{Node, NodeState};
use crate::model::state::Actor;
use crate::model::task::{Task, TaskStatus};
use crate::store::{Clock, Error, Notice, Store, Tables, Tx};

/// A task that is to stop waits so long for nodes that do not say that they send it nothing new.
pub const DRAIN_PATIENCE: Duration = Duration::from_secs(2);
/// A session says that it is alive so often, unless the cluster's setting is shorter.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// How often nodes and drains are looked at although nothing has happened.
const LOOK: Duration = Duration::from_millis(100);
/// A piece of assignments has at most so many items.
const MAX_PIECE_ITEMS: usize = 4096;
/// So many invitations wait for a session to send them.
const MAX_INVITATIONS: usize = 64;
/// A node comes to an invitation within this time.
const MEET: Duration = Duration::from_secs(5);
/// A report has at most so many statuses.
pub const MAX_STATUSES: usize = 10_000;

/// Which nodes are there, as membership has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Presence {
    /// They are heard.
    pub alive: BTreeSet<NodeId>,
    /// They are dead.
    pub dead: BTreeSet<NodeId>,
    /// Their daemons are away, and will be back.
    pub away: BTreeSet<NodeId>,
}

/// A session as the dispatcher knows it.
struct Live {
    /// Tells a session from the one before of the same node.
    number: u64,
    connected: bool,
    heard: Instant,
    applied: u64,
    invite: mpsc::Sender<Downward>,
}

struct Inner {
    store: Store,
    /// The term in which this manager leads.
    leading: watch::Receiver<Option<u64>>,
    /// Who leads, for those who come to the wrong manager.
    leader: Box<dyn Fn() -> Option<String> + Send + Sync>,
    clock: Clock,
    /// Tells this run of the manager from all others.
    run: u64,
    board: Mutex<Board>,
    changed: watch::Sender<u64>,
    sessions: Mutex<Sessions>,
    drains: Mutex<HashMap<TaskId, Instant>>,
}

#[derive(Default)]
struct Sessions {
    last: u64,
    of: HashMap<NodeId, Live>,
}

/// The sessions of all nodes.
#[derive(Clone)]
pub struct Dispatcher {
    inner: Arc<Inner>,
    relays: Relays,
}

impl Dispatcher {
    /// A dispatcher of this store; `run` is a number that no other run of a manager has. Its [`Dispatcher::run`] must run for it to know anything.
    #[must_use]
    pub fn new(
        store: Store,
        leading: watch::Receiver<Option<u64>>,
        leader: impl Fn() -> Option<String> + Send + Sync + 'static,
        clock: Clock,
        relays: Relays,
        run: u64,
    ) -> Self {
        let inner = Inner {
            store,
            leading,
            leader: Box::new(leader),
            clock,
            run,
            board: Mutex::default(),
            changed: watch::Sender::new(0),
            sessions: Mutex::default(),
            drains: Mutex::default(),
        };
        Self { inner: Arc::new(inner), relays }
    }

    /// Follows the store and lets drained tasks stop, until the store is gone.
    pub async fn run(&self) {
        let inner = &self.inner;
        let (view, mut watch) = inner.store.watch();
        inner.board().rebuild(&view);
        inner.publish();
        let mut look = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                notice = watch.next() => match notice {
                    None => return,
                    Some(Notice::Transaction(transaction)) => {
                        inner.board().note(&transaction.view, &transaction.events);
                    }
                    Some(Notice::Resync) => {
                        let view;
                        (view, watch) = inner.store.watch();
                        inner.board().rebuild(&view);
                    }
                },
                _ = look.tick() => inner.end_drains(),
            }
            inner.publish();
        }
    }

    /// Writes whether nodes are there, while this manager leads. `presence` is what membership says.
    ///
    /// # Errors
    ///
    /// If another leads now.
    pub async fn supervise(&self, term: u64, presence: watch::Receiver<Presence>) -> Result<(), Error> {
        let since = Instant::now();
        let mut look = tokio::time::interval(LOOK);
        loop {
            look.tick().await;
            let changes = self.inner.judge_all(since, &presence.borrow());
            if changes.is_empty() {
                continue;
            }
            let now = (self.inner.clock)();
            let written = self.inner.store.batch(Some(term), &changes, |tx, (node, state, message)| {
                if tx.nodes().get(*node).is_none() {
                    return Ok(());
                }
                tracing::info!(%node, ?state, message, "node");
                tx.modify::<Node>(*node, |node| {
                    node.status.state = *state;
                    (*message).clone_into(&mut node.status.message);
                    node.status.since = Some(now);
                })
            });
            match written.await {
                Err((_, error @ Error::Rejected(crate::store::Rejection::TermEnded { .. }))) => return Err(error),
                Err((_, error)) => tracing::warn!(%error, "states of nodes were not written"),
                Ok(()) => {}
            }
        }
    }

    /// Has a node open a stream to this manager: `down` is sent to it, what it sends is returned.
    ///
    /// # Errors
    ///
    /// If it has no session here, or does not come.
    pub async fn stream(
        &self,
        node: NodeId,
        request: bytes::Bytes,
        down: Stream<bytes::Bytes>,
    ) -> Result<Stream<bytes::Bytes>, Refusal> {
        let invited = self.relays.invite(node)?;
        let away = || Refusal::new(Code::Unavailable, format!("node {node} has no session with this manager"));
        let invite = self.inner.sessions().of.get(&node).filter(|live| live.connected).map(|live| live.invite.clone());
        let invitation = Downward::Invitation { relay: invited.number(), request };
        invite.ok_or_else(away)?.send(invitation).await.map_err(|_| away())?;
        invited.meet(down, MEET).await
    }
}

#[async_trait]
impl rpc::Dispatcher for Dispatcher {
    async fn session(&self, from: Peer, mut up: Stream<Upward>) -> Result<Stream<Downward>, Refusal> {
        let inner = &self.inner;
        let leading = *inner.leading.borrow();
        let Some(term) = leading else { return inner.tells_of_others(from.node) };
        let first = up.next().await.transpose()?;
        let Some(Upward::Hello(Hello { description, session, version })) = first else {
            return Err(Refusal::new(Code::InvalidArgument, "a session begins with Hello"));
        };
        let announcement: Announcement = serde_json::from_slice(&description)
            .map_err(|error| Refusal::new(Code::InvalidArgument, format!("description: {error}")))?;
        inner.announce(from.node, announcement).await?;
        inner.board().lead(term);
        let since = if session == inner.name() { version } else { 0 };
        let (invite, invitations) = mpsc::channel(MAX_INVITATIONS);
        let number = {
            let mut sessions = inner.sessions();
            sessions.last += 1;
            let number = sessions.last;
            // What it was told it need not have put in force: it says so itself.
            let live = Live { number, connected: true, heard: Instant::now(), applied: 0, invite };
            sessions.of.insert(from.node, live);
            number
        };
        Ok(Session::new(Arc::clone(inner), from.node, number, up, invitations, since).into_stream())
    }
}

#[async_trait]
impl rpc::Relay for Dispatcher {
    async fn open(&self, from: Peer, relay: u64, up: Stream<bytes::Bytes>) -> Result<Stream<bytes::Bytes>, Refusal> {
        self.relays.open(from, relay, up).await
    }

    async fn reach(
        &self,
        node: NodeId,
        request: bytes::Bytes,
        down: Stream<bytes::Bytes>,
    ) -> Result<Stream<bytes::Bytes>, Refusal> {
        self.stream(node, request, down).await
    }
}

impl Inner {
    /// What a manager that does not lead says to a node: no, and to who never had a session who else there is. Such a
    /// one has joined by this manager, and knows no other. The others may know better.
    fn tells_of_others(&self, node: NodeId) -> Result<Stream<Downward>, Refusal> {
        let view = self.store.view();
        let had_one = view.nodes().get(node).is_some_and(|node| node.description.is_some());
        if had_one {
            return Err(self.not_leading());
        }
        let said = [Ok(Downward::Managers(managers(&view))), Err(self.not_leading())];
        Ok(futures_util::stream::iter(said).boxed())
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self) {
        let version = self.board().version();
        self.changed.send_if_modified(|seen| {
            let changed = *seen != version;
            *seen = version;
            changed
        });
    }

    fn news(&self, node: NodeId, since: u64) -> News {
        self.board().news(node, since)
    }

    /// What a session goes on in: the same leader's same term. Terms are counted anew where a cluster is begun again
    /// from a backup, so the run is named too.
    fn name(&self) -> String {
        self.leading.borrow().map_or_else(String::new, |term| format!("{term}-{:016x}", self.run))
    }

    fn heartbeat_ms(&self) -> u32 {
        let set = self.store.view().cluster().map_or(HEARTBEAT, |cluster| cluster.spec.dispatcher.heartbeat_period);
        u32::try_from(set.min(HEARTBEAT).as_millis()).unwrap_or(1000)
    }

    fn not_leading(&self) -> Refusal {
        let leader = (self.leader)().unwrap_or_default();
        Refusal::new(Code::FailedPrecondition, format!("this manager does not lead; the leader is at \"{leader}\""))
    }

    fn heard(&self, node: NodeId, number: u64) {
        if let Some(live) = self.sessions().of.get_mut(&node).filter(|live| live.number == number) {
            live.heard = Instant::now();
        }
    }

    fn ended(&self, node: NodeId, number: u64) {
        if let Some(live) = self.sessions().of.get_mut(&node).filter(|live| live.number == number) {
            (live.connected, live.heard) = (false, Instant::now());
        }
    }

    fn applied(&self, node: NodeId, number: u64, version: u64) {
        let everywhere = {
            let mut sessions = self.sessions();
            if let Some(live) = sessions.of.get_mut(&node).filter(|live| live.number == number) {
                live.applied = live.applied.max(version);
            }
            self.applied_everywhere(&sessions)
        };
        if self.board().applied_everywhere(everywhere) {
            self.publish();
        }
    }

    /// What every node that is there has in force. One that is there and has no session is waited for.
    fn applied_everywhere(&self, sessions: &Sessions) -> u64 {
        let view = self.store.view();
        let there = view.nodes().iter().filter(|node| node.status.state == NodeState::Ready);
        let applied =
            there.map(|node| sessions.of.get(&node.id).filter(|live| live.connected).map_or(0, |live| live.applied));
        applied.min().unwrap_or(u64::MAX)
    }

    /// Tasks that have waited for too long may stop; a node that went away no longer holds up others.
    fn end_drains(&self) {
        let everywhere = self.applied_everywhere(&self.sessions());
        let mut board = self.board();
        board.applied_everywhere(everywhere);
        let draining: Vec<_> = board.draining().map(|(task, _)| task).collect();
        let mut drains = self.drains.lock().unwrap_or_else(PoisonError::into_inner);
        drains.retain(|task, _| draining.contains(task));
        for task in draining {
            let since = *drains.entry(task).or_insert_with(Instant::now);
            if since.elapsed() >= DRAIN_PATIENCE {
                board.let_stop(task);
            }
        }
    }

    async fn announce(&self, node: NodeId, announcement: Announcement) -> Result<(), Refusal> {
        let now = (self.clock)();
        let view = self.store.view();
        let Some(there) = view.nodes().get(node) else {
            return Err(Refusal::new(
                Code::Unavailable,
                format!("node {node} is not known to this manager, or not yet"),
            ));
        };
        let take = |node: &mut Node| {
            node.description = Some(announcement.description.clone());
            node.status.addr.clone_from(&announcement.addr);
            node.vteps.clone_from(&announcement.vteps);
            node.addresses.clone_from(&announcement.addresses);
            node.gossip_addr = announcement.gossip;
            node.listens = announcement.listens;
            if node.status.state != NodeState::Ready {
                node.status.state = NodeState::Ready;
                node.status.message.clear();
                node.status.since = Some(now);
            }
        };
        let mut same = Node::clone(there);
        take(&mut same);
        if same == **there {
            return Ok(());
        }
        self.store.update(|tx| tx.modify::<Node>(node, take)).await.map_err(refused)
    }

    async fn report(&self, node: NodeId, report: Report) -> Result<(), Refusal> {
        if report.statuses.len() > MAX_STATUSES {
            return Err(Refusal::new(Code::ResourceExhausted, format!("at most {MAX_STATUSES} statuses in a report")));
        }
        let term = *self.leading.borrow();
        let written =
            self.store.batch(term, &report.statuses, |tx, (task, status)| take_status(tx, node, *task, status));
        written.await.map_err(|(_, error)| refused(error))
    }

    fn judge_all(&self, since: Instant, presence: &Presence) -> Vec<(NodeId, NodeState, &'static str)> {
        let heartbeat = Duration::from_millis(self.heartbeat_ms().into());
        let view = self.store.view();
        let sessions = self.sessions();
        let judged = view.nodes().iter().filter_map(|node| {
            let live = sessions.of.get(&node.id);
            let signs = Signs {
                connected: live.is_some_and(|live| live.connected),
                heard: live.map(|live| live.heard.elapsed()),
                alive: presence.alive.contains(&node.id),
                dead: presence.dead.contains(&node.id),
                away: presence.away.contains(&node.id),
                leading: since.elapsed(),
                heartbeat,
            };
            judge(node, signs).map(|(state, message)| (node.id, state, message))
        });
        judged.collect()
    }
}

/// Takes what a node says of a task of its own, as far as it may move it.
fn take_status(tx: &mut Tx, node: NodeId, id: TaskId, status: &TaskStatus) -> Result<(), Error> {
    let fits = |task: &Task| {
        task.node_id == Some(node)
            && (Actor::Agent.may_move(task.status.state, status.state)
                || (task.status.state == status.state && task.status != *status))
    };
    if tx.tasks().get(id).is_none_or(|task| !fits(task)) {
        return Ok(());
    }
    tx.modify::<Task>(id, |task| {
        task.status = TaskStatus { applied_by: Some(node), ..status.clone() };
    })
}

/// The managers, where nodes find them.
fn managers(view: &Tables) -> Vec<Reach> {
    let managers = view.nodes().iter().filter_map(|node| {
        let manager = node.manager.as_ref()?;
        Some(Reach { node: node.id, address: manager.addr.to_string(), leader: manager.leader })
    });
    managers.collect()
}

fn refused(error: Error) -> Refusal {
    Refusal::new(Code::Unavailable, error.to_string())
}
