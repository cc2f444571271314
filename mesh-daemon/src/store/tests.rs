use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::model::id::{NetworkId, NodeId, SecretId, ServiceId, TaskId};
use crate::model::meta::Annotations;
use crate::model::node::{Node, NodeDescription, Role};
use crate::model::payload::{Payload, PayloadSpec, Secret};
use crate::model::service::{Service, ServiceMode, ServiceSpec};
use crate::model::state::TaskState;
use crate::model::task::{NetworkAttachmentSpec, Task, TaskSpec};

/// A clock that moves by a second whenever it is looked at.
fn store() -> Store {
    let seconds = AtomicI64::new(0);
    let tick = move || Timestamp::from_second(seconds.fetch_add(1, Ordering::Relaxed)).unwrap();
    Store::local(Arc::new(tick))
}

fn service(number: u128, name: &str) -> Service {
    let spec = ServiceSpec { annotations: Annotations::named(name), ..ServiceSpec::default() };
    Service::new(ServiceId::from_u128(number), spec)
}

fn task(number: u128, of: u128, on: Option<u128>) -> Task {
    let mut task = Task::new(TaskId::from_u128(number), Some(ServiceId::from_u128(of)), TaskSpec::default());
    task.node_id = on.map(NodeId::from_u128);
    task
}

fn secret(number: u128, bytes: usize) -> Secret {
    let annotations = Annotations::named(format!("secret{number}"));
    let spec = PayloadSpec { annotations, data: Payload(vec![7; bytes]), ..PayloadSpec::default() };
    Secret::new(SecretId::from_u128(number), spec)
}

#[tokio::test]
async fn what_was_written_is_seen_with_its_version_and_times() {
    let store = store();
    store.update(|tx| tx.create(service(1, "web"))).await.unwrap();
    store
        .update(|tx| tx.modify::<Service>(ServiceId::from_u128(1), |it| it.allocation_error = "x".into()))
        .await
        .unwrap();
    let view = store.view();
    let web = view.services().named("WEB").unwrap();
    assert_eq!((web.meta.version.0, web.meta.created_at.as_second(), web.meta.updated_at.as_second()), (2, 0, 1));
    assert_eq!((web.spec_version.0, store.version().0), (1, 2));
}

#[tokio::test]
async fn the_version_of_a_spec_moves_with_the_spec_only() {
    let store = store();
    let id = ServiceId::from_u128(1);
    store.update(|tx| tx.create(service(1, "web"))).await.unwrap();
    store.update(|tx| tx.create(service(2, "db"))).await.unwrap();
    store.update(|tx| tx.modify::<Service>(id, |it| it.spec.mode = ServiceMode::Global)).await.unwrap();
    store.update(|tx| tx.modify::<Service>(id, |it| it.allocation_error = "x".into())).await.unwrap();
    let web = store.view().services().get(id).cloned().unwrap();
    assert_eq!((web.spec_version.0, web.meta.version.0), (3, 4));
}

#[tokio::test]
async fn a_view_does_not_change_under_its_reader() {
    let store = store();
    let before = store.view();
    store.update(|tx| tx.create(service(1, "web"))).await.unwrap();
    assert!(before.services().is_empty() && store.view().services().len() == 1);
}

#[tokio::test]
async fn an_object_that_was_changed_since_is_not_overwritten() {
    let store = store();
    let id = ServiceId::from_u128(1);
    store.update(|tx| tx.create(service(1, "web"))).await.unwrap();
    let mine = Service::clone(store.view().services().get(id).unwrap());
    store.update(|tx| tx.modify::<Service>(id, |it| it.allocation_error = "theirs".into())).await.unwrap();
    let error = store.update(|tx| tx.update(mine.clone())).await.unwrap_err();
    assert_eq!(error.to_string(), "update out of sequence");
    let error = store.update(|tx| tx.expect_version::<Service>(id, mine.meta.version)).await.unwrap_err();
    assert_eq!(error.to_string(), "update out of sequence");
    assert_eq!(store.view().services().get(id).unwrap().allocation_error, "theirs");
}

