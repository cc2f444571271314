//! What a node remembers: one place a flow, whose place a new one takes, and what keeps a client on
//! its backend.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use harness::Packet;
use harness::packet::{tcp, udp};
use harness::run::Node;
use mesh_common::counter::Counter;
use mesh_common::counter::Counter::{FlowEvicted, FlowNew, Local, Reply};
use mesh_common::drop::DropReason::{PortTaken, UnknownFlow};
use mesh_common::flow::{Flow, FlowKey, WAYS, state};
use mesh_common::header::proto;
use mesh_daemon::datapath::balancing::Balancing;
use mesh_daemon::datapath::desired::addr;

use crate::check::{check, redirects, turns_back};
use crate::world::{CLIENT_MAC, ROUTER, Site, V4, World, XDP, at, from_task, link, mac, uplink_mac, web};

const TASK: u8 = 21;

/// A client's end of a flow to the published port, whose backend is task 0 on the node dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Client {
    host: u8,
    port: u16,
}

impl Client {
    fn end(self) -> String {
        at(&V4.client(self.host), self.port)
    }

    fn dials(self) -> Packet {
        tcp(&*self.end(), "192.0.2.1:8080").macs(CLIENT_MAC, uplink_mac(0))
    }

    fn reaches(self) -> Packet {
        tcp(&*self.end(), "10.0.0.21:80").macs(ROUTER, mac(TASK))
    }

    fn key(self) -> FlowKey {
        FlowKey {
            client: addr(V4.client(self.host).parse().unwrap()),
            ifindex: link(0),
            client_port: self.port.to_be_bytes(),
            task_port: 80u16.to_be_bytes(),
            proto: proto::TCP,
        }
    }

    #[track_caller]
    fn opens(self, node: &Node, counters: &[Counter]) {
        check(
            node,
            XDP,
            &format!("{self:?} opens"),
            self.dials().syn(),
            &redirects(self.reaches().syn()).counting(counters),
        );
    }

    #[track_caller]
    fn sends(self, node: &Node, with: impl Fn(Packet) -> Packet) {
        let expect = redirects(with(self.reaches())).counting(&[Local]);
        check(node, XDP, &format!("{self:?} sends"), with(self.dials()), &expect);
    }

    #[track_caller]
    fn hears(self, node: &Node, with: impl Fn(Packet) -> Packet) {
        let answer = |from: &str| with(tcp(from, &*self.end())).macs(mac(TASK), ROUTER);
        let expect = redirects(answer("192.0.2.1:8080")).counting(&[Reply]);
        check(node, from_task(0), &format!("{self:?} hears"), answer("10.0.0.21:80"), &expect);
    }

    fn flow(self, node: &Node) -> Option<Flow> {
        let key = self.key();
        let flows = node.flows().unwrap();
        flows.into_iter().find(|flow| (flow.client, flow.client_port) == (key.client, key.client_port))
    }
}

fn site() -> Site {
    Site::new(World::new(V4, &[web(0, TASK)]).with_web(), 1)
}

const NEW: &[Counter] = &[FlowNew, Local];
const EVICTS: &[Counter] = &[FlowNew, FlowEvicted, Local];

/// Clients whose flows share one set.
fn rivals(node: &Node, count: usize) -> Vec<Client> {
    let mask = node.flow_sets() - 1;
    let clients = (1..=250).flat_map(|host| (1024..60000).map(move |port| Client { host, port }));
    let set = Client { host: 1, port: 1024 }.key().set(mask);
    clients.filter(|client| client.key().set(mask) == set).take(count).collect()
}

