//! The management port: accepts, asks who is there, and hands calls to the services.
//!
//! Handshakes run beside each other and under a deadline, so one that stalls holds up nobody. A certificate
//! is looked at in the handshake, and held against [`Gate`] then, at each call, and each second: a node that was
//! removed or changed its role loses its connections at once.

mod guests;
mod services;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls_pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

pub(in crate::cluster) use self::guests::neighbourhood;
use self::guests::{Guests, Place};
use super::face::{Dispatcher, Health, Raft, Relay, Trust};
use super::limits::{
    GUEST_STAY, HANDSHAKE, KEEPALIVE, KEEPALIVE_ANSWER, MAX_CONNECTIONS, MAX_GUEST_STREAMS, MAX_HEADERS, MAX_STREAMS,
    RECHECK,
};
use super::refusal::Refusal;
use super::tls::Credentials;
use crate::cluster::ca::Peer;
use crate::model::node::Role;

/// What the cluster says of a certificate that is good by itself: whether the node has been removed, or has
/// another role by now. Asked often, so it answers from memory.
pub trait Gate: Send + Sync {
    /// What this peer may act as: at most what its certificate says.
    ///
    /// # Errors
    /// Why it may not be spoken with at all.
    fn admits(&self, peer: &Peer) -> Result<Role, Refusal>;
}

/// What a manager does for its peers.
#[derive(Clone)]
pub struct Services {
    /// For anybody, in part.
    pub trust: Arc<dyn Trust>,
    /// For managers.
    pub raft: Arc<dyn Raft>,
    /// For all nodes.
    pub dispatcher: Arc<dyn Dispatcher>,
    /// For all nodes.
    pub relay: Arc<dyn Relay>,
    /// For all nodes.
    pub health: Arc<dyn Health>,
}

/// The management port of a manager.
pub struct Server {
    credentials: Arc<Credentials>,
    gate: Arc<dyn Gate>,
    routes: Routes,
}

/// Who calls, beside each call.
#[derive(Clone)]
struct Caller {
    /// Whom its certificate names; None: it has shown none.
    peer: Option<Peer>,
    from: SocketAddr,
    gate: Arc<dyn Gate>,
}

impl Server {
    /// A server with these services.
    pub fn new(credentials: Arc<Credentials>, gate: Arc<dyn Gate>, services: Services) -> Self {
        let routes = services::routes(services, credentials.own().node).prepare();
        Self { credentials, gate, routes }
    }

    /// Serves until `stop`; then closes what is open. A connection that fails ends alone.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, stop: CancellationToken) {
        let guests = Guests::default();
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                Some(_) = connections.join_next() => continue,
                accepted = listener.accept() => accepted,
            };
            let (tcp, from) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    pause_if_exhausted(&error).await;
                    continue;
                }
            };
            let place = guests.admit(from.ip()).filter(|_| connections.len() < MAX_CONNECTIONS);
            let Some(place) = place else {
                tracing::warn!(%from, "management connection refused: too many are open");
                continue;
            };
            connections.spawn(self.clone().connection(tcp, from, place));
        }
        connections.shutdown().await;
    }

    async fn connection(self: Arc<Self>, tcp: TcpStream, from: SocketAddr, place: Place) {
        let generation = self.credentials.generation();
        let acceptor = TlsAcceptor::from(self.credentials.live().server.clone());
        // Small messages wait for nothing; a socket that cannot be told so works all the same.
        let _ = tcp.set_nodelay(true);
        let tls = match timeout(HANDSHAKE, acceptor.accept(tcp)).await {
            Ok(Ok(tls)) => tls,
            Ok(Err(error)) => return tracing::debug!(%from, %error, "handshake failed"),
            Err(_) => return tracing::debug!(%from, "handshake took too long"),
        };
        let Ok(peer) = self.identify(&tls) else {
            return tracing::warn!(%from, "certificate of this cluster's root does not name a node of it");
        };
        let chain = tls.get_ref().1.peer_certificates().unwrap_or_default().to_vec();
        let admitted = peer.clone().and_then(|peer| Some((self.gate.admits(&peer).ok()?, peer)));
        let caller = Caller { peer, from, gate: self.gate.clone() };
        match admitted {
            Some((role, peer)) => {
                drop(place);
                tokio::select! {
                    () = self.speak(tls, caller, MAX_STREAMS) => {}
                    () = sleep_until(self.lasts(&peer)) => {}
                    () = self.changes(&peer, role, &chain, generation) => {}
                }
            }
            // It is still told why, call by call, but not for long.
            None => {
                let _ = timeout(GUEST_STAY, self.speak(tls, caller, MAX_GUEST_STREAMS)).await;
                drop(place);
            }
        }
    }

    /// Whom the certificate names: Ok(None) if there is none, an error if it is not of a node of this cluster.
    fn identify(&self, tls: &TlsStream<TcpStream>) -> Result<Option<Peer>, ()> {
        let Some(leaf) = tls.get_ref().1.peer_certificates().and_then(<[_]>::first) else {
            return Ok(None);
        };
        let peer = Peer::from_certificate(leaf).map_err(|_| ())?;
        if peer.cluster == self.credentials.own().cluster { Ok(Some(peer)) } else { Err(()) }
    }

    /// When the peer's certificate ends, and with it the connection.
    fn lasts(&self, peer: &Peer) -> Instant {
        let left = peer.not_after.duration_since(self.credentials.now()).unwrap_or_default();
        // No timer runs for as long as a root's certificate might.
        Instant::now() + left.min(std::time::Duration::from_secs(365 * 24 * 3600))
    }

    async fn speak(&self, tls: TlsStream<TcpStream>, caller: Caller, streams: u32) {
        let routes = self.routes.clone();
        let service = tower::service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(caller.clone());
            tower::ServiceExt::oneshot(routes.clone(), request)
        });
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE_ANSWER)
            .max_concurrent_streams(streams)
            .max_header_list_size(MAX_HEADERS)
            .serve_connection(TokioIo::new(tls), TowerToHyperService::new(service));
        if let Err(error) = connection.await {
            tracing::debug!(%error, "management connection broke");
        }
    }

    /// Waits until a peer may not act as it could when it came, or would not be believed any more: a root that was
    /// rotated away is trusted in no connection, not in an old one either.
    async fn changes(&self, peer: &Peer, role: Role, chain: &[CertificateDer<'static>], mut believed_in: u64) {
        let mut ticks = interval(RECHECK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let generation = self.credentials.generation();
            if generation != believed_in && !self.credentials.believes(chain) {
                return tracing::info!(node = %peer.node, "management connection closed: its root is trusted no more");
            }
            believed_in = generation;
            match self.gate.admits(peer) {
                Ok(now) if now == role => {}
                Ok(_) => return tracing::info!(node = %peer.node, "management connection closed: another role"),
                Err(refusal) => {
                    return tracing::info!(node = %peer.node, reason = %refusal.text, "management connection closed");
                }
            }
        }
    }
}

/// No file descriptors left: the next attempt would fail as well, and at once.
async fn pause_if_exhausted(error: &io::Error) {
    tracing::warn!(%error, "cannot accept a management connection");
    let transient = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    );
    if !transient {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}
