use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;

use super::constraint::{Constraint, InvalidConstraint};
use super::{Candidate, Decision, Failures, schedule};
use crate::model::id::{NodeId, ServiceId, TaskId};
use crate::model::meta::Version;
use crate::model::node::{Availability, Node, NodeDescription, NodeState, Role};
use crate::model::resources::{GenericResource, Platform, Preference, Resources};
use crate::model::service::{Endpoint, Port, PublishMode};
use crate::model::state::TaskState;
use crate::model::task::{Task, TaskSpec};

const SERVICE: ServiceId = ServiceId::from_u128(7);

fn node(number: u128) -> Node {
    let mut node = Node::new(NodeId::from_u128(number), Role::Worker);
    node.status.state = NodeState::Ready;
    node.status.addr = format!("192.0.2.{number}");
    node.description = Some(NodeDescription {
        hostname: format!("node{number}"),
        platform: Platform { architecture: "x86_64".into(), os: "linux".into() },
        resources: Resources {
            nano_cpus: 4_000_000_000,
            memory_bytes: 1 << 30,
            generic: vec![GenericResource::Discrete { kind: "ssd".into(), value: 2 }],
        },
        ..NodeDescription::default()
    });
    node
}

fn labelled(number: u128, zone: &str) -> Node {
    let mut node = node(number);
    node.spec.annotations.labels.insert("zone".into(), zone.into());
    node
}

fn task(number: u128) -> Task {
    let mut task = Task::new(TaskId::from_u128(number), Some(SERVICE), TaskSpec::default());
    task.status.state = TaskState::Pending;
    task.slot = u64::try_from(number).unwrap();
    task
}

fn tasks(count: u128, change: impl Fn(&mut Task)) -> Vec<Arc<Task>> {
    let mut tasks: Vec<_> = (1..=count).map(task).collect();
    tasks.iter_mut().for_each(change);
    tasks.into_iter().map(Arc::new).collect()
}

fn candidates(nodes: impl IntoIterator<Item = Node>) -> Vec<Candidate> {
    nodes.into_iter().map(|node| Candidate::new(Arc::new(node))).collect()
}

fn run(nodes: &mut [Candidate], waiting: &[Arc<Task>]) -> Vec<Decision> {
    schedule(nodes, waiting, &Failures::default(), Timestamp::UNIX_EPOCH)
}

/// How many tasks each node got.
fn counts(decisions: &[Decision]) -> BTreeMap<u128, usize> {
    let mut counts = BTreeMap::new();
    for decision in decisions {
        if let Decision::Place { node, .. } = decision {
            *counts.entry(node.to_u128()).or_default() += 1;
        }
    }
    counts
}

fn reasons(decisions: &[Decision]) -> Vec<&str> {
    fn reason(decision: &Decision) -> Option<&str> {
        match decision {
            Decision::Wait { reason, .. } => Some(reason.as_str()),
            Decision::Place { .. } => None,
        }
    }
    decisions.iter().filter_map(reason).collect()
}

#[test]
fn replicas_are_spread_evenly() {
    let mut nodes = candidates([node(1), node(2), node(3)]);
    assert_eq!(counts(&run(&mut nodes, &tasks(7, |_| ()))), BTreeMap::from([(1, 3), (2, 2), (3, 2)]));
}

#[test]
fn a_node_with_tasks_of_the_service_comes_behind_one_with_more_tasks_of_others() {
    let mut nodes = candidates([node(1), node(2)]);
    nodes[0].count(&task(50));
    for number in 60..65 {
        let mut other = task(number);
        other.service_id = Some(ServiceId::from_u128(8));
        nodes[1].count(&other);
    }
    assert_eq!(counts(&run(&mut nodes, &tasks(1, |_| ()))), BTreeMap::from([(2, 1)]));
}

#[test]
fn tasks_are_spread_over_zones_before_nodes() {
    let mut nodes = candidates([labelled(1, "a"), labelled(2, "a"), labelled(3, "a"), labelled(4, "b")]);
    let waiting =
        tasks(6, |task| task.spec.placement.preferences = vec![Preference::Spread("node.labels.zone".into())]);
    let counts = counts(&run(&mut nodes, &waiting));
    assert_eq!(counts, BTreeMap::from([(1, 1), (2, 1), (3, 1), (4, 3)]));
}

