//! Who gets a new flow, by each policy, and where the rest of the flow goes: at a node that was dialled.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use harness::Packet;
use harness::packet::{tcp, udp};
use harness::run::{Action, Node};
use mesh_common::counter::Counter::{FlowNew, Forwarded, Local};
use mesh_common::drop::DropReason::{OverBudget, UnknownFlow};
use mesh_daemon::datapath::balancing::Balancing;

use crate::check::{check, redirects};
use crate::world::{
    BOTH, CLIENT_MAC, Family, RED, ROUTER, Site, Task, V4, VIP, World, XDP, at, from_task, mac, red, uplink_mac, web,
};

const A: u8 = 21;
const B: u8 = 22;
const C: u8 = 23;

/// Node 0 with these tasks, dialled by clients.
fn site(balancing: Balancing, tasks: &[Task]) -> Site {
    let mut world = World::new(V4, tasks).with_web();
    world.services[0].balancing = balancing;
    Site::new(world, 1)
}

fn dials(client: u8, port: u16) -> Packet {
    tcp(&*at(&V4.client(client), port), "192.0.2.1:8080").macs(CLIENT_MAC, uplink_mac(0))
}

fn asks(client: u8, port: u16) -> Packet {
    udp(&*at(&V4.client(client), port), "192.0.2.1:5353").payload("?").macs(CLIENT_MAC, uplink_mac(0))
}

/// The task that a packet goes to, here or by tunnel; `None` if it is refused or dropped.
#[track_caller]
fn task(node: &Node, packet: &Packet) -> Option<u8> {
    let outcome = node.run(XDP, &packet.build()).unwrap();
    let tunnel = 14 + 20 + 8 + 8;
    match outcome.action {
        Action::Redirect => Some(outcome.frame[5]),
        Action::Tx if outcome.counters.contains_key(&Forwarded) => Some(outcome.frame[tunnel + 5]),
        _ => None,
    }
}

/// How many new connections of a client go to each task.
fn shares(node: &Node, ports: impl IntoIterator<Item = u16>) -> BTreeMap<u8, u32> {
    let mut shares = BTreeMap::new();
    for port in ports {
        *shares.entry(task(node, &dials(7, port).syn()).unwrap()).or_default() += 1;
    }
    shares
}

#[test]
fn weights_are_shares_of_new_flows() {
    for balancing in [Balancing::Maglev, Balancing::RoundRobin, Balancing::LeastConnections] {
        let site = site(balancing, &[web(0, A), Task { weight: 3, ..web(0, B) }]);
        let shares = shares(&site.nodes[0], 40000..40800);
        // A quarter is 200; by chance it is missed by 50 in four standard deviations.
        let of_a = shares[&A];
        let is_near = if balancing == Balancing::LeastConnections { 150..=400 } else { 150..=250 }.contains(&of_a);
        assert!(is_near, "{balancing:?}: {shares:?}");
    }
}

#[test]
fn round_robin_takes_one_after_the_other_and_stays() {
    let site = site(Balancing::RoundRobin, &[web(0, A), web(1, B), web(0, C)]);
    let node = &site.nodes[0];
    let of = |port: u16| task(node, &dials(7, port).syn()).unwrap();
    let first: Vec<_> = (40000..40006).map(of).collect();
    assert_eq!(first[..3], first[3..], "in turn");
    assert_eq!(first[..3].iter().collect::<std::collections::BTreeSet<_>>().len(), 3, "each in turn: {first:?}");
    for (port, task_of_it) in (40000..).zip(&first) {
        // A SYN that is sent again takes no turn, and what follows goes where it went.
        assert_eq!(of(port), *task_of_it, "again from {port}");
        assert_eq!(task(node, &dials(7, port).ack(2)), Some(*task_of_it), "more from {port}");
    }
    // The end of one connection, and another from its port: a turn of its own.
    assert_eq!(task(node, &dials(7, 40000).fin().ack(2)), Some(first[0]));
    assert_eq!((of(40000), of(40001)), (first[0], first[1]), "the seventh and the eighth turn");
    // What nobody remembers is not dealt out: by its slot, where nobody knows it.
    let outcome = node.run(XDP, &dials(7, 50000).ack(2).build()).unwrap();
    assert!(outcome.drops.contains_key(&UnknownFlow) || outcome.counters.contains_key(&Forwarded));
    let datagrams: Vec<_> = (0..4).map(|_| task(node, &asks(7, 40000))).collect();
    assert!(datagrams.iter().all(|task| *task == datagrams[0]), "datagrams of one port: {datagrams:?}");
}

