//! A node as a manager: its log and store, the management port, and, while it leads, the controllers.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::relay::Ways;
use super::wire::{Book, Serving};
use super::{Clocks, NodeError, roles, rotation};
use crate::cluster::Line;
use crate::cluster::ca::UnlockKey;
use crate::cluster::gossip;
use crate::cluster::raft::{Disk, Member, Raft, Timing};
use crate::cluster::rpc::{Peers, Relays, Server, Services};
use crate::cluster::trust::{Authority, Keeper};
use crate::manager::dispatcher::{Dispatcher, Presence};
use crate::model::cluster::{Cluster, SharedKey};
use crate::model::id::{NodeId, TaskId};
use crate::model::payload::Payload;
use crate::store::Store;

/// Membership's use of shared keys.
pub(super) const GOSSIP: &str = "gossip";
/// Keys of membership are changed so often.
const KEY_LIFE: Duration = Duration::from_hours(12);
/// How many of them are kept.
const KEYS: usize = 3;
/// Between attempts to do a leader's upkeep.
const UPKEEP: Duration = Duration::from_secs(60);
/// Between two attempts to do a leader's duties.
const AGAIN: Duration = Duration::from_secs(1);

/// A running manager.
pub(super) struct Manager {
    pub(super) raft: Raft,
    pub(super) store: Store,
    /// To nodes, by whoever leads.
    pub(super) ways: Ways,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

/// What a manager is made of.
pub(super) struct Parts {
    pub(super) keeper: Arc<Keeper>,
    pub(super) peers: Arc<Peers>,
    pub(super) book: Arc<Book>,
    pub(super) gossip: gossip::Handle,
    pub(super) clocks: Clocks,
}

impl Manager {
    /// Opens the log and the port.
    pub(super) async fn start(parts: Parts, dir: &Path, raft_id: u64) -> Result<Self, NodeError> {
        let settings = parts.book.settings();
        let (path, keeper) = (dir.join("raft.redb"), Arc::clone(&parts.keeper));
        let opened = tokio::task::spawn_blocking(move || -> Result<Disk, NodeError> {
            Ok(Disk::open(&path, keeper.cipher()?)?)
        });
        let disk = opened.await.map_err(|_| NodeError::Stopping)??;
        let file = disk.clone();
        let wire = Arc::new(Line::new(Arc::clone(&parts.peers)));
        let raft = Raft::start(raft_id, disk, wire, Timing::default()).await?;
        let store = raft.store(Arc::clone(&parts.clocks.store));
        let listener = TcpListener::bind(settings.listen)
            .await
            .map_err(|source| NodeError::Listen { address: settings.listen, source })?;
        let relays = Relays::new(rand::random::<u64>);
        let (leads, leading) = watch::channel(None);
        let book = Arc::clone(&parts.book);
        let leader = move || book.reaches().into_iter().find(|reach| reach.leader).map(|reach| reach.address);
        let (clock, run) = (Arc::clone(&parts.clocks.store), rand::random());
        let dispatcher = Dispatcher::new(store.clone(), leading, leader, clock, relays.clone(), run);
        let authority = Arc::new(Authority::new(Arc::new(store.clone()), parts.clocks.wall.clone(), || {
            NodeId::random(&mut rand::rng())
        }));
        let services = Services {
            trust: Arc::clone(&authority) as _,
            raft: Arc::new(raft.clone()),
            dispatcher: Arc::new(dispatcher.clone()),
            relay: Arc::new(dispatcher.clone()),
            health: Arc::new(Serving { raft: raft.clone() }),
        };
        let server = Arc::new(Server::new(parts.keeper.credentials(), authority, services));
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(server.serve(listener, stop.clone()));
        let following = dispatcher.clone();
        tasks.spawn(async move { following.run().await });
        let leader = Leader {
            raft: raft.clone(),
            store: store.clone(),
            dispatcher: dispatcher.clone(),
            gossip: parts.gossip,
            clocks: parts.clocks,
        };
        tasks.spawn(leader.run(leads));
        tasks.spawn(keep_locked(store.clone(), parts.keeper, file));
        let ways = Ways::new(dispatcher, raft.clone(), parts.peers);
        Ok(Self { raft, store, ways, stop, tasks })
    }

    /// Begins the log of a new cluster, with this manager alone.
    pub(super) async fn found(&self, own: NodeId, addr: std::net::SocketAddr, epoch: u64) -> Result<(), NodeError> {
        self.raft.found(Member { node_id: own, addr }, epoch).await?;
        let mut status = self.raft.watch();
        match status.until(|status| status.leads().is_some()).await {
            Some(_) => Ok(()),
            None => Err(NodeError::Stopping),
        }
    }

    pub(super) async fn stop(mut self) {
        self.stop.cancel();
        self.tasks.shutdown().await;
        self.raft.stop().await;
    }
}

/// What runs while this manager leads.
struct Leader {
    raft: Raft,
    store: Store,
    dispatcher: Dispatcher,
    gossip: gossip::Handle,
    clocks: Clocks,
}

impl Leader {
    /// Follows who leads, for as long as the manager runs.
    async fn run(self, leads: watch::Sender<Option<u64>>) {
        let mut status = self.raft.watch();
        let mut term = None;
        let mut duties: JoinSet<()> = JoinSet::new();
        let this = Arc::new(self);
        while let Some(now) = status.next().await {
            if now.leads() == term {
                continue;
            }
            // What the last term began is dropped before this one begins.
            duties.shutdown().await;
            term = now.leads();
            leads.send_replace(term);
            if let Some(term) = term {
                tracing::info!(term, "this manager leads");
                let duty = Arc::clone(&this);
                duties.spawn(async move {
                    // Ends when the term does; a duty that failed before that is begun again.
                    loop {
                        duty.lead(term).await;
                        tokio::time::sleep(AGAIN).await;
                    }
                });
            }
        }
    }