#[test]
fn a_full_zone_leaves_its_share_to_the_other() {
    let mut nodes = candidates([labelled(1, "a"), labelled(2, "b")]);
    let waiting = tasks(5, |task| {
        task.spec.placement.preferences = vec![Preference::Spread("node.labels.zone".into())];
        task.spec.placement.max_replicas = 2;
    });
    let decisions = run(&mut nodes, &waiting);
    assert_eq!(counts(&decisions), BTreeMap::from([(1, 2), (2, 2)]));
    assert_eq!(reasons(&decisions), ["no suitable node (max replicas per node limit exceed)"]);
}

#[test]
fn what_is_reserved_is_counted() {
    let mut nodes = candidates([node(1), node(2)]);
    let waiting = tasks(6, |task| task.spec.resources.reservations.nano_cpus = 1_500_000_000);
    let decisions = run(&mut nodes, &waiting);
    assert_eq!(counts(&decisions), BTreeMap::from([(1, 2), (2, 2)]));
    assert_eq!(reasons(&decisions), ["no suitable node (insufficient resources on 2 nodes)"; 2]);
}

#[test]
fn counted_things_are_given_once() {
    let ssd = |value| GenericResource::Discrete { kind: "ssd".into(), value };
    let mut nodes = candidates([node(1)]);
    let waiting = tasks(3, |task| task.spec.resources.reservations.generic = vec![ssd(1)]);
    let decisions = run(&mut nodes, &waiting);
    assert_eq!(counts(&decisions), BTreeMap::from([(1, 2)]));
    assert!(matches!(&decisions[0], Decision::Place { resources, .. } if *resources == [ssd(1)]));
}

#[test]
fn named_things_are_given_by_name() {
    let gpu = |value: &str| GenericResource::Named { kind: "gpu".into(), value: value.into() };
    let mut node = node(1);
    if let Some(description) = &mut node.description {
        description.resources.generic = vec![gpu("left"), gpu("right")];
    }
    let mut nodes = candidates([node]);
    let wanted = GenericResource::Discrete { kind: "gpu".into(), value: 1 };
    let waiting = tasks(3, |task| task.spec.resources.reservations.generic = vec![wanted.clone()]);
    let decisions = run(&mut nodes, &waiting);
    let got: Vec<_> = decisions
        .iter()
        .filter_map(|decision| match decision {
            Decision::Place { resources, .. } => Some(resources.clone()),
            Decision::Wait { .. } => None,
        })
        .collect();
    assert_eq!(got, [vec![gpu("left")], vec![gpu("right")]]);
}

#[test]
fn a_port_of_the_host_is_for_one_task() {
    let mut nodes = candidates([node(1), node(2)]);
    let port = Port { target_port: 80, published_port: 8080, publish_mode: PublishMode::Host, ..Port::default() };
    let endpoint = Endpoint { ports: vec![port], ..Endpoint::default() };
    let decisions = run(&mut nodes, &tasks(3, |task| task.endpoint = Some(endpoint.clone())));
    assert_eq!(counts(&decisions), BTreeMap::from([(1, 1), (2, 1)]));
    assert_eq!(reasons(&decisions), ["no suitable node (host-mode port already in use on 2 nodes)"]);
}

#[test]
fn a_refusal_names_every_reason_with_its_number_of_nodes() {
    let mut drained = node(1);
    drained.spec.availability = Availability::Drain;
    let mut nodes = candidates([drained, node(2), node(3)]);
    let waiting = tasks(1, |task| task.spec.placement.constraints = vec!["node.labels.zone == a".into()]);
    assert_eq!(
        reasons(&run(&mut nodes, &waiting)),
        ["no suitable node (scheduling constraints not satisfied on 2 nodes; 1 node not available for new tasks)"]
    );
}

#[test]
fn without_nodes_there_is_no_suitable_node() {
    assert_eq!(reasons(&run(&mut [], &tasks(1, |_| ()))), ["no suitable node"]);
}