#[tokio::test]
async fn names_are_unique_whatever_their_case_except_of_nodes() {
    let store = store();
    store.update(|tx| tx.create(service(1, "web"))).await.unwrap();
    let error = store.update(|tx| tx.create(service(2, "Web"))).await.unwrap_err();
    assert_eq!(error.to_string(), "service Web already exists");
    for number in [1, 2] {
        let mut node = Node::new(NodeId::from_u128(number), Role::Worker);
        node.description = Some(NodeDescription { hostname: "host".into(), ..NodeDescription::default() });
        store.update(|tx| tx.create(node.clone())).await.unwrap();
    }
    assert_eq!(store.view().nodes().by_name("host").count(), 2);
}

#[tokio::test]
async fn a_name_is_free_again_in_the_transaction_that_removes_its_owner() {
    let store = store();
    store.update(|tx| tx.create(service(1, "web"))).await.unwrap();
    let swap = |tx: &mut Tx| {
        tx.remove::<Service>(ServiceId::from_u128(1))?;
        tx.create(service(2, "web"))
    };
    store.update(swap).await.unwrap();
    assert_eq!(store.view().services().named("web").unwrap().id, ServiceId::from_u128(2));
}

#[tokio::test]
async fn names_can_be_exchanged_in_one_transaction() {
    let store = store();
    let rename = |tx: &mut Tx, number, name: &str| {
        tx.modify::<Service>(ServiceId::from_u128(number), |it| it.spec.annotations.name = name.to_owned())
    };
    store.update(|tx| tx.create(service(1, "a")).and_then(|()| tx.create(service(2, "b")))).await.unwrap();
    let exchange = |tx: &mut Tx| {
        rename(tx, 1, "c")?;
        rename(tx, 2, "a")?;
        rename(tx, 1, "b")
    };
    store.update(exchange).await.unwrap();
    assert_eq!(store.view().services().named("b").unwrap().id, ServiceId::from_u128(1));
}

#[tokio::test]
async fn a_transaction_happens_whole_or_not_at_all() {
    let store = store();
    store.update(|tx| tx.create(service(1, "web"))).await.unwrap();
    let both = |tx: &mut Tx| {
        tx.create(service(2, "db"))?;
        tx.create(service(3, "web"))
    };
    store.update(both).await.unwrap_err();
    assert_eq!((store.view().services().len(), store.version().0), (1, 1));
}

#[tokio::test]
async fn tasks_are_found_by_all_they_belong_to() {
    let store = store();
    let network = NetworkId::from_u128(9);
    let mut with_network = task(1, 5, None);
    let attachment = NetworkAttachmentSpec {
        network_id: network,
        aliases: vec![],
        driver_options: BTreeMap::new(),
        addresses: vec![],
    };
    with_network.spec.networks = vec![attachment];
    store.update(|tx| tx.create(with_network.clone()).and_then(|()| tx.create(task(2, 5, Some(7))))).await.unwrap();
    let ids = |view: &View, key| view.tasks().by_key(key).map(|task| task.id.to_u128()).collect::<Vec<_>>();
    let view = store.view();
    assert_eq!(ids(&view, Key::Service(ServiceId::from_u128(5))), [1, 2]);
    assert_eq!(ids(&view, Key::Node(NodeId::from_u128(7))), [2]);
    assert_eq!(ids(&view, Key::Network(network)), [1]);
    let give = |tx: &mut Tx| tx.modify::<Task>(TaskId::from_u128(2), |it| it.node_id = Some(NodeId::from_u128(8)));
    store.update(give).await.unwrap();
    let view = store.view();
    assert_eq!(ids(&view, Key::Node(NodeId::from_u128(7))), [0u128; 0]);
    assert_eq!(ids(&view, Key::Node(NodeId::from_u128(8))), [2]);
}

