use mesh_daemon::cluster::ca::{begin_rotation, finish_rotation, has_renewed, issuer_of, roots};
use mesh_daemon::cluster::rpc::{Peers, Stream};
use mesh_daemon::model::node::Role;
use std::sync::Arc;

use super::world::{Member, SOON, World};

/// Whether what the cluster holds of a member says that it is done.
fn done(world: &World, keeper: &mesh_daemon::cluster::trust::Keeper) -> bool {
    let ca = world.records.trusted.lock().unwrap().ca.clone();
    has_renewed(&ca, &issuer_of(&keeper.chain(), &keeper.credentials().roots()).unwrap())
}

async fn all_reach_the_manager(world: &World, members: &[&Member]) {
    for member in members {
        member.peers.forget();
        world.link(member).check(SOON).await.unwrap();
    }
}

/// Whether anything was said in the session, or it ended, meanwhile.
async fn is_quiet<T>(session: &mut Stream<T>) -> bool {
    use futures_util::FutureExt as _;
    use futures_util::StreamExt as _;
    session.next().now_or_never().is_none()
}

#[tokio::test]
async fn the_root_is_rotated_under_open_connections_and_everybody_reaches_everybody_all_the_time() {
    let world = World::new().await;
    let (early, late) = (world.join(Role::Worker).await, world.join(Role::Manager).await);
    let (mut one, mut two) = (world.session(&early).await, world.session(&late).await);
    let change = |change: &dyn Fn(&mut mesh_daemon::model::cluster::RootCa)| {
        change(&mut world.records.trusted.lock().unwrap().ca);
    };
    let now = world.hands.clock().now();
    change(&|ca| begin_rotation(ca, None, now).unwrap());
    all_reach_the_manager(&world, &[&early, &late]).await;
    assert!(world.link(&late).status(SOON).await.unwrap().renew);

    // One node first, then the manager itself: a node of the old root and one of the new speak with a manager of
    // either.
    world.renew(&early).await;
    assert!(done(&world, &early.keeper) && !done(&world, &late.keeper));
    all_reach_the_manager(&world, &[&early, &late]).await;
    let own = Arc::new(Peers::new(world.own.credentials()));
    world.renewal(&world.own, &own).renew().await.unwrap();
    assert!(done(&world, &world.own));
    all_reach_the_manager(&world, &[&early, &late]).await;
    world.renew(&late).await;
    all_reach_the_manager(&world, &[&early, &late]).await;
    assert!(done(&world, &late.keeper));

    assert!(is_quiet(&mut one).await && is_quiet(&mut two).await, "sessions were disturbed");

    change(&|ca| finish_rotation(ca).unwrap());
    let alone = roots(&world.records.trusted.lock().unwrap().ca);
    // The manager is told first: those who still trust both reach it as well.
    world.own.trust(&alone).unwrap();
    all_reach_the_manager(&world, &[&early, &late]).await;
    for member in [&early, &late] {
        member.keeper.trust(&alone).unwrap();
        assert_eq!(member.keeper.credentials().roots(), alone);
    }
    all_reach_the_manager(&world, &[&early, &late]).await;
    // What began with a certificate of the old root ends; what begins now goes on.
    let mut again = world.session(&early).await;
    World::ends(one).await;
    World::ends(two).await;
    assert!(is_quiet(&mut again).await);

    let newcomer = world.join(Role::Worker).await;
    assert_eq!(newcomer.keeper.credentials().roots(), alone);
}
