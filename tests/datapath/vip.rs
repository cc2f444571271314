//! Tasks that dial a VIP: the backend on the same node, on another, and the task itself.

use harness::Packet;
use harness::packet::{Checksum, icmp_echo, icmp_echo_reply, tcp, udp};
use mesh_common::counter::Counter::{DecapTc, DecapXdp, Encap, FlowNew, Forwarded, Local, Reply, Vip};

use mesh_daemon::datapath::desired::Service;

use crate::check::{check, redirects};
use crate::world::{
    BOTH, BULK, Family, RED, ROUTER, Site, Task, V4, VIP, World, XDP, at, blue, from_task, mac, red, web,
};

const CLIENT: u8 = 11;
const TASK: u8 = 21;

/// One packet and its answer, as functions of who speaks to whom. An echo has no ports.
struct Talk {
    name: &'static str,
    ask: fn(&str, &str, u16) -> Packet,
    answer: fn(&str, &str, u16) -> Packet,
    is_tcp: bool,
}

const PORT: u16 = 40000;

/// What is carried to a VIP, at any port.
const TALKS: [Talk; 5] = [
    Talk {
        name: "syn",
        ask: |src, dst, port| tcp(&*at(src, PORT), &*at(dst, port)).syn().mss(1410),
        answer: |src, dst, port| tcp(&*at(src, port), &*at(dst, PORT)).syn().ack(2).mss(1410),
        is_tcp: true,
    },
    Talk {
        name: "udp",
        ask: |src, dst, port| udp(&*at(src, PORT), &*at(dst, port)).payload("hello"),
        answer: |src, dst, port| udp(&*at(src, port), &*at(dst, PORT)).payload("hi"),
        is_tcp: false,
    },
    Talk {
        name: "a long udp of odd length",
        ask: |src, dst, port| udp(&*at(src, PORT), &*at(dst, port)).payload(vec![0xab; 1301]),
        answer: |src, dst, port| udp(&*at(src, port), &*at(dst, PORT)).payload(vec![0xcd; 1301]),
        is_tcp: false,
    },
    Talk {
        name: "echo",
        ask: |src, dst, port| icmp_echo(src, dst).echo(port, 1).payload("ping"),
        answer: |src, dst, port| icmp_echo_reply(src, dst).echo(port, 1).payload("ping"),
        is_tcp: false,
    },
    Talk {
        name: "marked udp",
        ask: |src, dst, port| udp(&*at(src, PORT), &*at(dst, port)).tos(0xb9).ttl(3),
        answer: |src, dst, port| udp(&*at(src, port), &*at(dst, PORT)).tos(0xb9).ttl(3),
        is_tcp: false,
    },
];

fn hosts(family: Family) -> [String; 3] {
    [CLIENT, TASK, VIP].map(|host| family.host(host))
}

#[test]
fn a_vip_leads_to_a_task_of_the_same_node_and_back() {
    let site = Site::new(World::new(V4, &[red(0, CLIENT), web(0, TASK)]).with_web(), 1);
    let node = &site.nodes[0];
    for family in BOTH {
        let [client, task, vip] = hosts(family);
        // The published port of the service is not special at its VIP.
        for port in [1, 80, 443, 8080, 65535] {
            for talk in &TALKS {
                let row = format!("{} to port {port} {family:?}", talk.name);
                let dialled = (talk.ask)(&client, &vip, port).macs(mac(CLIENT), ROUTER);
                let arrives = redirects((talk.ask)(&client, &task, port).macs(ROUTER, mac(TASK)));
                let is_known = matches!(talk.name, "a long udp of odd length" | "marked udp");
                let new: &[_] = if is_known { &[Vip, Local] } else { &[Vip, FlowNew, Local] };
                check(node, from_task(0), &row, dialled, &arrives.counting(new));
                let answer = (talk.answer)(&task, &client, port).macs(mac(TASK), mac(CLIENT));
                let heard = (talk.answer)(&vip, &client, port).macs(mac(TASK), mac(CLIENT));
                check(node, from_task(1), &row, answer, &redirects(heard).counting(&[Reply, Local]));
            }
        }
    }
}

