use std::time::Duration;

use mesh_daemon::cluster::ca::{Keys, begin_rotation, rotate_token};
use mesh_daemon::cluster::rpc::{Code, Link, Refusal};
use mesh_daemon::cluster::trust::join;
use mesh_daemon::cluster::trust::{JoinError, Recorded};
use mesh_daemon::model::node::{Availability, Role};

use super::world::{SOON, World};

const WRONG: &str = "rpc error: code = InvalidArgument desc = A valid join token is necessary to join this cluster";

/// The token with another last digit: the cluster is right, the secret is not.
fn other_secret(token: &str) -> String {
    let last = if token.ends_with('0') { "1" } else { "0" };
    format!("{}{last}", &token[..token.len() - 1])
}

#[tokio::test]
async fn a_token_makes_a_node_of_its_role() {
    let world = World::new().await;
    for role in [Role::Worker, Role::Manager] {
        let member = world.join(role).await;
        let own = member.keeper.credentials().own();
        assert_eq!((own.node, own.role, own.cluster), (member.node, role, world.own.credentials().own().cluster));
        let newcomer = world.records.newcomers.lock().unwrap().pop().unwrap();
        assert_eq!((newcomer.node, newcomer.role), (member.node, role));
        assert_eq!(newcomer.availability, Availability::Active);
        assert!(newcomer.from.ip().is_loopback());
        assert_eq!(newcomer.certificate.serial, own.serial);
        let checked = world.link(&member).check(SOON).await.unwrap();
        assert_eq!((checked.node, checked.serving), (world.manager, true));
        assert!(checked.seen_from.unwrap().is_loopback());
    }
}

#[tokio::test]
async fn a_token_that_is_not_the_clusters_is_refused_in_swarms_words() {
    let (world, other) = (World::new().await, World::new().await);
    let good = world.token(Role::Worker);
    let mut old = world.token(Role::Manager);
    rotate_token(&mut world.records.trusted.lock().unwrap().ca, Role::Manager).unwrap();
    let foreign = other.token(Role::Worker);
    let expected = foreign.parse::<mesh_daemon::cluster::ca::JoinToken>().unwrap().digest();
    let rows = [
        (other_secret(&good), WRONG.to_owned()),
        (std::mem::take(&mut old), WRONG.to_owned()),
        (good[..good.len() - 1].to_owned(), "invalid join token".to_owned()),
        (String::new(), "invalid join token".to_owned()),
        (foreign, format!("remote CA does not match fingerprint. Expected: {expected}")),
    ];
    for (token, says) in rows {
        let error = world.try_join(&token).await.err().unwrap();
        assert_eq!(error.to_string(), says);
        assert!(!error.is_passing());
    }
    assert!(world.records.newcomers.lock().unwrap().is_empty());
    world.try_join(&good).await.unwrap();
}

#[tokio::test]
async fn guessing_is_slowed_down_and_says_so_while_members_go_on() {
    let world = World::new().await;
    let member = world.join(Role::Worker).await;
    let good = world.token(Role::Worker);
    let guess = other_secret(&good);
    for _ in 0..10 {
        assert_eq!(world.try_join(&guess).await.err().unwrap().to_string(), WRONG);
    }
    for token in [guess, good] {
        let error = world.try_join(&token).await.err().unwrap();
        let JoinError::Refused(Refusal { code, text, .. }) = error else { panic!("{error}") };
        assert_eq!(code, Code::ResourceExhausted);
        assert!(text.starts_with("too many attempts to join from 127.0.0.1: try again in "), "{text}");
    }
    world.renew(&member).await;
}

#[tokio::test]
async fn an_answer_that_was_lost_is_given_again_for_the_same_key() {
    let world = World::new().await;
    let (token, roots) = (world.token(Role::Worker), world.own.credentials().roots());
    let link = Link::guest(&world.address, &roots, &world.hands.clock()).unwrap();
    let (_, csr) = Keys::request().unwrap();
    let first = link.join(&csr, &token, "drain", SOON).await.unwrap();
    assert_eq!(link.join(&csr, &token, "drain", SOON).await.unwrap(), first);
    assert_eq!(world.records.newcomers.lock().unwrap().len(), 1);
    assert_eq!(world.records.newcomers.lock().unwrap()[0].availability, Availability::Drain);
    world.record(first.node, Recorded::Removed);
    let another = link.join(&csr, &token, "drain", SOON).await.unwrap();
    assert_ne!(another.node, first.node, "a node that was removed does not come back by asking again");
    let bad = link.join(&csr, &token, "sometimes", SOON).await.unwrap_err();
    assert_eq!(bad, Refusal::new(Code::InvalidArgument, "invalid Availability: \"sometimes\""));
}

#[tokio::test]
async fn the_next_address_is_asked_when_one_does_not_answer() {
    let world = World::new().await;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = silent.local_addr().unwrap().to_string();
    let clock = world.hands.clock();
    let token = world.token(Role::Worker);
    let wait = Duration::from_millis(500);
    let all = [silent.clone(), world.address.clone()];
    join(&all, &token, "", &clock, wait).await.unwrap();
    let error = join(&[silent], &token, "", &clock, wait).await.unwrap_err();
    assert!(error.is_passing(), "{error}");
    assert_eq!(
        join(&[], &token, "", &clock, wait).await.unwrap_err().to_string(),
        "no address of a manager to join at"
    );
}

#[tokio::test]
async fn one_joins_during_a_rotation_of_the_root_by_the_old_token_and_trusts_both_roots() {
    let world = World::new().await;
    let token = world.token(Role::Worker);
    begin_rotation(&mut world.records.trusted.lock().unwrap().ca, None, world.hands.clock().now()).unwrap();
    let member = world.try_join(&token).await.unwrap();
    assert_eq!(member.keeper.credentials().roots().matches("BEGIN CERTIFICATE").count(), 2);
    world.link(&member).check(SOON).await.unwrap();
}