#[tokio::test]
async fn a_task_never_goes_back() {
    let store = store();
    let id = TaskId::from_u128(1);
    let set = |tx: &mut Tx, state| tx.modify::<Task>(id, |it| it.status.state = state);
    store.update(|tx| tx.create(task(1, 5, None))).await.unwrap();
    store.update(|tx| set(tx, TaskState::Failed)).await.unwrap();
    let error = store.update(|tx| set(tx, TaskState::Running)).await.unwrap_err();
    assert_eq!(error.to_string(), format!("task {id} cannot go from failed back to running"));
}

#[tokio::test]
async fn a_transaction_has_a_bound_and_a_batch_cuts_itself_along_it() {
    let store = store();
    let numbers: Vec<u128> = (0..1000).collect();
    let all = |tx: &mut Tx| numbers.iter().try_for_each(|number| tx.create(task(*number, 1, None)));
    assert!(matches!(store.update(all).await, Err(Error::TooManyChanges)));
    store.batch(None, &numbers, |tx, number| tx.create(task(*number, 1, None))).await.unwrap();
    assert_eq!((store.view().tasks().len(), store.version().0), (1000, 5));
}

#[tokio::test]
async fn a_batch_cuts_itself_along_the_bound_of_bytes_too() {
    let store = store();
    let numbers: Vec<u128> = (0..4).collect();
    store.batch(None, &numbers, |tx, number| tx.create(secret(*number, 499 * 1024))).await.unwrap();
    assert_eq!((store.view().secrets().len(), store.version().0), (4, 2));
    let error = store.update(|tx| tx.create(secret(9, 1200 * 1024))).await.unwrap_err();
    assert!(error.to_string().ends_with("bytes in one transaction: at most 1572864 fit"), "{error}");
}

#[tokio::test]
async fn a_batch_says_how_far_it_came() {
    let store = store();
    let numbers: Vec<u128> = (0..300).chain([0]).collect();
    let outcome = store.batch(None, &numbers, |tx, number| tx.create(task(*number, 1, None))).await;
    let (done, error) = outcome.unwrap_err();
    assert_eq!((done, error.to_string()), (200, format!("task {} already exists", TaskId::from_u128(0))));
}

#[tokio::test]
async fn two_writers_at_once_lose_nothing() {
    let store = store();
    let id = ServiceId::from_u128(1);
    store.update(|tx| tx.create(service(1, "web"))).await.unwrap();
    // A transaction that sees an old view, since another happens between its closure and its proposal.
    let mut stale = Tx::new(store.view());
    stale.modify::<Service>(id, |it| it.allocation_error.push('a')).unwrap();
    store.update(|tx| tx.modify::<Service>(id, |it| it.allocation_error.push('b'))).await.unwrap();
    let Err(Error::Rejected(rejection)) = store.propose(stale, None).await else {
        panic!("the second writer overwrote the first");
    };
    assert!(rejection.is_race());
    assert_eq!(store.view().services().get(id).unwrap().allocation_error, "b");
}

#[tokio::test]
async fn a_decision_that_rests_on_what_changed_is_refused() {
    let store = store();
    store.update(|tx| tx.create(service(1, "web"))).await.unwrap();
    let mut stale = Tx::new(store.view());
    stale.require::<Service>(ServiceId::from_u128(1)).unwrap();
    stale.create(task(1, 1, None)).unwrap();
    store.update(|tx| tx.remove::<Service>(ServiceId::from_u128(1))).await.unwrap();
    assert!(store.propose(stale, None).await.is_err());
    assert!(store.view().tasks().is_empty());
}

