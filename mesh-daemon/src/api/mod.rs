//! How users speak: the Docker Engine API, on a unix socket, so that the unmodified docker CLI and the
//! other clients of Docker Swarm drive a cluster.
//!
//! # For who assembles a node
//!
//! 1. Implement [`Cluster`]: what the API needs beside the store.
//! 2. `let api = Api::new(cluster)`, once for the node's whole life, in a swarm or not.
//! 3. `let socket = listen(path, "mesh")?`, then run [`serve`] and [`Api::follow`] until the node stops.
//!
//! Every manager answers by itself: it reads its own replica behind a barrier ([`Store::fresh_view`])
//! and writes through the log, which leads to the leader and back before the answer. So whoever writes
//! through a manager reads it there. Without a quorum reads are answered from what the manager knows,
//! marked by the header `Mesh-Stale`, and writes fail with the managers' names.
//!
//! `wire` has Docker's JSON, `convert` is between it and the model; a file a noun has the endpoints. What
//! is not a swarm's business (containers, images, volumes) is passed on to the engine, if one runs.

mod backup;
mod body;
mod containers;
mod convert;
mod doctor;
mod elsewhere;
mod engine;
mod error;
mod events;
mod filters;
mod images;
mod logs;
mod lookup;
mod networks;
mod nodes;
mod pass;
mod payloads;
mod query;
mod router;
mod server;
mod services;
mod shown;
mod stream;
mod swarm;
mod system;
mod tasks;
mod tls;
mod usage;
mod version;
#[expect(missing_docs, reason = "the members are Docker's, and the Engine API's reference describes them")]
pub mod wire;

use std::path::PathBuf;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::{Request, Response};
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use jiff::Timestamp;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, watch};
use tokio_util::task::TaskTracker;

use error::refusal;
pub use error::{Code, Error};
pub use server::{Listener, ServeError, listen, listen_remote, serve};
pub use stream::Output;
pub use tls::{Remote, RemoteError};
pub use version::Version;

use crate::doctor::Finding;
use crate::model::cidr::Cidr;
use crate::model::cluster::ClusterSpec;
use crate::model::id::{NodeId, TaskId};
use crate::model::node::Availability;
use crate::runtime::images::Credentials;
use crate::runtime::{Runtime, Step};
use crate::store::{Store, Tx, View};

/// Streams that are attached at once: by exec, by attach, and those that are passed on.
const MAX_ATTACHED: usize = 1024;

/// Something that takes time and may be refused.
pub type Doing<'a, T> = BoxFuture<'a, Result<T, Error>>;

/// What HTTP can be spoken over.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Connection for T {}

/// What the API needs of a node beside the store.
pub trait Cluster: Send + Sync + 'static {
    /// The time.
    fn now(&self) -> Timestamp;

    /// 128 bits that nobody can guess: ids, keys and tokens are made of them.
    fn random(&self) -> u128;

    /// This node's place in a swarm.
    fn local(&self) -> Local;

    /// The store, while this node is a manager and unlocked.
    fn stores(&self) -> watch::Receiver<Option<Store>>;

    /// What runs containers here.
    fn runtime(&self) -> RuntimeFacts;

    /// Makes this node the first of a new swarm, or with `force_new_cluster` the only one of the old. When
    /// this returns, the node is in [`Cluster::stores`] and [`Cluster::local`].
    fn init(&self, init: Init) -> Doing<'_, NodeId>;

    /// Joins a swarm. When this returns, the node is a member.
    fn join(&self, join: Join) -> Doing<'_, ()>;

    /// Leaves the swarm. The checks (the last manager, in a swarm at all) are made before.
    fn leave(&self) -> Doing<'_, ()>;

    /// Begins the swarm of a backup again, with this node as its only manager. When this returns, the node is in
    /// [`Cluster::stores`] and [`Cluster::local`].
    fn restore(&self, restore: Restore) -> Doing<'_, NodeId>;

    /// Unlocks the state of a manager that has restarted: `key` as `SWMKEY-1-..`.
    fn unlock(&self, key: String) -> Doing<'_, ()>;

    /// The output of a task, from whichever node has it, as long as it follows or until it ends.
    fn logs(&self, task: TaskId, options: LogOptions) -> Doing<'_, BoxStream<'static, LogLine>>;

    /// A connection to the Docker API of another node, which answers there as [`Api::serve_manager`] does. Only
    /// managers have one.
    fn reach(&self, node: NodeId) -> Doing<'_, Box<dyn Connection>>;

    /// What a registry says of an image to who asks; None if that is not known in a moment. The CLI waits for it
    /// before each create, so this must answer fast.
    fn image(&self, reference: String, who: Credentials) -> Doing<'_, Option<wire::Distribution>>;

    /// What is as it should be and what is not: of all nodes on a manager, elsewhere of this one.
    fn doctor(&self) -> Doing<'_, Vec<Finding>>;

    /// Runs the containers of this node.
    fn containers(&self) -> Arc<dyn Runtime>;

    /// What becomes of them from now on.
    fn steps(&self) -> broadcast::Receiver<Step>;

    /// How much services are used, of every node that answers in time.
    fn usage(&self) -> Doing<'_, Vec<wire::NodeUsage>>;

    /// The socket of the Docker Engine that runs this node's tasks, if one does: containers, images and
    /// volumes are asked for there.
    fn engine(&self) -> Option<PathBuf>;
}