#[test]
fn a_full_set_lets_go_of_the_flow_that_is_missed_least() {
    let site = site();
    let node = &site.nodes[0];
    let clients = rivals(node, WAYS + 3);
    let (first, late) = clients.split_at(WAYS);
    for client in first {
        client.opens(node, NEW);
    }
    // One never gets an answer, one is half closed, one is closed.
    let (unanswered, half, closed) = (first[5], first[4], first[3]);
    for client in first.iter().filter(|client| **client != unanswered) {
        client.hears(node, |packet| packet.syn().ack(2));
    }
    half.sends(node, |packet| packet.fin().ack(2));
    closed.sends(node, |packet| packet.fin().ack(2));
    closed.hears(node, |packet| packet.fin().ack(3));

    late[0].opens(node, NEW);
    late[0].hears(node, |packet| packet.syn().ack(2));
    assert_eq!(closed.flow(node), None, "the closed one goes first, and is not missed");
    late[1].opens(node, EVICTS);
    late[1].hears(node, |packet| packet.syn().ack(2));
    assert_eq!(unanswered.flow(node), None, "then the one that never got an answer");

    let idle = first[2];
    let seen = idle.flow(node).unwrap().seen;
    let stay: Vec<_> = clients.iter().filter(|c| ![unanswered, closed, idle, late[2]].contains(c)).collect();
    let deadline = Instant::now() + Duration::from_secs(20);
    while stay.iter().any(|client| client.flow(node).unwrap().seen == seen) {
        assert!(Instant::now() < deadline, "time does not pass in the flows");
        stay.iter().for_each(|client| client.sends(node, |packet| packet.ack(2)));
    }
    late[2].opens(node, EVICTS);
    assert_eq!(idle.flow(node), None, "then the one idle longest");
    for client in stay {
        client.sends(node, |packet| packet.ack(2).payload("still here"));
    }
    let reset = tcp("192.0.2.1:8080", &*idle.end()).rst().seq(9).window(0).id(0).ttl(64);
    let reset = turns_back(reset.macs(uplink_mac(0), CLIENT_MAC)).refused(UnknownFlow);
    check(node, XDP, "what became of the idle one", idle.dials().ack(9), &reset);
}

#[test]
fn a_reset_from_either_side_closes_a_flow() {
    let site = site();
    let node = &site.nodes[0];
    let clients = rivals(node, WAYS + 2);
    for client in &clients[..WAYS] {
        client.opens(node, NEW);
        client.hears(node, |packet| packet.syn().ack(2));
    }
    clients[0].sends(node, Packet::rst);
    clients[WAYS].opens(node, NEW);
    assert_eq!(clients[0].flow(node), None);
    clients[6].hears(node, |packet| packet.rst().ack(1));
    clients[WAYS + 1].opens(node, NEW);
    assert_eq!(clients[6].flow(node), None);
}

#[test]
fn a_port_that_is_used_again_is_a_new_flow_in_the_same_place() {
    let site = site();
    let node = &site.nodes[0];
    let client = Client { host: 7, port: 40000 };
    client.opens(node, NEW);
    client.hears(node, |packet| packet.syn().ack(2));
    client.sends(node, |packet| packet.fin().ack(2));
    client.hears(node, |packet| packet.fin().ack(3));
    let fresh = state::PUBLISHED | state::HERE;
    let over = fresh | state::ANSWERED | state::CLIENT_DONE | state::TASK_DONE;
    assert_eq!(client.flow(node).unwrap().state, over);
    client.opens(node, NEW);
    let flows = node.flows().unwrap();
    assert_eq!(flows.len(), 1);
    assert_eq!((flows[0].state, flows[0].origin), (fresh, 10), "of the interface that the client is behind");
    client.sends(node, |packet| packet.ack(2));
}

#[test]
fn a_syn_that_is_sent_again_reaches_the_same_task_and_is_one_flow() {
    let site = Site::new(World::new(V4, &[web(0, 21), web(0, 22), web(0, 23)]).with_web(), 1);
    let node = &site.nodes[0];
    for port in 40000..40032 {
        let syn = Client { host: 7, port }.dials().syn().build();
        let first = node.run(XDP, &syn).unwrap();
        for _ in 0..3 {
            assert_eq!(node.run(XDP, &syn).unwrap().frame, first.frame, "from port {port}");
        }
    }
    assert_eq!(node.flows().unwrap().len(), 32);
}

/// Another address of node 0, behind which is the same service.
const SECOND: &str = "192.0.2.77";

