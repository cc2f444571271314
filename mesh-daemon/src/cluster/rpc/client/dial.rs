//! Opens one connection: TCP, TLS, and a look at who answers. After a failure it waits before the next
//! attempt, and calls in between fail at once with the reason.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::Uri;

use crate::cluster::ca::{Peer, PeerError};
use crate::cluster::rpc::limits::{REDIAL_FIRST, REDIAL_LAST};
use crate::model::id::{ClusterId, NodeId};
use crate::model::node::Role;

/// Managers have it among their names.
const MANAGER: &str = "swarm-manager";

/// Who must be at the other end.
#[derive(Debug, Clone)]
pub(super) enum Whom {
    /// A manager of the cluster, and if it is known which, this one.
    Manager { cluster: ClusterId, node: Option<NodeId> },
    /// A manager of whom only the root is known.
    Unknown,
    /// Whoever is there.
    Anybody,
}

/// Why there is no connection.
#[derive(Debug, Error)]
pub(in crate::cluster::rpc) enum DialError {
    #[error("dial {address}")]
    Connect {
        address: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{address}: {reason}")]
    Handshake { address: String, reason: String },
    #[error("{address}: certificate of who answers")]
    Peer {
        address: String,
        #[source]
        source: PeerError,
    },
    #[error("{address} is {found}, not {wanted}")]
    Another { address: String, found: String, wanted: String },
    #[error("{address} could not be reached ({reason}); the next attempt is in {left:?}")]
    Waiting { address: String, reason: String, left: Duration },
}

/// Opens connections to one address.
#[derive(Debug, Clone)]
pub(super) struct Dialler {
    address: String,
    config: Arc<ClientConfig>,
    whom: Whom,
    failed: Arc<Mutex<Option<Failed>>>,
}

#[derive(Debug)]
struct Failed {
    reason: String,
    wait: Duration,
    until: Instant,
}

impl Dialler {
    pub(super) fn new(address: &str, config: Arc<ClientConfig>, whom: Whom) -> Self {
        Self { address: address.to_owned(), config, whom, failed: Arc::default() }
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// For tonic, which calls it when it needs a connection.
    pub(super) fn service(
        self,
    ) -> impl tower::Service<
        Uri,
        Response = TokioIo<TlsStream<TcpStream>>,
        Error = DialError,
        Future = impl Future<Output = Result<TokioIo<TlsStream<TcpStream>>, DialError>> + Send,
    > + Send
    + 'static {
        tower::service_fn(move |_| {
            let dialler = self.clone();
            async move { dialler.dial().await.map(TokioIo::new) }
        })
    }

    async fn dial(&self) -> Result<TlsStream<TcpStream>, DialError> {
        self.may_try()?;
        let dialled = self.connect().await;
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        *failed = dialled.as_ref().err().map(|error| {
            let wait = failed.as_ref().map_or(REDIAL_FIRST, |failed| (failed.wait * 2).min(REDIAL_LAST));
            Failed { reason: reasons(error), wait, until: Instant::now() + wait }
        });
        dialled
    }

    fn may_try(&self) -> Result<(), DialError> {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(failed) = failed.as_ref() else {
            return Ok(());
        };
        let left = failed.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        Err(DialError::Waiting { address: self.address.clone(), reason: failed.reason.clone(), left })
    }

    async fn connect(&self) -> Result<TlsStream<TcpStream>, DialError> {
        let connect = |source| DialError::Connect { address: self.address.clone(), source };
        let tcp = TcpStream::connect(&self.address).await.map_err(connect)?;
        tcp.set_nodelay(true).map_err(connect)?;
        let name = ServerName::try_from(MANAGER).map_err(|error| self.handshake(error.to_string()))?;
        let tls = TlsConnector::from(self.config.clone())
            .connect(name, tcp)
            .await
            .map_err(|error| self.handshake(explain(&error)))?;
        self.check(&tls)?;
        Ok(tls)
    }

    fn handshake(&self, reason: String) -> DialError {
        DialError::Handshake { address: self.address.clone(), reason }
    }

    /// TLS has seen that a manager's certificate of a trusted root answers; whose, is seen here.
    fn check(&self, tls: &TlsStream<TcpStream>) -> Result<(), DialError> {
        let Whom::Manager { cluster, node } = &self.whom else {
            return Ok(());
        };
        let leaf = tls.get_ref().1.peer_certificates().and_then(<[_]>::first).map_or(&[][..], |leaf| leaf.as_ref());
        let peer =
            Peer::from_certificate(leaf).map_err(|source| DialError::Peer { address: self.address.clone(), source })?;
        let right = peer.role == Role::Manager && peer.cluster == *cluster && node.is_none_or(|node| node == peer.node);
        if right {
            return Ok(());
        }
        let wanted = node.map_or("a manager".to_owned(), |node| format!("manager {node}"));
        Err(DialError::Another {
            address: self.address.clone(),
            found: format!("node {} of cluster {}", peer.node, peer.cluster),
            wanted: format!("{wanted} of cluster {cluster}"),
        })
    }
}

/// What TLS says, in the words that users of Docker know.
fn explain(error: &std::io::Error) -> String {
    use rustls::{CertificateError, Error};
    let certificate = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()).and_then(|error| match error {
        Error::InvalidCertificate(certificate) => Some(certificate),
        _ => None,
    });
    match certificate {
        // All roots have the same name, so a foreign one's certificate is first seen as badly signed.
        Some(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            "x509: certificate signed by unknown authority".to_owned()
        }
        Some(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        ) => "x509: certificate has expired or is not yet valid".to_owned(),
        Some(CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }) => {
            format!("x509: certificate is not valid for {MANAGER}")
        }
        _ => error.to_string(),
    }
}

/// An error and all its causes, in one line.
fn reasons(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(because) = cause {
        text = format!("{text}: {because}");
        cause = because.source();
    }
    text
}
