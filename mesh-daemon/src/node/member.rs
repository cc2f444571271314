//! A node in a swarm: its keys, its agent, its part in membership, and whatever its role brings.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::hold::{self, Holder};
use super::manager::{GOSSIP, Manager, Parts};
use super::settings::Settings;
use super::wire::Book;
use super::{Base, NodeError, doctor, place, relay};
use crate::agent::{self, Agent, Heard};
use crate::cluster::ca;
use crate::cluster::gossip::{self, Detector, Endpoint, KeyRing, Me, NodeKey, RingKey, Timing};
use crate::cluster::rpc::Peers;
use crate::cluster::trust::{Keeper, Renewal};
use crate::model::assignment::{Announcement, OwnNode};
use crate::model::cluster::SharedKey;
use crate::model::id::NodeId;
use crate::model::node::Role;

/// Streams to managers at once.
const MAX_STREAMS: usize = 256;
/// Until membership has a key of the cluster's, it listens with one that nobody else has.
const NO_KEY: u32 = 0;
/// How often the members that managers name are passed on, and the certificate is looked at.
const TICK: Duration = Duration::from_secs(1);
/// A certificate that is to be renewed is asked for again after this: the manager that gave one may not have known of
/// the rotation of the root yet.
const RENEW_AGAIN: Duration = Duration::from_secs(10);

/// Its parts have so long to end by themselves.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// What happens to a member.
pub(super) enum Event {
    /// The agent has something to say.
    Heard(Heard),
    /// It is time to look again: which members managers know, and what its certificate says.
    Tick,
}

/// A node in a swarm.
pub(super) struct Member {
    pub(super) keeper: Arc<Keeper>,
    pub(super) book: Arc<Book>,
    pub(super) manager: Option<Manager>,
    /// What the managers hold of it, as last heard.
    held: Option<OwnNode>,
    /// When to ask for another certificate again, as long as the managers say that it should be renewed.
    renew_again: Option<tokio::time::Instant>,
    base: Arc<Base>,
    peers: Arc<Peers>,
    gossip: gossip::Handle,
    holder: Option<Holder>,
    renewal: Arc<Renewal>,
    heard: mpsc::Receiver<Heard>,
    stop: CancellationToken,
    tasks: JoinSet<Result<(), NodeError>>,
    streams: JoinSet<()>,
    tick: tokio::time::Interval,
}

/// Where this node is.
async fn here(settings: &Settings, node: NodeId) -> Result<agent::Place, NodeError> {
    let uplink = place::interface_of(settings.data_path)?;
    Ok(agent::Place {
        node,
        mtu: place::mtu(&uplink).await.unwrap_or(1500),
        addresses: place::of_interfaces(std::slice::from_ref(&uplink))?,
        uplinks: vec![uplink],
        vtep: settings.data_path,
        port: settings.data_path_port,
    })
}

/// What this node says of itself.
fn announcement(base: &Base, keeper: &Keeper, settings: &Settings, here: &agent::Place) -> Announcement {
    let mut description = base.description.clone();
    description.tls = ca::issuer_of(&keeper.chain(), &keeper.credentials().roots()).unwrap_or_default();
    Announcement {
        description,
        addr: settings.advertise.ip().to_string(),
        vteps: vec![settings.data_path],
        addresses: here.addresses.clone(),
        gossip: Some(std::net::SocketAddr::new(settings.advertise.ip(), base.ports.gossip)),
        listens: Some(settings.advertise),
    }
}

