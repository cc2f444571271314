use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use tokio::time::Instant;

use super::attempts::Attempts;
use super::{Authority, Registry as _, found};
use crate::cluster::Clock;
use crate::cluster::ca::{Keys, Peer};
use crate::cluster::rpc::{Asked, Code, Gate as _, Proof, Trust as _};
use crate::model::cluster::{Cluster, RemovedNode};
use crate::model::id::{ClusterId, NodeId};
use crate::model::node::{Availability, Node, Role};
use crate::store::Store;

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn ten_failures_are_free_and_each_six_seconds_give_one_back() {
    let attempts = Attempts::default();
    let (from, begin) = (address("192.0.2.1"), Instant::now());
    let at = |seconds: u64| begin + Duration::from_secs(seconds);
    let may = |seconds: u64| attempts.may_try(from, at(seconds)).is_ok();
    for _ in 0..10 {
        assert!(may(0));
        attempts.failed(from, at(0));
    }
    assert!(!may(0) && !may(5));
    assert!(attempts.may_try(address("192.0.2.2"), at(0)).is_ok(), "others may");
    assert!(may(6));
    attempts.failed(from, at(6));
    assert!(!may(6) && !may(11) && may(12));
    // After a minute of peace all are free again.
    for _ in 0..10 {
        assert!(may(200));
        attempts.failed(from, at(200));
    }
    let refusal = attempts.may_try(from, at(200)).unwrap_err();
    assert_eq!(refusal.text, "too many attempts to join from 192.0.2.1: try again in 7 s");
}

#[test]
fn an_address_of_ipv6_answers_for_its_network_and_a_mapped_one_is_ipv4() {
    let attempts = Attempts::default();
    let now = Instant::now();
    for n in 0..10 {
        attempts.failed(address(&format!("2001:db8::{n}")), now);
        attempts.failed(address("::ffff:192.0.2.7"), now);
    }
    assert!(attempts.may_try(address("2001:db8::ffff"), now).is_err());
    assert!(attempts.may_try(address("2001:db8:0:1::1"), now).is_ok());
    assert!(attempts.may_try(address("192.0.2.7"), now).is_err());
}

#[test]
fn many_addresses_are_remembered_but_not_all_there_are() {
    let attempts = Attempts::default();
    let now = Instant::now();
    let worst = address("192.0.2.1");
    for _ in 0..20 {
        attempts.failed(worst, now);
    }
    for n in 0..10_000_u32 {
        attempts.failed(IpAddr::V4((0x0a00_0000 + n).into()), now);
    }
    assert!(attempts.may_try(worst, now).is_err(), "who failed most is forgotten last");
}

#[tokio::test]
async fn a_managers_store_is_its_registry() {
    let store = Store::local(Arc::new(|| Timestamp::UNIX_EPOCH));
    assert_eq!(store.trusted().unwrap_err().code, Code::Unavailable);
    let clock = Clock::new(|| SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000));
    let (cluster, node) = (ClusterId::from_u128(1), NodeId::from_u128(7));
    let mut own = Cluster::new(cluster);
    own.root_ca = found(cluster, node, own.spec.ca.node_cert_expiry, &clock).unwrap().0;
    let token = own.root_ca.join_tokens.worker.clone();
    store.update(|tx| tx.create(own.clone())).await.unwrap();

    let authority = Authority::new(Arc::new(store.clone()), clock, move || node);
    let asked = |csr: String, proof| Asked { csr, proof, from: ([192, 0, 2, 9], 4000).into() };
    let (_, csr) = Keys::request().unwrap();
    let granted = authority.issue(asked(csr, Proof::Token { token, availability: "pause".to_owned() })).await.unwrap();
    let peer = Peer::from_certificate(pem::parse(&granted.chain).unwrap().contents()).unwrap();
    let recorded = |store: &Store| store.view().nodes().get(node).unwrap().clone();
    let made = recorded(&store);
    assert_eq!((made.role, made.spec.availability), (Role::Worker, Availability::Pause));
    assert_eq!((made.status.addr.as_str(), &made.certificate.serial), ("192.0.2.9", &peer.serial));
    assert_eq!(authority.admits(&peer), Ok(Role::Worker));

    store.update(|tx| tx.modify::<Node>(node, |node| node.role = Role::Manager)).await.unwrap();
    assert!(authority.status(peer.clone()).await.unwrap().renew);
    let (_, csr) = Keys::request().unwrap();
    authority.issue(asked(csr, Proof::Certificate(peer.clone()))).await.unwrap();
    assert_eq!(recorded(&store).certificate.role, Role::Manager);
    assert_ne!(recorded(&store).certificate.serial, peer.serial);

    let removed = RemovedNode { node_id: node, until: Timestamp::MAX };
    store.update(|tx| tx.remove::<Node>(node)).await.unwrap();
    assert_eq!(authority.admits(&peer).unwrap_err().code, Code::Unavailable);
    let forget = |cluster: &mut Cluster| cluster.removed_nodes.push(removed.clone());
    store.update(|tx| tx.modify::<Cluster>(cluster, forget)).await.unwrap();
    assert_eq!(authority.admits(&peer).unwrap_err().code, Code::PermissionDenied);
    let (_, csr) = Keys::request().unwrap();
    let refusal = authority.issue(asked(csr, Proof::Certificate(peer))).await.unwrap_err();
    assert_eq!(refusal.code, Code::PermissionDenied);
}
