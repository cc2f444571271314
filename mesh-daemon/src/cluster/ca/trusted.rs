//! What a cluster agrees on in matters of trust, and how it changes: the root and its rotation, join tokens,
//! who gets a certificate of which root.
//!
//! Pure: the caller reads [`RootCa`] from the store and writes back what comes of it.
//!
//! A rotation of the root goes: the new root is made and signed by the old one as well; from then on
//! certificates are signed by the new root and shown together with that signature, so that nodes which
//! trust one of the two accept them; every node renews; then the new root stands alone, with new tokens.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use thiserror::Error;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::cipher::CipherError;
use super::peer::{KeyId, Peer};
use super::root::{self, Root, RootError, Subject, certificates, root_digest};
use super::token::JoinToken;
use crate::model::cluster::{JoinTokens, RootCa, RootRotation};
use crate::model::node::{Role, TlsDescription};
use crate::model::payload::Payload;

/// Why the trust of a cluster was not read or changed.
#[derive(Debug, Error)]
pub enum TrustError {
    /// The root does not load, or does not sign.
    #[error("the cluster's root")]
    Root(#[source] RootError),
    /// A root is being rotated; what it loads is damaged.
    #[error("the root that takes the place of the cluster's")]
    NewRoot(#[source] RootError),
    /// The system has no randomness to give.
    #[error("make a join token")]
    Token(#[source] CipherError),
    /// What a user wants of the root cannot be.
    #[error(transparent)]
    Wanted(#[from] super::wanted::Unwanted),
    /// Not without its key.
    #[error("the key of the cluster's root is not held by the cluster")]
    NoKey,
    /// Nothing to finish.
    #[error("no rotation of the root is in progress")]
    NoRotation,
    /// The time is before 1970 or after 9999.
    #[error("the clock of this machine is out of range")]
    Time,
}

/// The trust of a new cluster.
///
/// # Errors
/// If keys cannot be made.
pub fn found(now: SystemTime) -> Result<RootCa, TrustError> {
    with_root(&Root::create(now).map_err(TrustError::Root)?)
}

fn with_root(root: &Root) -> Result<RootCa, TrustError> {
    let token = || JoinToken::generate(root.digest()).map(|token| token.to_string()).map_err(TrustError::Token);
    Ok(RootCa {
        certificate: root.certificate().to_owned(),
        key: Payload(root.key().into_bytes()),
        digest: format!("sha256:{}", root.digest()),
        join_tokens: JoinTokens { worker: token()?, manager: token()? },
        rotation: None,
        last_forced_rotation: 0,
    })
}

/// All roots to trust, PEM: the one in force first, then the one that takes its place.
pub fn roots(ca: &RootCa) -> String {
    let new = ca.rotation.as_ref().map_or("", |rotation| &rotation.certificate);
    format!("{}{new}", ca.certificate)
}

/// A token with a new secret for a role. Nodes that have joined do not notice.
///
/// # Errors
/// If the system has no randomness to give.
pub fn rotate_token(ca: &mut RootCa, role: Role) -> Result<(), TrustError> {
    let token = JoinToken::generate(root_digest(&ca.certificate)).map_err(TrustError::Token)?.to_string();
    match role {
        Role::Worker => ca.join_tokens.worker = token,
        Role::Manager => ca.join_tokens.manager = token,
    }
    Ok(())
}

/// The role that a token gives; None: it is not one of this cluster's.
pub fn role_of_token(ca: &RootCa, token: &JoinToken) -> Option<Role> {
    let is = |own: &str| own.parse::<JoinToken>().is_ok_and(|own| own.is(token));
    // Both are always compared: how long it takes does not tell which was nearer.
    let (worker, manager) = (is(&ca.join_tokens.worker), is(&ca.join_tokens.manager));
    if manager { Some(Role::Manager) } else { worker.then_some(Role::Worker) }
}

/// Signs a node's request: (chain, PEM; who it names).
///
/// # Errors
/// If the cluster's root does not load or is not held here, or the request is not one.
pub fn issue(ca: &RootCa, csr: &str, to: &Subject, now: SystemTime, life: Duration) -> Result<String, TrustError> {
    let Some(rotation) = &ca.rotation else {
        return load(&ca.certificate, &ca.key)?.issue(csr, to, now, life).map_err(TrustError::Root);
    };
    let new = load(&rotation.certificate, &rotation.key)?;
    let leaf = new.issue(csr, to, now, life).map_err(TrustError::NewRoot)?;
    Ok(format!("{leaf}{}", rotation.cross_signed))
}

fn load(certificate: &str, key: &Payload) -> Result<Root, TrustError> {
    if key.0.is_empty() {
        return Err(TrustError::NoKey);
    }
    let key = std::str::from_utf8(&key.0).map_err(|_| TrustError::Root(RootError::Key))?;
    Root::load(certificate, key).map_err(TrustError::Root)
}

/// Begins to put another root in the place of the one in force: a new one, or the given one. A rotation that is
/// going on is given up for it.
///
/// # Errors
/// If the given root is none, the one in force is not held here, or signing fails.
pub fn begin_rotation(ca: &mut RootCa, given: Option<Root>, now: SystemTime) -> Result<(), TrustError> {
    let old = load(&ca.certificate, &ca.key)?;
    let new = match given {
        Some(root) => root,
        None => Root::create(now).map_err(TrustError::NewRoot)?,
    };
    let cross_signed = old.cross_sign(&new, now).map_err(TrustError::NewRoot)?;
    ca.rotation = Some(RootRotation {
        certificate: new.certificate().to_owned(),
        key: Payload(new.key().into_bytes()),
        cross_signed,
        started_at: Some(Timestamp::try_from(now).map_err(|_| TrustError::Time)?),
    });
    Ok(())
}

/// Whether a node's certificate is of the root that will stay. The rotation is finished when all are.
pub fn has_renewed(ca: &RootCa, node: &TlsDescription) -> bool {
    let staying = ca.rotation.as_ref().map_or(&ca.certificate, |rotation| &rotation.certificate);
    public_key(staying).is_some_and(|key| key == node.cert_issuer_public_key)
}

/// Whether a peer's certificate was signed by the root that will stay: if not, it should renew.
pub fn is_current(ca: &RootCa, peer: &Peer) -> bool {
    let staying = ca.rotation.as_ref().map_or(&ca.certificate, |rotation| &rotation.certificate);
    key_id(staying).is_some_and(|key| key == peer.issuer)
}

/// Lets the new root stand alone, with new join tokens.
///
/// # Errors
/// If there is no rotation, or its root does not load.
pub fn finish_rotation(ca: &mut RootCa) -> Result<(), TrustError> {
    let rotation = ca.rotation.as_ref().ok_or(TrustError::NoRotation)?;
    let new = load(&rotation.certificate, &rotation.key)?;
    *ca = RootCa { last_forced_rotation: ca.last_forced_rotation, ..with_root(&new)? };
    Ok(())
}

/// What a node says of its trust, from its own chain and the roots it trusts: None if no certificate at hand is
/// that of the chain's issuer.
pub fn issuer_of(chain: &str, roots: &str) -> Option<TlsDescription> {
    let chain = certificates(chain)?;
    let own = Peer::from_certificate(chain.first()?.contents()).ok()?;
    let known = certificates(roots)?;
    known.iter().chain(chain.iter().skip(1)).find_map(|block| {
        let (_, issuer) = X509Certificate::from_der(block.contents()).ok()?;
        (root::key_id(&issuer)? == own.issuer).then(|| TlsDescription {
            trust_root: roots.to_owned(),
            cert_issuer_subject: STANDARD.encode(issuer.subject().as_raw()),
            cert_issuer_public_key: STANDARD.encode(issuer.public_key().raw),
        })
    })
}

/// What names the key of a root.
fn key_id(certificate: &str) -> Option<KeyId> {
    let block = pem::parse(certificate).ok()?;
    let (_, parsed) = X509Certificate::from_der(block.contents()).ok()?;
    root::key_id(&parsed)
}

/// The public key of a certificate, as [`TlsDescription`] has it.
fn public_key(certificate: &str) -> Option<String> {
    let block = pem::parse(certificate).ok()?;
    let (_, parsed) = X509Certificate::from_der(block.contents()).ok()?;
    Some(STANDARD.encode(parsed.public_key().raw))
}