impl Member {
    /// Starts everything but the manager's part.
    pub(super) async fn start(base: Arc<Base>, keeper: Arc<Keeper>, mut settings: Settings) -> Result<Self, NodeError> {
        // Peers take a life that is not later than one before for a replay.
        let now = (base.clocks.store)().as_millisecond();
        settings.life = u64::try_from(now).unwrap_or(0).max(settings.life + 1);
        settings.save(&base.paths.settings())?;
        let own = keeper.credentials().own();
        let peers = Arc::new(Peers::new(keeper.credentials()));
        let book = Arc::new(Book::new(Arc::clone(&peers), base.paths.settings(), settings.clone()));
        let endpoint = bind_gossip(&base, &settings, own.node.to_u128()).await?;
        let gossip = endpoint.handle();
        let holder = hold_place(&base, &endpoint).await;
        let here = here(&settings, own.node).await?;
        // From before the announcement is made: what comes meanwhile is announced then.
        let changes = keeper.credentials().changes();
        let announcement = watch::Sender::new(announcement(&base, &keeper, &settings, &here));
        let (agent, heard) = Agent::new(agent::Parts {
            place: here,
            runtime: Arc::clone(&base.told) as _,
            clock: Arc::clone(&base.clocks.store),
            managers: Arc::clone(&book) as _,
            announcement: announcement.subscribe(),
            gossip: gossip.clone(),
            packets: base.packets.clone(),
            state: base.paths.picture(),
            namespaces: base.paths.namespaces(),
        });
        base.examiner.send_replace(Some(Arc::new(examiner(&base, &keeper, &book, &peers, &gossip))));
        let stop = CancellationToken::new();
        let asking = Arc::clone(&book);
        let managers = move || asking.reaches();
        let renewal = Renewal::new(
            Arc::clone(&keeper),
            Arc::clone(&peers),
            base.clocks.wall.clone(),
            managers,
            rand::random::<f64>,
        );
        let renewal = Arc::new(renewal);
        let mut tasks: JoinSet<Result<(), NodeError>> = JoinSet::new();
        let (renewing, stopping) = (Arc::clone(&renewal), stop.clone());
        tasks.spawn(async move {
            renewing.run(stopping).await;
            Ok(())
        });
        let stopping = stop.clone();
        tasks.spawn(async move { Ok(endpoint.run(stopping).await?) });
        let stopping = stop.clone();
        tasks.spawn(async move {
            tokio::select! {
                done = agent.run() => Ok(done?),
                () = stopping.cancelled() => Ok(()),
            }
        });
        tasks.spawn(announce_trust(Arc::clone(&keeper), changes, announcement, stop.clone()));
        Ok(Self {
            keeper,
            book,
            manager: None,
            held: None,
            renew_again: None,
            base,
            peers,
            gossip,
            holder,
            renewal,
            heard,
            stop,
            tasks,
            streams: JoinSet::new(),
            tick: tokio::time::interval(TICK),
        })
    }

    /// Becomes a manager of this number, if it is not one.
    pub(super) async fn manage(&mut self, raft_id: u64) -> Result<&Manager, NodeError> {
        if self.manager.is_none() {
            let parts = Parts {
                keeper: Arc::clone(&self.keeper),
                peers: Arc::clone(&self.peers),
                book: Arc::clone(&self.book),
                gossip: self.gossip.clone(),
                clocks: self.base.clocks.clone(),
            };
            let manager = Manager::start(parts, &self.base.paths.swarm(), raft_id).await?;
            self.book.keep(|settings| settings.raft_id = Some(raft_id));
            self.base.stores.send_replace(Some(manager.store.clone()));
            self.manager = Some(manager);
        }
        self.manager.as_ref().ok_or(NodeError::Stopping)
    }

