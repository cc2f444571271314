//! The edges: what tasks send to the outside, what the node's own processes send to itself.

use harness::Packet;
use harness::packet::{icmp_echo, icmp_echo_reply, icmp_error, tcp, udp};
use harness::run::Hook;
use mesh_common::counter::Counter::{ErrorReturned, FlowNew, FromHost, Local, Masqueraded, Reply, Unmasqueraded};
use mesh_common::drop::DropReason::{self, Fragment, Internal, NoRoute, OtherNetwork, PortsExhausted, UnknownFlow};
use mesh_daemon::datapath::desired::{PortRange, Service};

use crate::check::{check, drops, left_to_the_host, passes, redirects};
use crate::world::{
    BOTH, BULK, CLIENT_MAC, Family, GATEWAY, ROUTER, Site, V4, V6, World, XDP, at, blue, from_task, link, mac, red,
    uplink_mac, web,
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

/// What is for somebody that the task cannot reach.
fn refusals() -> Vec<(&'static str, usize, Family, String, DropReason)> {
    let of = |row, task, reason, v4: &str, v6: &str| {
        [(row, task, V4, v4.to_owned(), reason), (row, task, V6, v6.to_owned(), reason)]
    };
    let rows = [
        of("from an internal network", 1, Internal, "198.51.100.7", "2001:db8:c::7"),
        of("to this node, from an internal network", 1, Internal, &V4.node(0), &V6.node(0)),
        of("to where no uplink leads", 0, NoRoute, "203.0.113.9", "2001:db8:f::9"),
        of("to nobody in the own network", 0, OtherNetwork, "10.0.0.99", "fd00::99"),
        of("to the gateway", 0, OtherNetwork, &V4.host(GATEWAY), &V6.host(GATEWAY)),
        of("to a task of another network", 0, OtherNetwork, "10.7.0.2", "fd07::2"),
        of("to the gateway of another network", 0, OtherNetwork, "10.7.0.1", "fd07::1"),
        of("to a VIP of another network", 0, OtherNetwork, "10.8.0.80", "fd08::50"),
    ];
    rows.into_iter().flatten().collect()
}

#[test]
fn what_may_not_leave_is_refused_and_told_why() {
    let mut world = World::new(V4, &[red(0, 11), blue(0, 12), web(0, TASK)]).with_web();
    // Networks that the task has no part in: of one the subnets are known, of the other the VIPs.
    world.more_networks = vec![("green", 0x1003, &["10.7.0.0/16", "fd07::/64"]), ("grey", 0x1004, &[])];
    world.services.push(Service {
        name: "grey".to_owned(),
        network: "grey".to_owned(),
        vips: ["10.8.0.80", "fd08::50"].map(|vip| vip.parse().unwrap()).to_vec(),
        ..Service::default()
    });
    let site = Site::new(world, 1);
    let node = &site.nodes[0];
    for (row, task, family, to, reason) in refusals() {
        let row = &format!("{row} {family:?}");
        let host = [11, 12][task];
        let from = family.host(host);
        let (src, dst) = (at(&from, 4000), at(&to, 53));
        let hook = Hook::Outward(link(task));
        let refused = |answer: Packet| redirects(answer.id(0).ttl(64).macs(ROUTER, mac(host))).refused(reason);

        let syn = tcp(&*src, &*dst).seq(1000).syn().macs(mac(host), ROUTER);
        check(node, from_task(task), row, syn.clone(), &passes());
        let reset = tcp(&*dst, &*src).rst().window(0).seq(0).ack(1001);
        check(node, hook, row, syn, &refused(reset));

        let quoted = 14 + if family == V4 { 28 } else { 48 };
        let (kind, code) = match (family, reason) {
            (V4, NoRoute) => (3, 0),
            (V4, _) => (3, 13),
            (V6, NoRoute) => (1, 0),
            (V6, _) => (1, 1),
        };
        let datagram = udp(&*src, &*dst).payload("hello");
        let echo = icmp_echo(&*from, &*to).payload("hello");
        for packet in [datagram, echo] {
            let packet = packet.macs(mac(host), ROUTER);
            check(node, from_task(task), row, packet.clone(), &passes());
            let quote = packet.clone().truncate(quoted);
            check(node, hook, row, packet, &refused(icmp_error(&*to, &*from, kind, code, [0; 4], quote)));
        }
    }
}

#[test]
fn what_names_no_one_host_is_dropped_without_a_word() {
    let site = site();
    let node = &site.nodes[0];
    let rows = [
        ("loopback", "10.0.0.11:1", "127.0.0.1:53"),
        ("broadcast", "10.0.0.11:1", "255.255.255.255:53"),
        ("zero", "10.0.0.11:1", "0.0.0.1:53"),
        ("multicast", "10.0.0.11:1", "224.0.0.5:53"),
        ("loopback v6", "[fd00::b]:1", "[::1]:53"),
        ("link-local v6", "[fd00::b]:1", "[fe80::1]:53"),
        ("multicast v6", "[fd00::b]:1", "[ff05::1]:53"),
    ];
    for (row, from, to) in rows {
        let packet = udp(from, to).macs(mac(11), ROUTER);
        check(node, from_task(0), row, packet.clone(), &passes());
        check(node, Hook::Outward(link(0)), row, packet, &drops(NoRoute));
    }
    // The middle of a connection that nobody here knows: a reset.
    let middle = tcp("10.0.0.11:1", "198.51.100.7:443").ack(5).seq(3).macs(mac(11), ROUTER);
    let reset = tcp("198.51.100.7:443", "10.0.0.11:1").rst().seq(5).id(0).window(0).macs(ROUTER, mac(11));
    check(node, Hook::Outward(link(0)), "unknown", middle, &redirects(reset).refused(UnknownFlow));
    // A fragment has no ports by which its answer would find back.
    let part = udp("10.0.0.11:1", "198.51.100.7:53").fragment(0, true).payload([7; 64]).macs(mac(11), ROUTER);
    check(node, from_task(0), "a fragment", part, &drops(Fragment));
}

#[test]
fn a_node_without_an_address_of_the_family_says_that_there_is_no_way() {
    let mut world = World::new(V4, &[red(0, 11)]);
    world.without_source = vec![V6];
    let site = Site::new(world, 1);
    let from = at(&V6.host(11), 4000);
    let syn = tcp(&*from, "[2001:db8:c::7]:443").seq(1000).syn().macs(mac(11), ROUTER);
    let reset = tcp("[2001:db8:c::7]:443", &*from).rst().window(0).seq(0).ack(1001).id(0).macs(ROUTER, mac(11));
    check(&site.nodes[0], Hook::Outward(link(0)), "no v6", syn, &redirects(reset).refused(NoRoute));
    let syn = tcp("10.0.0.11:4000", "198.51.100.7:443").syn().macs(mac(11), ROUTER);
    let seen = site.nodes[0].run(Hook::Outward(link(0)), &syn.build()).unwrap();
    assert_eq!(seen.drops, [].into(), "v4 leaves");
}

#[test]
fn errors_about_a_flow_reach_the_task_it_is_of() {
    let site = site();
    let node = &site.nodes[0];
    for family in BOTH {
        let (task, own, outside) = (family.host(11), family.node(0), family.client(CLIENT));
        let router = family.client(99);
        let (from, to) = (at(&task, 4000), at(&outside, 443));
        let header = 14 + if family == V4 { 20 } else { 40 };
        type Ask = fn(&str, &str) -> Packet;
        let asks: [(&str, Ask); 2] =
            [("tcp", |src, dst| tcp(src, dst).syn()), ("udp", |src, dst| udp(src, dst).payload(*b"hi"))];
        for (row, ask) in asks {
            let sent = ask(&from, &to).macs(mac(11), ROUTER);
            let seen = node.run(Hook::Outward(link(0)), &sent.clone().build()).unwrap().frame;
            let lent = at(&own, source_port(family, &seen));
            let on_the_wire = ask(&lent, &to).build();
            // As the task sent it, but for a checksum among the eight bytes behind the header.
            let mut meant = sent.build();
            meant.truncate(header + 8);
            if row == "udp" {
                meant[header + 6..].copy_from_slice(&on_the_wire[header + 6..header + 8]);
            }
            let (unreachable, too_big, exceeded) =
                if family == V4 { ((3, 3), (3, 4), (11, 0)) } else { ((1, 4), (2, 0), (3, 0)) };
            for (name, (kind, code), rest) in [
                ("unreachable", unreachable, [0; 4]),
                ("too big", too_big, [0, 0, 5, 0]),
                ("time exceeded", exceeded, [0; 4]),
            ] {
                let row = &format!("{row} {name} {family:?}");
                let quote = on_the_wire[..header + 8].to_vec();
                let error = icmp_error(&*router, &*own, kind, code, rest, quote).macs(CLIENT_MAC, uplink_mac(0));
                let told = icmp_error(&*router, &*task, kind, code, rest, meant.clone()).macs(ROUTER, mac(11));
                for hook in [XDP, BULK] {
                    check(node, hook, row, error.clone(), &redirects(told.clone()).counting(&[ErrorReturned]));
                }
            }
            // About another's packet, or a flow that there is not: the host's.
            for (row, quoted_from, quoted_to) in [
                ("another port", at(&own, 5000), to.clone()),
                ("another end", lent.clone(), at(&outside, 444)),
                ("not ours", at(&family.node(1), 61_000), to.clone()),
            ] {
                let quote = ask(&quoted_from, &quoted_to).build()[..header + 8].to_vec();
                let (kind, code) = unreachable;
                let error = icmp_error(&*router, &*own, kind, code, [0; 4], quote).macs(CLIENT_MAC, uplink_mac(0));
                check(node, BULK, row, error, &left_to_the_host(BULK));
            }
        }
    }
}

/// As many flows to one end as the range has ports, no more.
#[test]
fn when_every_port_is_lent_the_next_flow_is_refused() {
    let mut world = World::new(V4, &[red(0, 11)]);
    world.masquerade_ports = PortRange { first: 61_000, last: 61_000 };
    let site = Site::new(world, 1);
    let node = &site.nodes[0];
    let ask = |port: u16, to: &str| tcp(&*at("10.0.0.11", port), to).seq(1000).syn().macs(mac(11), ROUTER);
    let leaves = |port, to| {
        let seen = node.run(Hook::Outward(link(0)), &ask(port, to).build()).unwrap();
        assert_eq!((source_port(V4, &seen.frame), seen.drops), (61_000, [].into()), "{port} {to}");
    };
    leaves(4000, "198.51.100.7:443");
    let reset = tcp("198.51.100.7:443", "10.0.0.11:4001").rst().window(0).seq(0).ack(1001).id(0);
    let refused = redirects(reset.macs(ROUTER, mac(11))).refused(PortsExhausted);
    check(node, Hook::Outward(link(0)), "one more", ask(4001, "198.51.100.7:443"), &refused);
    // To another end the port is free; and here too, once the first flow is over.
    leaves(4001, "198.51.100.8:443");
    let reset = tcp("10.0.0.11:4000", "198.51.100.7:443").rst().macs(mac(11), ROUTER);
    node.run(from_task(0), &reset.build()).unwrap();
    leaves(4001, "198.51.100.7:443");
    // One that begins from the same port again is no part of the flow that is over: its port would be free for others.
    let reset = tcp("10.0.0.11:4001", "198.51.100.7:443").rst().macs(mac(11), ROUTER);
    node.run(from_task(0), &reset.build()).unwrap();
    check(node, from_task(0), "again", ask(4001, "198.51.100.7:443"), &passes());
    leaves(4001, "198.51.100.7:443");
    let reset = tcp("198.51.100.7:443", "10.0.0.11:4002").rst().window(0).seq(0).ack(1001).id(0);
    let refused = redirects(reset.macs(ROUTER, mac(11))).refused(PortsExhausted);
    check(node, Hook::Outward(link(0)), "one more", ask(4002, "198.51.100.7:443"), &refused);
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
