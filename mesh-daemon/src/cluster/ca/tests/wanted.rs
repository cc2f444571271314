use rcgen::{
    BasicConstraints, CertificateParams, DnType, DnValue, IsCa, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};

use super::{DAY, now, root, subject};
use crate::cluster::ca::{
    Keys, Peer, Root, begin_rotation, finish_rotation, follow, found, has_renewed, is_current, issue, issuer_of, roots,
};
use crate::model::cluster::{CaSpec, ExternalCa, RootCa};
use crate::model::node::Role;
use crate::model::payload::Payload;

fn spec(certificate: &str, key: &str, force_rotate: u64) -> CaSpec {
    let signing_ca_key = Payload(key.as_bytes().to_vec());
    CaSpec { signing_ca_cert: certificate.to_owned(), signing_ca_key, force_rotate, ..CaSpec::default() }
}

fn asked(ca: &mut RootCa, mut spec: CaSpec) -> Result<CaSpec, String> {
    follow(ca, &mut spec, now()).map(|()| spec).map_err(|error| {
        let source = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
        format!("{error}{source}")
    })
}

#[test]
fn the_root_is_rotated_once_for_each_time_that_it_is_asked_for() {
    let mut ca = found(now()).unwrap();
    asked(&mut ca, spec("", "", 0)).unwrap();
    assert_eq!(ca.rotation, None);
    asked(&mut ca, spec("", "", 1)).unwrap();
    let begun = ca.rotation.clone();
    assert!(begun.is_some() && ca.last_forced_rotation == 1);
    // Other settings change meanwhile, and after it.
    asked(&mut ca, spec("", "", 1)).unwrap();
    assert_eq!(ca.rotation, begun);
    finish_rotation(&mut ca).unwrap();
    asked(&mut ca, spec("", "", 1)).unwrap();
    assert_eq!(ca.rotation, None);
}

#[test]
fn a_given_root_is_taken_its_key_does_not_stay_and_the_old_one_takes_the_rotation_back() {
    let mut ca = found(now()).unwrap();
    let (certificate, key) = (ca.certificate.clone(), String::from_utf8(ca.key.0.clone()).unwrap());
    let given = root();
    let after = asked(&mut ca, spec(given.certificate(), &given.key(), 0)).unwrap();
    assert_eq!((after.signing_ca_cert.as_str(), after.signing_ca_key.0.len()), ("", 0));
    let begun = ca.rotation.clone().unwrap();
    assert_eq!(begun.certificate, given.certificate());
    asked(&mut ca, spec(given.certificate(), &given.key(), 0)).unwrap();
    assert_eq!(ca.rotation.as_ref(), Some(&begun), "the same again changes nothing");
    asked(&mut ca, spec(&certificate, &key, 0)).unwrap();
    assert_eq!((ca.rotation, ca.certificate), (None, certificate));
}

#[test]
fn what_is_no_root_for_a_swarm_is_refused_and_changes_nothing() {
    let given = root();
    let old = Root::create(now() - 20 * 365 * DAY).unwrap();
    let (both, key) = (format!("{}{}", given.certificate(), old.certificate()), given.key());
    let rows = [
        (spec("", &key, 1), "if a signing CA key is provided, the signing CA cert must also be provided"),
        (spec(given.certificate(), "", 1), "the signing CA cert needs its key"),
        (spec(given.certificate(), &old.key(), 1), "root key does not belong to the root certificate"),
        (spec(old.certificate(), &old.key(), 1), "CA certificate expires too soon"),
        (spec(&both, &key, 1), "more than one: a root stands alone"),
        (spec("nothing", &key, 1), "root certificate: not PEM"),
        (CaSpec { external_cas: vec![ExternalCa::default()], ..CaSpec::default() }, "external CAs are not supported"),
    ];
    for (spec, says) in rows {
        let mut ca = found(now()).unwrap();
        let before = ca.clone();
        let said = asked(&mut ca, spec).unwrap_err();
        assert!(said.contains(says), "{said}");
        assert_eq!(ca, before, "{says}");
    }
}

