use std::sync::Arc;

use bytes::Bytes;
use mesh_daemon::cluster::ca::{Keys, NodeFiles, Subject, UnlockKey, issue};
use mesh_daemon::cluster::rpc::Code;
use mesh_daemon::cluster::trust::{Keeper, KeeperError, Opened, Recorded, found};
use mesh_daemon::model::id::{ClusterId, NodeId};
use mesh_daemon::model::node::Role;
use tokio_util::sync::CancellationToken;

use super::world::{DAY, Hands, SOON, World};

#[tokio::test]
async fn a_node_that_is_removed_loses_its_connections_and_gets_no_others() {
    let world = World::new().await;
    let (gone, stays) = (world.join(Role::Worker).await, world.join(Role::Worker).await);
    let (session, _other) = (world.session(&gone).await, world.session(&stays).await);
    world.record(gone.node, Recorded::Removed);
    let says = format!("Permission denied: node {} was removed from the swarm", gone.node);
    // On the old connection or a new one.
    for _ in 0..2 {
        let refusal = world.link(&gone).check(SOON).await.unwrap_err();
        assert!(matches!(refusal.code, Code::PermissionDenied | Code::Unavailable | Code::Cancelled), "{refusal}");
    }
    World::ends(session).await;
    gone.peers.forget();
    let refusal = world.link(&gone).check(SOON).await.unwrap_err();
    assert_eq!((refusal.code, refusal.text), (Code::PermissionDenied, says));
    let error = world.renewal(&gone.keeper, &gone.peers).renew().await.unwrap_err();
    assert!(error.to_string().starts_with("renew the certificate at"), "{error}");
    world.link(&stays).check(SOON).await.unwrap();
}

#[tokio::test]
async fn a_manager_that_is_demoted_stops_being_one_at_once_and_renews_as_a_worker() {
    let world = World::new().await;
    let member = world.join(Role::Manager).await;
    let raft = async || world.link(&member).raft(1, Bytes::new(), SOON).await;
    raft().await.unwrap();
    let session = world.session(&member).await;
    world.record(member.node, Recorded::Known(Role::Worker));
    let refusal = raft().await.unwrap_err();
    assert_eq!(refusal.code, Code::PermissionDenied, "{refusal}");
    World::ends(session).await;
    member.peers.forget();
    let standing = world.link(&member).status(SOON).await.unwrap();
    assert_eq!((standing.role, standing.renew), (Role::Worker, true));
    world.renew(&member).await;
    assert_eq!(member.keeper.credentials().own().role, Role::Worker);
    assert_eq!(raft().await.unwrap_err().code, Code::PermissionDenied);
    assert!(!world.link(&member).status(SOON).await.unwrap().renew);
    // And back: it acts as a worker until it has the other certificate.
    world.record(member.node, Recorded::Known(Role::Manager));
    assert_eq!(raft().await.unwrap_err().code, Code::PermissionDenied);
    world.renew(&member).await;
    raft().await.unwrap();
}

#[tokio::test]
async fn after_a_renewal_connections_show_the_new_certificate_and_never_the_old_one() {
    let world = World::new().await;
    let member = world.join(Role::Manager).await;
    for _ in 0..3 {
        world.renew(&member).await;
        world.link(&member).raft(1, Bytes::new(), SOON).await.unwrap();
        let seen = world.echo.callers.lock().unwrap().last().unwrap().serial.clone();
        assert_eq!(seen, member.keeper.credentials().own().serial);
        let (node, recorded) = world.records.certificates.lock().unwrap().last().unwrap().clone();
        assert_eq!((node, recorded.serial), (member.node, seen));
    }
}

#[tokio::test]
async fn a_certificate_that_has_ended_opens_nothing() {
    let world = World::new().await;
    let member = world.join(Role::Worker).await;
    world.link(&member).check(SOON).await.unwrap();
    world.hands.forward(91 * DAY);
    member.peers.forget();
    // The manager's own has ended as well: it is seen first.
    let refusal = world.link(&member).check(SOON).await.unwrap_err();
    assert!(refusal.text.contains("x509: certificate has expired or is not yet valid"), "{refusal}");
    // A manager that had renewed in time does not take the node's.
    let ca = world.records.trusted.lock().unwrap().ca.clone();
    let (key, csr) = Keys::request().unwrap();
    let own = world.own.credentials().own();
    let to = Subject { node: own.node, role: Role::Manager, cluster: own.cluster };
    let chain = issue(&ca, &csr, &to, world.hands.clock().now(), DAY).unwrap();
    world.own.renewed(&key, &chain, &world.own.credentials().roots()).unwrap();
    member.peers.forget();
    let refusal = world.link(&member).check(SOON).await.unwrap_err();
    assert_eq!(refusal.code, Code::Unavailable, "{refusal}");
    // With a token one can always join.
    world.join(Role::Worker).await;
}

