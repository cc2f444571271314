//! Clients outside that dial a published port of any node.

use harness::Packet;
use harness::packet::{icmp_echo, tcp, udp};
use mesh_common::addr::Addr;
use mesh_common::counter::Counter::{DecapTc, DecapXdp, FlowNew, Forwarded, Local, Reply, ReplyForwarded};
use mesh_common::drop::DropReason::{SpoofedReply, UnknownService};
use mesh_common::flow::state;
use mesh_daemon::datapath::desired::{ReturnPath, addr};

use crate::check::{check, drops, left_to_the_host, passes, redirects, turns_back};
use crate::world::{
    BOTH, BULK, CLIENT_MAC, Family, INGRESS, ROUTER, Site, V4, World, XDP, at, from_task, mac, uplink_mac, web,
};

const TASK: u8 = 21;
const PORT: u16 = 40000;

/// What clients send to a published port and what they get: published port, target port.
struct Talk {
    name: &'static str,
    published: u16,
    target: u16,
    ask: fn(&str, &str) -> Packet,
    answer: fn(&str, &str) -> Packet,
    is_tcp: bool,
}

const TALKS: [Talk; 2] = [
    Talk {
        name: "syn",
        published: 8080,
        target: 80,
        ask: |src, dst| tcp(src, dst).syn().mss(1460),
        answer: |src, dst| tcp(src, dst).syn().ack(2).mss(1410),
        is_tcp: true,
    },
    Talk {
        name: "udp",
        published: 5353,
        target: 53,
        ask: |src, dst| udp(src, dst).payload("hello"),
        answer: |src, dst| udp(src, dst).payload("hi"),
        is_tcp: false,
    },
];

struct Ends {
    client: String,
    dialled: String,
    task: String,
}

fn ends(family: Family, talk: &Talk) -> Ends {
    Ends {
        client: at(&family.client(7), PORT),
        dialled: at(&family.node(0), talk.published),
        task: at(&family.host(TASK), talk.target),
    }
}

/// As it comes from outside.
fn from_outside(packet: Packet) -> Packet {
    packet.macs(CLIENT_MAC, uplink_mac(0))
}

#[test]
fn a_backend_elsewhere_gets_the_packet_as_it_came_and_answers_through_the_node_dialled() {
    for underlay in BOTH {
        let site = Site::new(World::new(underlay, &[web(1, TASK)]).with_web(), 2);
        let [entry, home] = &site.nodes[..] else { panic!("two nodes") };
        for family in BOTH {
            for talk in &TALKS {
                let row = format!("{} {family:?} over {underlay:?}", talk.name);
                let Ends { client, dialled, task } = ends(family, talk);
                let ask = (talk.ask)(&client, &dialled);
                let seen = entry.run(XDP, &from_outside(ask.clone()).build()).unwrap().frame;
                let outer = site.world.our_tunnel((0, 1), INGRESS, ask.clone().macs(ROUTER, mac(TASK)), &seen);
                for hook in [XDP, BULK] {
                    let expect = turns_back(&*outer).counting(&[Forwarded]);
                    check(entry, hook, &row, from_outside(ask.clone()), &expect);
                }
                let arrives = (talk.ask)(&client, &task).macs(ROUTER, mac(TASK));
                let (hook, decap) = if talk.is_tcp { (BULK, DecapTc) } else { (XDP, DecapXdp) };
                check(home, hook, &row, outer, &redirects(arrives).counting(&[decap, FlowNew, Local]));

                let answer = |from: &str| (talk.answer)(from, &client).macs(mac(TASK), ROUTER);
                let seen = home.run(from_task(0), &answer(&task).build()).unwrap().frame;
                let outer = site.world.our_tunnel((1, 0), INGRESS, answer(&dialled), &seen);
                check(home, from_task(0), &row, answer(&task), &redirects(&*outer).counting(&[Reply]));
                check(entry, XDP, &row, &*outer, &passes());
                check(entry, BULK, &row, outer, &redirects(answer(&dialled)).counting(&[ReplyForwarded]));
            }
        }
    }
}