/// A node's place in a swarm.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Local {
    /// What it is.
    pub standing: Standing,
    /// Its id, once it has one.
    pub node_id: Option<NodeId>,
    /// Where others find it, without a port.
    pub addr: String,
    /// The managers it knows: id, address and port.
    pub managers: Vec<(NodeId, String)>,
}

/// What a node is in a swarm.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// In none.
    #[default]
    Outside,
    /// On its way in.
    Pending,
    /// A manager whose state is locked.
    Locked,
    /// Was in one and cannot go on, for this reason.
    Failed(String),
    /// A worker.
    Worker,
    /// A manager.
    Manager,
}

/// How a swarm is to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct Init {
    /// Where to listen: address and port.
    pub listen_addr: String,
    /// Where others find this node: address or interface, with or without a port. Empty: to be found out.
    pub advertise_addr: String,
    /// Where tunnels end. Empty: the advertised address.
    pub data_path_addr: String,
    /// The UDP port of tunnels.
    pub data_path_port: u16,
    /// Whether the state of this manager, alone, becomes the swarm's.
    pub force_new_cluster: bool,
    /// The swarm's settings.
    pub spec: ClusterSpec,
    /// Whether this node takes tasks.
    pub availability: Availability,
    /// Whence networks get their subnets; empty: 10.0.0.0/8.
    pub default_address_pools: Vec<Cidr>,
    /// How long the prefix of such a subnet is.
    pub subnet_size: u8,
}

/// How a swarm is to be begun again.
#[derive(Clone, Debug, PartialEq)]
pub struct Restore {
    /// The file.
    pub backup: Bytes,
    /// What opens it, if it is sealed: `SWMKEY-1-..`.
    pub unlock_key: Option<String>,
    /// Where to listen: address and port.
    pub listen_addr: String,
    /// Where others find this node: address or interface, with or without a port. Empty: to be found out.
    pub advertise_addr: String,
    /// Where tunnels end. Empty: the advertised address.
    pub data_path_addr: String,
}

/// How a swarm is to be joined.
#[derive(Clone, Debug, PartialEq)]
pub struct Join {
    /// Where to listen: address and port.
    pub listen_addr: String,
    /// Where others find this node: address or interface, with or without a port. Empty: to be found out.
    pub advertise_addr: String,
    /// Where tunnels end. Empty: the advertised address.
    pub data_path_addr: String,
    /// Managers, each with or without a port.
    pub remotes: Vec<String>,
    /// What lets this machine join: `SWMTKN-1-..`, of good form.
    pub token: String,
    /// Whether this node takes tasks.
    pub availability: Availability,
}

/// What runs containers on this node, for `docker info` and `docker version`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuntimeFacts {
    /// `docker` or the OCI runtime's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// How root file systems are made.
    pub storage_driver: String,
    /// Where images and containers lie.
    pub root: String,
    /// `cgroupfs` or `systemd`.
    pub cgroup_driver: String,
    /// `1` or `2`.
    pub cgroup_version: String,
    /// Where output goes unless a service says otherwise.
    pub log_driver: String,
}

/// Which of a task's output is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
    /// Go on with what comes.
    pub follow: bool,
    /// Not before this.
    pub since: Option<Timestamp>,
    /// Not after this.
    pub until: Option<Timestamp>,
    /// At most so many lines of the past; None: all.
    pub tail: Option<u64>,
}

