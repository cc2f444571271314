use std::net::IpAddr;

use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::cidr::Cidr;
use super::cluster::Cluster;
use super::id::{ClusterId, NetworkId, NodeId, ServiceId, TaskId};
use super::network::{Network, NetworkSpec};
use super::node::{Node, Role};
use super::payload::{Payload, PayloadSpec, Secret};
use super::service::{Service, ServiceSpec, UpdateConfig};
use super::state::{Actor, TaskState};
use super::task::{RestartPolicy, Task, TaskSpec};

/// Every pair of states.
fn steps() -> impl Iterator<Item = (TaskState, TaskState)> {
    TaskState::ALL.into_iter().flat_map(|from| TaskState::ALL.map(|to| (from, to)))
}

proptest! {
    #[test]
    fn an_id_is_25_digits_and_reads_back(bits: u128) {
        let id = TaskId::from_u128(bits);
        prop_assert_eq!(id.to_string().len(), 25);
        prop_assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn ids_sort_as_their_digits_do(a: u128, b: u128) {
        let (a, b) = (TaskId::from_u128(a), TaskId::from_u128(b));
        prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
    }

    #[test]
    fn bytes_survive_json(bytes: Vec<u8>) {
        let payload = Payload(bytes);
        let json = serde_json::to_string(&payload).unwrap();
        prop_assert_eq!(serde_json::from_str::<Payload>(&json).unwrap(), payload);
    }

    #[test]
    fn a_network_contains_its_addresses_and_no_others(address: u32, other: u32, prefix in 0u8..=32) {
        let cidr = Cidr::new(IpAddr::V4(address.into()), prefix).unwrap();
        let same = prefix == 0 || (address ^ other) >> (32 - u32::from(prefix)) == 0;
        prop_assert_eq!(cidr.contains(IpAddr::V4(other.into())), same);
        prop_assert_eq!(cidr.to_string().parse(), Ok(cidr));
    }
}

#[test]
fn states_only_grow() {
    for ((from, to), actor) in steps().flat_map(|step| Actor::ALL.map(|actor| (step, actor))) {
        assert!(!actor.may_move(from, to) || from < to, "{actor:?} moves {from} to {to}");
        assert!(!actor.may_want(from, to) || from < to, "{actor:?} wants {to} after {from}");
    }
}

#[test]
fn nothing_moves_a_task_that_has_ended() {
    for (from, to) in steps().filter(|(from, _)| from.is_terminal()) {
        assert!(Actor::ALL.iter().all(|actor| !actor.may_move(from, to)), "{from} to {to}");
    }
}

#[test]
fn before_a_node_has_it_only_one_actor_may_take_a_step() {
    for (from, to) in steps().filter(|(from, _)| *from < TaskState::Assigned) {
        assert!(Actor::ALL.iter().filter(|actor| actor.may_move(from, to)).count() <= 1, "{from} to {to}");
    }
}

#[test]
fn a_task_can_walk_its_whole_life() {
    use TaskState::{Accepted, Assigned, Complete, New, Pending, Preparing, Ready, Running, Starting};
    let steps = [
        (Actor::Allocator, New, Pending),
        (Actor::Scheduler, Pending, Assigned),
        (Actor::Agent, Assigned, Accepted),
        (Actor::Agent, Accepted, Preparing),
        (Actor::Agent, Preparing, Ready),
        (Actor::Agent, Ready, Starting),
        (Actor::Agent, Starting, Running),
        (Actor::Agent, Running, Complete),
    ];
    for (actor, from, to) in steps {
        assert!(actor.may_move(from, to), "{actor:?} from {from} to {to}");
    }
}

#[test]
fn what_is_no_id_is_named() {
    let too_large = "zzzzzzzzzzzzzzzzzzzzzzzzz";
    for text in
        ["", "abc", "0123456789ABCDEFGHIJKLMNO", "0123456789abcdefghijklmno1", too_large, "é123456789abcdefghijklmn"]
    {
        let error = text.parse::<ServiceId>().unwrap_err();
        assert_eq!(error.to_string(), format!("\"{text}\" is not an id: 25 characters of 0-9 and a-z are"));
    }
}

#[test]
fn what_is_no_network_is_refused() {
    for text in ["", "10.0.0.0", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "fd00::/129", "10.0.0/24", "/8"] {
        assert!(text.parse::<Cidr>().is_err(), "{text}");
    }
}

#[test]
fn networks_overlap_where_one_is_in_the_other() {
    let rows = [
        ("10.0.0.0/8", "10.1.0.0/16", true),
        ("10.1.0.0/16", "10.0.0.0/8", true),
        ("10.0.0.0/24", "10.0.1.0/24", false),
        ("0.0.0.0/0", "192.0.2.1/32", true),
        ("::/0", "192.0.2.1/32", false),
        ("fd00::/64", "fd00::5/128", true),
    ];
    for (a, b, overlap) in rows {
        assert_eq!(a.parse::<Cidr>().unwrap().overlaps(b.parse().unwrap()), overlap, "{a} and {b}");
    }
}

fn survives_json<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(object: &T) {
    let json = serde_json::to_string(object).unwrap();
    assert_eq!(&serde_json::from_str::<T>(&json).unwrap(), object);
}

#[test]
fn objects_survive_json() {
    let spec = ServiceSpec { docker: Some(serde_json::json!({"Name": "web", "New": [1]})), ..ServiceSpec::default() };
    survives_json(&Service::new(ServiceId::from_u128(1), spec));
    survives_json(&Task::new(TaskId::from_u128(2), Some(ServiceId::from_u128(1)), TaskSpec::default()));
    survives_json(&Node::new(NodeId::from_u128(3), Role::Manager));
    survives_json(&Network::new(NetworkId::from_u128(4), NetworkSpec::default()));
    survives_json(&Secret::new(super::id::SecretId::from_u128(5), PayloadSpec::default()));
    survives_json(&Cluster::new(ClusterId::from_u128(6)));
}

/// A cluster that was upgraded reads what an older one wrote, where members were fewer.
#[test]
fn members_that_are_missing_get_their_defaults() {
    let spec: ServiceSpec = serde_json::from_str(r#"{"annotations": {"name": "web"}}"#).unwrap();
    assert_eq!(spec.annotations.name, "web");
    assert_eq!(spec.update(), UpdateConfig::default());
    assert_eq!(spec.task.restart, RestartPolicy::default());
    let task: TaskSpec = serde_json::from_str("{}").unwrap();
    assert_eq!(task, TaskSpec::default());
}

/// docs/design/swarm-compatibility.md: these numbers are Swarm's.
#[test]
fn defaults_are_those_of_swarm() {
    let update = UpdateConfig::default();
    assert_eq!((update.parallelism, update.delay.as_secs(), update.monitor.as_secs()), (1, 0, 5));
    let restart = RestartPolicy::default();
    assert_eq!((restart.delay.as_secs(), restart.max_attempts, restart.window.as_secs()), (5, 0, 0));
    let cluster = Cluster::new(ClusterId::from_u128(1));
    assert_eq!(cluster.default_address_pools[0].to_string(), "10.0.0.0/8");
    assert_eq!((cluster.subnet_size, cluster.data_path_port), (24, 4789));
    assert_eq!(cluster.spec.ca.node_cert_expiry.as_secs(), 7_776_000);
    assert_eq!(cluster.spec.dispatcher.heartbeat_period.as_secs(), 5);
    assert_eq!(cluster.spec.orchestration.task_history_retention_limit, 5);
    assert_eq!((cluster.spec.raft.snapshot_interval, cluster.spec.raft.log_entries_for_slow_followers), (10_000, 500));
}

#[test]
fn a_secret_is_never_printed() {
    let spec = PayloadSpec { data: Payload(b"hunter2".to_vec()), ..PayloadSpec::default() };
    let printed = format!("{:?}", Secret::new(super::id::SecretId::from_u128(1), spec));
    assert!(!printed.contains("hunter2") && printed.contains("7 bytes"), "{printed}");
}

#[test]
fn a_generic_resource_is_a_number_or_a_name_of_a_kind() {
    use super::resources::GenericResource;
    let kind = || "gpu".to_owned();
    for (text, expected) in [
        ("gpu=2", Some(GenericResource::Discrete { kind: kind(), value: 2 })),
        ("gpu=uuid1", Some(GenericResource::Named { kind: kind(), value: "uuid1".to_owned() })),
        ("gpu=0", None),
        ("gpu=-1", None),
        ("gpu", None),
        ("=2", None),
        ("gpu=", None),
        ("g u=1", None),
    ] {
        assert_eq!(text.parse().ok(), expected, "{text}");
    }
}
