//! The root of a cluster's trust: a key of P-256 and a certificate that it signs itself. What it signs.
//!
//! Never decides who gets a certificate: that is `authority`'s part.

use std::time::{Duration, SystemTime};

use aws_lc_rs::digest;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType, DnValue,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    PublicKeyData, SanType,
};
use thiserror::Error;
use x509_parser::asn1_rs::Tag;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::peer::{KeyId, time, unit};
use super::token::RootDigest;
use crate::model::id::{ClusterId, NodeId};
use crate::model::node::Role;

/// As Swarm's.
const ROOT_NAME: &str = "swarm-ca";
const ROOT_LIFE: Duration = Duration::from_secs(20 * 365 * 24 * 3600);
/// Certificates begin to be good an hour ago, for nodes whose clocks are behind.
const BACKDATED: Duration = Duration::from_secs(3600);
/// A signing request of a key of P-256 is under 1 KiB.
const MAX_CSR: usize = 16 * 1024;

/// Why a root cannot be made, read or used.
#[derive(Debug, Error)]
pub enum RootError {
    /// The certificate is not one.
    #[error("root certificate: {0}")]
    Certificate(&'static str),
    /// The key is not one of P-256.
    #[error("root key is not a key of ECDSA P-256 in PEM")]
    Key,
    /// Key and certificate do not belong together.
    #[error("root key does not belong to the root certificate")]
    Pair,
    /// The request is no signing request, is not signed by its own key, or too long.
    #[error("certificate signing request: {0}")]
    Request(&'static str),
    /// A name cannot stand in a certificate.
    #[error("\"{0}\" cannot stand in a certificate")]
    Name(String),
    /// Signing failed.
    #[error("sign {what}")]
    Sign {
        /// What was to be signed.
        what: &'static str,
        /// Why it was not.
        #[source]
        source: rcgen::Error,
    },
}

/// Whom a certificate is for. What a node asks for is never looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The node's id.
    pub node: NodeId,
    /// What it may do.
    pub role: Role,
    /// The cluster's id.
    pub cluster: ClusterId,
}

/// A root with its key.
#[derive(Debug)]
pub struct Root {
    certificate: String,
    key_id: KeyId,
    name: DistinguishedName,
    not_after: SystemTime,
    issuer: Issuer<'static, KeyPair>,
}

impl Root {
    /// A new root, good for 20 years.
    ///
    /// # Errors
    /// If the key cannot be made.
    pub fn create(now: SystemTime) -> Result<Self, RootError> {
        let sign = |source| RootError::Sign { what: "a new root", source };
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(sign)?;
        let certificate = authority(now).self_signed(&key).map_err(sign)?.pem();
        Self::load(&certificate, &key.serialize_pem())
    }

    /// Reads certificate and key, both PEM.
    ///
    /// # Errors
    /// If one is not what it should be, or they do not belong together.
    pub fn load(certificate: &str, key: &str) -> Result<Self, RootError> {
        // PKCS #8, or as openssl's `ecparam -genkey` writes it.
        let key = KeyPair::from_pem_and_sign_algo(key, &PKCS_ECDSA_P256_SHA256).map_err(|_| RootError::Key)?;
        let block = single(certificate)?;
        let (_, parsed) = X509Certificate::from_der(block.contents())
            .map_err(|_| RootError::Certificate("not an X.509 certificate"))?;
        if !parsed.is_ca() {
            return Err(RootError::Certificate("not of an authority"));
        }
        if *parsed.public_key().subject_public_key.data != *key.der_bytes() {
            return Err(RootError::Pair);
        }
        let key_id = key_id(&parsed).ok_or(RootError::Certificate("has no key identifier"))?;
        let name = name(&parsed).ok_or(RootError::Certificate("has a name that cannot be signed again"))?;
        let not_after = time(parsed.validity().not_after.timestamp());
        let issuer = Issuer::from_ca_cert_der(&block.contents().into(), key)
            .map_err(|_| RootError::Certificate("not of an authority"))?;
        Ok(Self { certificate: normal(&[block]), key_id, name, not_after, issuer })
    }