#[test]
fn a_vip_leads_to_a_task_of_another_node_and_back() {
    for underlay in BOTH {
        let site = Site::new(World::new(underlay, &[red(0, CLIENT), web(1, TASK)]).with_web(), 2);
        let [entry, home] = &site.nodes[..] else { panic!("two nodes") };
        for family in BOTH {
            let [client, task, vip] = hosts(family);
            for talk in &TALKS {
                let row = format!("{} {family:?} over {underlay:?}", talk.name);
                let (hook, decap) = if talk.is_tcp { (BULK, DecapTc) } else { (XDP, DecapXdp) };
                let ask = |to: &str| (talk.ask)(&client, to, 80);
                let dialled = ask(&vip).macs(mac(CLIENT), ROUTER).build();
                let seen = entry.run(from_task(0), &dialled).unwrap().frame;
                let outer = site.world.our_tunnel((0, 1), RED, ask(&vip).macs(mac(CLIENT), mac(TASK)), &seen);
                check(entry, from_task(0), &row, dialled, &redirects(&*outer).counting(&[Vip, Forwarded]));

                let is_known = matches!(talk.name, "a long udp of odd length" | "marked udp");
                let new: &[_] = if is_known { &[decap, Local] } else { &[decap, FlowNew, Local] };
                let arrives = redirects(ask(&task).macs(ROUTER, mac(TASK))).counting(new);
                check(home, hook, &row, outer, &arrives);

                let answer = |from: &str| (talk.answer)(from, &client, 80).macs(mac(TASK), mac(CLIENT));
                let seen = home.run(from_task(1), &answer(&task).build()).unwrap().frame;
                let outer = site.world.our_tunnel((1, 0), RED, answer(&vip), &seen);
                check(home, from_task(1), &row, answer(&task), &redirects(&*outer).counting(&[Reply, Encap]));
                check(entry, hook, &row, outer, &redirects(answer(&vip)).counting(&[decap]));
            }
        }
    }
}

#[test]
fn a_udp_checksum_of_zero_stays_zero() {
    let site = Site::new(World::new(V4, &[red(0, CLIENT), web(0, TASK), red(1, 13)]).with_web(), 1);
    let [client, task, vip] = hosts(V4);
    let ask = |src: &str, dst: &str| udp(&*at(src, PORT), &*at(dst, 53)).payload("?").checksum(Checksum::Zero);
    let dialled = ask(&client, &vip).macs(mac(CLIENT), ROUTER);
    let arrives = redirects(ask(&client, &task).macs(ROUTER, mac(TASK)));
    check(&site.nodes[0], from_task(0), "there", dialled, &arrives.counting(&[Vip, FlowNew, Local]));
    let answer = |src: &str| udp(&*at(src, 53), &*at(&client, PORT)).payload("!").checksum(Checksum::Zero);
    let heard = redirects(answer(&vip).macs(mac(TASK), mac(CLIENT))).counting(&[Reply, Local]);
    check(&site.nodes[0], from_task(1), "back", answer(&task).macs(mac(TASK), mac(CLIENT)), &heard);
    // The same by XDP, from another node's task.
    let inner = ask(&V4.host(13), &vip).macs(ROUTER, mac(TASK));
    let arrives = redirects(ask(&V4.host(13), &task).macs(ROUTER, mac(TASK))).counting(&[DecapXdp, FlowNew, Local]);
    check(&site.nodes[0], XDP, "from elsewhere", site.world.tunnel((1, 0), RED, inner), &arrives);
}

#[test]
fn a_udp_checksum_that_becomes_zero_is_written_as_all_ones() {
    let site = Site::new(World::new(V4, &[red(0, CLIENT), web(0, TASK), red(1, 13)]).with_web(), 1);
    for (client, hook) in [(CLIENT, from_task(0)), (13, XDP)] {
        let ask = |dst: u8, fill: u16| {
            let packet = udp(&*at(&V4.host(client), PORT), &*at(&V4.host(dst), 53));
            packet.payload(fill.to_be_bytes())
        };
        // One filling makes the sum towards the task all ones, which is written for zero (RFC 768).
        let sum = |fill| ask(TASK, fill).build()[14 + 20 + 6..][..2] == [0xff, 0xff];
        let fill = (0..=u16::MAX).find(|fill| sum(*fill)).unwrap();
        let arrives = redirects(ask(TASK, fill).macs(ROUTER, mac(TASK)));
        let (packet, counted) = if hook == XDP {
            let inner = ask(VIP, fill).macs(ROUTER, mac(TASK));
            (site.world.tunnel((1, 0), RED, inner), [DecapXdp, FlowNew, Local])
        } else {
            (ask(VIP, fill).macs(mac(CLIENT), ROUTER), [Vip, FlowNew, Local])
        };
        check(&site.nodes[0], hook, "one filling", packet, &arrives.counting(&counted));
    }
}

