use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;

use super::{is_done, lead};
use crate::cluster::Clock;
use crate::cluster::ca::{self, Keys, Subject, begin_rotation, issuer_of};
use crate::cluster::trust;
use crate::model::cluster::{Cluster, RootCa};
use crate::model::id::{ClusterId, NodeId};
use crate::model::node::{Node, NodeDescription, Role, TlsDescription};
use crate::store::{Store, Tx};

const CLUSTER: ClusterId = ClusterId::from_u128(42);

fn clock() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn now() -> Timestamp {
    Timestamp::try_from(clock()).unwrap()
}

/// A cluster of so many nodes that have certificates of its root.
struct World {
    store: Store,
}

impl World {
    async fn new(nodes: u128) -> Self {
        let world = Self { store: Store::local(Arc::new(now)) };
        let life = Duration::from_secs(90 * 24 * 3600);
        let mut cluster = Cluster::new(CLUSTER);
        cluster.root_ca = trust::found(CLUSTER, NodeId::from_u128(1), life, &Clock::new(clock)).unwrap().0;
        world.write(|tx| tx.create(cluster.clone())).await;
        for number in 1..=nodes {
            world.write(|tx| tx.create(Node::new(NodeId::from_u128(number), Role::Worker))).await;
            world.renew(number).await;
        }
        world
    }

    async fn write(&self, run: impl Fn(&mut Tx) -> Result<(), crate::store::Error>) {
        self.store.update(run).await.unwrap();
    }

    fn root(&self) -> RootCa {
        self.store.view().cluster().unwrap().root_ca.clone()
    }

    async fn begin(&self) {
        self.write(|tx| tx.modify::<Cluster>(CLUSTER, |it| begin_rotation(&mut it.root_ca, None, clock()).unwrap()))
            .await;
    }

    /// The node gets another certificate and says so.
    async fn renew(&self, number: u128) {
        let (root, id) = (self.root(), NodeId::from_u128(number));
        let (_, csr) = Keys::request().unwrap();
        let to = Subject { node: id, role: Role::Worker, cluster: CLUSTER };
        let chain = ca::issue(&root, &csr, &to, clock(), Duration::from_secs(3600)).unwrap();
        let tls = issuer_of(&chain, &ca::roots(&root)).unwrap();
        self.announce(number, tls).await;
    }

    async fn announce(&self, number: u128, tls: TlsDescription) {
        let description = Some(NodeDescription { tls, ..NodeDescription::default() });
        let take = |node: &mut Node| node.description.clone_from(&description);
        self.write(|tx| tx.modify::<Node>(NodeId::from_u128(number), take)).await;
    }

    fn is_done(&self) -> bool {
        is_done(&self.store.view(), now())
    }
}

#[tokio::test]
async fn a_rotation_is_done_when_every_node_that_can_come_has_renewed() {
    let world = World::new(3).await;
    assert!(!world.is_done(), "there is none");
    world.begin().await;
    for number in [1, 2] {
        assert!(!world.is_done());
        world.renew(number).await;
    }
    // One that has joined and said nothing of itself yet is waited for; one whose certificate has ended is not.
    world.write(|tx| tx.create(Node::new(NodeId::from_u128(9), Role::Worker))).await;
    let ends =
        |by: i64| move |node: &mut Node| node.certificate.not_after = Some(now() + jiff::SignedDuration::from_secs(by));
    world.write(|tx| tx.modify::<Node>(NodeId::from_u128(3), ends(-1))).await;
    assert!(!world.is_done());
    world.renew(9).await;
    assert!(world.is_done());
    world.write(|tx| tx.modify::<Node>(NodeId::from_u128(3), ends(60))).await;
    assert!(!world.is_done());
}

#[tokio::test]
async fn another_leader_goes_on_with_a_rotation_and_a_second_one_begins_it_anew() {
    let world = World::new(2).await;
    let before = world.root();
    world.begin().await;
    world.renew(1).await;
    let clock: crate::store::Clock = Arc::new(now);
    let leads = |term| tokio::time::timeout(Duration::from_millis(50), lead(&world.store, term, &clock));
    assert!(leads(1).await.is_err(), "it goes on waiting");
    assert!(world.root().rotation.is_some());
    world.begin().await;
    world.renew(2).await;
    assert!(leads(2).await.is_err());
    assert!(world.root().rotation.is_some(), "the first node has a certificate of a root that was given up");
    let coming = world.root().rotation.unwrap().certificate;
    world.renew(1).await;
    assert!(leads(3).await.is_err());
    let after = world.root();
    assert_eq!((after.certificate, after.rotation), (coming, None));
    assert_ne!(after.join_tokens, before.join_tokens);
}
