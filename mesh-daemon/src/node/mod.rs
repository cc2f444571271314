//! All of it together: the one module that names every other.
//!
//! [`run`] serves the Docker API from the start. A node that is in no swarm waits to be told; one that is
//! goes on where it was: `member` holds its keys, its agent and its part in membership, and as a
//! manager its log, its port and the controllers.

mod anew;
mod doctor;
mod face;
pub mod hold;
mod logs;
mod manager;
mod member;
mod place;
mod relay;
mod roles;
mod rotation;
mod runtime;
mod settings;
mod swarm;
mod usage;
mod wire;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::face::{Command, Face};
use self::member::{Event, Member};
use self::place::PlaceError;
use self::relay::Ways;
use self::settings::{Settings, SettingsError};
use crate::agent::AgentError;
use crate::api::{self, Api, Error, Local, RemoteError, ServeError, Standing};
use crate::cluster::ca::NodeFiles;
use crate::cluster::gossip::{GossipError, KeyRingError};
use crate::cluster::raft::{DiskError, ReviveError, StartError};
use crate::cluster::trust::{JoinError, Keeper, KeeperError, LockedNode, Opened};
use crate::cluster::{self};
use crate::model::node::NodeDescription;
pub use crate::model::resources::GenericResource;
use crate::runtime::{Runtime, RuntimeError, Told};
use crate::store::{self, Store};

pub use self::runtime::{RuntimeChoice, RuntimeKind};
pub use crate::agent::PacketPathConfig;
pub use crate::api::Remote;

/// The group whose members may use the socket.
const GROUP: &str = "mesh";
/// The longest absence that others wait for: [`Config::absence`] is not longer.
pub const MAX_ABSENCE_SECONDS: u64 = cluster::gossip::MAX_ABSENCE.as_secs();
/// Commands that wait.
const COMMANDS: usize = 16;

/// Ports that a node uses, unless its user says otherwise. Swarm's.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    /// For management, TCP.
    pub management: u16,
    /// For membership, TCP and UDP.
    pub gossip: u16,
}

impl Default for Ports {
    fn default() -> Self {
        Self { management: 2377, gossip: cluster::gossip::PORT }
    }
}

/// How a node runs.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where it keeps everything that must outlive it.
    pub root: PathBuf,
    /// Where it keeps what goes with a restart of the machine.
    pub run: PathBuf,
    /// The socket of the Docker API.
    pub socket: PathBuf,
    /// The Docker API over TCP too.
    pub remote: Option<Remote>,
    /// The packet path.
    pub packets: PacketPathConfig,
    /// What runs containers.
    pub runtime: RuntimeChoice,
    /// How long its tasks are left alone while its daemon is away; zero: not at all.
    pub absence: Duration,
    /// What tasks may reserve of this node beside processors and memory.
    pub generic_resources: Vec<GenericResource>,
    /// What time it is.
    pub clock: fn() -> SystemTime,
}

/// Where things lie.
struct Paths {
    root: PathBuf,
    run: PathBuf,
}

impl Paths {
    fn swarm(&self) -> PathBuf {
        self.root.join("swarm")
    }

    fn settings(&self) -> PathBuf {
        self.swarm().join("node.json")
    }

    fn log(&self) -> PathBuf {
        self.swarm().join("raft.redb")
    }

    fn picture(&self) -> PathBuf {
        self.swarm().join("assignments.json")
    }

    /// Where the holder of the node's place is found.
    fn hold(&self) -> PathBuf {
        self.run.join("hold.sock")
    }

    fn namespaces(&self) -> PathBuf {
        self.run.join("netns")
    }
}

/// The one clock, as each part wants it.
#[derive(Clone)]
struct Clocks {
    wall: cluster::Clock,
    store: store::Clock,
}

/// What every part of a node shares.
struct Base {
    paths: Paths,
    ports: Ports,
    clocks: Clocks,
    packets: PacketPathConfig,
    absence: Duration,
    runtime: Arc<dyn Runtime>,
    engine: Option<PathBuf>,
    /// The same runtime, telling what it does.
    told: Arc<Told>,
    description: NodeDescription,
    stores: watch::Sender<Option<Store>>,
    examiner: watch::Sender<Option<Arc<doctor::Examiner>>>,
    /// The API of this node, which managers ask of its containers. It holds this in turn.
    api: OnceLock<Weak<Api>>,
}