    /// The certificate, PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// The key, PEM. It is the cluster's deepest secret.
    pub fn key(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// What names the key in what it signed.
    pub fn key_id(&self) -> &KeyId {
        &self.key_id
    }

    /// When it ends.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// What join tokens name.
    pub fn digest(&self) -> RootDigest {
        root_digest(&self.certificate)
    }

    /// A certificate of another root's key, signed by this one: who trusts this root then trusts what the other
    /// signs.
    ///
    /// # Errors
    /// If signing fails.
    pub fn cross_sign(&self, other: &Self, now: SystemTime) -> Result<String, RootError> {
        // What the other signs names it so: by its own name, and its own identifier of its key.
        let mut params = authority(now);
        params.distinguished_name = other.name.clone();
        params.key_identifier_method = KeyIdMethod::PreSpecified(other.key_id.0.clone());
        let signed = params
            .signed_by(other.issuer.key(), &self.issuer)
            .map_err(|source| RootError::Sign { what: "a cross-signed root", source })?;
        if subject_of(signed.der()) != subject_of(single(&other.certificate)?.contents()) {
            return Err(RootError::Certificate("has a name that cannot be signed again"));
        }
        Ok(signed.pem())
    }

    /// A node's certificate, PEM, for the key of a signing request.
    ///
    /// # Errors
    /// If the request is none, its key is not of P-256, or a name of the subject cannot stand in a certificate.
    pub fn issue(&self, csr: &str, to: &Subject, now: SystemTime, life: Duration) -> Result<String, RootError> {
        if csr.len() > MAX_CSR {
            return Err(RootError::Request("too long"));
        }
        let mut request = CertificateSigningRequestParams::from_pem(csr)
            .map_err(|_| RootError::Request("not one that its own key signed"))?;
        if request.public_key.algorithm() != &PKCS_ECDSA_P256_SHA256 {
            return Err(RootError::Request("not of a key of ECDSA P-256"));
        }
        request.params = node(to, now, life)?;
        request
            .signed_by(&self.issuer)
            .map(|certificate| certificate.pem())
            .map_err(|source| RootError::Sign { what: "a node's certificate", source })
    }
}

/// The digest that a join token has for the first certificate of a PEM text.
pub fn root_digest(pem: &str) -> RootDigest {
    let hash = digest::digest(&digest::SHA256, pem.as_bytes());
    let mut bytes = [0; 32];
    bytes.copy_from_slice(hash.as_ref());
    RootDigest(bytes)
}

/// PEM as everybody writes it: lines of 64, ended by a line feed each. Digests are taken of this form.
pub(super) fn normal(blocks: &[pem::Pem]) -> String {
    pem::encode_many_config(blocks, pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF))
}

/// The certificates of a PEM text, in their normal form, one by one.
pub(super) fn certificates(pem: &str) -> Option<Vec<pem::Pem>> {
    let blocks = pem::parse_many(pem).ok()?;
    let certificate =
        |block: &pem::Pem| block.tag() == "CERTIFICATE" && X509Certificate::from_der(block.contents()).is_ok();
    (!blocks.is_empty() && blocks.iter().all(certificate)).then_some(blocks)
}

pub(super) fn key_id(certificate: &X509Certificate<'_>) -> Option<KeyId> {
    certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(identifier) => Some(KeyId(identifier.0.to_vec())),
        _ => None,
    })
}

/// The one certificate of a PEM text.
fn single(pem: &str) -> Result<pem::Pem, RootError> {
    match <[pem::Pem; 1]>::try_from(pem::parse_many(pem).unwrap_or_default()) {
        Ok([block]) => Ok(block),
        Err(blocks) if blocks.is_empty() => Err(RootError::Certificate("not PEM")),
        Err(_) => Err(RootError::Certificate("more than one: a root stands alone")),
    }
}

fn subject_of(der: &[u8]) -> Option<Vec<u8>> {
    let (_, parsed) = X509Certificate::from_der(der).ok()?;
    Some(parsed.subject().as_raw().to_vec())
}

/// The subject of a certificate, so that it is written again byte for byte.
fn name(certificate: &X509Certificate<'_>) -> Option<DistinguishedName> {
    let mut name = DistinguishedName::new();
    for part in certificate.subject().iter_attributes() {
        let kind = DnType::CustomDnType(part.attr_type().iter()?.collect());
        let text = part.as_str().ok()?;
        let value = match part.attr_value().tag() {
            Tag::Utf8String => DnValue::Utf8String(text.to_owned()),
            Tag::PrintableString => DnValue::PrintableString(text.try_into().ok()?),
            Tag::Ia5String => DnValue::Ia5String(text.try_into().ok()?),
            _ => return None,
        };
        name.push(kind, value);
    }
    Some(name)
}

fn authority(now: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, ROOT_NAME);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = (now - BACKDATED).into();
    params.not_after = (now + ROOT_LIFE).into();
    params.use_authority_key_identifier_extension = true;
    params
}

/// The names it may be dialled by: its id, its role, and for managers that of the authority, as Swarm's.
fn node(to: &Subject, now: SystemTime, life: Duration) -> Result<CertificateParams, RootError> {
    let mut params = CertificateParams::default();
    let node = to.node.to_string();
    let mut names = vec![unit(to.role), &node];
    if to.role == Role::Manager {
        names.push(ROOT_NAME);
    }
    for name in names {
        let text = name.try_into().map_err(|_| RootError::Name(name.to_owned()))?;
        params.subject_alt_names.push(SanType::DnsName(text));
    }
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, to.cluster.to_string());
    params.distinguished_name.push(DnType::OrganizationalUnitName, unit(to.role));
    params.distinguished_name.push(DnType::CommonName, node);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.not_before = (now - BACKDATED).into();
    params.not_after = (now + life).into();
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}