    /// Is a manager no longer: its log goes.
    async fn step_down(&mut self) {
        let Some(manager) = self.manager.take() else { return };
        self.base.stores.send_replace(None);
        manager.stop().await;
        self.book.keep(|settings| settings.raft_id = None);
        let keeper = Arc::clone(&self.keeper);
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || keeper.lock(None)).await {
            // It would wait for a key at its next start, and workers are not asked for one.
            tracing::error!(error = &error as &dyn std::error::Error, "the keys of the former manager stay locked");
        }
        if let Err(error) = std::fs::remove_file(self.base.paths.log()) {
            tracing::warn!(%error, "the log of the former manager stays behind");
        }
    }

    /// Waits for the next thing that happens. Nothing is lost if it is dropped.
    ///
    /// # Errors
    ///
    /// If a part that must run has ended.
    pub(super) async fn next(&mut self) -> Result<Event, NodeError> {
        loop {
            tokio::select! {
                heard = self.heard.recv() => return match heard {
                    Some(heard) => Ok(Event::Heard(heard)),
                    None => self.ended().await,
                },
                Some(ended) = self.tasks.join_next() => {
                    return match ended {
                        Ok(Ok(())) => Err(NodeError::Stopping),
                        Ok(Err(error)) => Err(error),
                        Err(error) => Err(NodeError::Broken(error.to_string())),
                    };
                }
                Some(_) = self.streams.join_next() => {}
                _ = self.tick.tick() => return Ok(Event::Tick),
            }
        }
    }

    /// Does what has happened asks for. Must not be dropped: a role would be left half changed.
    ///
    /// # Errors
    ///
    /// The node cannot become what it is to be.
    pub(super) async fn act(&mut self, event: Event) -> Result<(), NodeError> {
        match event {
            Event::Heard(heard) => self.take(heard).await,
            Event::Tick => {
                self.introduce();
                let now = tokio::time::Instant::now();
                if self.renew_again.is_some_and(|at| at <= now) {
                    self.renew_again = Some(now + RENEW_AGAIN);
                    self.renewal.at_once();
                }
                if let Some(holder) = &mut self.holder {
                    holder.keep();
                }
                // The certificate may have come since.
                self.follow_role().await
            }
        }
    }

    async fn ended(&mut self) -> Result<Event, NodeError> {
        match self.tasks.join_next().await {
            Some(Ok(Err(error))) => Err(error),
            _ => Err(NodeError::Stopping),
        }
    }

    async fn take(&mut self, heard: Heard) -> Result<(), NodeError> {
        match heard {
            Heard::Own(own) => {
                let port = own.data_path_port;
                self.book.keep(|settings| settings.data_path_port = Some(port));
                let steps_down = (own.role, own.raft_id) == (Role::Worker, None);
                self.held = Some(own);
                if steps_down {
                    self.step_down().await;
                }
                self.follow_role().await?;
            }
            Heard::Keys(body) => self.rotate(&body),
            Heard::Renew(roots, now) => self.trust(roots, now).await,
            Heard::Invitation(number, request, link) if self.streams.len() < MAX_STREAMS => {
                self.streams.spawn(relay::answer(Arc::clone(&self.base), number, request, link));
            }
            Heard::Invitation(..) => tracing::warn!("{MAX_STREAMS} streams to managers are open: no more"),
        }
        Ok(())
    }

    /// Becomes the manager that it is to be, once its certificate says so too; asks for one that does. The
    /// manager that was asked before may not have known of the change yet.
    async fn follow_role(&mut self) -> Result<(), NodeError> {
        let Some(held) = &self.held else { return Ok(()) };
        if held.role != self.keeper.credentials().own().role {
            self.renewal.at_once();
            return Ok(());
        }
        match (held.role, held.raft_id) {
            (Role::Manager, Some(raft_id)) => self.manage(raft_id).await.map(drop),
            // A worker, or on its way from one to the other: the next word says more.
            (Role::Manager, None) | (Role::Worker, _) => Ok(()),
        }
    }

    fn rotate(&self, body: &[u8]) {
        let Ok(keys) = serde_json::from_slice::<Vec<SharedKey>>(body) else {
            return tracing::warn!("keys of membership cannot be read");
        };
        match ring(&keys) {
            Some(ring) => self.gossip.rotate(ring),
            None => tracing::warn!("no key of membership can be used"),
        }
    }

    async fn trust(&mut self, roots: Bytes, now: bool) {
        if let Ok(roots) = String::from_utf8(roots.to_vec()) {
            let keeper = Arc::clone(&self.keeper);
            let trusted = tokio::task::spawn_blocking(move || keeper.trust(&roots)).await;
            if let Ok(Err(error)) = trusted {
                tracing::warn!(error = &error as &dyn std::error::Error, "the roots are not taken into use");
            }
        }
        self.renew_again = now.then(|| tokio::time::Instant::now() + RENEW_AGAIN);
        if now {
            self.renewal.at_once();
        }
    }

    /// Passes on the members that managers know, so that nobody has to be found.
    fn introduce(&self) {
        let Ok(picture) = agent::picture_at(&self.base.paths.picture()) else { return };
        let own = self.keeper.credentials().own().node;
        let others = picture.members.values().filter(|member| member.id != own);
        let peers: Vec<_> = others
            .filter_map(|member| {
                Some(gossip::Peer { node: NodeKey(member.id.to_u128()), address: member.gossip?, generation: None })
            })
            .collect();
        self.gossip.introduce(&peers);
    }

    /// Ends its part, for a time; containers and packets go on, and its place is held.
    pub(super) async fn stop(mut self) {
        self.end().await;
    }

    /// Ends its part for good: the others need not wait for it.
    pub(super) async fn part(mut self) {
        if let Some(holder) = self.holder.take() {
            holder.end();
        }
        self.gossip.leave();
        self.end().await;
    }

    async fn end(&mut self) {
        self.base.stores.send_replace(None);
        self.base.examiner.send_replace(None);
        if let Some(manager) = self.manager.take() {
            manager.stop().await;
        }
        self.stop.cancel();
        // What it has to say yet is said.
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        let _in_time = tokio::time::timeout(LAST_WORDS, ended).await;
        self.tasks.shutdown().await;
    }
}