/// A root as others make it: of a name, of a kind of text, and of a key identifier of its own.
fn foreign() -> (String, String) {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "a company");
    let name = DnValue::PrintableString("its root".try_into().unwrap());
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.key_identifier_method = rcgen::KeyIdMethod::PreSpecified(vec![7; 20]);
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

/// Whether who trusts these roots believes a node's chain.
fn is_believed(chain: &str, roots: &str) -> bool {
    use rustls_pki_types::pem::PemObject as _;
    use rustls_pki_types::{CertificateDer, UnixTime};
    let all = |pem: &str| -> Vec<_> {
        CertificateDer::pem_slice_iter(pem.as_bytes()).map(|it| it.unwrap().into_owned()).collect()
    };
    let mut store = rustls::RootCertStore::empty();
    for root in all(roots) {
        store.add(root).unwrap();
    }
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(store.into(), provider).build().unwrap();
    let chain = all(chain);
    let at = UnixTime::since_unix_epoch(now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap());
    verifier.verify_client_cert(&chain[0], &chain[1..], at).is_ok()
}

#[test]
fn a_root_of_another_name_is_believed_by_who_trusts_the_old_the_new_or_both() {
    let mut ca = found(now()).unwrap();
    let (old, (certificate, key)) = (ca.certificate.clone(), foreign());
    asked(&mut ca, spec(&certificate, &key, 0)).unwrap();
    let (_, csr) = Keys::request().unwrap();
    let chain = issue(&ca, &csr, &subject(1, Role::Worker), now(), DAY).unwrap();
    let peer = Peer::from_certificate(pem::parse(&chain).unwrap().contents()).unwrap();
    assert!(is_current(&ca, &peer));
    assert!(has_renewed(&ca, &issuer_of(&chain, &roots(&ca)).unwrap()));
    let both = roots(&ca);
    finish_rotation(&mut ca).unwrap();
    for (roots, who) in [(&old, "old"), (&both, "both"), (&roots(&ca), "new")] {
        assert!(is_believed(&chain, roots), "by who trusts {who}");
    }
    assert!(!is_believed(&chain, root().certificate()));
    // What was given up is still believed under the rotation that took its place.
    let mut ca = found(now()).unwrap();
    begin_rotation(&mut ca, None, now()).unwrap();
    let given_up = issue(&ca, &csr, &subject(1, Role::Worker), now(), DAY).unwrap();
    begin_rotation(&mut ca, None, now()).unwrap();
    assert!(is_believed(&given_up, &roots(&ca)));
}

#[test]
fn a_key_as_openssl_writes_it_is_one() {
    let given = root();
    // RFC 5915 within RFC 5958: the private key's own octets are the older form.
    let pkcs8 = pem::parse(given.key()).unwrap();
    let inner = pkcs8.contents().windows(2).position(|pair| pair == [0x04, 0x6d]).unwrap() + 2;
    let older = pem::encode(&pem::Pem::new("EC PRIVATE KEY", with_curve(&pkcs8.contents()[inner..])));
    let loaded = Root::load(given.certificate(), &older).unwrap();
    let again = Root::load(loaded.certificate(), &loaded.key()).unwrap();
    assert_eq!(again.digest(), given.digest());
}

/// RFC 5915 section 3: outside PKCS #8 the curve must be named.
fn with_curve(sec1: &[u8]) -> Vec<u8> {
    // SEQUENCE { version, OCTET STRING (32), [1] public key }: the name goes before the last.
    let curve = [0xa0, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    let (head, tail) = sec1[2..].split_at(3 + 2 + 32);
    let body = [head, &curve, tail].concat();
    [&[0x30, u8::try_from(body.len()).unwrap()], &body[..]].concat()
}
