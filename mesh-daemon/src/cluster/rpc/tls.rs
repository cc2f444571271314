//! TLS between nodes: version 1.3 only, certificates on both sides, replaced while running.
//!
//! No resumption and no tickets: a resumed session keeps the identity it began with, so that a node that was
//! removed would live on. No early data for the same reason.

use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::time_provider::TimeProvider;
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme, client::WebPkiServerVerifier,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use thiserror::Error;
use tokio::sync::watch;

use crate::cluster::ca::{Keys, Peer, PeerError};
use crate::cluster::clock::Clock;

/// HTTP/2 is all that is spoken.
const PROTOCOL: &[u8] = b"h2";

/// Why a node cannot show or check certificates.
#[derive(Debug, Error)]
pub enum TlsError {
    /// The roots are not certificates.
    #[error("roots to trust: not certificates in PEM")]
    Roots,
    /// None of them can be trusted.
    #[error("roots to trust")]
    Verifier(#[source] rustls::client::VerifierBuilderError),
    /// The chain or the key is not PEM.
    #[error("this node's {0} is not PEM")]
    Pem(&'static str),
    /// The certificate does not say who this node is.
    #[error("this node's certificate")]
    Own(#[source] PeerError),
    /// TLS refuses to work with them.
    #[error("this node's certificate and key")]
    Tls(#[source] rustls::Error),
}

/// Who this node is and whom it trusts, for all its connections. Made once; what it holds is replaced when
/// the certificate is renewed or the roots change. Connections that are open go on as they began.
#[derive(Debug)]
pub struct Credentials {
    clock: Clock,
    live: ArcSwap<Live>,
    changed: watch::Sender<u64>,
}

/// What is in force.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) own: Peer,
    pub(super) server: Arc<ServerConfig>,
    pub(super) client: Arc<ClientConfig>,
    roots: String,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl Credentials {
    /// Of these keys, trusting these roots (PEM).
    ///
    /// # Errors
    /// If they are not what they should be.
    pub fn new(keys: &Keys, roots: &str, clock: Clock) -> Result<Self, TlsError> {
        let live = Live::new(keys, roots, &clock)?;
        Ok(Self { clock, live: ArcSwap::from_pointee(live), changed: watch::Sender::new(0) })
    }

    /// Goes over to others: connections from now on show and check these.
    ///
    /// # Errors
    /// If they are not what they should be; then nothing has changed.
    pub fn install(&self, keys: &Keys, roots: &str) -> Result<(), TlsError> {
        self.live.store(Arc::new(Live::new(keys, roots, &self.clock)?));
        self.changed.send_modify(|generation| *generation += 1);
        Ok(())
    }

    /// Who this node is, by the certificate it shows now.
    pub fn own(&self) -> Peer {
        self.live.load().own.clone()
    }

    /// The roots that are trusted now, PEM.
    pub fn roots(&self) -> String {
        self.live.load().roots.clone()
    }

    /// Counts how often they were replaced, and tells when they are.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Whether a chain that was shown earlier would be believed now: roots change.
    pub(super) fn believes(&self, chain: &[CertificateDer<'_>]) -> bool {
        let Some((leaf, rest)) = chain.split_first() else { return false };
        let since = self.now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.live.load().verifier.verify_client_cert(leaf, rest, UnixTime::since_unix_epoch(since)).is_ok()
    }

    pub(super) fn generation(&self) -> u64 {
        *self.changed.borrow()
    }

    pub(super) fn live(&self) -> Arc<Live> {
        self.live.load_full()
    }

    pub(super) fn now(&self) -> SystemTime {
        self.clock.now()
    }
}

impl Live {
    fn new(keys: &Keys, roots: &str, clock: &Clock) -> Result<Self, TlsError> {
        let store = Arc::new(store(roots)?);
        let provider = Arc::new(default_provider());
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(keys.chain.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|_| TlsError::Pem("certificate"))?;
        let key = PrivateKeyDer::from_pem_slice(keys.key.as_bytes()).map_err(|_| TlsError::Pem("key"))?;
        let verifier = WebPkiClientVerifier::builder_with_provider(store.clone(), provider.clone())
            .allow_unauthenticated()
            .build()
            .map_err(TlsError::Verifier)?;
        let mut server = ServerConfig::builder_with_details(provider.clone(), Arc::new(Time(clock.clone())))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(TlsError::Tls)?
            .with_client_cert_verifier(verifier.clone())
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(TlsError::Tls)?;
        server.alpn_protocols = vec![PROTOCOL.to_vec()];
        server.send_tls13_tickets = 0;
        server.session_storage = Arc::new(NoServerSessionStorage {});
        let client = ClientConfig::builder_with_details(provider, Arc::new(Time(clock.clone())))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(TlsError::Tls)?
            .with_root_certificates(store)
            .with_client_auth_cert(chain, key)
            .map_err(TlsError::Tls)?;
        let own = keys.own().map_err(TlsError::Own)?;
        Ok(Self { own, server: Arc::new(server), client: Arc::new(finish(client)), roots: roots.to_owned(), verifier })
    }
}

/// For who has no certificate yet and knows the roots (PEM).
pub(super) fn guest(roots: &str, clock: &Clock) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = Arc::new(default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(store(roots)?), provider.clone())
        .build()
        .map_err(TlsError::Verifier)?;
    unauthenticated(provider, clock, verifier)
}

/// For who does not know the roots yet, and will check what it is told against a join token. Nothing secret may
/// be sent over such a connection.
pub(super) fn stranger(clock: &Clock) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = Arc::new(default_provider());
    unauthenticated(provider.clone(), clock, Arc::new(Anybody(provider)))
}

fn unauthenticated(
    provider: Arc<CryptoProvider>,
    clock: &Clock,
    verifier: Arc<dyn ServerCertVerifier>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let client = ClientConfig::builder_with_details(provider, Arc::new(Time(clock.clone())))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Tls)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(Arc::new(finish(client)))
}

fn finish(mut client: ClientConfig) -> ClientConfig {
    client.alpn_protocols = vec![PROTOCOL.to_vec()];
    client.resumption = Resumption::disabled();
    client.enable_early_data = false;
    client
}

fn store(roots: &str) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(roots.as_bytes()) {
        store.add(root.map_err(|_| TlsError::Roots)?).map_err(|_| TlsError::Roots)?;
    }
    Ok(store)
}

/// The node's clock, for rustls.
#[derive(Debug)]
struct Time(Clock);

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        self.0.now().duration_since(SystemTime::UNIX_EPOCH).ok().map(UnixTime::since_unix_epoch)
    }
}

/// Takes any certificate, if its owner has the key.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