/// Why a node does not run.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A folder of its own.
    #[error("make {}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The management port.
    #[error("listen on {address}")]
    Listen {
        /// Where.
        address: std::net::SocketAddr,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The socket of the Docker API.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The port of the Docker API.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// Keys.
    #[error(transparent)]
    Keeper(#[from] KeeperError),
    /// The place in the swarm.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Addresses.
    #[error(transparent)]
    Place(Box<dyn std::error::Error + Send + Sync>),
    /// The log's file.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The log.
    #[error(transparent)]
    Raft(#[from] StartError),
    /// A log that was to begin anew.
    #[error(transparent)]
    Revive(#[from] ReviveError),
    /// Membership.
    #[error(transparent)]
    Gossip(#[from] GossipError),
    /// Its keys.
    #[error(transparent)]
    KeyRing(#[from] KeyRingError),
    /// The agent.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// Containers.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The engine's address.
    #[error("the Docker Engine at \"{0}\" cannot be reached: --docker-host must be unix://PATH")]
    DockerHost(String),
    /// Joining.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The founding of a swarm.
    #[error(transparent)]
    Found(#[from] cluster::trust::FoundError),
    /// The store.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Its settings are missing.
    #[error("this node has keys of a swarm, but {} is missing: leave the swarm and join again", .0.display())]
    NoSettings(PathBuf),
    /// A part of it panicked.
    #[error("a part of this node broke off: {0}")]
    Broken(String),
    /// It is in one already.
    #[error(
        "This node is already part of a swarm. Use \"docker swarm leave\" to leave this swarm and join another one."
    )]
    InSwarm,
    /// The log, whose key changes.
    #[error("seal the log with another key")]
    Seal(#[source] std::io::Error),
    /// A backup.
    #[error(transparent)]
    Backup(#[from] cluster::backup::BackupError),
    /// Only a manager has what this needs.
    #[error(
        "this node is not a swarm manager: a swarm is begun anew on one that was, with `docker swarm init --force-new-cluster`"
    )]
    NotManager,
    /// It is about to end.
    #[error("this node stops")]
    Stopping,
}

impl From<PlaceError> for NodeError {
    fn from(error: PlaceError) -> Self {
        Self::Place(Box::new(error))
    }
}

/// What the node is at the moment.
enum State {
    Outside,
    Locked(Box<LockedNode>),
    Member(Box<Member>),
}

/// Runs a node until `stop`.
///
/// # Errors
///
/// If it cannot start, or a part that must run has ended.
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), NodeError> {
    let paths = Paths { root: config.root.clone(), run: config.run.clone() };
    for folder in [paths.swarm(), paths.namespaces()] {
        std::fs::create_dir_all(&folder).map_err(|source| NodeError::Folder { path: folder, source })?;
    }
    let clock = config.clock;
    let store_clock: store::Clock = Arc::new(move || Timestamp::try_from(clock()).unwrap_or(Timestamp::UNIX_EPOCH));
    let clocks = Clocks { wall: cluster::Clock::new(clock), store: store_clock };
    let runtime::Opened { runtime, engine } = runtime::open(&config.root, &config.runtime, now).await?;
    let base = Arc::new(Base {
        description: swarm::description(runtime.as_ref(), config.generic_resources),
        paths,
        ports: Ports::default(),
        clocks,
        packets: config.packets,
        told: Arc::new(Told::new(Arc::clone(&runtime))),
        absence: config.absence,
        runtime,
        engine,
        stores: watch::Sender::new(None),
        examiner: watch::Sender::new(None),
        api: OnceLock::new(),
    });
    let (commands, mut commanded) = mpsc::channel(COMMANDS);
    let (local, standing) = watch::channel(Local::default());
    let (sends, ways) = watch::channel(None);
    let face = Face { base: Arc::clone(&base), commands, local: standing, ways };
    let api = Api::new(Arc::new(face));
    base.api.get_or_init(|| Arc::downgrade(&api));
    let listener = api::listen(&config.socket, GROUP)?;
    let mut serving = JoinSet::new();
    serving.spawn(api::serve(Arc::clone(&api), listener, stop.clone()));
    if let Some(remote) = &config.remote {
        let listener = api::listen_remote(remote).await?;
        tracing::info!(address = ?listener.address(), "the Docker API is served to who shows a certificate");
        serving.spawn(api::serve(Arc::clone(&api), listener, stop.clone()));
    }
    serving.spawn(async move { api.follow().await });
    let mut node = Node { base, state: State::Outside };
    node.resume().await?;
    tracing::info!(socket = %config.socket.display(), "ready");
    loop {
        local.send_replace(node.local());
        sends.send_replace(node.ways());
        tokio::select! {
            () = stop.cancelled() => break,
            command = commanded.recv() => match command {
                Some(command) => node.obey(command, &local, &sends).await,
                None => break,
            },
            event = node.next() => node.act(event?).await?,
        }
    }
    if let State::Member(member) = std::mem::replace(&mut node.state, State::Outside) {
        member.stop().await;
    }
    serving.shutdown().await;
    Ok(())
}

/// The runtime stamps what it writes with the machine's own time.
#[expect(clippy::disallowed_methods, reason = "the one clock of the process, which it hands to its parts")]
fn now() -> Timestamp {
    Timestamp::try_from(SystemTime::now()).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// A node, and what it is at the moment.
struct Node {
    base: Arc<Base>,
    state: State,
}

impl Node {
    /// Goes on where it was before the daemon stopped.
    async fn resume(&mut self) -> Result<(), NodeError> {
        let files = NodeFiles::new(self.base.paths.swarm());
        match Keeper::open(files, self.base.clocks.wall.clone())? {
            Opened::Nothing => {}
            Opened::Locked(locked) => self.state = State::Locked(Box::new(locked)),
            Opened::Ready(keeper) => self.enter(Arc::new(keeper)).await?,
        }
        Ok(())
    }

    async fn enter(&mut self, keeper: Arc<Keeper>) -> Result<(), NodeError> {
        let path = self.base.paths.settings();
        let settings = Settings::load(&path)?.ok_or(NodeError::NoSettings(path))?;
        let raft_id = settings.raft_id;
        let mut member = Member::start(Arc::clone(&self.base), keeper, settings).await?;
        if let Some(raft_id) = raft_id {
            member.manage(raft_id).await?;
        }
        self.state = State::Member(Box::new(member));
        Ok(())
    }

    async fn next(&mut self) -> Result<Event, NodeError> {
        match &mut self.state {
            State::Member(member) => member.next().await,
            State::Outside | State::Locked(_) => std::future::pending().await,
        }
    }

    async fn act(&mut self, event: Event) -> Result<(), NodeError> {
        match &mut self.state {
            State::Member(member) => member.act(event).await,
            State::Outside | State::Locked(_) => Ok(()),
        }
    }

    async fn obey(&mut self, command: Command, local: &watch::Sender<Local>, ways: &watch::Sender<Option<Ways>>) {
        // Whoever asked sees the node as it is by then.
        let tell = |node: &Self| {
            local.send_replace(node.local());
            ways.send_replace(node.ways());
        };
        match command {
            Command::Init(init, to) => {
                // Whoever holds it holds the log's file open, which may have to begin anew.
                ways.send_replace(None);
                let done = self.init(*init).await;
                tell(self);
                answer(to, done);
            }
            Command::Join(join, to) => {
                let done = self.join(join).await;
                tell(self);
                answer(to, done);
            }
            Command::Leave(to) => {
                let done = self.leave().await;
                tell(self);
                answer(to, done);
            }
            Command::Restore(restore, to) => {
                let done = self.restore(*restore).await;
                tell(self);
                answer(to, done);
            }
            Command::Unlock(key, to) => {
                let done = self.unlock(&key).await;
                tell(self);
                answer(to, done);
            }
        }
    }

    fn local(&self) -> Local {
        let member = match &self.state {
            State::Outside => return Local::default(),
            State::Locked(locked) => {
                let node_id = locked.own().map(|own| own.node);
                return Local { standing: Standing::Locked, node_id, ..Local::default() };
            }
            State::Member(member) => member,
        };
        let settings = member.book.settings();
        Local {
            standing: if member.manager.is_some() { Standing::Manager } else { Standing::Worker },
            node_id: Some(member.keeper.credentials().own().node),
            addr: settings.advertise.ip().to_string(),
            managers: member.book.reaches().into_iter().map(|reach| (reach.node, reach.address)).collect(),
        }
    }

    fn ways(&self) -> Option<Ways> {
        match &self.state {
            State::Member(member) => member.manager.as_ref().map(|manager| manager.ways.clone()),
            State::Outside | State::Locked(_) => None,
        }
    }
}

/// Whoever asked may have given up.
fn answer<T>(to: oneshot::Sender<Result<T, Error>>, done: Result<T, NodeError>) {
    let _gone = to.send(done.map_err(|error| Error::internal(chain(&error))));
}

/// An error with all its sources on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(error.source(), |error| error.source());
    sources.fold(error.to_string(), |text, source| format!("{text}: {source}"))
}
