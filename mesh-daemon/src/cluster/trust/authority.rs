//! Gives certificates: to who brings a join token, and to nodes whose own is to be renewed. Says at the port
//! who may come in.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::time::Instant;

use super::attempts::Attempts;
use crate::cluster::ca::{
    self, JoinToken, Keys, Peer, PeerError, RootDigest, RootError, Subject, TrustError, root_digest,
};
use crate::cluster::clock::Clock;
use crate::cluster::rpc::{Asked, Code, Gate, Granted, Proof, Refusal, Standing, Trust, async_trait};
use crate::model::cluster::RootCa;
use crate::model::id::{ClusterId, NodeId};
use crate::model::node::{Availability, Certificate, CertificateState, Role};

/// Certificates of new nodes that are given again to who asks again with the same key, since an answer may
/// be lost on its way.
const MAX_RECENT: usize = 256;

/// What the cluster has recorded of its trust and its nodes.
#[async_trait]
pub trait Registry: Send + Sync {
    /// The trust of the cluster as this manager knows it.
    ///
    /// # Errors
    /// If it does not know it yet.
    fn trusted(&self) -> Result<Trusted, Refusal>;

    /// A node as this manager knows it.
    fn node(&self, node: NodeId) -> Recorded;

    /// A new node: recorded when this returns.
    async fn admit(&self, newcomer: Newcomer) -> Result<(), Refusal>;

    /// A node has another certificate.
    async fn renewed(&self, node: NodeId, certificate: Certificate) -> Result<(), Refusal>;
}

/// The trust of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trusted {
    /// Which cluster.
    pub cluster: ClusterId,
    /// Its root and tokens.
    pub ca: RootCa,
    /// How long a certificate lasts.
    pub life: Duration,
}

/// What is recorded of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// It is one of the cluster's, and should be this.
    Known(Role),
    /// It was removed.
    Removed,
    /// Nothing; it may have joined a moment ago, by another manager.
    Unknown,
}

/// A node that joins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Newcomer {
    /// Its id, just drawn.
    pub node: NodeId,
    /// By its token.
    pub role: Role,
    /// As it would like to be listed.
    pub availability: Availability,
    /// Its certificate, issued but not handed over yet.
    pub certificate: Certificate,
    /// Where it came from.
    pub from: SocketAddr,
}

/// The certificate authority of a cluster, on each of its managers.
pub struct Authority {
    registry: Arc<dyn Registry>,
    clock: Clock,
    draw: Box<dyn Fn() -> NodeId + Send + Sync>,
    attempts: Attempts,
    recent: Mutex<VecDeque<(Recent, Granted)>>,
}

#[derive(Debug, PartialEq, Eq)]
struct Recent {
    csr: RootDigest,
    role: Role,
}

impl Authority {
    /// An authority over this registry. `draw` gives ids for new nodes.
    pub fn new(registry: Arc<dyn Registry>, clock: Clock, draw: impl Fn() -> NodeId + Send + Sync + 'static) -> Self {
        Self { registry, clock, draw: Box::new(draw), attempts: Attempts::default(), recent: Mutex::default() }
    }

    async fn join(&self, csr: &str, token: &str, availability: &str, from: SocketAddr) -> Result<Granted, Refusal> {
        let trusted = self.registry.trusted()?;
        let role = self.role(&trusted.ca, token, from)?;
        let availability = self::availability(availability)?;
        let recent = Recent { csr: root_digest(csr), role };
        if let Some(granted) = self.again(&recent) {
            return Ok(granted);
        }
        let to = Subject { node: (self.draw)(), role, cluster: trusted.cluster };
        let (granted, certificate) = self.sign(&trusted, csr, &to)?;
        self.registry.admit(Newcomer { node: to.node, role, availability, certificate, from }).await?;
        let mut known = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() == MAX_RECENT {
            known.pop_front();
        }
        known.push_back((recent, granted.clone()));
        Ok(granted)
    }

