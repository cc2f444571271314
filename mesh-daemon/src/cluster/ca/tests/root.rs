use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, DnType, IsCa, KeyPair, PKCS_ECDSA_P384_SHA384};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{DAY, now, root, subject};
use crate::cluster::ca::{Keys, Peer, PeerError, Root, renew_at, root_digest};
use crate::model::node::Role;

fn leaf(pem: &str) -> Peer {
    Peer::from_certificate(pem::parse(pem).unwrap().contents()).unwrap()
}

#[test]
fn a_certificate_says_what_the_authority_decided_and_nothing_of_what_was_asked() {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["swarm-manager".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "somebody else");
    params.distinguished_name.push(DnType::OrganizationalUnitName, "swarm-manager");
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let csr = params.serialize_request(&key).unwrap().pem().unwrap();
    let root = root();
    let issued = root.issue(&csr, &subject(7, Role::Worker), now(), 90 * DAY).unwrap();
    let peer = leaf(&issued);
    let to = subject(7, Role::Worker);
    assert_eq!((peer.node, peer.role, peer.cluster), (to.node, to.role, to.cluster));
    assert_eq!(&peer.issuer, root.key_id());
    assert_eq!(peer.not_before, now() - Duration::from_secs(3600));
    assert_eq!(peer.not_after, now() + 90 * DAY);
    let der = pem::parse(&issued).unwrap();
    let (_, parsed) = X509Certificate::from_der(der.contents()).unwrap();
    assert!(!parsed.is_ca());
    let names = format!("{:?}", parsed.subject_alternative_name().unwrap().unwrap().value);
    assert!(names.contains("swarm-worker") && !names.contains("swarm-manager") && !names.contains("swarm-ca"));
}

#[test]
fn requests_that_are_not_of_the_right_kind_are_refused() {
    let root = root();
    let other = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    let p384 = CertificateParams::default().serialize_request(&other).unwrap().pem().unwrap();
    let (_, csr) = Keys::request().unwrap();
    let mut forged = pem::parse(&csr).unwrap().into_contents();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    let forged = pem::encode(&pem::Pem::new("CERTIFICATE REQUEST", forged));
    let long = "x".repeat(20_000);
    for csr in ["", "no PEM", &p384, &forged, &csr[..csr.len() / 2], &long, root.certificate()] {
        assert!(root.issue(csr, &subject(7, Role::Worker), now(), DAY).is_err(), "{csr}");
    }
}

#[test]
fn a_root_is_read_back_whole_or_not_at_all() {
    let (a, b) = (root(), root());
    let again = Root::load(a.certificate(), &a.key()).unwrap();
    assert_eq!((again.digest(), again.key_id()), (a.digest(), a.key_id()));
    assert_eq!(a.digest(), root_digest(a.certificate()));
    let unix = a.certificate().replace('\n', "\r\n");
    assert_eq!(Root::load(&unix, &a.key()).unwrap().digest(), a.digest());
    let (_, csr) = Keys::request().unwrap();
    let node = a.issue(&csr, &subject(1, Role::Worker), now(), DAY).unwrap();
    let rows = [
        (b.certificate(), a.key(), "root key does not belong to the root certificate"),
        ("", a.key(), "root certificate: not PEM"),
        (a.certificate(), String::new(), "root key is not a key of ECDSA P-256 in PEM"),
        (&node, a.key(), "root certificate: not of an authority"),
    ];
    for (certificate, key, says) in rows {
        assert_eq!(Root::load(certificate, &key).unwrap_err().to_string(), says);
    }
}

#[test]
fn a_certificate_without_a_node_in_it_names_nobody() {
    let root = root();
    let der = pem::parse(root.certificate()).unwrap();
    assert_eq!(Peer::from_certificate(der.contents()), Err(PeerError::Subject("organisational unit")));
    assert_eq!(Peer::from_certificate(b"x"), Err(PeerError::Certificate));
    let mut params = CertificateParams::default();
    for (kind, text) in [
        (DnType::CommonName, "not an id"),
        (DnType::OrganizationalUnitName, "swarm-manager"),
        (DnType::OrganizationName, "x"),
    ] {
        params.distinguished_name.push(kind, text);
    }
    let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
    assert_eq!(Peer::from_certificate(certificate.der()), Err(PeerError::Id("common name")));
}

#[test]
fn renewal_falls_between_half_and_four_fifths_of_a_life() {
    let (_, csr) = Keys::request().unwrap();
    let issued = root().issue(&csr, &subject(1, Role::Worker), now(), 90 * DAY).unwrap();
    let own = leaf(&issued);
    let life = own.not_after.duration_since(own.not_before).unwrap();
    let part = |at: SystemTime| at.duration_since(own.not_before).unwrap().as_secs_f64() / life.as_secs_f64();
    for (chance, expected) in [(0.0, 0.5), (0.5, 0.65), (1.0, 0.8), (7.0, 0.8)] {
        assert!((part(renew_at(&own, chance)) - expected).abs() < 1e-6, "{chance}");
    }
}