/// A client dials the same service at two addresses from one port: to the task both look the same.
#[test]
fn of_two_connections_from_one_port_only_one_is_a_flow() {
    let world = World::new(V4, &[web(0, TASK)]).with_web();
    let mut site = Site::new(world, 1);
    site.world.more_addresses = vec![SECOND.parse().unwrap()];
    site.apply();
    let node = &site.nodes[0];
    let client = Client { host: 7, port: 40000 };
    let other =
        |packet: fn(Packet) -> Packet| packet(tcp(&*client.end(), &*at(SECOND, 8080)).macs(CLIENT_MAC, uplink_mac(0)));
    let reset = |packet: fn(Packet) -> Packet| {
        let reset = packet(tcp(&*at(SECOND, 8080), &*client.end())).rst().window(0).id(0).ttl(64);
        turns_back(reset.macs(uplink_mac(0), CLIENT_MAC))
    };
    client.opens(node, NEW);
    client.hears(node, |packet| packet.syn().ack(2));
    // What the task would mix up with the first is refused: by the address that it was sent to.
    let refused = reset(|packet| packet.seq(9)).refused(UnknownFlow);
    check(node, XDP, "the middle of the other", other(|packet| packet.ack(9).payload("x")), &refused);
    let refused = reset(|packet| packet.seq(0).ack(1)).refused(PortTaken);
    check(node, XDP, "the other opens", other(|packet| packet.seq(0).syn()), &refused);
    client.sends(node, |packet| packet.ack(2));
    client.hears(node, |packet| packet.ack(2));
    // Once the first is over, the other may come; then the first is unknown.
    client.sends(node, Packet::rst);
    let opens = redirects(client.reaches().syn()).counting(NEW);
    check(node, XDP, "the other opens again", other(Packet::syn), &opens);
    let reset = tcp("192.0.2.1:8080", &*client.end()).rst().seq(9).window(0).id(0).ttl(64);
    let reset = turns_back(reset.macs(uplink_mac(0), CLIENT_MAC)).refused(UnknownFlow);
    check(node, XDP, "what became of the first", client.dials().ack(9), &reset);
    // One that nobody has answered keeps nobody out.
    client.opens(node, NEW);
}

#[test]
fn a_datagram_to_another_address_is_answered_from_there() {
    let mut site = Site::new(World::new(V4, &[web(0, TASK)]).with_web(), 1);
    site.world.more_addresses = vec![SECOND.parse().unwrap()];
    site.apply();
    let node = &site.nodes[0];
    let client = at("198.51.100.7", 40000);
    for dialled in ["192.0.2.1:5353".to_owned(), at(SECOND, 5353), "192.0.2.1:5353".to_owned()] {
        let asks = udp(&*client, &*dialled).payload("?").macs(CLIENT_MAC, uplink_mac(0));
        let arrives = udp(&*client, "10.0.0.21:53").payload("?").macs(ROUTER, mac(TASK));
        check(node, XDP, &dialled, asks, &redirects(arrives).counting(NEW));
        let answer = |from: &str| udp(from, &*client).payload("!").macs(mac(TASK), ROUTER);
        let expect = redirects(answer(&dialled)).counting(&[Reply]);
        check(node, from_task(0), &dialled, answer("10.0.0.21:53"), &expect);
    }
}

/// The tasks that one client's connections lead to.
fn tasks_of(node: &Node, host: u8) -> BTreeSet<Vec<u8>> {
    let lead = |port| node.run(XDP, &Client { host, port }.dials().syn().build()).unwrap().frame[..6].to_vec();
    (40000..40064).map(lead).collect()
}

#[test]
fn affinity_keeps_all_flows_of_a_client_on_one_task() {
    for balancing in [Balancing::Client, Balancing::Maglev] {
        let mut world = World::new(V4, &[web(0, 21), web(0, 22), web(0, 23)]).with_web();
        world.services[0].balancing = balancing;
        let site = Site::new(world, 1);
        let each: Vec<_> = (1..32).map(|host| tasks_of(&site.nodes[0], host)).collect();
        let all: BTreeSet<_> = each.iter().flatten().collect();
        assert_eq!(all.len(), 3, "all tasks serve somebody");
        assert!(each.iter().all(|tasks| tasks.len() == if balancing == Balancing::Client { 1 } else { 3 }), "{each:?}");
    }
}
