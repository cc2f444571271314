use super::{DAY, now, root, subject};
use crate::cluster::ca::{
    JoinToken, Keys, Peer, TrustError, begin_rotation, finish_rotation, found, has_renewed, is_current, issue,
    issuer_of, role_of_token, roots, rotate_token,
};
use crate::model::cluster::RootCa;
use crate::model::node::Role;

fn token(text: &str) -> JoinToken {
    text.parse().unwrap()
}

fn chain(ca: &RootCa) -> String {
    let (_, csr) = Keys::request().unwrap();
    issue(ca, &csr, &subject(1, Role::Worker), now(), DAY).unwrap()
}

fn peer(chain: &str) -> Peer {
    Peer::from_certificate(pem::parse(chain).unwrap().contents()).unwrap()
}

#[test]
fn each_token_gives_its_role_until_it_is_rotated() {
    let mut ca = found(now()).unwrap();
    let (worker, manager) = (token(&ca.join_tokens.worker), token(&ca.join_tokens.manager));
    assert_eq!(role_of_token(&ca, &worker), Some(Role::Worker));
    assert_eq!(role_of_token(&ca, &manager), Some(Role::Manager));
    rotate_token(&mut ca, Role::Worker).unwrap();
    assert_eq!(role_of_token(&ca, &worker), None);
    assert_eq!(role_of_token(&ca, &manager), Some(Role::Manager));
    assert_eq!(role_of_token(&ca, &token(&ca.join_tokens.worker)), Some(Role::Worker));
    let other = found(now()).unwrap();
    assert_eq!(role_of_token(&ca, &token(&other.join_tokens.manager)), None);
}

#[test]
fn a_rotation_of_the_root_goes_through_both_roots_to_the_new_one() {
    let mut ca = found(now()).unwrap();
    let before = chain(&ca);
    let old_tokens = ca.join_tokens.clone();
    begin_rotation(&mut ca, None, now()).unwrap();
    let both = roots(&ca);
    assert_eq!(both.matches("BEGIN CERTIFICATE").count(), 2);
    assert!(both.starts_with(&ca.certificate), "tokens name the first");
    assert_eq!(ca.join_tokens, old_tokens);
    assert!(!is_current(&ca, &peer(&before)));
    assert!(!has_renewed(&ca, &issuer_of(&before, &both).unwrap()));

    let after = chain(&ca);
    assert_eq!(after.matches("BEGIN CERTIFICATE").count(), 2, "the cross-signed root comes with it");
    assert!(is_current(&ca, &peer(&after)));
    assert!(has_renewed(&ca, &issuer_of(&after, &both).unwrap()));

    finish_rotation(&mut ca).unwrap();
    assert_eq!(roots(&ca).matches("BEGIN CERTIFICATE").count(), 1);
    assert_ne!(ca.join_tokens, old_tokens);
    assert_eq!(token(&ca.join_tokens.worker).digest(), token(&ca.join_tokens.manager).digest());
    assert!(is_current(&ca, &peer(&after)) && !is_current(&ca, &peer(&before)));
    assert!(matches!(finish_rotation(&mut ca), Err(TrustError::NoRotation)));
}

#[test]
fn a_given_root_takes_the_place_as_well_and_a_second_rotation_replaces_the_first() {
    let mut ca = found(now()).unwrap();
    begin_rotation(&mut ca, None, now()).unwrap();
    let given_up = chain(&ca);
    let given = root();
    let digest = given.digest();
    begin_rotation(&mut ca, Some(given), now()).unwrap();
    assert!(!is_current(&ca, &peer(&given_up)));
    finish_rotation(&mut ca).unwrap();
    assert_eq!(ca.digest, format!("sha256:{digest}"));
}

#[test]
fn without_the_key_of_the_root_nothing_is_signed() {
    let mut ca = found(now()).unwrap();
    ca.key.0.clear();
    let (_, csr) = Keys::request().unwrap();
    assert!(matches!(issue(&ca, &csr, &subject(1, Role::Worker), now(), DAY), Err(TrustError::NoKey)));
    assert!(matches!(begin_rotation(&mut ca, None, now()), Err(TrustError::NoKey)));
}