#[test]
fn a_wrong_checksum_stays_wrong() {
    let site = Site::new(World::new(V4, &[red(0, CLIENT), web(0, TASK)]).with_web(), 1);
    for family in BOTH {
        let [client, task, vip] = hosts(family);
        let ask = |dst: &str| tcp(&*at(&client, PORT), &*at(dst, 80)).syn();
        let right = ask(&vip).build();
        let wrong = ask(&vip).bad_checksum().build();
        let arrives = site.nodes[0].run(from_task(0), &[&frame_head()[..], &wrong[12..]].concat()).unwrap();
        let good = ask(&task).macs(ROUTER, mac(TASK)).build();
        assert_ne!(arrives.frame, good, "{family:?}: the program mended a wrong checksum");
        let differ = |a: &[u8], b: &[u8]| a.iter().zip(b).filter(|(a, b)| a != b).count();
        assert_eq!(differ(&arrives.frame, &good), differ(&right, &wrong), "{family:?}");
    }

    fn frame_head() -> [u8; 12] {
        [ROUTER, mac(CLIENT)].concat().try_into().unwrap()
    }
}

#[test]
fn a_task_that_dials_its_own_service_hears_itself_as_the_vip() {
    let site = Site::new(World::new(V4, &[web(0, TASK)]).with_web(), 1);
    for family in BOTH {
        let [_, task, vip] = hosts(family);
        for talk in TALKS.iter().filter(|talk| !matches!(talk.name, "a long udp of odd length" | "marked udp")) {
            let row = format!("{} {family:?}", talk.name);
            let dialled = (talk.ask)(&task, &vip, 80).macs(mac(TASK), ROUTER);
            let arrives = redirects((talk.ask)(&vip, &task, 80).macs(ROUTER, mac(TASK)));
            check(&site.nodes[0], from_task(0), &row, dialled, &arrives.counting(&[Vip, FlowNew, Local]));
            let answer = (talk.answer)(&task, &vip, 80).macs(mac(TASK), ROUTER);
            let heard = redirects((talk.answer)(&vip, &task, 80).macs(ROUTER, mac(TASK)));
            check(&site.nodes[0], from_task(0), &row, answer, &heard.counting(&[Reply]));
        }
    }
}

#[test]
fn a_task_that_dials_a_neighbour_directly_is_not_taken_for_a_reply() {
    let site = Site::new(World::new(V4, &[red(0, CLIENT), web(0, TASK)]).with_web(), 1);
    for family in BOTH {
        let [client, task, _] = hosts(family);
        let plain = tcp(&*at(&client, PORT), &*at(&task, 80)).syn().macs(mac(CLIENT), mac(TASK));
        check(&site.nodes[0], from_task(0), "there", &plain, &redirects(&plain).counting(&[Local]));
        let plain = tcp(&*at(&task, 80), &*at(&client, PORT)).syn().ack(2).macs(mac(TASK), mac(CLIENT));
        check(&site.nodes[0], from_task(1), "back", &plain, &redirects(&plain).counting(&[Local]));
    }
}

#[test]
fn the_same_vip_in_two_networks_is_two_services() {
    let other = Task { service: Some("shop"), ..blue(0, 31) };
    let mut world = World::new(V4, &[red(0, CLIENT), web(0, TASK), blue(0, CLIENT), other]).with_web();
    let shop =
        Service { name: "shop".to_owned(), network: "blue".to_owned(), ports: Vec::new(), ..world.services[0].clone() };
    world.services.push(shop);
    let site = Site::new(world, 1);
    for family in BOTH {
        let [client, _, vip] = hosts(family);
        for talk in TALKS.iter().take(2) {
            for (from, to, host) in [(0, 1, TASK), (2, 3, 31)] {
                let task = family.host(host);
                let ask = |dst: &str| (talk.ask)(&client, dst, 80);
                let arrives = redirects(ask(&task).macs(ROUTER, mac(host))).counting(&[Vip, FlowNew, Local]);
                check(&site.nodes[0], from_task(from), talk.name, ask(&vip).macs(mac(CLIENT), ROUTER), &arrives);
                let answer = |src: &str| (talk.answer)(src, &client, 80).macs(mac(host), mac(CLIENT));
                let heard = redirects(answer(&vip)).counting(&[Reply, Local]);
                check(&site.nodes[0], from_task(to), talk.name, answer(&task), &heard);
            }
        }
    }
}