#[tokio::test]
async fn a_node_renews_by_itself_when_it_is_time_or_when_it_is_told() {
    let world = World::new().await;
    let member = world.join(Role::Worker).await;
    let renewal = Arc::new(world.renewal(&member.keeper, &member.peers));
    let serial = || member.keeper.credentials().own().serial;
    let mut changes = member.keeper.credentials().changes();
    let stop = CancellationToken::new();
    let told = async {
        let first = serial();
        renewal.at_once();
        tokio::time::timeout(SOON, changes.changed()).await.unwrap().unwrap();
        assert_ne!(serial(), first);
        stop.cancel();
    };
    tokio::join!(renewal.run(stop.clone()), told);

    // At 65 % of its life, by the chance that the test drew.
    let second = serial();
    world.hands.forward(70 * DAY);
    let stop = CancellationToken::new();
    let due = async {
        tokio::time::timeout(SOON, changes.changed()).await.unwrap().unwrap();
        assert_ne!(serial(), second);
        stop.cancel();
    };
    tokio::join!(renewal.run(stop.clone()), due);
}

#[tokio::test]
async fn a_locked_manager_starts_with_its_unlock_key_only_and_reads_what_it_sealed() {
    let disk = tempfile::tempdir().unwrap();
    let files = || NodeFiles::new(disk.path().join("certificates"));
    let clock = Hands::new().clock();
    assert!(matches!(Keeper::open(files(), clock.clone()), Ok(Opened::Nothing)));
    let (_, joined) = found(ClusterId::from_u128(1), NodeId::from_u128(2), DAY, &clock).unwrap();
    let keeper = Keeper::adopt(files(), joined, clock.clone()).unwrap();
    let cipher = keeper.cipher().unwrap();
    let before = cipher.seal(b"log/1", b"before").unwrap();
    let (first, second) = (UnlockKey::generate().unwrap(), UnlockKey::generate().unwrap());
    keeper.lock(Some(first.clone())).unwrap();
    let after = cipher.seal(b"log/2", b"after").unwrap();
    drop(keeper);

    let Ok(Opened::Locked(locked)) = Keeper::open(files(), clock.clone()) else { panic!("it is locked") };
    assert_eq!(locked.own().unwrap().node, NodeId::from_u128(2));
    let wrong = locked.unlock(&second).unwrap_err();
    assert!(matches!(wrong, KeeperError::Unlock(_)));
    assert_eq!(wrong.to_string(), "swarm could not be unlocked: invalid key provided");
    let keeper = locked.unlock(&first).unwrap();
    let cipher = keeper.cipher().unwrap();
    assert_eq!(cipher.open(b"log/1", &before).unwrap(), b"before");
    assert_eq!(cipher.open(b"log/2", &after).unwrap(), b"after");

    // Another unlock key, and the old data keys forgotten once all is sealed anew.
    keeper.lock(Some(second.clone())).unwrap();
    let anew = cipher.seal(b"log/1", b"before").unwrap();
    keeper.forget_old().unwrap();
    assert!(cipher.open(b"log/1", &before).is_err());
    let Ok(Opened::Locked(locked)) = Keeper::open(files(), clock.clone()) else { panic!("it is locked") };
    assert!(locked.unlock(&first).is_err());
    let keeper = locked.unlock(&second).unwrap();
    assert_eq!(keeper.cipher().unwrap().open(b"log/1", &anew).unwrap(), b"before");
    keeper.lock(None).unwrap();
    assert!(matches!(Keeper::open(files(), clock.clone()), Ok(Opened::Ready(_))));
    files().remove().unwrap();
    assert!(matches!(Keeper::open(files(), clock), Ok(Opened::Nothing)));
}