#[test]
fn a_vip_is_dealt_out_in_turn_too() {
    for family in BOTH {
        let mut world = World::new(V4, &[red(0, 11), web(0, A), web(0, B)]).with_web();
        world.services[0].balancing = Balancing::RoundRobin;
        let site = Site::new(world, 1);
        let of = |family: Family, port: u16| {
            let ask = tcp(&*at(&family.host(11), port), &*at(&family.host(VIP), 80)).macs(mac(11), ROUTER);
            site.nodes[0].run(from_task(0), &ask.syn().build()).unwrap().frame[5]
        };
        let seen: Vec<_> = (40000..40004).map(|port| of(family, port)).collect();
        assert!(seen[0] != seen[1] && seen[..2] == seen[2..], "{family:?} in {RED}: {seen:?}");
    }
}

#[test]
fn the_less_busy_of_two_gets_the_next_connection() {
    let site = site(Balancing::LeastConnections, &[web(0, A), web(0, B)]);
    let node = &site.nodes[0];
    let end = |port: u16| task(node, &dials(7, port).fin().ack(2));
    let mut open = BTreeMap::new();
    for port in 40000..40100 {
        open.insert(port, task(node, &dials(7, port).syn()).unwrap());
        end(port).unwrap();
        open.remove(&port);
    }
    // Nobody is busy now. A hundred that stay are spread evenly: closer than chance would.
    for port in 41000..41100 {
        open.insert(port, task(node, &dials(7, port).syn()).unwrap());
    }
    let of_a = open.values().filter(|task| **task == A).count();
    assert!((45..=55).contains(&of_a), "{of_a} of 100");
    // All of A's end: A is the less busy one.
    for port in open.iter().filter(|(_, task)| **task == A).map(|(port, _)| *port) {
        end(port);
    }
    let next: Vec<_> = (42000..42040).map(|port| task(node, &dials(7, port).syn()).unwrap()).collect();
    let of_a = next.iter().filter(|task| **task == A).count();
    // Both of the two that are looked at are the busy one in a quarter of all cases.
    assert!(of_a >= 24, "{of_a} of 40 went to the idle one");
}

#[test]
fn a_client_stays_with_its_task_when_others_come_until_it_was_silent_for_long() {
    let mut site = site(Balancing::Client, &[web(0, A)]);
    site.world.services[0].affinity_seconds = Some(2);
    site.world.services[0].slots = Some(1024);
    site.apply();
    let clients = 1..=60;
    for client in clients.clone() {
        assert_eq!(task(&site.nodes[0], &dials(client, 40000).syn()), Some(A));
    }
    site.world.tasks.extend([web(0, B), web(0, C)]);
    site.apply();
    let node = &site.nodes[0];
    let start = Instant::now();
    for client in clients.clone() {
        for packet in [dials(client, 40001).syn(), dials(client, 40000).ack(2)] {
            assert_eq!(task(node, &packet), Some(A), "client {client} stays");
        }
    }
    assert!(start.elapsed() < Duration::from_secs(2), "this machine is too slow for the test");
    let fresh: Vec<_> = (61..=120).map(|client| task(node, &dials(client, 40000).syn()).unwrap()).collect();
    assert!([A, B, C].iter().all(|task| fresh.contains(task)), "new clients go to all: {fresh:?}");
    // Time has to pass: nothing else ends an affinity.
    std::thread::sleep(Duration::from_millis(3100));
    let moved: Vec<_> = clients.map(|client| task(node, &dials(client, 40002).syn()).unwrap()).collect();
    assert!(moved.contains(&B) && moved.contains(&C), "{moved:?}");
}

#[test]
fn a_client_of_a_task_that_drains_opens_elsewhere_and_keeps_what_it_has() {
    let mut site = site(Balancing::Client, &[web(0, A)]);
    assert_eq!(task(&site.nodes[0], &dials(7, 40000).syn()), Some(A));
    site.world.tasks[0].draining = true;
    site.world.tasks.push(web(0, B));
    site.apply();
    let node = &site.nodes[0];
    assert_eq!(task(node, &dials(7, 40000).ack(2)), Some(A));
    assert_eq!(task(node, &dials(7, 40001).syn()), Some(B));
    assert_eq!(task(node, &dials(7, 40000).ack(3)), Some(A), "handed on");
    assert_eq!(task(node, &dials(7, 40001).ack(2)), Some(B));
}