    async fn lead(&self, term: u64) {
        // Until everything of the terms before is here, decisions would rest on what is no longer so.
        if let Err(error) = self.store.fresh_view().await {
            return tracing::warn!(%error, "no lead before the log is read");
        }
        let ids = Box::new(|| TaskId::random(&mut rand::rng()));
        let (presence, members) = (watch::Sender::new(Presence::default()), self.gossip.members());
        let ended = tokio::select! {
            ended = crate::manager::lead(&self.store, term, &self.clocks.store, ids) => ended,
            ended = self.dispatcher.supervise(term, presence.subscribe()) => ended,
            ended = roles::lead(&self.raft, &self.store, term) => ended,
            ended = rotation::lead(&self.store, term, &self.clocks.store) => ended,
            ended = upkeep(&self.store, term, &self.clocks) => ended,
            () = watch_presence(members, &presence) => Ok(()),
        };
        if let Err(error) = ended {
            tracing::info!(%error, term, "a leader's duties ended");
        }
    }
}

/// What could not be locked is tried again after this.
const LOCK_AGAIN: std::time::Duration = std::time::Duration::from_secs(5);

/// Locks this manager's keys as the cluster wants it, whenever that changes.
async fn keep_locked(store: Store, keeper: Arc<Keeper>, disk: Disk) {
    let (mut view, mut watch) = store.watch();
    let mut locked = None;
    loop {
        if let Some(cluster) = view.cluster()
            && locked.as_ref() != Some(&cluster.unlock_key)
        {
            let wanted = cluster.unlock_key.clone();
            let key = <[u8; 32]>::try_from(wanted.0.as_slice()).ok().map(UnlockKey::from_bytes);
            match lock(&keeper, &disk, key).await {
                Ok(()) => locked = Some(wanted),
                Err(error) => {
                    tracing::error!(error = &error as &dyn std::error::Error, "not locked as wanted");
                    tokio::time::sleep(LOCK_AGAIN).await;
                    continue;
                }
            }
        }
        match watch.next().await {
            Some(crate::store::Notice::Transaction(transaction)) => view = Arc::clone(&transaction.view),
            Some(crate::store::Notice::Resync) => (view, watch) = store.watch(),
            None => return,
        }
    }
}

/// Each new lock changes the key of the data too; what the one before sealed is sealed anew, so that it can be
/// forgotten.
async fn lock(keeper: &Arc<Keeper>, disk: &Disk, key: Option<UnlockKey>) -> Result<(), NodeError> {
    let locks = Arc::clone(keeper);
    tokio::task::spawn_blocking(move || locks.lock(key)).await.map_err(|_| NodeError::Stopping)??;
    if keeper.has_old_keys() {
        disk.seal_anew().await.map_err(NodeError::Seal)?;
        let forgets = Arc::clone(keeper);
        tokio::task::spawn_blocking(move || forgets.forget_old()).await.map_err(|_| NodeError::Stopping)??;
    }
    Ok(())
}

async fn watch_presence(mut members: watch::Receiver<Arc<gossip::Members>>, presence: &watch::Sender<Presence>) {
    loop {
        let now = members.borrow_and_update().clone();
        let of = |these: &[gossip::Liveness]| -> BTreeSet<_> {
            let them = now.iter().filter(|(_, member)| these.contains(&member.liveness));
            them.map(|(node, _)| NodeId::from_u128(node.0)).collect()
        };
        use gossip::Liveness::{Alive, Away, Down, Suspect};
        presence.send_replace(Presence { alive: of(&[Alive, Suspect]), dead: of(&[Down]), away: of(&[Away]) });
        if members.changed().await.is_err() {
            return;
        }
    }
}

/// Keys of membership, changed in time.
async fn upkeep(store: &Store, term: u64, clocks: &Clocks) -> Result<(), crate::store::Error> {
    loop {
        let now = (clocks.store)();
        let done = store.update_fenced(Some(term), |tx| {
            let Some(cluster) = tx.cluster().cloned() else { return Ok(()) };
            let Some(keys) = renewed(&cluster.shared_keys, now) else { return Ok(()) };
            tx.modify::<Cluster>(cluster.id, |cluster| cluster.shared_keys = keys)
        });
        match done.await {
            Err(error @ crate::store::Error::Rejected(crate::store::Rejection::TermEnded { .. })) => return Err(error),
            Err(error) => tracing::warn!(%error, "keys of membership were not changed"),
            Ok(()) => {}
        }
        tokio::time::sleep(UPKEEP).await;
    }
}

/// The keys with a new one, if the newest is old.
fn renewed(keys: &[SharedKey], now: Timestamp) -> Option<Vec<SharedKey>> {
    let newest = keys.iter().filter(|key| key.subsystem == GOSSIP).max_by_key(|key| key.generation);
    let age = newest.map(|key| now.duration_since(key.created_at).unsigned_abs());
    if age.is_some_and(|age| age < KEY_LIFE) {
        return None;
    }
    let mut keys = keys.to_vec();
    keys.push(gossip_key(newest.map_or(1, |key| key.generation + 1), now));
    let surplus = keys.len().saturating_sub(KEYS);
    keys.drain(..surplus);
    Some(keys)
}

/// A new key of membership.
pub(super) fn gossip_key(generation: u64, now: Timestamp) -> SharedKey {
    let secret: [u8; 32] = rand::random();
    SharedKey { subsystem: GOSSIP.to_owned(), generation, key: Payload(secret.to_vec()), created_at: now }
}
