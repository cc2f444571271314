//! The edges: what tasks send to the outside, what the node's own processes send to itself.

use harness::Packet;
use harness::packet::{icmp_echo, icmp_echo_reply, tcp, udp};
use harness::run::Hook;
use mesh_common::counter::Counter::{FlowNew, FromHost, Local, Masqueraded, Reply, Unmasqueraded};
use mesh_common::drop::DropReason::{Internal, NoRoute, UnknownFlow};

use crate::check::{check, drops, left_to_the_host, passes, redirects};
use crate::world::{
    BOTH, BULK, CLIENT_MAC, Family, ROUTER, Site, V4, V6, World, XDP, at, blue, from_task, link, mac, red, uplink_mac,
    web,
};

const TASK: u8 = 21;
const CLIENT: u8 = 7;

fn site() -> Site {
    Site::new(World::new(V4, &[red(0, 11), blue(0, 12), web(0, TASK)]).with_web(), 1)
}

/// The source port of a frame without a tunnel.
fn source_port(family: Family, frame: &[u8]) -> u16 {
    let at = if family == V4 { 34 } else { 54 };
    u16::from_be_bytes([frame[at], frame[at + 1]])
}

type Ask = fn(&str, &str) -> Packet;

#[test]
fn a_task_leaves_with_the_nodes_address_and_gets_its_answer() {
    let talks: [(&str, Ask, Ask, bool); 2] = [
        ("tcp", |src, dst| tcp(src, dst).syn(), |src, dst| tcp(src, dst).syn().ack(1), true),
        ("udp", |src, dst| udp(src, dst).payload(*b"hi"), |src, dst| udp(src, dst).payload(*b"ho"), false),
    ];
    let site = site();
    let node = &site.nodes[0];
    for family in BOTH {
        for (row, ask, answer, is_tcp) in talks {
            let (task, own) = (at(&family.host(11), 4000), family.node(0));
            let outside = at(&family.client(CLIENT), 443);
            let sent = ask(&task, &outside).macs(mac(11), ROUTER);
            check(node, from_task(0), row, sent.clone(), &passes());
            let seen = node.run(Hook::Outward(link(0)), &sent.clone().build()).unwrap();
            let port = source_port(family, &seen.frame);
            assert!((61_000..=65_535).contains(&port), "{row}: {port}, {:?}", seen.drops);
            let lent = at(&own, port);
            assert_eq!(seen.frame, ask(&lent, &outside).macs(mac(11), ROUTER).build(), "{row}");
            assert_eq!(seen.counters, [(Reply, 1), (FlowNew, 2), (Masqueraded, 1)].into(), "{row}");
            // The flow is known now: `container` alone sends it, from the same port.
            let translated = redirects(ask(&lent, &outside).macs(mac(11), ROUTER)).counting(&[Reply]);
            check(node, from_task(0), row, sent, &translated);

            let back = answer(&outside, &lent).macs(CLIENT_MAC, uplink_mac(0));
            let delivered = answer(&outside, &task).macs(ROUTER, mac(11));
            let delivered = redirects(delivered).counting(&[Unmasqueraded]);
            for hook in [XDP, BULK] {
                // XDP leaves TCP to be coalesced.
                let expect = if hook == XDP && is_tcp { passes() } else { delivered.clone() };
                check(node, hook, row, back.clone(), &expect);
            }
            // The same port, another sender, or another port: the host's.
            for stranger in [at(&family.client(CLIENT + 1), 443), at(&family.client(CLIENT), 444)] {
                let other = answer(&stranger, &lent).macs(CLIENT_MAC, uplink_mac(0));
                check(node, BULK, row, other, &left_to_the_host(BULK));
            }
        }
    }
}

#[test]
fn an_echo_leaves_with_an_identifier_of_its_own() {
    let site = site();
    let node = &site.nodes[0];
    for family in BOTH {
        let (task, own, outside) = (family.host(11), family.node(0), family.client(CLIENT));
        let sent = icmp_echo(task.as_str(), outside.as_str()).echo(77, 1).macs(mac(11), ROUTER);
        check(node, from_task(0), "echo", sent.clone(), &passes());
        let seen = node.run(Hook::Outward(link(0)), &sent.build()).unwrap().frame;
        let identifier = family_identifier(family, &seen);
        let want = icmp_echo(own.as_str(), outside.as_str()).echo(identifier, 1).macs(mac(11), ROUTER);
        assert_eq!(seen, want.build());
        let back = icmp_echo_reply(outside.as_str(), own.as_str()).echo(identifier, 1).macs(CLIENT_MAC, uplink_mac(0));
        let delivered = icmp_echo_reply(outside.as_str(), task.as_str()).echo(77, 1).macs(ROUTER, mac(11));
        check(node, XDP, "echo reply", back, &redirects(delivered).counting(&[Unmasqueraded]));
    }
}