#[test]
fn what_was_dealt_to_a_task_that_drains_stays_and_is_reset_when_it_goes() {
    for balancing in [Balancing::RoundRobin, Balancing::LeastConnections] {
        let mut site = site(balancing, &[web(0, A), web(0, B)]);
        let ports = 40000..40016;
        let first: Vec<_> = ports.clone().map(|port| task(&site.nodes[0], &dials(7, port).syn()).unwrap()).collect();
        assert!(first.contains(&A) && first.contains(&B));
        site.world.tasks[0].draining = true;
        site.apply();
        for (port, seen) in ports.clone().zip(&first) {
            assert_eq!(task(&site.nodes[0], &dials(7, port).ack(2)), Some(*seen), "{balancing:?} {port}");
            assert_eq!(task(&site.nodes[0], &dials(7, port + 100).syn()), Some(B));
        }
        site.world.tasks[0].service = None;
        site.apply();
        for (port, seen) in ports.zip(&first) {
            let still = task(&site.nodes[0], &dials(7, port).ack(2));
            assert_eq!(still, Some(B).filter(|task| task == seen), "{balancing:?} {port}");
        }
    }
}

/// Backend numbers go round: what was chosen for a client never means another's task.
#[test]
fn the_number_of_a_task_that_went_is_not_given_to_the_next() {
    let mut site = site(Balancing::RoundRobin, &[web(0, A)]);
    assert_eq!(task(&site.nodes[0], &dials(7, 40000).syn()), Some(A));
    site.world.tasks[0].service = None;
    site.apply();
    site.world.tasks.push(web(0, B));
    site.apply();
    assert_eq!(task(&site.nodes[0], &dials(7, 40000).ack(2)), None);
    assert_eq!(task(&site.nodes[0], &asks(7, 40000)), Some(B));
}

#[test]
fn the_node_that_is_dialled_prefers_its_own_tasks() {
    let mut world = World::new(V4, &[web(0, A), web(1, B), web(1, C)]).with_web();
    world.services[0].balancing = Balancing::PreferLocal;
    let mut site = Site::new(world, 3);
    let reached = |node: &Node, to: usize| -> Vec<u8> {
        let seen = |port| {
            let ask = tcp(&*at(&V4.client(7), port), &*at(&V4.node(to), 8080)).macs(CLIENT_MAC, uplink_mac(to));
            task(node, &ask.syn()).unwrap()
        };
        let mut tasks: Vec<_> = (40000..40100).map(seen).collect();
        tasks.sort_unstable();
        tasks.dedup();
        tasks
    };
    assert_eq!(reached(&site.nodes[0], 0), [A]);
    assert_eq!(reached(&site.nodes[1], 1), [B, C]);
    assert_eq!(reached(&site.nodes[2], 2), [A, B, C], "a node without one takes all");
    // Its own drains: old flows stay, new ones go to the others.
    site.world.tasks[0].draining = true;
    site.apply();
    for port in 40000..40100 {
        assert_eq!(task(&site.nodes[0], &dials(7, port).ack(2)), Some(A), "from {port}");
    }
    let moved = shares(&site.nodes[0], 45000..45100);
    assert_eq!(moved.keys().copied().collect::<Vec<_>>(), [B, C]);
}

#[test]
fn new_flows_beyond_the_budget_of_a_second_are_dropped_and_known_ones_are_not() {
    let mut site = site(Balancing::Maglev, &[web(0, A)]);
    site.world.services[0].new_flows_per_second = Some(50);
    site.apply();
    let node = &site.nodes[0];
    let opens = |port| node.run(XDP, &dials(7, port).syn().build()).unwrap();
    // However the seconds fall, 300 runs in a row fill one: a run takes microseconds.
    let over = (40000..50000).find(|port| opens(*port).drops.contains_key(&OverBudget));
    assert!(over.is_some_and(|port| port >= 40050), "{over:?}");
    let full = (50000..50300).map(opens).filter(|outcome| outcome.action == Action::Drop).count();
    assert!(full >= 300 - 2 * 50, "{full} of 300 were dropped");
    let known = tcp(&*at(&V4.client(7), 40000), "10.0.0.21:80").ack(2).macs(ROUTER, mac(A));
    check(node, XDP, "one that is known", dials(7, 40000).ack(2), &redirects(known).counting(&[Local]));
    // In another second there is room again.
    let deadline = Instant::now() + Duration::from_secs(5);
    while opens(60000).action == Action::Drop {
        assert!(Instant::now() < deadline, "the budget is never filled up");
    }
}

#[test]
fn a_datagram_beyond_the_budget_is_dropped_without_an_answer() {
    let mut site = site(Balancing::Maglev, &[web(0, A)]);
    site.world.services[0].new_flows_per_second = Some(1);
    site.apply();
    let node = &site.nodes[0];
    let deadline = Instant::now() + Duration::from_secs(5);
    // Two in one second: the first is taken, the second is not.
    for port in 40000.. {
        let first = node.run(XDP, &asks(7, port).build()).unwrap();
        let second = node.run(XDP, &asks(8, port).build()).unwrap();
        if first.counters.contains_key(&FlowNew) && second.action == Action::Drop {
            break;
        }
        assert!(Instant::now() < deadline);
    }
}
