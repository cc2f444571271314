//! Every node renders its tables alone, from the same cluster state. A client may dial any of them:
//! all must send its flow to the same task, or a node that fails over takes connections with it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use mesh_common::addr::{Addr, Mac};
use mesh_common::endpoint::{Endpoint as Place, EndpointKey};
use mesh_common::maglev;
use mesh_common::service::{ServiceKey, Slot};
use mesh_daemon::datapath::Desired;
use mesh_daemon::datapath::desired::{
    Endpoint, Member, Network, Port, PortRange, Protocol, ReturnPath, Service, ThisNode,
};
use mesh_daemon::datapath::facts::{Facts, Interface, Path};
use mesh_daemon::datapath::render::render;
use mesh_daemon::datapath::tables::Tables;
use proptest::prelude::*;

const VNI: u32 = 77;
const INGRESS: u32 = 4096;
const FLOW_SETS: u32 = 16;

/// A task: its number, the node it runs on, and whether it drains.
type Task = (u8, usize, bool);

fn vtep(node: usize) -> IpAddr {
    [192, 0, 2, node as u8 + 1].into()
}

fn mac(task: u8) -> Mac {
    Mac { bytes: [2, 0x42, 10, 0, 9, task] }
}

/// The state of the cluster as node `me` gets it. The order of the tasks is another on every node.
fn desired(nodes: usize, me: usize, tasks: &[Task]) -> Desired {
    let name = |node| format!("node{node}");
    let endpoint = |&(number, node, draining): &Task| Endpoint {
        network: "net".to_owned(),
        node: name(node),
        link: (node == me).then(|| format!("v{number}")),
        mac: mac(number),
        addresses: vec![[10, 0, 9, number].into()],
        service: Some("web".to_owned()),
        draining,
        drain_until: None,
        ports: Vec::new(),
        weight: 1,
    };
    let mut endpoints: Vec<_> = tasks.iter().map(endpoint).collect();
    let turn = me % endpoints.len().max(1);
    endpoints.rotate_left(turn);
    let desired = Desired {
        version: 0,
        node: ThisNode {
            name: name(me),
            uplinks: vec!["eth0".to_owned()],
            vtep: vtep(me),
            vxlan_port: 4789,
            ingress_vni: Some(INGRESS),
            addresses: Vec::new(),
            masquerade_ports: PortRange::default(),
        },
        nodes: (0..nodes)
            .filter(|node| *node != me)
            .map(|node| Member { name: name(node), vtep: vtep(node) })
            .collect(),
        networks: vec![Network {
            name: "net".to_owned(),
            vni: VNI,
            mtu: 1450,
            gateways: Vec::new(),
            subnets: Vec::new(),
            internal: false,
        }],
        services: vec![Service {
            name: "web".to_owned(),
            network: "net".to_owned(),
            vips: vec![[10, 0, 9, 250].into()],
            ports: vec![Port { protocol: Protocol::Tcp, published: 80, target: 8080 }],
            return_path: ReturnPath::Tunnel,
            ..Service::default()
        }],
        endpoints,
    };
    assert_eq!(desired.check(), Ok(()));
    desired
}

fn facts(nodes: usize, tasks: &[Task]) -> Facts {
    let interface = |ifindex| Interface { ifindex, mac: Mac::ZERO, mtu: 1500, xdp_program: None };
    let links = tasks.iter().map(|(number, ..)| (format!("v{number}"), interface(100 + u32::from(*number))));
    let path = Path { ifindex: 2, source_mac: Mac::ZERO, mtu: 1500, next_hop: Mac::ZERO };
    Facts {
        interfaces: links.chain([("eth0".to_owned(), interface(2))]).collect(),
        paths: (0..nodes).map(|node| (vtep(node), path)).collect(),
        ..Facts::default()
    }
}

/// The tables of every node for one state after another.
fn history(nodes: usize, states: &[Vec<Task>]) -> Vec<Tables> {
    let follow = |me| {
        states.iter().fold(Tables::default(), |before, tasks| {
            render(&desired(nodes, me, tasks), &facts(nodes, tasks), FLOW_SETS, &before).0
        })
    };
    (0..nodes).map(follow).collect()
}

/// The tables of every node, of which each saw some of the states, and all the last.
fn histories_of_their_own(nodes: usize, states: &[Vec<Task>], seen: &[bool]) -> Vec<Tables> {
    let Some((last, earlier)) = states.split_last() else { return Vec::new() };
    let follow = |me: usize| {
        let saw = |(at, _): &(usize, &Vec<Task>)| seen[(me * 5 + at) % seen.len()];
        let saw = earlier.iter().enumerate().filter(saw).map(|(_, state)| state).chain([last]);
        saw.fold(Tables::default(), |before, tasks| {
            render(&desired(nodes, me, tasks), &facts(nodes, tasks), FLOW_SETS, &before).0
        })
    };
    (0..nodes).map(follow).collect()
}

/// What a node does with a flow: the present and the previous task, by link-layer address.
fn choice(tables: &Tables, key: &ServiceKey, hash: u32) -> (Option<Mac>, Option<Mac>) {
    let service = tables.services[key];
    if service.slots == 0 {
        return (None, None);
    }
    let Slot { current, previous } = tables.slots[&service.slots_at][maglev::slot(hash, service.slots) as usize];
    let task = |number: u32| tables.backends.get(&number).map(|backend| backend.mac);
    (task(current), task(previous))
}