#[tokio::test]
async fn a_watch_tells_everything_after_its_view_in_order() {
    let store = store();
    store.update(|tx| tx.create(service(1, "web"))).await.unwrap();
    let (view, mut watch) = store.watch();
    assert_eq!(view.services().len(), 1);
    store.update(|tx| tx.create(service(2, "db"))).await.unwrap();
    store.update(|tx| tx.remove::<Service>(ServiceId::from_u128(1))).await.unwrap();
    let mut seen = Vec::new();
    while let Some(Notice::Transaction(transaction)) = watch.try_next() {
        seen.extend(transaction.events.iter().map(|event| (transaction.view.version().0, event.clone())));
    }
    assert!(
        matches!(&seen[0], (2, Event::Created(AnyObject::Service(service))) if service.id == ServiceId::from_u128(2))
    );
    assert!(
        matches!(&seen[1], (3, Event::Removed(AnyObject::Service(service))) if service.id == ServiceId::from_u128(1))
    );
    assert_eq!(seen.len(), 2);
}

#[tokio::test]
async fn a_watch_that_lags_is_told_to_look_anew_and_misses_nothing_after() {
    let store = store();
    let (_, mut watch) = store.watch();
    for number in 0..=WATCH_BATCHES as u128 {
        store.update(|tx| tx.create(task(number, 1, None))).await.unwrap();
    }
    assert!(matches!(watch.next().await, Some(Notice::Resync)));
    assert!(watch.try_next().is_none());
    store.update(|tx| tx.create(service(1, "web"))).await.unwrap();
    assert!(matches!(watch.next().await, Some(Notice::Transaction(_))));
}

#[tokio::test]
async fn a_snapshot_brings_everything_back_and_says_what_is_wrong_with_it() {
    let store = store();
    store.update(|tx| tx.create(service(1, "web")).and_then(|()| tx.create(task(1, 1, Some(2))))).await.unwrap();
    let mut bytes = Vec::new();
    Replica::save(&store.view(), &mut bytes).unwrap();
    let replica = Replica::default();
    let (_, mut watch) = replica.watch();
    replica.restore(&bytes[..]).unwrap();
    assert_eq!(contents(&replica.view()), contents(&store.view()));
    assert_eq!(replica.view().version(), store.version());
    assert!(matches!(watch.next().await, Some(Notice::Resync)));

    let text = String::from_utf8(bytes).unwrap();
    let rows = [
        (text.lines().next().unwrap().to_owned(), "the snapshot ends after 0 of 2 objects"),
        (text.replace("\"format\":1", "\"format\":2"), "the snapshot has format 2: this version reads 1"),
        (text[..text.len() - 3].to_owned(), "line 3 of the snapshot is not what was written there"),
        (String::new(), "line 1 of the snapshot is not what was written there"),
    ];
    for (broken, message) in rows {
        assert_eq!(replica.restore(broken.as_bytes()).unwrap_err().to_string(), message);
        assert_eq!(contents(&replica.view()), contents(&store.view()), "after: {message}");
    }
}

#[test]
fn ids_are_found_by_how_they_begin() {
    let mut table = Table::<Service>::default();
    let ids = [
        "0000000000000000000000001",
        "00000000000000000000000zz",
        "abc0000000000000000000000",
        "f5lxx1zz5pnorynqglhzmsp33",
    ];
    for (number, id) in ids.iter().enumerate() {
        let mut service = service(0, &number.to_string());
        service.id = id.parse().unwrap();
        table.put(Arc::new(service)).unwrap();
    }
    let rows: [(&str, &[&str]); 8] = [
        ("", &ids),
        ("0", &ids[..2]),
        ("00000000000000000000000", &ids[..2]),
        ("ab", &ids[2..3]),
        ("f5lxx1zz5pnorynqglhzmsp33", &ids[3..]),
        ("zz", &[]),
        ("AB", &[]),
        ("+", &[]),
    ];
    for (prefix, expected) in rows {
        let found: Vec<_> = table.by_id_prefix(prefix).map(|service| service.id.to_string()).collect();
        assert_eq!(found, expected, "{prefix}");
    }
}

/// Everything in the tables, and everything their indexes say.
fn contents(view: &View) -> (Vec<AnyObject>, Vec<TaskId>, Vec<Option<ServiceId>>) {
    let by_node = (0..4).flat_map(|node| view.tasks().by_key(Key::Node(NodeId::from_u128(node)))).map(|task| task.id);
    let by_name = (0..4).map(|name| view.services().named(&format!("s{name}")).map(|service| service.id));
    (view.all().collect(), by_node.collect(), by_name.collect())
}