fn family_identifier(family: Family, frame: &[u8]) -> u16 {
    let at = if family == V4 { 38 } else { 58 };
    u16::from_be_bytes([frame[at], frame[at + 1]])
}

#[test]
fn not_every_packet_of_a_task_may_leave() {
    let site = site();
    let node = &site.nodes[0];
    let rows: [(&str, Packet, _); 7] = [
        ("internal v4", udp("10.0.0.12:1", "198.51.100.7:53").macs(mac(12), ROUTER), Internal),
        ("internal v6", udp("[fd00::c]:1", "[2001:db8:c::7]:53").macs(mac(12), ROUTER), Internal),
        ("loopback", udp("10.0.0.11:1", "127.0.0.1:53").macs(mac(11), ROUTER), NoRoute),
        ("broadcast", udp("10.0.0.11:1", "255.255.255.255:53").macs(mac(11), ROUTER), NoRoute),
        ("loopback v6", udp("[fd00::b]:1", "[::1]:53").macs(mac(11), ROUTER), NoRoute),
        ("link-local v6", udp("[fd00::b]:1", "[fe80::1]:53").macs(mac(11), ROUTER), NoRoute),
        ("zero", udp("10.0.0.11:1", "0.0.0.1:53").macs(mac(11), ROUTER), NoRoute),
    ];
    for (row, packet, reason) in rows {
        let task = if reason == Internal { 1 } else { 0 };
        check(node, from_task(task), row, packet.clone(), &passes());
        check(node, Hook::Outward(link(task)), row, packet, &drops(reason));
    }
    // The middle of a connection that nobody here knows: a reset.
    let middle = tcp("10.0.0.11:1", "198.51.100.7:443").ack(5).seq(3).macs(mac(11), ROUTER);
    let reset = tcp("198.51.100.7:443", "10.0.0.11:1").rst().seq(5).id(0).window(0).macs(ROUTER, mac(11));
    check(node, Hook::Outward(link(0)), "unknown", middle, &redirects(reset).refused(UnknownFlow));
}

#[test]
fn a_nodes_own_process_dials_by_each_of_its_names() {
    let site = site();
    let node = &site.nodes[0];
    let zero = [0; 6];
    for (family, loopback) in [(V4, "127.0.0.1"), (V6, "::1")] {
        let own = family.node(0);
        let task = at(&family.host(TASK), 80);
        // By the node's address the process keeps its port.
        let dials = segment(&at(&own, 5000), &at(&own, 8080)).syn().macs(zero, zero);
        check(node, Hook::HostLend, "own", dials.clone(), &passes());
        let delivered = segment(&at(&own, 5000), &task).syn().macs(ROUTER, mac(TASK));
        let counted = [FromHost, Local, FlowNew];
        check(node, Hook::Host, "own", dials, &redirects(delivered).counting(&counted));
        let replies = segment(&task, &at(&own, 5000)).syn().ack(1).macs(mac(TASK), ROUTER);
        let answered = segment(&at(&own, 8080), &at(&own, 5000)).syn().ack(1).macs(zero, zero);
        check(node, from_task(2), "own", replies, &redirects(answered).counting(&[Reply]));

        // By the loopback address it is given both.
        let dials = segment(&at(loopback, 5000), &at(loopback, 8080)).syn().macs(zero, zero);
        let lent = node.run(Hook::HostLend, &dials.clone().build()).unwrap();
        let port = source_port(family, &lent.frame);
        let want = segment(&at(&own, port), &at(&own, 8080)).syn().macs(zero, zero);
        assert_eq!(lent.frame, want.build(), "{:?}", lent.drops);
        let delivered = segment(&at(&own, port), &task).syn().macs(ROUTER, mac(TASK));
        check(node, Hook::Host, "loopback", lent.frame, &redirects(delivered).counting(&counted));
        let home = segment(&at(&own, 8080), &at(&own, port)).syn().ack(1).macs(zero, zero);
        let seen = node.run(Hook::Host, &home.build()).unwrap();
        let want = segment(&at(loopback, 8080), &at(loopback, 5000)).syn().ack(1).macs(zero, zero);
        assert_eq!(seen.frame, want.build());
        // What is not published is nobody's but the host's.
        let other = segment(&at(loopback, 5000), &at(loopback, 8081)).syn().macs(zero, zero);
        check(node, Hook::HostLend, "not published", other.clone(), &passes());
        check(node, Hook::Host, "not published", other, &passes());
    }
}

/// A TCP segment between two ends.
fn segment(src: &str, dst: &str) -> Packet {
    tcp(src, dst)
}
