//! What a node does for its peers: one trait a service. Who implements one knows nothing of gRPC, TLS or
//! sockets, and is called only by peers whose certificate allows it.

use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use tonic::async_trait;

use super::refusal::Refusal;
use crate::cluster::ca::Peer;
use crate::model::id::NodeId;
use crate::model::node::Role;

/// A stream from or to a peer. It ends with the connection, at the latest.
pub type Stream<T> = BoxStream<'static, Result<T, Refusal>>;

/// Joining and certificates. `root` and `issue` with a token are for anybody who reaches the port.
#[async_trait]
pub trait Trust: Send + Sync {
    /// The roots of the cluster, in PEM; the first is the one that join tokens name.
    async fn root(&self) -> Result<Bytes, Refusal>;

    /// A certificate: for whoever has a join token, or for a peer whose own is to be renewed.
    async fn issue(&self, asked: Asked) -> Result<Granted, Refusal>;

    /// What the managers think of a peer's certificate.
    async fn status(&self, from: Peer) -> Result<Standing, Refusal>;
}

/// A request for a certificate.
#[derive(Debug, Clone)]
pub struct Asked {
    /// PEM; only the key in it counts.
    pub csr: String,
    /// What the asking side has to show.
    pub proof: Proof,
    /// Where it comes from, for the limit on attempts.
    pub from: SocketAddr,
}

/// Why somebody should have a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// A join token, and how the node would like to be listed at first ("active", "pause", "drain", or ""
    /// for the default).
    Token {
        /// As it was typed.
        token: String,
        /// As it was typed.
        availability: String,
    },
    /// The certificate it called with.
    Certificate(Peer),
}

/// A certificate that was issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// The node it names.
    pub node: NodeId,
    /// PEM: the node's certificate, then what leads to the roots.
    pub chain: Bytes,
    /// PEM: all roots to trust.
    pub roots: Bytes,
}

/// What the managers think of a node's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The role that it should name.
    pub role: Role,
    /// Whether it should be renewed at once.
    pub renew: bool,
    /// PEM: all roots to trust.
    pub roots: Bytes,
}

/// Consensus, from manager to manager. What the bytes are is the caller's affair.
#[async_trait]
pub trait Raft: Send + Sync {
    /// One request and its reply. `kind` says which.
    async fn call(&self, from: Peer, kind: u32, body: Bytes) -> Result<Bytes, Refusal>;
}

/// One stream a node: what it should do comes down, what became of it goes up.
#[async_trait]
pub trait Dispatcher: Send + Sync {
    /// A session, for as long as both streams last. The first thing up is always `Upward::Hello`.
    async fn session(&self, from: Peer, up: Stream<Upward>) -> Result<Stream<Downward>, Refusal>;
}

/// What a node says in its session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upward {
    /// First.
    Hello(Hello),
    /// Statuses of tasks. Each batch is repeated in the next session until it was taken.
    Statuses {
        /// Grows by one a batch.
        batch: u64,
        /// The statuses.
        body: Bytes,
    },
    /// Assignments of this version are in force on the node.
    Applied(u64),
    /// Alive.
    Heartbeat,
    /// What the node is (resources, labels of its engine, plugins), when it has changed.
    Description(Bytes),
}

/// The beginning of a session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hello {
    /// What the node is.
    pub description: Bytes,
    /// The session to go on from; empty at first.
    pub session: String,
    /// The last version of assignments that was applied in it.
    pub version: u64,
}

/// What a manager says in a node's session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Downward {
    /// First: the name of the session, and how often to say that one is alive.
    Welcome {
        /// To name in the next `Hello`.
        session: String,
        /// In milliseconds.
        heartbeat_ms: u32,
    },
    /// What should run.
    Assignments {
        /// What this batch leads to.
        version: u64,
        /// What it is a change of; 0: it is complete.
        since: u64,
        /// The assignments.
        body: Bytes,
    },
    /// Who else could be asked.
    Managers(Vec<Reach>),
    /// Keys of membership and of encrypted networks.
    NetworkKeys(Bytes),
    /// Roots to trust (PEM), and whether to renew the certificate at once.
    Renew {
        /// All of them.
        roots: Bytes,
        /// At once, or when it is time.
        now: bool,
    },
    /// Statuses up to this batch are safe with the managers.
    StatusesTaken(u64),
    /// A manager would like a stream: see [`Relay`].
    Invitation {
        /// To name when it is opened.
        relay: u64,
        /// What for.
        request: Bytes,
    },
    /// What the managers hold of the node itself.
    Node(Bytes),
}

/// Where a manager is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// Its node.
    pub node: NodeId,
    /// Host and port.
    pub address: String,
    /// Whether it leads.
    pub leader: bool,
}

/// Streams of bytes that nodes open after an invitation: logs, exec, attach.
#[async_trait]
pub trait Relay: Send + Sync {
    /// A node comes to an invitation. What it sends is `up`; what it should get is the answer.
    async fn open(&self, from: Peer, relay: u64, up: Stream<Bytes>) -> Result<Stream<Bytes>, Refusal>;

    /// Another manager would like a stream of a node that has its session here. `down` is for the node; what the
    /// node sends is the answer.
    async fn reach(&self, node: NodeId, request: Bytes, down: Stream<Bytes>) -> Result<Stream<Bytes>, Refusal>;
}

/// Whether this manager can be worked with.
#[async_trait]
pub trait Health: Send + Sync {
    /// Whether it has caught up and serves.
    async fn serving(&self) -> bool;
}
