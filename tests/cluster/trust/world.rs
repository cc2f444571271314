//! A cluster of one manager on a socket, with its records in memory, and nodes that join it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use mesh_daemon::cluster::ca::{NodeFiles, Peer};
use mesh_daemon::cluster::rpc::{
    Dispatcher, Downward, Health, Link, Peers, Raft, Reach, Refusal, Relays, Server, Services, Stream, Upward,
    async_trait,
};
use mesh_daemon::cluster::trust::{
    Authority, JoinError, Keeper, Newcomer, Recorded, Registry, Renewal, Trusted, found, join,
};
use mesh_daemon::cluster::{Clock, rpc};
use mesh_daemon::model::id::{ClusterId, NodeId};
use mesh_daemon::model::node::{Certificate, Role};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub(super) const SOON: Duration = Duration::from_secs(5);
pub(super) const DAY: Duration = Duration::from_secs(24 * 3600);

/// A wall clock that a test moves.
#[derive(Clone)]
pub(super) struct Hands(Arc<AtomicU64>);

impl Hands {
    pub(super) fn new() -> Self {
        Self(Arc::new(AtomicU64::new(1_800_000_000)))
    }

    pub(super) fn forward(&self, by: Duration) {
        self.0.fetch_add(by.as_secs(), Ordering::SeqCst);
    }

    pub(super) fn clock(&self) -> Clock {
        let seconds = self.0.clone();
        Clock::new(move || SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.load(Ordering::SeqCst)))
    }
}

/// What a cluster has recorded.
pub(super) struct Records {
    pub(super) trusted: Mutex<Trusted>,
    pub(super) nodes: Mutex<HashMap<NodeId, Recorded>>,
    pub(super) newcomers: Mutex<Vec<Newcomer>>,
    pub(super) certificates: Mutex<Vec<(NodeId, Certificate)>>,
}

#[async_trait]
impl Registry for Records {
    fn trusted(&self) -> Result<Trusted, Refusal> {
        Ok(self.trusted.lock().unwrap().clone())
    }

    fn node(&self, node: NodeId) -> Recorded {
        self.nodes.lock().unwrap().get(&node).copied().unwrap_or(Recorded::Unknown)
    }

    async fn admit(&self, newcomer: Newcomer) -> Result<(), Refusal> {
        self.nodes.lock().unwrap().insert(newcomer.node, Recorded::Known(newcomer.role));
        self.newcomers.lock().unwrap().push(newcomer);
        Ok(())
    }

    async fn renewed(&self, node: NodeId, certificate: Certificate) -> Result<(), Refusal> {
        self.certificates.lock().unwrap().push((node, certificate));
        Ok(())
    }
}

/// Answers as simply as it can, and remembers who called.
#[derive(Default)]
pub(super) struct Echo {
    pub(super) callers: Mutex<Vec<Peer>>,
}

#[async_trait]
impl Raft for Echo {
    async fn call(&self, from: Peer, kind: u32, body: Bytes) -> Result<Bytes, Refusal> {
        self.callers.lock().unwrap().push(from);
        Ok(Bytes::from([&kind.to_be_bytes()[..], &body[..]].concat()))
    }
}

#[async_trait]
impl Dispatcher for Echo {
    /// Welcomes, then confirms each batch of statuses, for ever.
    async fn session(&self, from: Peer, up: Stream<Upward>) -> Result<Stream<Downward>, Refusal> {
        self.callers.lock().unwrap().push(from);
        let welcome = Downward::Welcome { session: "s".to_owned(), heartbeat_ms: 5000 };
        let answers = up.filter_map(async |said| match said {
            Ok(Upward::Statuses { batch, .. }) => Some(Ok(Downward::StatusesTaken(batch))),
            Ok(_) => None,
            Err(refusal) => Some(Err(refusal)),
        });
        Ok(stream::iter([Ok(welcome)]).chain(answers).chain(stream::pending()).boxed())
    }
}

#[async_trait]
impl Health for Echo {
    async fn serving(&self) -> bool {
        true
    }
}

/// Of every node it says what it was asked, and what it was sent.
struct Far {
    relays: Relays,
}

#[async_trait]
impl rpc::Relay for Far {
    async fn open(&self, from: Peer, relay: u64, up: Stream<Bytes>) -> Result<Stream<Bytes>, Refusal> {
        self.relays.open(from, relay, up).await
    }

    async fn reach(&self, node: NodeId, request: Bytes, down: Stream<Bytes>) -> Result<Stream<Bytes>, Refusal> {
        let asked = Bytes::from(format!("{node} {}", String::from_utf8_lossy(&request)));
        Ok(stream::iter([Ok(asked)]).chain(down).boxed())
    }
}

/// A manager that serves.
pub(super) struct World {
    pub(super) hands: Hands,
    pub(super) records: Arc<Records>,
    pub(super) echo: Arc<Echo>,
    pub(super) relays: Relays,
    pub(super) address: String,
    pub(super) manager: NodeId,
    pub(super) own: Arc<Keeper>,
    server: Arc<Server>,
    stop: Mutex<CancellationToken>,
    serving: Mutex<Option<tokio::task::JoinHandle<()>>>,
    disk: tempfile::TempDir,
}