#[derive(Debug, Clone)]
enum Step {
    Create(u128, u128),
    Move(u128, u128),
    Remove(u128),
    Service(u128, u128),
    Rename(u128, u128),
    Unname(u128),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..8u128, 0..4u128).prop_map(|(task, node)| Step::Create(task, node)),
        (0..8u128, 0..4u128).prop_map(|(task, node)| Step::Move(task, node)),
        (0..8u128).prop_map(Step::Remove),
        (0..4u128, 0..4u128).prop_map(|(id, name)| Step::Service(id, name)),
        (0..4u128, 0..4u128).prop_map(|(id, name)| Step::Rename(id, name)),
        (0..4u128).prop_map(Step::Unname),
    ]
}

fn take(tx: &mut Tx, step: &Step) -> Result<(), Error> {
    match *step {
        Step::Create(number, node) => tx.create(task(number, 1, Some(node))),
        Step::Move(number, node) => {
            tx.modify::<Task>(TaskId::from_u128(number), |task| task.node_id = Some(NodeId::from_u128(node)))
        }
        Step::Remove(number) => tx.remove::<Task>(TaskId::from_u128(number)),
        Step::Service(id, name) => tx.create(service(id, &format!("s{name}"))),
        Step::Rename(id, name) => {
            tx.modify::<Service>(ServiceId::from_u128(id), |it| it.spec.annotations.name = format!("S{name}"))
        }
        Step::Unname(id) => tx.remove::<Service>(ServiceId::from_u128(id)),
    }
}

proptest! {
    /// Two replicas that carry out the same are equal; so is one that was put back half way; and what a
    /// transaction sees while it is made is what comes of it.
    #[test]
    fn replicas_agree(transactions in prop::collection::vec(prop::collection::vec(step(), 0..6), 0..20), half in 0..20usize) {
        let (leader, follower, late) = (Replica::default(), Replica::default(), Replica::default());
        for (at, steps) in transactions.iter().enumerate() {
            if at == half {
                let mut bytes = Vec::new();
                Replica::save(&leader.view(), &mut bytes).unwrap();
                late.restore(&bytes[..]).unwrap();
            }
            let mut tx = Tx::new(leader.view());
            for step in steps {
                let before = tx.clone();
                if take(&mut tx, step).is_err() {
                    tx = before;
                }
            }
            let promised: Vec<_> = tx.all().map(|object| object.with_meta(Default::default())).collect();
            let proposal = Proposal { changes: tx.into_changes(), at: Timestamp::UNIX_EPOCH, fence: None };
            let sent: Proposal = serde_json::from_str(&serde_json::to_string(&proposal).unwrap()).unwrap();
            prop_assert_eq!(&sent, &proposal);
            let version = leader.apply(&proposal);
            prop_assert!(version.is_ok(), "{:?}: {:?}", version, proposal);
            prop_assert_eq!(follower.apply(&sent), version.clone());
            if at >= half {
                prop_assert_eq!(late.apply(&sent), version);
            }
            let is: Vec<_> = leader.view().all().map(|object| object.with_meta(Default::default())).collect();
            prop_assert_eq!(unstamped(is), unstamped(promised));
            prop_assert_eq!(contents(&leader.view()), contents(&follower.view()));
        }
        if half < transactions.len() {
            prop_assert_eq!(contents(&leader.view()), contents(&late.view()));
        }
    }
}

/// Objects without the version that the store writes into services.
fn unstamped(objects: Vec<AnyObject>) -> Vec<AnyObject> {
    let clear = |object| match object {
        AnyObject::Service(service) => {
            AnyObject::Service(Arc::new(Service { spec_version: Default::default(), ..Service::clone(&service) }))
        }
        other => other,
    };
    objects.into_iter().map(clear).collect()
}
