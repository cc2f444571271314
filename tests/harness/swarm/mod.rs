//! A swarm in memory behind the Docker API: the real router and store, and in the place of nodes a
//! [`FakeCluster`] with an orchestrator that makes every task run at once.

mod orchestrate;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result};
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt as _, StreamExt as _};
use jiff::Timestamp;
use mesh_daemon::api::{
    self, Api, Cluster, Connection, Doing, Init, Join, Local, LogLine, LogOptions, Output, RuntimeFacts, Standing, wire,
};
use mesh_daemon::model::cluster::Cluster as ClusterObject;
use mesh_daemon::model::id::{ClusterId, NetworkId, NodeId, TaskId};
use mesh_daemon::model::network::{Network, NetworkSpec};
use mesh_daemon::model::node::{
    Engine, ManagerStatus, Node, NodeDescription, NodeState, Plugin, Reachability, Role, TlsDescription,
};
use mesh_daemon::model::resources::{Platform, Resources};
use mesh_daemon::runtime::fake::{FakeRuntime, Script};
use mesh_daemon::runtime::{Runtime, Step, Told};
use mesh_daemon::store::{Local as Alone, Replica, Store};
use rand::Rng as _;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

pub use orchestrate::settle;

/// A swarm whose nodes are only said to be.
pub struct FakeCluster {
    stores: watch::Sender<Option<Store>>,
    local: Mutex<Local>,
    /// What registries know: reference, digest.
    pub images: Mutex<Vec<(String, String)>>,
    /// What each task has written.
    pub output: Mutex<Vec<LogLine>>,
    /// Its containers: none but those that a test makes, for its tasks are only said to run.
    pub told: Arc<Told>,
    /// An engine's socket, if one is played.
    pub engine: Mutex<Option<PathBuf>>,
    /// The sockets of other nodes, where those are played.
    pub peers: Mutex<BTreeMap<NodeId, PathBuf>>,
}

impl Default for FakeCluster {
    fn default() -> Self {
        let fake = FakeRuntime::new(Timestamp::now(), Box::new(|_| Script::default()));
        Self {
            stores: watch::Sender::new(None),
            local: Mutex::default(),
            images: Mutex::default(),
            output: Mutex::default(),
            told: Arc::new(Told::new(Arc::new(fake))),
            engine: Mutex::default(),
            peers: Mutex::default(),
        }
    }
}

/// By chance, but a short id of it has a digit: what compares outputs tells ids from words by that.
fn random() -> u128 {
    loop {
        let mut bytes = [0; 16];
        rand::rng().fill_bytes(&mut bytes);
        let number = u128::from_be_bytes(bytes);
        if TaskId::from_u128(number).to_string().bytes().take(12).any(|byte| byte.is_ascii_digit()) {
            return number;
        }
    }
}

impl FakeCluster {
    /// The store; there is one after `init`.
    #[must_use]
    pub fn store(&self) -> Option<Store> {
        self.stores.borrow().clone()
    }

    /// Makes this node a member without a store.
    pub fn stand(&self, standing: Standing) {
        let mut local = self.local.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        local.standing = standing;
        local.node_id.get_or_insert_with(|| NodeId::from_u128(random()));
    }

    /// Adds a node that is ready.
    ///
    /// # Errors
    /// There is no swarm.
    pub async fn add_node(&self, name: &str, addr: &str, role: Role) -> Result<NodeId> {
        let store = self.store().context("no swarm")?;
        let id = NodeId::from_u128(random());
        let mut node = Node::new(id, role);
        node.description = Some(description(name));
        node.status.state = NodeState::Ready;
        addr.clone_into(&mut node.status.addr);
        let leader = store.view().nodes().is_empty();
        if role == Role::Manager {
            let addr = format!("{addr}:2377").parse().context("address")?;
            node.manager = Some(ManagerStatus { raft_id: 1, addr, leader, reachability: Reachability::Reachable });
        }
        store.update(|tx| tx.create(node.clone())).await?;
        Ok(id)
    }
}

