//! Who is at the other end of a connection, as a certificate says it.

use std::time::SystemTime;

use thiserror::Error;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::model::id::{ClusterId, NodeId};
use crate::model::node::Role;

/// The organisational unit of certificates of this role.
pub(super) fn unit(role: Role) -> &'static str {
    match role {
        Role::Worker => "swarm-worker",
        Role::Manager => "swarm-manager",
    }
}

/// Whom a certificate names, and who says so. Made of certificates that were verified, or of our own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The node: the common name.
    pub node: NodeId,
    /// What it may do: the organisational unit.
    pub role: Role,
    /// The cluster it belongs to: the organisation.
    pub cluster: ClusterId,
    /// The key that signed the certificate: its authority key identifier.
    pub issuer: KeyId,
    /// The certificate's serial number, hexadecimal.
    pub serial: String,
    /// From when the certificate is good.
    pub not_before: SystemTime,
    /// Until when.
    pub not_after: SystemTime,
}

/// Names a key of a root: the beginning of a hash of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(pub Vec<u8>);

/// Why a certificate does not say who a node is.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PeerError {
    /// Not an X.509 certificate.
    #[error("not an X.509 certificate")]
    Certificate,
    /// A part of the subject is missing, or there twice.
    #[error("certificate's subject has no single {0}")]
    Subject(&'static str),
    /// A part of the subject is not an id.
    #[error("certificate's {0} is not an id")]
    Id(&'static str),
    /// The unit is neither of the two roles.
    #[error("certificate's organisational unit is \"{0}\": it is a role, swarm-worker or swarm-manager")]
    Unit(String),
}

impl Peer {
    /// Reads a certificate. Does not verify it.
    ///
    /// # Errors
    /// If it is no certificate of a node.
    pub fn from_certificate(der: &[u8]) -> Result<Self, PeerError> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| PeerError::Certificate)?;
        let subject = certificate.subject();
        let unit = single(subject.iter_organizational_unit(), "organisational unit")?;
        let role = [Role::Worker, Role::Manager].into_iter().find(|role| self::unit(*role) == unit);
        Ok(Self {
            node: id(subject.iter_common_name(), "common name")?,
            role: role.ok_or(PeerError::Unit(unit))?,
            cluster: id(subject.iter_organization(), "organisation")?,
            issuer: authority(&certificate),
            serial: certificate.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect(),
            not_before: time(certificate.validity().not_before.timestamp()),
            not_after: time(certificate.validity().not_after.timestamp()),
        })
    }
}

fn single<'a>(
    mut parts: impl Iterator<Item = &'a x509_parser::x509::AttributeTypeAndValue<'a>>,
    name: &'static str,
) -> Result<String, PeerError> {
    let first = parts.next().and_then(|part| part.as_str().ok()).ok_or(PeerError::Subject(name))?;
    if parts.next().is_some() {
        return Err(PeerError::Subject(name));
    }
    Ok(first.to_owned())
}

fn id<'a, Id: std::str::FromStr>(
    parts: impl Iterator<Item = &'a x509_parser::x509::AttributeTypeAndValue<'a>>,
    name: &'static str,
) -> Result<Id, PeerError> {
    single(parts, name)?.parse().map_err(|_| PeerError::Id(name))
}

fn authority(certificate: &X509Certificate<'_>) -> KeyId {
    use x509_parser::extensions::ParsedExtension;
    let identifier = certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(authority) => authority.key_identifier.as_ref(),
        _ => None,
    });
    KeyId(identifier.map(|identifier| identifier.0.to_vec()).unwrap_or_default())
}

/// A time of a certificate: seconds since 1970.
pub(super) fn time(seconds: i64) -> SystemTime {
    let since = std::time::Duration::from_secs(seconds.unsigned_abs());
    let time =
        if seconds < 0 { SystemTime::UNIX_EPOCH.checked_sub(since) } else { SystemTime::UNIX_EPOCH.checked_add(since) };
    time.unwrap_or(SystemTime::UNIX_EPOCH)
}