#[test]
fn a_flow_remembers_what_was_dialled_and_where() {
    for underlay in BOTH {
        let site = Site::new(World::new(underlay, &[web(1, TASK)]).with_web(), 2);
        let [entry, home] = &site.nodes[..] else { panic!("two nodes") };
        for family in BOTH {
            let talk = &TALKS[1];
            let Ends { client, dialled, .. } = ends(family, talk);
            let outer = entry.run(XDP, &from_outside((talk.ask)(&client, &dialled)).build()).unwrap().frame;
            home.run(XDP, &outer).unwrap();
            let ip = |text: String| -> Addr { addr(text.parse().unwrap()) };
            let client = ip(family.client(7));
            let flows = home.flows().unwrap();
            let flow = flows.iter().find(|flow| flow.client == client).unwrap();
            assert_eq!(flow.dialled, ip(family.node(0)));
            assert_eq!((flow.dialled_port, flow.task_port), (5353u16.to_be_bytes(), 53u16.to_be_bytes()));
            assert_eq!((flow.client_port, flow.proto), (PORT.to_be_bytes(), 17));
            assert_eq!(flow.state, state::PUBLISHED);
            let vtep = ip(underlay.node(0));
            let number = home.tables().vteps.iter().find(|(key, _)| key.addr == vtep).map(|(_, number)| *number);
            assert_eq!(Some(flow.origin), number);
            assert_eq!(entry.flows().unwrap(), [], "only the backend's node remembers");
        }
    }
}

#[test]
fn a_backend_on_the_node_dialled_is_reached_without_a_tunnel() {
    let site = Site::new(World::new(V4, &[web(0, TASK)]).with_web(), 1);
    let node = &site.nodes[0];
    for family in BOTH {
        for talk in &TALKS {
            for (hook, port) in [(XDP, PORT), (BULK, PORT + 1)] {
                let row = format!("{} {family:?}", talk.name);
                let Ends { dialled, task, .. } = ends(family, talk);
                let client = at(&family.client(7), port);
                let arrives = redirects((talk.ask)(&client, &task).macs(ROUTER, mac(TASK)));
                let ask = from_outside((talk.ask)(&client, &dialled));
                check(node, hook, &row, ask, &arrives.counting(&[FlowNew, Local]));
                let answer = |from: &str| (talk.answer)(from, &client).macs(mac(TASK), ROUTER);
                // Routed: the kernel writes the link-layer header when it sends it.
                let heard = redirects(answer(&dialled)).counting(&[Reply]);
                check(node, from_task(0), &row, answer(&task), &heard);
            }
        }
    }
}

#[test]
fn header_options_travel_with_the_packet() {
    let site = Site::new(World::new(V4, &[web(0, TASK)]).with_web(), 1);
    let Ends { client, dialled, task } = ends(V4, &TALKS[0]);
    let ask = |dst: &str| tcp(&*client, dst).syn().ip_options(&[1; 8]);
    for hook in [XDP, BULK] {
        let arrives = redirects(ask(&task).macs(ROUTER, mac(TASK))).counting(&[FlowNew, Local]);
        check(&site.nodes[0], hook, "options", from_outside(ask(&dialled)), &arrives);
    }
}

#[test]
fn a_direct_return_leaves_with_the_address_dialled_and_no_tunnel() {
    let mut world = World::new(V4, &[web(1, TASK)]).with_web();
    world.services[0].return_path = ReturnPath::Direct;
    let site = Site::new(world, 2);
    let [entry, home] = &site.nodes[..] else { panic!("two nodes") };
    for family in BOTH {
        for talk in &TALKS {
            let Ends { client, dialled, task } = ends(family, talk);
            let outer = entry.run(XDP, &from_outside((talk.ask)(&client, &dialled)).build()).unwrap().frame;
            let (hook, decap) = if talk.is_tcp { (BULK, DecapTc) } else { (XDP, DecapXdp) };
            let arrives = redirects((talk.ask)(&client, &task).macs(ROUTER, mac(TASK)));
            check(home, hook, talk.name, outer, &arrives.counting(&[decap, FlowNew, Local]));
            let answer = |from: &str| (talk.answer)(from, &client).macs(mac(TASK), ROUTER);
            check(home, from_task(0), talk.name, answer(&task), &redirects(answer(&dialled)).counting(&[Reply]));
        }
    }
}