/// What the node says of its certificate and its roots follows what it has of them. The rest of what it says of itself
/// stays as it was at the start.
async fn announce_trust(
    keeper: Arc<Keeper>,
    mut changes: watch::Receiver<u64>,
    announcement: watch::Sender<Announcement>,
    stop: CancellationToken,
) -> Result<(), NodeError> {
    let credentials = keeper.credentials();
    while let Some(Ok(())) = stop.run_until_cancelled(changes.changed()).await {
        let tls = ca::issuer_of(&keeper.chain(), &credentials.roots()).unwrap_or_default();
        announcement.send_if_modified(|said| {
            let is_other = said.description.tls != tls;
            said.description.tls = tls;
            is_other
        });
    }
    Ok(())
}

/// What looks at this node when a user asks for it.
fn examiner(
    base: &Base,
    keeper: &Arc<Keeper>,
    book: &Arc<Book>,
    peers: &Arc<Peers>,
    gossip: &gossip::Handle,
) -> doctor::Examiner {
    doctor::Examiner {
        pins: base.packets.pins.clone(),
        keeper: Arc::clone(keeper),
        book: Arc::clone(book),
        peers: Arc::clone(peers),
        members: gossip.members(),
        clocks: base.clocks.clone(),
        picture: base.paths.picture(),
        hostname: base.description.hostname.clone(),
    }
}

/// Takes the node's place over from the daemon before this one, and has it held.
async fn hold_place(base: &Base, endpoint: &Endpoint) -> Option<Holder> {
    let socket = base.paths.hold();
    let earlier = socket.clone();
    let _dismissed = tokio::task::spawn_blocking(move || hold::dismiss(&earlier)).await;
    if base.absence.is_zero() {
        return None;
    }
    match endpoint.place() {
        Ok(place) => Some(Holder::start(place, socket, base.absence)),
        Err(error) => {
            tracing::warn!(%error, "a restart of this daemon will be taken for the node's end");
            None
        }
    }
}

fn ring(keys: &[SharedKey]) -> Option<KeyRing> {
    let mut keys: Vec<_> = keys.iter().filter(|key| key.subsystem == GOSSIP).collect();
    keys.sort_by_key(|key| std::cmp::Reverse(key.generation));
    let keys = keys.into_iter().filter_map(|key| {
        Some(RingKey { number: u32::try_from(key.generation).ok()?, secret: key.key.0.as_slice().try_into().ok()? })
    });
    KeyRing::new(keys.collect()).ok()
}

async fn bind_gossip(base: &Base, settings: &Settings, node: u128) -> Result<Endpoint, NodeError> {
    use rand::SeedableRng as _;
    let mut chance = rand::rngs::StdRng::from_rng(&mut rand::rng());
    let me = Me { node: NodeKey(node), life: settings.life };
    let ring = KeyRing::new(vec![RingKey { number: NO_KEY, secret: rand::random() }])?;
    let address = std::net::SocketAddr::new(settings.advertise.ip(), base.ports.gossip);
    let detector = Detector::new(me, address, Timing::default(), ring, rand::rngs::StdRng::from_rng(&mut chance))?;
    let unspecified: std::net::IpAddr = if settings.advertise.is_ipv4() {
        std::net::Ipv4Addr::UNSPECIFIED.into()
    } else {
        std::net::Ipv6Addr::UNSPECIFIED.into()
    };
    Ok(Endpoint::bind(std::net::SocketAddr::new(unspecified, base.ports.gossip), detector).await?)
}