    fn again(&self, recent: &Recent) -> Option<Granted> {
        let known = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, granted) = known.iter().find(|(known, _)| known == recent)?;
        let there = matches!(self.registry.node(granted.node), Recorded::Known(_));
        there.then(|| granted.clone())
    }

    fn role(&self, ca: &RootCa, token: &str, from: SocketAddr) -> Result<Role, Refusal> {
        self.attempts.may_try(from.ip(), Instant::now())?;
        let role = token.parse::<JoinToken>().ok().and_then(|token| ca::role_of_token(ca, &token));
        role.ok_or_else(|| {
            self.attempts.failed(from.ip(), Instant::now());
            // Swarm's words, which tools look for.
            Refusal::new(Code::InvalidArgument, "A valid join token is necessary to join this cluster")
        })
    }

    async fn renew(&self, csr: &str, peer: &Peer) -> Result<Granted, Refusal> {
        let trusted = self.registry.trusted()?;
        let role = self.recorded(peer)?;
        let to = Subject { node: peer.node, role, cluster: trusted.cluster };
        let (granted, certificate) = self.sign(&trusted, csr, &to)?;
        self.registry.renewed(peer.node, certificate).await?;
        Ok(granted)
    }

    fn sign(&self, trusted: &Trusted, csr: &str, to: &Subject) -> Result<(Granted, Certificate), Refusal> {
        let chain = ca::issue(&trusted.ca, csr, to, self.clock.now(), trusted.life).map_err(refuse)?;
        let certificate = to_record(&chain, csr).map_err(|error| Refusal::new(Code::Internal, error.to_string()))?;
        let roots = Bytes::from(ca::roots(&trusted.ca));
        Ok((Granted { node: to.node, chain: Bytes::from(chain), roots }, certificate))
    }

    /// The role that a peer should have.
    fn recorded(&self, peer: &Peer) -> Result<Role, Refusal> {
        match self.registry.node(peer.node) {
            Recorded::Known(role) => Ok(role),
            Recorded::Removed => {
                let text = format!("Permission denied: node {} was removed from the swarm", peer.node);
                Err(Refusal::new(Code::PermissionDenied, text))
            }
            Recorded::Unknown => {
                let text = format!("node {} is not known to this manager, or not yet", peer.node);
                Err(Refusal::new(Code::Unavailable, text))
            }
        }
    }
}

/// What is recorded of a certificate that was issued.
pub(super) fn to_record(chain: &str, csr: &str) -> Result<Certificate, PeerError> {
    let keys = Keys { chain: chain.to_owned(), key: String::new(), data_keys: Vec::new() };
    let own = keys.own()?;
    Ok(Certificate {
        role: own.role,
        csr: csr.to_owned(),
        state: CertificateState::Issued,
        err: String::new(),
        certificate: keys.chain,
        serial: own.serial,
        not_after: Timestamp::try_from(own.not_after).ok(),
    })
}

#[async_trait]
impl Trust for Authority {
    async fn root(&self) -> Result<Bytes, Refusal> {
        Ok(Bytes::from(ca::roots(&self.registry.trusted()?.ca)))
    }

    async fn issue(&self, asked: Asked) -> Result<Granted, Refusal> {
        match &asked.proof {
            Proof::Token { token, availability } => self.join(&asked.csr, token, availability, asked.from).await,
            Proof::Certificate(peer) => self.renew(&asked.csr, peer).await,
        }
    }

    async fn status(&self, from: Peer) -> Result<Standing, Refusal> {
        let trusted = self.registry.trusted()?;
        let role = self.recorded(&from)?;
        let renew = role != from.role || !ca::is_current(&trusted.ca, &from);
        Ok(Standing { role, renew, roots: Bytes::from(ca::roots(&trusted.ca)) })
    }
}

impl Gate for Authority {
    /// A manager that was demoted may act as a worker before it has renewed; one that was promoted acts as a
    /// worker until it has. A manager that has just begun knows no node before the log has come to it, and
    /// the log comes from a manager: until then certificates alone count.
    fn admits(&self, peer: &Peer) -> Result<Role, Refusal> {
        if self.registry.trusted().is_err() {
            return Ok(peer.role);
        }
        match (self.recorded(peer)?, peer.role) {
            (Role::Manager, Role::Manager) => Ok(Role::Manager),
            (Role::Worker, _) | (_, Role::Worker) => Ok(Role::Worker),
        }
    }
}

fn refuse(error: TrustError) -> Refusal {
    match error {
        TrustError::Root(RootError::Request(what)) | TrustError::NewRoot(RootError::Request(what)) => {
            Refusal::new(Code::InvalidArgument, format!("certificate signing request: {what}"))
        }
        TrustError::NoKey => Refusal::new(Code::FailedPrecondition, error.to_string()),
        TrustError::Root(source) | TrustError::NewRoot(source) => {
            Refusal::new(Code::Internal, format!("the cluster's root: {source}"))
        }
        TrustError::Token(_) | TrustError::NoRotation | TrustError::Time | TrustError::Wanted(_) => {
            Refusal::new(Code::Internal, error.to_string())
        }
    }
}

fn availability(text: &str) -> Result<Availability, Refusal> {
    match text {
        "" | "active" => Ok(Availability::Active),
        "pause" => Ok(Availability::Pause),
        "drain" => Ok(Availability::Drain),
        other => Err(Refusal::new(Code::InvalidArgument, format!("invalid Availability: \"{other}\""))),
    }
}