#[test]
fn what_is_not_published_is_left_to_the_host() {
    let site = Site::new(World::new(V4, &[web(1, TASK)]).with_web(), 1);
    for family in BOTH {
        let (client, here, there) = (at(&family.client(7), PORT), family.node(0), family.node(1));
        let published = tcp(&*client, &*at(&here, 8080)).syn();
        for (row, packet) in [
            ("another port", tcp(&*client, &*at(&here, 8081)).syn()),
            ("the target port", tcp(&*client, &*at(&here, 80)).syn()),
            ("the port by the other protocol", udp(&*client, &*at(&here, 8080))),
            ("the other port by the other protocol", tcp(&*client, &*at(&here, 5353)).syn()),
            ("another node's address", tcp(&*client, &*at(&there, 8080)).syn()),
            ("from the published port", tcp(&*at(&here, 8080), &*client).ack(1)),
            ("an echo", icmp_echo(&*family.client(7), &*here)),
            ("a first fragment", published.clone().fragment(0, true)),
            ("a later fragment", published.clone().fragment(64, false)),
        ] {
            for hook in [XDP, BULK] {
                check(&site.nodes[0], hook, row, from_outside(packet.clone()), &left_to_the_host(hook));
            }
        }
        for hook in [XDP, BULK] {
            let row = "a tagged frame";
            check(&site.nodes[0], hook, row, from_outside(published.clone()).vlan(3), &passes());
        }
    }
}

#[test]
fn a_node_forwards_only_replies_that_it_was_dialled_for() {
    let site = Site::new(World::new(V4, &[web(1, TASK)]).with_web(), 1);
    for family in BOTH {
        let (client, here) = (at(&family.client(7), PORT), family.node(0));
        let reply = |packet: Packet| site.world.tunnel((1, 0), INGRESS, packet.macs(mac(TASK), ROUTER));
        for (row, packet) in [
            ("another port of ours", tcp(&*at(&here, 22), &*client).syn().ack(1)),
            ("the port by the other protocol", udp(&*at(&here, 8080), &*client)),
            ("another node's address", tcp(&*at(&family.node(1), 8080), &*client).ack(1)),
            ("the task's own address", tcp(&*at(&family.host(TASK), 80), &*client).ack(1)),
            ("an echo", icmp_echo(&*here, &*family.client(7))),
        ] {
            check(&site.nodes[0], BULK, row, reply(packet.clone()), &drops(SpoofedReply));
            // XDP leaves every reply to TC, since it cannot route.
            check(&site.nodes[0], XDP, row, reply(packet), &passes());
        }
    }
}

#[test]
fn what_a_task_of_a_published_service_says_unasked_is_no_reply() {
    let site = Site::new(World::new(V4, &[web(0, TASK)]).with_web(), 1);
    for family in BOTH {
        let client = at(&family.client(7), PORT);
        for packet in [
            tcp(&*at(&family.host(TASK), 80), &*client).syn().ack(1),
            tcp(&*at(&family.host(TASK), 4000), &*client).syn(),
            udp(&*at(&family.host(TASK), 53), &*client),
        ] {
            check(&site.nodes[0], from_task(0), "nobody asked", packet.macs(mac(TASK), ROUTER), &passes());
        }
    }
}

#[test]
fn a_port_that_this_node_does_not_know_is_not_accepted_from_another() {
    let site = Site::new(World::new(V4, &[web(0, TASK)]).with_web(), 1);
    for family in BOTH {
        let stranger = udp(&*at(&family.client(7), PORT), &*at(&family.node(1), 9)).macs(ROUTER, mac(TASK));
        let outer = site.world.tunnel((1, 0), INGRESS, stranger);
        check(&site.nodes[0], XDP, "unknown", &outer, &drops(UnknownService).counting(&[DecapXdp]));
        check(&site.nodes[0], BULK, "unknown", &outer, &drops(UnknownService).counting(&[DecapTc]));
    }
}
