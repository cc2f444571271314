//! What a worker does: runs the tasks it is told, gives them links and names, and says what became of them.
//!
//! [`Agent::run`] keeps a session with the managers (`session`), holds what they say (the
//! [`Picture`], on disk too), has a life for each task (`worker`,
//! `life`) and keeps the packet path as the picture says (`desired`). Without managers all of it goes on;
//! after a restart containers and packet path are taken over as they are.

mod container;
mod desired;
mod gro;
mod life;
mod listening;
mod names;
mod outbox;
mod own;
mod packets;
mod picture;
mod ports;
mod session;
mod template;
#[cfg(test)]
mod tests;
mod wire;
mod worker;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::desired::{Facts, Rumours, desired};
use self::life::{Cables, Shared, Targets, chain};
use self::names::Names;
use self::outbox::Outbox;
use self::session::{Session, Told};
use self::wire::Wires;
use self::worker::Worker;
use crate::cluster::gossip;
use crate::cluster::rpc::Link;
use crate::model::assignment::{Announcement, OwnNode, Picture};
use crate::model::cluster::DATA_PATH_PORT;
use crate::model::id::{NodeId, TaskId};
use crate::runtime::{Runtime, RuntimeError};

pub use self::gro::is_on as gro_is_on;
pub use self::packets::{PacketPath, PacketPathConfig};
pub use self::picture::{PictureError, load as picture_at};
pub use self::session::{Managers, Way};
pub use self::wire::{WireError, remove_links};

/// So many things that the session says wait to be taken in.
const TOLD_QUEUE: usize = 256;
/// How often images are looked through for those that can go.
const COLLECT: Duration = Duration::from_mins(10);
/// Changes that follow each other so closely are put in force together.
const SETTLE: Duration = Duration::from_millis(10);
/// After a restart, tasks that run already are waited for so long before the packet path is changed.
const TAKE_OVER: Duration = Duration::from_secs(5);

/// Tells the time.
pub type Clock = Arc<dyn Fn() -> jiff::Timestamp + Send + Sync>;

/// Where a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Which node.
    pub node: NodeId,
    /// Interfaces that lead to other nodes and to clients.
    pub uplinks: Vec<String>,
    /// Where its tunnels end.
    pub vtep: IpAddr,
    /// The size of packets on the uplinks.
    pub mtu: u32,
    /// Addresses at which published ports answer.
    pub addresses: Vec<IpAddr>,
    /// The UDP port of tunnels; None: managers have not said yet, so there are none.
    pub port: Option<u16>,
}

/// What an agent is made of.
pub struct Parts {
    /// Where it is.
    pub place: Place,
    /// What runs its tasks.
    pub runtime: Arc<dyn Runtime>,
    /// What time it is.
    pub clock: Clock,
    /// Ways to managers.
    pub managers: Arc<dyn Managers>,
    /// What the node says of itself.
    pub announcement: watch::Receiver<Announcement>,
    /// Membership.
    pub gossip: gossip::Handle,
    /// The packet path.
    pub packets: PacketPathConfig,
    /// Where it keeps what it was told.
    pub state: PathBuf,
    /// Where network namespaces are pinned.
    pub namespaces: PathBuf,
}

/// What the rest of the node hears from the agent.
#[derive(Debug)]
pub enum Heard {
    /// What the managers hold of the node.
    Own(OwnNode),
    /// Keys of membership: `Vec<SharedKey>` in JSON.
    Keys(Bytes),
    /// Roots to trust (PEM), and whether to renew the certificate at once.
    Renew(Bytes, bool),
    /// A manager would like a stream: its number, what for, and where to.
    Invitation(u64, Bytes, Link),
}