fn description(hostname: &str) -> NodeDescription {
    NodeDescription {
        hostname: hostname.to_owned(),
        platform: Platform { architecture: "x86_64".to_owned(), os: "linux".to_owned() },
        resources: Resources { nano_cpus: 2_000_000_000, memory_bytes: 25_276_510_208, generic: Vec::new() },
        // As the recordings' nodes said.
        engine: Engine { version: ENGINE.to_owned(), plugins: plugins(), ..Engine::default() },
        tls: TlsDescription {
            trust_root: ROOT.to_owned(),
            cert_issuer_subject: KEY.to_owned(),
            cert_issuer_public_key: KEY.to_owned(),
        },
    }
}

/// What the nodes say they trust.
pub const ROOT: &str = "a root of the test";

/// `KEY` in base64, which clients must be able to read.
pub const KEY: &str = "S0VZ";

/// The engine that the recordings were made with.
const ENGINE: &str = "20.10.24+dfsg1";

fn plugins() -> Vec<Plugin> {
    let log = "awslogs fluentd gcplogs gelf journald json-file local logentries splunk syslog";
    let network = "bridge host ipvlan macvlan null overlay";
    let of = |kind: &'static str, names: &'static str| {
        names.split(' ').map(move |name| Plugin { kind: kind.to_owned(), name: name.to_owned() })
    };
    of("Log", log).chain(of("Network", network)).chain(of("Volume", "local")).collect()
}

impl Cluster for FakeCluster {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn random(&self) -> u128 {
        random()
    }

    fn local(&self) -> Local {
        self.local.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn stores(&self) -> watch::Receiver<Option<Store>> {
        self.stores.subscribe()
    }

    fn runtime(&self) -> RuntimeFacts {
        RuntimeFacts { name: "fake".to_owned(), version: "1".to_owned(), ..RuntimeFacts::default() }
    }

    fn init(&self, init: Init) -> Doing<'_, NodeId> {
        async move {
            let replica = Replica::default();
            let store = Store::new(replica.clone(), Arc::new(Alone::new(replica)), Arc::new(Timestamp::now));
            let mut cluster = ClusterObject::new(ClusterId::from_u128(random()));
            cluster.spec = init.spec;
            cluster.data_path_port = init.data_path_port;
            cluster.subnet_size = init.subnet_size;
            if !init.default_address_pools.is_empty() {
                cluster.default_address_pools = init.default_address_pools;
            }
            let root = format!("SWMTKN-1-{}{}", NodeId::from_u128(random()), NodeId::from_u128(random()));
            cluster.root_ca.join_tokens.worker = format!("{root}-{}", NodeId::from_u128(random()));
            cluster.root_ca.join_tokens.manager = format!("{root}-{}", NodeId::from_u128(random()));
            let mut ingress = NetworkSpec { ingress: true, ..NetworkSpec::default() };
            "ingress".clone_into(&mut ingress.annotations.name);
            let ingress = Network::new(NetworkId::from_u128(random()), ingress);
            store
                .update(|tx| {
                    tx.create(cluster.clone())?;
                    tx.create(ingress.clone())
                })
                .await?;
            self.stores.send_replace(Some(store));
            let addr = init.advertise_addr.split(':').next().unwrap_or_default().to_owned();
            let node = self.add_node("node1", &addr, Role::Manager).await;
            let node = node.map_err(|error| api::Error::internal(format!("{error:#}")))?;
            *self.local.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Local {
                standing: Standing::Manager,
                node_id: Some(node),
                addr: addr.clone(),
                managers: vec![(node, format!("{addr}:2377"))],
            };
            Ok(node)
        }
        .boxed()
    }