#[test]
fn a_task_that_has_its_node_is_only_confirmed() {
    let mut nodes = candidates([node(1), node(2)]);
    let decisions = run(&mut nodes, &tasks(1, |task| task.node_id = Some(NodeId::from_u128(2))));
    assert_eq!(counts(&decisions), BTreeMap::from([(2, 1)]));
}

#[test]
fn a_node_where_the_service_keeps_failing_comes_last_for_a_while() {
    let now = Timestamp::from_second(1_000_000).unwrap();
    let mut failures = Failures::default();
    for _ in 0..5 {
        failures.add(NodeId::from_u128(1), SERVICE, Version::default(), now);
    }
    let placed = |now| {
        let mut nodes = candidates([node(1), node(2)]);
        counts(&schedule(&mut nodes, &tasks(3, |_| ()), &failures, now))
    };
    assert_eq!(placed(now), BTreeMap::from([(2, 3)]));
    assert_eq!(placed(now + Duration::from_secs(301)), BTreeMap::from([(1, 2), (2, 1)]));
}

#[test]
fn constraints_read_as_swarmkit_reads_them() {
    let mut manager = labelled(3, "b");
    manager.role = Role::Manager;
    if let Some(description) = &mut manager.description {
        description.engine.labels.insert("disk".into(), "ssd".into());
    }
    let fits = [
        "node.role==manager",
        "node.role == Manager",
        "NODE.role!=worker",
        "node.hostname==NODE3",
        "node.id!=0000000000000000000000001",
        "node.ip==192.0.2.3",
        "node.ip==192.0.2.0/24",
        "node.ip!=198.51.100.0/24",
        "node.platform.os==linux",
        "node.platform.arch==amd64",
        "node.platform.arch==x86_64",
        "node.labels.zone==b",
        "node.labels.none!=x",
        "engine.labels.disk==ssd",
    ];
    let others = ["node.role==worker", "node.labels.zone!=b", "node.labels.none==x", "node.color==red", "node.ip==x"];
    for (texts, fit) in [(&fits[..], true), (&others[..], false)] {
        for text in texts {
            assert_eq!(Constraint::parse(text).unwrap().fits(&manager), fit, "{text}");
        }
    }
}

#[test]
fn what_is_no_constraint_is_named() {
    let rows = [
        ("node.role", InvalidConstraint::Operator),
        ("node.role=manager", InvalidConstraint::Operator),
        ("==manager", InvalidConstraint::Key(String::new())),
        ("node.%==manager", InvalidConstraint::Key("node.%".into())),
        ("node.role==", InvalidConstraint::Value(String::new())),
        ("node.role==a,b", InvalidConstraint::Value("a,b".into())),
    ];
    for (text, error) in rows {
        assert_eq!(Constraint::parse(text), Err(error), "{text}");
    }
}

proptest! {
    #[test]
    fn no_node_gets_more_than_it_has_and_no_task_waits_while_one_fits(
        cpus in proptest::collection::vec(0_i64..8, 1..6),
        wanted in 1_i64..4,
        count in 1_u128..30,
    ) {
        let mut nodes = candidates((1..).zip(&cpus).map(|(number, cpus)| {
            let mut node = node(number);
            if let Some(description) = &mut node.description {
                description.resources.nano_cpus = *cpus;
            }
            node
        }));
        let decisions = run(&mut nodes, &tasks(count, |task| task.spec.resources.reservations.nano_cpus = wanted));
        let counts = counts(&decisions);
        for (number, cpus) in (1_u128..).zip(&cpus) {
            prop_assert!(i64::try_from(counts.get(&number).copied().unwrap_or(0)).unwrap() * wanted <= *cpus);
        }
        let room: i64 = cpus.iter().map(|cpus| cpus / wanted).sum();
        let placed: usize = counts.values().sum();
        prop_assert_eq!(i64::try_from(placed).unwrap(), room.min(i64::try_from(count).unwrap()));
        prop_assert_eq!(decisions.len(), usize::try_from(count).unwrap());
    }
}
