//! The Docker API over TCP: only for who shows a certificate of the authority that the operator names. There is
//! no port without that, for whoever speaks to it is root on the node.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::debug;

/// A handshake that takes longer is given up.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// A client that is silent for so many seconds is asked whether it is there; one that has gone without a word
/// would keep an attached stream open for ever.
const KEEPALIVE: u32 = 60;

/// Where to listen, and whom to trust: Docker's `--host`, `--tlscacert`, `--tlscert` and `--tlskey`.
#[derive(Clone, Debug)]
pub struct Remote {
    /// Address and port.
    pub address: SocketAddr,
    /// Whose clients are let in: certificates, PEM.
    pub ca: PathBuf,
    /// What this node shows: its certificate and what leads to the root, PEM.
    pub cert: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
}

/// Why there is no port.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// A file is missing, or holds something else.
    #[error("read {what} of the Docker API from {}", path.display())]
    Pem {
        /// What it should hold.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// A file without any.
    #[error("{} holds no certificate in PEM", .0.display())]
    Empty(PathBuf),
    /// The authority cannot be trusted.
    #[error("trust {} for clients of the Docker API", path.display())]
    Ca {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Certificate and key do not belong together, or cannot be used.
    #[error("show {} to clients of the Docker API", path.display())]
    Own {
        /// The certificate.
        path: PathBuf,
        /// Why not.
        #[source]
        source: rustls::Error,
    },
    /// The port.
    #[error("listen at tcp://{address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// A port that lets in whom it trusts.
pub(super) struct TlsListener {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

/// A connection that nobody has shown a certificate on yet.
pub(super) struct Stranger {
    stream: TcpStream,
    from: SocketAddr,
    acceptor: TlsAcceptor,
}

impl TlsListener {
    pub(super) async fn open(remote: &Remote) -> Result<Self, RemoteError> {
        let config = config(remote)?;
        let listen = |source| RemoteError::Listen { address: remote.address, source };
        let listener = TcpListener::bind(remote.address).await.map_err(listen)?;
        Ok(Self { listener, acceptor: TlsAcceptor::from(Arc::new(config)) })
    }

    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.listener.local_addr().ok()
    }

    pub(super) async fn accept(&self) -> io::Result<Stranger> {
        let (stream, from) = self.listener.accept().await?;
        Ok(Stranger { stream, from, acceptor: self.acceptor.clone() })
    }
}

impl Stranger {
    /// The connection, if who is there may use it.
    pub(super) async fn admit(self) -> Option<TlsStream<TcpStream>> {
        let Self { stream, from, acceptor } = self;
        // Without these it works all the same.
        let _ = stream.set_nodelay(true);
        let _ = setsockopt(&stream, sockopt::KeepAlive, &true);
        let _ = setsockopt(&stream, sockopt::TcpKeepIdle, &KEEPALIVE);
        match timeout(HANDSHAKE, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => Some(stream),
            Ok(Err(error)) => {
                debug!(%from, %error, "a client of the Docker API is not let in");
                None
            }
            Err(_) => {
                debug!(%from, "a client of the Docker API says nothing");
                None
            }
        }
    }
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, RemoteError> {
    let pem = |source| RemoteError::Pem { what, path: path.to_owned(), source };
    let all: Vec<_> = CertificateDer::pem_file_iter(path).map_err(pem)?.collect::<Result<_, _>>().map_err(pem)?;
    if all.is_empty() { Err(RemoteError::Empty(path.to_owned())) } else { Ok(all) }
}

fn config(remote: &Remote) -> Result<ServerConfig, RemoteError> {
    let Remote { address: _, ca, cert, key } = remote;
    let distrust = |source: Box<dyn std::error::Error + Send + Sync>| RemoteError::Ca { path: ca.clone(), source };
    let mut roots = RootCertStore::empty();
    for root in certificates("the authority of clients", ca)? {
        roots.add(root).map_err(|error| distrust(Box::new(error)))?;
    }
    let chain = certificates("the certificate", cert)?;
    let pem = |source| RemoteError::Pem { what: "the key", path: key.clone(), source };
    let key = PrivateKeyDer::from_pem_file(key).map_err(pem)?;
    let provider = Arc::new(default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build();
    let clients = clients.map_err(|error| distrust(Box::new(error)))?;
    let own = |source| RemoteError::Own { path: cert.clone(), source };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(own)?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)
        .map_err(own)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
