use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use mesh_daemon::cluster::ca::Keys;
use mesh_daemon::cluster::rpc::{Code, Downward, Hello, Link, MAX_MESSAGE, Peers, Upward};
use mesh_daemon::model::id::NodeId;
use mesh_daemon::model::node::Role;
use tokio::net::TcpSocket;

use super::world::{SOON, World};

#[tokio::test]
async fn who_has_no_certificate_may_ask_to_join_and_nothing_else() {
    let world = World::new().await;
    let roots = world.own.credentials().roots();
    let guest = Link::guest(&world.address, &roots, &world.hands.clock()).unwrap();
    assert!(!guest.root(SOON).await.unwrap().is_empty());
    let refused = [
        guest.raft(1, Bytes::new(), SOON).await.unwrap_err(),
        guest.status(SOON).await.unwrap_err(),
        guest.check(SOON).await.unwrap_err(),
        guest.renew(&Keys::request().unwrap().1, SOON).await.unwrap_err(),
        guest.session(futures_util::stream::pending(), SOON).await.err().unwrap(),
    ];
    for refusal in refused {
        assert_eq!(refusal.code, Code::Unauthenticated, "{refusal}");
        assert_eq!(refusal.text, "no client certificates in request");
    }
}

#[tokio::test]
async fn a_worker_may_not_make_a_managers_calls() {
    let world = World::new().await;
    let (worker, manager) = (world.join(Role::Worker).await, world.join(Role::Manager).await);
    let body = Bytes::from_static(b"x");
    let refused = world.link(&worker).raft(1, body.clone(), SOON).await.unwrap_err();
    assert_eq!(refused.code, Code::PermissionDenied, "{refused}");
    assert_eq!(world.link(&manager).raft(1, body, SOON).await.unwrap(), "\0\0\0\x01x");
}

#[tokio::test]
async fn clusters_with_other_roots_do_not_speak_with_each_other() {
    let (world, other) = (World::new().await, World::new().await);
    let stranger = other.join(Role::Manager).await;
    // It refuses us: we do not know who signed its certificate.
    let refusal = stranger.peers.to(&world.address, None).unwrap().check(SOON).await.unwrap_err();
    assert_eq!(refusal.code, Code::Unavailable, "{refusal}");
    assert!(refusal.text.contains("x509: certificate signed by unknown authority"), "{refusal}");
    // We trust it, but it does not trust us.
    let roots = world.own.credentials().roots();
    stranger.keeper.trust(&format!("{}{roots}", stranger.keeper.credentials().roots())).unwrap();
    let refusal = Peers::new(stranger.keeper.credentials()).to(&world.address, None).unwrap().check(SOON).await;
    assert_eq!(refusal.unwrap_err().code, Code::Unavailable);
    assert!(world.echo.callers.lock().unwrap().is_empty());
}

#[tokio::test]
async fn nobody_else_is_spoken_with_where_a_node_is_expected() {
    let world = World::new().await;
    let member = world.join(Role::Worker).await;
    let link = member.peers.to(&world.address, Some(NodeId::from_u128(2))).unwrap();
    let refusal = link.check(SOON).await.unwrap_err();
    assert!(refusal.text.contains("not manager 0000000000000000000000002"), "{refusal}");
    assert!(member.peers.to("no address", None).is_err());
}

#[tokio::test]
async fn handshakes_that_stall_take_places_only_from_their_own_address_and_only_for_a_while() {
    let world = World::new().await;
    let mut stalled = Vec::new();
    for n in 0..60 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        let mut tcp = socket.connect(world.address.parse().unwrap()).await.unwrap().into_std().unwrap();
        // Half of a record of TLS, or nothing at all.
        if n % 2 == 0 {
            let _ = tcp.write_all(&[22, 3, 1, 2, 0, 1]);
        }
        stalled.push(tcp);
    }
    let begun = Instant::now();
    let member = world.join(Role::Worker).await;
    world.link(&member).check(SOON).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    stalled.retain_mut(is_open);
    assert_eq!(stalled.len(), 32, "those beyond the places of their address are closed at once");
    while !stalled.is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(9), "{} are still open", stalled.len());
        tokio::time::sleep(Duration::from_millis(50)).await;
        stalled.retain_mut(is_open);
    }
}

/// Of a socket that does not wait.
fn is_open(tcp: &mut TcpStream) -> bool {
    tcp.read(&mut [0; 64]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

#[tokio::test]
async fn a_message_that_is_too_long_is_refused_and_the_connection_goes_on() {
    let world = World::new().await;
    let manager = world.join(Role::Manager).await;
    let link = world.link(&manager);
    let long = Upward::Statuses { batch: 1, body: Bytes::from(vec![0; MAX_MESSAGE + 1]) };
    let up = stream::iter([Upward::Hello(Hello::default()), long]).chain(stream::pending());
    let mut down = link.session(up, SOON).await.unwrap();
    assert!(matches!(down.next().await, Some(Ok(Downward::Welcome { .. }))));
    let refused = down.next().await.unwrap().unwrap_err();
    assert_eq!(refused.code, Code::OutOfRange, "{refused}");
    let fits = Bytes::from(vec![0; MAX_MESSAGE]);
    assert_eq!(link.raft(1, fits.clone(), SOON).await.unwrap().len(), fits.len() + 4);
    let roots = world.own.credentials().roots();
    let guest = Link::guest(&world.address, &roots, &world.hands.clock()).unwrap();
    let long = guest.join(&"x".repeat(100_000), &world.token(Role::Worker), "", SOON).await.unwrap_err();
    assert_eq!(long.code, Code::OutOfRange, "{long}");
}

#[tokio::test]
async fn a_manager_that_comes_back_is_reached_again_and_calls_in_between_fail_soon() {
    let world = World::new().await;
    let member = world.join(Role::Worker).await;
    world.link(&member).check(SOON).await.unwrap();
    world.stop().await;
    for n in 0..5 {
        let begun = Instant::now();
        let refusal = world.link(&member).check(SOON).await.unwrap_err();
        assert_eq!(refusal.code, Code::Unavailable, "{refusal}");
        // The first may still have been on its way when the connection ended.
        assert!(n == 0 || refusal.was_never_sent() && refusal.text.contains(&world.address), "{refusal}");
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    }
    world.start().await;
    let begun = Instant::now();
    while world.link(&member).check(SOON).await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(3), "it is not reached again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