    fn join(&self, join: Join) -> Doing<'_, ()> {
        async move {
            // The one secret that the recordings say is wrong.
            if join.token.ends_with("-0000000000000000000000000") {
                return Err(api::Error::invalid("A valid join token is necessary to join this cluster"));
            }
            self.stand(Standing::Worker);
            Ok(())
        }
        .boxed()
    }

    fn leave(&self) -> Doing<'_, ()> {
        async move {
            self.stores.send_replace(None);
            *self.local.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Local::default();
            Ok(())
        }
        .boxed()
    }

    fn restore(&self, _restore: api::Restore) -> Doing<'_, NodeId> {
        async { Err(api::Error::internal("this swarm is only said to be")) }.boxed()
    }

    fn unlock(&self, _key: String) -> Doing<'_, ()> {
        async move {
            self.stand(Standing::Worker);
            Ok(())
        }
        .boxed()
    }

    fn logs(&self, _task: TaskId, options: LogOptions) -> Doing<'_, BoxStream<'static, LogLine>> {
        async move {
            let all = self.output.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
            let wanted = |line: &LogLine| match line.output {
                Output::Stdout => options.stdout,
                Output::Stderr => options.stderr,
            };
            let mut lines: Vec<_> = all.into_iter().filter(wanted).collect();
            let skip = options.tail.map_or(0, |tail| lines.len().saturating_sub(usize::try_from(tail).unwrap_or(0)));
            lines.drain(..skip);
            let past = stream::iter(lines);
            Ok(if options.follow { past.chain(stream::pending()).boxed() } else { past.boxed() })
        }
        .boxed()
    }

    fn reach(&self, node: NodeId) -> Doing<'_, Box<dyn Connection>> {
        async move {
            let peers = self.peers.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
            let socket = peers.get(&node).ok_or_else(|| api::Error::unavailable(format!("{node} is far away")))?;
            let stream = tokio::net::UnixStream::connect(socket).await;
            let stream = stream.map_err(|error| api::Error::unavailable(error.to_string()))?;
            Ok(Box::new(stream) as Box<dyn Connection>)
        }
        .boxed()
    }

    fn image(&self, reference: String, _auth: Option<String>) -> Doing<'_, Option<wire::Distribution>> {
        async move {
            let images = self.images.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let digest = images.iter().find(|(name, _)| *name == reference).map(|(_, digest)| digest.clone());
            Ok(digest.map(|digest| wire::Distribution {
                descriptor: wire::ImageDescriptor {
                    media_type: "application/vnd.docker.distribution.manifest.v2+json".to_owned(),
                    digest,
                    size: 527,
                    ..wire::ImageDescriptor::default()
                },
                platforms: vec![wire::ImagePlatform {
                    architecture: "amd64".to_owned(),
                    os: "linux".to_owned(),
                    ..wire::ImagePlatform::default()
                }],
                ..wire::Distribution::default()
            }))
        }
        .boxed()
    }

    fn doctor(&self) -> Doing<'_, Vec<mesh_daemon::doctor::Finding>> {
        async { Ok(Vec::new()) }.boxed()
    }

    fn containers(&self) -> Arc<dyn Runtime> {
        Arc::<Told>::clone(&self.told)
    }

    fn steps(&self) -> broadcast::Receiver<Step> {
        self.told.listen()
    }

    fn engine(&self) -> Option<PathBuf> {
        self.engine.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

/// A node in memory that serves the Docker API on a socket, in a thread of its own.
pub struct Served {
    /// What it stands on.
    pub cluster: Arc<FakeCluster>,
    /// Where it serves.
    pub socket: PathBuf,
    api: Arc<Api>,
    runtime: Option<tokio::runtime::Runtime>,
    stop: CancellationToken,
}

impl Served {
    /// Serves at `folder/docker.sock`, outside a swarm.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub fn new(folder: &Path) -> Result<Self> {
        let cluster = Arc::new(FakeCluster::default());
        let socket = folder.join("docker.sock");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let stop = CancellationToken::new();
        let _inside = runtime.enter();
        let listener = api::listen(&socket, "mesh")?;
        let api = Api::new(Arc::clone(&cluster) as Arc<dyn Cluster>);
        runtime.spawn(api::serve(Arc::clone(&api), listener, stop.clone()));
        let following = Arc::clone(&api);
        runtime.spawn(async move { following.follow().await });
        runtime.spawn(orchestrate::run(Arc::clone(&cluster)));
        drop(_inside);
        Ok(Self { cluster, socket, api, runtime: Some(runtime), stop })
    }

    /// Serves at a port of the loopback too, for who has a certificate; which port.
    ///
    /// # Errors
    /// The certificates are no good, or there is no port.
    pub fn listen(&self, remote: &api::Remote) -> Result<std::net::SocketAddr> {
        let runtime = self.runtime.as_ref().context("it has stopped")?;
        let listener = runtime.block_on(api::listen_remote(remote))?;
        let address = listener.address().context("no address")?;
        runtime.spawn(api::serve(Arc::clone(&self.api), listener, self.stop.clone()));
        Ok(address)
    }

    /// Runs something that takes time.
    pub fn block_on<T>(&self, what: impl Future<Output = T>) -> Option<T> {
        self.runtime.as_ref().map(|runtime| runtime.block_on(what))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