/// A node that has joined.
pub(super) struct Member {
    pub(super) node: NodeId,
    pub(super) keeper: Arc<Keeper>,
    pub(super) peers: Arc<Peers>,
}

impl World {
    pub(super) async fn new() -> Self {
        let hands = Hands::new();
        let (cluster, manager) = (ClusterId::from_u128(42), NodeId::from_u128(1));
        let (ca, joined) = found(cluster, manager, 90 * DAY, &hands.clock()).unwrap();
        let disk = tempfile::tempdir().unwrap();
        let files = NodeFiles::new(disk.path().join("manager"));
        let own = Arc::new(Keeper::adopt(files, joined, hands.clock()).unwrap());
        let records = Arc::new(Records {
            trusted: Mutex::new(Trusted { cluster, ca, life: 90 * DAY }),
            nodes: Mutex::new(HashMap::from([(manager, Recorded::Known(Role::Manager))])),
            newcomers: Mutex::default(),
            certificates: Mutex::default(),
        });
        let next = AtomicU64::new(100);
        let draw = move || NodeId::from_u128(next.fetch_add(1, Ordering::SeqCst).into());
        let authority = Arc::new(Authority::new(records.clone(), hands.clock(), draw));
        let echo = Arc::new(Echo::default());
        let number = AtomicU64::new(7);
        let relays = Relays::new(move || number.fetch_add(1, Ordering::SeqCst));
        let services = Services {
            trust: authority.clone(),
            raft: echo.clone(),
            dispatcher: echo.clone(),
            relay: Arc::new(Far { relays: relays.clone() }),
            health: echo.clone(),
        };
        let server = Arc::new(Server::new(own.credentials(), authority, services));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let stop = Mutex::new(CancellationToken::new());
        let serving = Mutex::default();
        let world = Self { hands, records, echo, relays, address, manager, own, server, stop, serving, disk };
        world.serve(listener);
        world
    }

    #[expect(clippy::disallowed_methods, reason = "the test is the parent: it aborts or awaits the handle")]
    fn serve(&self, listener: TcpListener) {
        let stop = CancellationToken::new();
        let serving = tokio::spawn(self.server.clone().serve(listener, stop.clone()));
        *self.stop.lock().unwrap() = stop;
        *self.serving.lock().unwrap() = Some(serving);
    }

    /// Stops serving, with all connections.
    pub(super) async fn stop(&self) {
        self.stop.lock().unwrap().cancel();
        let serving = self.serving.lock().unwrap().take();
        serving.unwrap().await.unwrap();
    }

    /// Serves again, at the same address.
    pub(super) async fn start(&self) {
        let address: SocketAddr = self.address.parse().unwrap();
        self.serve(TcpListener::bind(address).await.unwrap());
    }

    pub(super) fn token(&self, role: Role) -> String {
        let trusted = self.records.trusted.lock().unwrap();
        match role {
            Role::Worker => trusted.ca.join_tokens.worker.clone(),
            Role::Manager => trusted.ca.join_tokens.manager.clone(),
        }
    }

    pub(super) async fn try_join(&self, token: &str) -> Result<Member, JoinError> {
        let joined = join(std::slice::from_ref(&self.address), token, "", &self.hands.clock(), SOON).await?;
        let node = joined.keys.own().unwrap().node;
        let files = NodeFiles::new(self.disk.path().join(node.to_string()));
        let keeper = Arc::new(Keeper::adopt(files, joined, self.hands.clock()).unwrap());
        let peers = Arc::new(Peers::new(keeper.credentials()));
        Ok(Member { node, keeper, peers })
    }

    pub(super) async fn join(&self, role: Role) -> Member {
        self.try_join(&self.token(role)).await.unwrap()
    }

    pub(super) fn record(&self, node: NodeId, recorded: Recorded) {
        self.records.nodes.lock().unwrap().insert(node, recorded);
    }

    pub(super) fn link(&self, member: &Member) -> Link {
        member.peers.to(&self.address, Some(self.manager)).unwrap()
    }

    pub(super) fn renewal(&self, keeper: &Arc<Keeper>, peers: &Arc<Peers>) -> Renewal {
        let (node, address) = (self.manager, self.address.clone());
        let managers = move || vec![Reach { node, address: address.clone(), leader: true }];
        Renewal::new(keeper.clone(), peers.clone(), self.hands.clock(), managers, || 0.5)
    }

    pub(super) async fn renew(&self, member: &Member) {
        self.renewal(&member.keeper, &member.peers).renew().await.unwrap();
    }

    /// A session of which only the beginning is said.
    pub(super) async fn session(&self, member: &Member) -> Stream<Downward> {
        let hello = stream::iter([Upward::Hello(rpc::Hello::default())]).chain(stream::pending());
        let mut down = self.link(member).session(hello, SOON).await.unwrap();
        let welcome = down.next().await.unwrap().unwrap();
        assert!(matches!(welcome, Downward::Welcome { heartbeat_ms: 5000, .. }));
        down
    }

    /// Asserts that a session ends, since its connection does.
    pub(super) async fn ends(mut session: Stream<Downward>) {
        let last = tokio::time::timeout(SOON, session.next()).await.expect("it is closed");
        assert!(matches!(last, None | Some(Err(_))), "{last:?}");
    }
}