/// Why an agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Links.
    #[error("links of tasks")]
    Wire(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Containers of before.
    #[error("find the containers of this node")]
    Runtime(#[from] RuntimeError),
    /// What it was told.
    #[error(transparent)]
    Picture(#[from] PictureError),
}

/// A node's agent.
pub struct Agent {
    parts: Parts,
    heard: mpsc::Sender<Heard>,
}

/// What changes while the agent runs.
struct Running {
    picture: Picture,
    /// Pieces of a picture that is not complete yet.
    coming: Option<Picture>,
    /// Whether the picture comes from managers of now, not from disk.
    fresh: bool,
    version: u64,
    /// The UDP port of tunnels, as managers say.
    port: Option<u16>,
    shared: Arc<Mutex<Picture>>,
}

impl Agent {
    /// An agent, and what it has to say to the rest of the node.
    #[must_use]
    pub fn new(parts: Parts) -> (Self, mpsc::Receiver<Heard>) {
        let (heard, receiver) = mpsc::channel(TOLD_QUEUE);
        (Self { parts, heard }, receiver)
    }

    /// Works until it is dropped; containers and packet path stay then.
    ///
    /// # Errors
    ///
    /// If it cannot begin.
    pub async fn run(self) -> Result<(), AgentError> {
        let Self { parts, heard } = self;
        let picture = picture::load(&parts.state)?;
        let outbox = Outbox::default();
        let facts = facts(&parts.place);
        let current = Arc::new(Mutex::new(picture.clone()));
        let links = watch::Sender::new(std::collections::BTreeMap::new());
        let shared = Arc::new(shared(&parts, outbox.clone(), &current, &facts, links.clone()).await?);
        let mut worker = Worker::new(shared).await?;
        let (packets, applied) = PacketPath::new(parts.packets.clone());
        let (told, mut telling) = mpsc::channel(TOLD_QUEUE);
        let session = Session {
            managers: Arc::clone(&parts.managers),
            announcement: parts.announcement.clone(),
            outbox,
            applied,
            told,
            name: String::new(),
            version: 0,
        };
        let (wanted, wants) = watch::channel(None);
        let mut parts_running = JoinSet::new();
        parts_running.spawn(session.run());
        parts_running.spawn(packets.run(wants));
        parts_running.spawn(collect_images(Arc::clone(&parts.runtime)));
        let port = parts.place.port;
        let mut running = Running { picture, coming: None, fresh: false, version: 0, port, shared: current };
        // Without the links of tasks that run already the packet path would be worse than it is.
        let mut unlinked = worker.running_before(&running.picture.tasks);
        let patience = Instant::now() + TAKE_OVER;
        worker.follow(&running.picture.tasks, false);
        let mut links = links.subscribe();
        let mut names = Names::new();
        let (mut members, mut gone) = (parts.gossip.members(), parts.gossip.gone());
        loop {
            let rumours = rumours(&members.borrow_and_update(), &gone.borrow_and_update());
            let linked = links.borrow_and_update().clone();
            names.follow(&running.picture, &rumours, &linked);
            unlinked.retain(|task| !linked.contains_key(task) && running.picture.tasks.contains_key(task));
            if let (true, Some(port)) = (unlinked.is_empty(), running.port) {
                let facts = Facts { port, ..facts.clone() };
                want(&wanted, desired(&running.picture, &facts, &linked, &rumours, running.version));
            }
            tokio::select! {
                told = telling.recv() => {
                    let Some(told) = told else { return Ok(()) };
                    let mut next = Some(told);
                    while let Some(told) = next {
                        running.take(told, &heard, &mut worker, &parts.state).await;
                        next = telling.try_recv().ok();
                    }
                }
                // One after the other follows: a look at all of them together is enough.
                Ok(()) = links.changed() => tokio::time::sleep(SETTLE).await,
                Ok(()) = members.changed() => {}
                Ok(()) = gone.changed() => {}
                () = worker.reap() => {}
                () = tokio::time::sleep_until(patience), if !unlinked.is_empty() => unlinked.clear(),
            }
        }
    }
}

/// What all lives of tasks use.
async fn shared(
    parts: &Parts,
    outbox: Outbox,
    current: &Arc<Mutex<Picture>>,
    facts: &Facts,
    links: watch::Sender<std::collections::BTreeMap<TaskId, life::Linked>>,
) -> Result<Shared, AgentError> {
    let wires = Wires::open().map_err(wire)?;
    let own = Arc::new(own::Addresses::of(wires.aliases().await.map_err(wire)?));
    Ok(Shared {
        runtime: Arc::clone(&parts.runtime),
        wires,
        outbox,
        clock: Arc::clone(&parts.clock),
        announcement: parts.announcement.clone(),
        namespaces: parts.namespaces.clone(),
        links,
        cables: cables(Arc::clone(current), facts.clone(), Arc::clone(&own)),
        own,
        targets: targets(Arc::clone(current)),
    })
}

/// Removes images that no container uses, as far as the runtime's limit wants it, for ever.
async fn collect_images(runtime: Arc<dyn Runtime>) {
    loop {
        tokio::time::sleep(COLLECT).await;
        match runtime.collect_images().await {
            Ok(removed) if removed.is_empty() => {}
            Ok(removed) => tracing::info!(images = removed.join(", "), "removed, to keep within the limit"),
            Err(error) => tracing::warn!(error = chain(&error), "images were not looked through"),
        }
    }
}

/// Asks for a state of the packet path, if it is another.
fn want(wanted: &watch::Sender<Option<crate::datapath::Desired>>, now: crate::datapath::Desired) {
    let now = Some(now);
    wanted.send_if_modified(|wanted| {
        let is_other = *wanted != now;
        *wanted = now;
        is_other
    });
}

impl Running {
    async fn take(&mut self, told: Told, heard: &mpsc::Sender<Heard>, worker: &mut Worker, state: &std::path::Path) {
        // The node is gone: the agent is dropped next.
        let tell = async |what: Heard| drop(heard.send(what).await);
        match told {
            Told::Anew => self.coming = Some(Picture::default()),
            Told::Change(version, batch) => {
                let more = batch.more;
                match &mut self.coming {
                    Some(coming) => coming.apply(batch),
                    None => self.picture.apply(batch),
                }
                if more {
                    return;
                }
                if let Some(coming) = self.coming.take() {
                    (self.picture, self.fresh) = (coming, true);
                }
                self.version = version;
                self.shared.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&self.picture);
                worker.follow(&self.picture.tasks, self.fresh);
                if let Err(error) = picture::save(state, &self.picture) {
                    tracing::warn!(error = chain(&error), "what this node was told is not kept");
                }
            }
            Told::Own(body) => match serde_json::from_slice::<OwnNode>(&body) {
                Ok(own) => {
                    // The same for the whole life of a swarm.
                    self.port = Some(own.data_path_port);
                    tell(Heard::Own(own)).await;
                }
                Err(error) => tracing::warn!(%error, "what the managers hold of this node cannot be read"),
            },
            Told::Keys(body) => tell(Heard::Keys(body)).await,
            Told::Renew(roots, now) => tell(Heard::Renew(roots, now)).await,
            Told::Invitation(number, request, link) => tell(Heard::Invitation(number, request, link)).await,
        }
    }
}

fn facts(place: &Place) -> Facts {
    let Place { node, uplinks, vtep, mtu, addresses, port } = place.clone();
    // Cables do not depend on it, and the packet path waits for it.
    Facts { node, uplinks, vtep, mtu, addresses, port: port.unwrap_or(DATA_PATH_PORT) }
}

fn wire(error: WireError) -> AgentError {
    AgentError::Wire(Box::new(error))
}

fn cables(picture: Arc<Mutex<Picture>>, facts: Facts, own: Arc<own::Addresses>) -> Cables {
    Box::new(move |assigned, addresses| {
        if !addresses.is_empty() {
            let (task, mtu) = (assigned.task.id, facts.mtu);
            let alias = own.alias(&wire::host_name(task, 0));
            return Ok(vec![own::cable(desired::mac(task, 0), addresses.to_vec(), alias, mtu)]);
        }
        let picture = picture.lock().unwrap_or_else(PoisonError::into_inner);
        desired::cables(assigned, &picture, &facts)
    })
}

fn targets(picture: Arc<Mutex<Picture>>) -> Targets {
    Box::new(move |assigned| {
        let picture = picture.lock().unwrap_or_else(PoisonError::into_inner);
        listening::targets(assigned, &picture)
    })
}

fn rumours(members: &gossip::Members, gone: &gossip::Gone) -> Rumours {
    let dead: BTreeSet<_> = members
        .iter()
        .filter(|(_, member)| member.liveness == gossip::Liveness::Down)
        .map(|(node, _)| NodeId::from_u128(node.0))
        .collect();
    Rumours { dead, gone: gone.keys().map(|task| TaskId::from_u128(task.0)).collect() }
}