fn hashes() -> impl Iterator<Item = u32> {
    (1024u16..1324).map(|port| {
        let client = Addr::v4([198, 51, 100, (port % 250) as u8]);
        maglev::Tuple { client, client_port: port.to_be_bytes(), port: [0, 80], proto: 6 }.hash()
    })
}

/// Up to 24 tasks of distinct numbers on `nodes` nodes.
fn tasks(nodes: usize) -> impl Strategy<Value = Vec<Task>> {
    proptest::collection::btree_map(1u8..200, (0..nodes, any::<bool>()), 0..24)
        .prop_map(|tasks| tasks.into_iter().map(|(number, (node, draining))| (number, node, draining)).collect())
}

fn histories() -> impl Strategy<Value = (usize, Vec<Vec<Task>>)> {
    (1usize..7).prop_flat_map(|nodes| (Just(nodes), proptest::collection::vec(tasks(nodes), 1..4)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn all_nodes_choose_the_same_task_for_a_flow_whichever_is_dialled((nodes, states) in histories()) {
        let tables = history(nodes, &states);
        let published = |me| ServiceKey::published(Addr::v4([192, 0, 2, me as u8 + 1]), 6, [0, 80]);
        let others = [
            ServiceKey::vip(VNI, Addr::v4([10, 0, 9, 250])),
            ServiceKey::forwarded(INGRESS, &Addr::v4([0; 4]), 6, [0, 80]),
        ];
        for hash in hashes() {
            let first = choice(&tables[0], &published(0), hash);
            for (me, tables) in tables.iter().enumerate() {
                prop_assert_eq!(choice(tables, &published(me), hash), first);
                for key in &others {
                    prop_assert_eq!(choice(tables, key, hash), first);
                }
            }
        }
    }

    /// One restarted, one was cut off, one is new: what each saw before does not matter for new flows.
    #[test]
    fn nodes_of_different_histories_choose_the_same_task_for_a_new_flow(
        (nodes, states) in histories(),
        seen in proptest::collection::vec(any::<bool>(), 7),
    ) {
        let tables = histories_of_their_own(nodes, &states, &seen);
        let key = ServiceKey::vip(VNI, Addr::v4([10, 0, 9, 250]));
        let slots = tables[0].services[&key].slots;
        for of_node in &tables {
            prop_assert_eq!(of_node.services[&key].slots, slots);
            for hash in hashes() {
                prop_assert_eq!(choice(of_node, &key, hash).0, choice(&tables[0], &key, hash).0);
            }
        }
    }

    /// A service that grows, by its own size or because more tasks come, keeps the backend of each flow in
    /// reach, at every node.
    #[test]
    fn no_flow_is_lost_when_a_service_grows(nodes in 1usize..4, few in 1u8..6, more in 6u8..24, named in any::<bool>()) {
        let tasks = |count: u8| -> Vec<Task> { (1..=count).map(|number| (number, usize::from(number) % nodes, false)).collect() };
        for me in 0..nodes {
            let of = |count: u8, slots: u32, before: &Tables| {
                let mut desired = desired(nodes, me, &tasks(count));
                desired.services[0].slots = named.then_some(slots);
                render(&desired, &facts(nodes, &tasks(count)), FLOW_SETS, before).0
            };
            let before = of(few, 256, &Tables::default());
            let after = of(more, 1024, &before);
            let key = ServiceKey::vip(VNI, Addr::v4([10, 0, 9, 250]));
            if named {
                prop_assert_eq!(after.services[&key].slots, 1024);
            }
            for hash in hashes() {
                let old = choice(&before, &key, hash).0;
                let (current, previous) = choice(&after, &key, hash);
                prop_assert!(old == current || old == previous, "{:?} is neither {:?} nor {:?}", old, current, previous);
            }
        }
    }

    #[test]
    fn the_node_that_a_flow_is_sent_to_has_the_task((nodes, states) in histories()) {
        let tables = history(nodes, &states);
        let last = states.last().map(Vec::as_slice).unwrap_or_default();
        for &(number, node, _) in last {
            for (me, tables) in tables.iter().enumerate() {
                let place: Place = tables.endpoints[&EndpointKey::new(INGRESS, mac(number))];
                prop_assert_eq!(place.node == Place::HERE, me == node);
                prop_assert_eq!(place.ifindex != 0, me == node);
            }
        }
    }

    /// Nobody is sent to a task that is gone, and to one that drains only where all do.
    #[test]
    fn only_living_tasks_are_chosen((nodes, states) in histories()) {
        let tables = history(nodes, &states);
        let last = states.last().map(Vec::as_slice).unwrap_or_default();
        let alive: BTreeSet<Mac> = last.iter().map(|task| mac(task.0)).collect();
        let active: BTreeSet<Mac> = last.iter().filter(|task| !task.2).map(|task| mac(task.0)).collect();
        let fit = if active.is_empty() { &alive } else { &active };
        let key = ServiceKey::vip(VNI, Addr::v4([10, 0, 9, 250]));
        for (tables, hash) in tables.iter().flat_map(|tables| hashes().map(move |hash| (tables, hash))) {
            let (current, previous) = choice(tables, &key, hash);
            prop_assert_eq!(current.is_none(), fit.is_empty());
            prop_assert!(current.is_none_or(|task| fit.contains(&task)));
            prop_assert!(previous.is_none_or(|task| alive.contains(&task)));
        }
    }
}