/// A piece of output, usually a line with its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// When it was written.
    pub at: Timestamp,
    /// To which output.
    pub output: Output,
    /// The bytes.
    pub bytes: Bytes,
}

/// The API of one node.
pub struct Api {
    router: axum::Router,
    shared: Arc<Shared>,
}

/// What handlers see of the API.
struct Shared {
    cluster: Arc<dyn Cluster>,
    events: events::Journal,
    execs: containers::Execs,
    far_execs: elsewhere::Execs,
    shown: shown::Shown,
    /// Places for connections that became streams: they outlive their request, and count here.
    attached: Arc<Semaphore>,
    /// What goes on after an answer: attached streams, connections to the engine.
    tasks: TaskTracker,
}

impl Api {
    /// The API of a node.
    #[must_use]
    pub fn new(cluster: Arc<dyn Cluster>) -> Arc<Self> {
        let shared = Arc::new(Shared {
            cluster,
            events: events::Journal::default(),
            execs: containers::Execs::default(),
            far_execs: elsewhere::Execs::default(),
            shown: shown::Shown::default(),
            attached: Arc::new(Semaphore::new(MAX_ATTACHED)),
            tasks: TaskTracker::new(),
        });
        Arc::new(Self { router: router::routes(Arc::clone(&shared)), shared })
    }

    /// Answers one request. Streams and upgrades go on after it returns.
    pub async fn answer(&self, request: Request<Body>) -> Response<Body> {
        router::answer(self, request).await
    }

    /// Serves a manager that was asked of a container of this node, until it hangs up: containers and nothing else.
    pub async fn serve_manager(self: Arc<Self>, connection: impl Connection) {
        server::speak(connection, move |request| {
            let api = Arc::clone(&self);
            async move { router::answer_manager(&api, request).await }
        })
        .await;
    }

    /// Waits for streams that were attached and still go on.
    async fn finish(&self) {
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }

    /// Writes down what happens in the swarm and to containers of this node, for `docker events`; to be run as long as the node does.
    pub async fn follow(&self) {
        events::follow(&self.shared).await;
    }
}

impl Shared {
    /// What runs containers here.
    fn runtime(&self) -> Arc<dyn Runtime> {
        self.cluster.containers()
    }

    /// A place for a connection that becomes a stream.
    fn attach(&self) -> Result<OwnedSemaphorePermit, Error> {
        let place = Arc::clone(&self.attached).try_acquire_owned();
        place.map_err(|_| Error::unavailable(format!("{MAX_ATTACHED} streams are attached already")))
    }

    /// The store, or why this node cannot be asked about the swarm.
    fn store(&self) -> Result<Store, Error> {
        if let Some(store) = self.cluster.stores().borrow().clone() {
            return Ok(store);
        }
        Err(match self.cluster.local().standing {
            Standing::Outside | Standing::Pending | Standing::Failed(_) => Error::NotInSwarm,
            Standing::Locked => Error::Locked,
            Standing::Worker => Error::Worker,
            // It becomes one: the store is there in a moment.
            Standing::Manager => Error::NoLeader { missing: Vec::new() },
        })
    }

    /// The cluster's objects: those acknowledged to anyone so far, or if managers are missing, those
    /// known here.
    async fn view(&self) -> Result<View, Error> {
        let store = self.store()?;
        match store.fresh_view().await {
            Ok(view) => Ok(view),
            Err(error) => {
                tracing::debug!(%error, "a stale answer");
                router::mark_stale();
                Ok(store.view())
            }
        }
    }

    /// Runs a transaction: all of it happens and is acknowledged by most managers, or nothing.
    async fn update<R>(&self, run: impl Fn(&mut Tx) -> Result<R, Error>) -> Result<R, Error> {
        let refusal = std::sync::Mutex::new(None);
        let keep = |error| {
            *refusal.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(error);
            crate::store::Error::Refused(String::new())
        };
        let done = self.store()?.update(|tx| run(tx).map_err(keep)).await;
        done.map_err(|error| {
            let refused = refusal.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
            match (error, refused) {
                (crate::store::Error::Refused(_), Some(refused)) => refused,
                (error, _) => error.into(),
            }
        })
    }
}
