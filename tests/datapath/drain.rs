//! A backend that drains: new flows leave it, old ones stay, wherever the two backends are.

use harness::Packet;
use harness::packet::tcp;
use harness::run::Node;
use mesh_common::counter::Counter::{DecapTc, FlowNew, Forwarded, HandedOn, Local, ReplyForwarded, Vip};
use mesh_common::drop::DropReason::UnknownFlow;

use crate::check::{check, redirects, turns_back};
use crate::world::{
    BOTH, BULK, CLIENT_MAC, Family, INGRESS, RED, ROUTER, Site, V4, VIP, World, XDP, at, from_task, mac, red,
    uplink_mac, web,
};

const CLIENT: u8 = 11;
/// The one that drains.
const OLD: u8 = 21;
/// The one that stays.
const NEW: u8 = 22;

/// A port of the client from which the service leads to the backend `to`, seen by what the program
/// makes of a SYN: the destination MAC of the (inner) frame.
#[track_caller]
fn port_to(node: &Node, ask: impl Fn(u16) -> Packet, mac_at: usize, to: u8) -> u16 {
    let leads = |port: &u16| {
        let frame = ask(*port).syn().build();
        let hook = if frame[..6] == ROUTER { from_task(0) } else { XDP };
        node.run(hook, &frame).unwrap().frame.get(mac_at..mac_at + 6) == Some(&mac(to)[..])
    };
    (50000..50200).find(leads).unwrap()
}

fn from_outside(family: Family) -> impl Fn(u16) -> Packet {
    move |port| {
        let packet = tcp(&*at(&family.client(7), port), &*at(&family.node(0), 8080));
        packet.macs(CLIENT_MAC, uplink_mac(0))
    }
}

fn to_task(family: Family, port: u16, task: u8) -> Packet {
    tcp(&*at(&family.client(7), port), &*at(&family.host(task), 80)).macs(ROUTER, mac(task))
}

#[test]
fn on_one_node_old_flows_stay_and_new_ones_move() {
    for family in BOTH {
        let mut site = Site::new(World::new(V4, &[web(0, OLD), web(0, NEW)]).with_web(), 1);
        let ask = from_outside(family);
        let old = port_to(&site.nodes[0], &ask, 0, OLD);
        site.world.tasks[0].draining = true;
        site.apply();
        let node = &site.nodes[0];
        for hook in [XDP, BULK] {
            let stays = redirects(to_task(family, old, OLD).ack(1)).counting(&[HandedOn, Local]);
            check(node, hook, "an old flow", ask(old).ack(1), &stays);
            let moves = redirects(to_task(family, old + 1000, NEW).syn()).counting(&[FlowNew, Local]);
            check(node, hook, "a new flow", ask(old + 1000).syn(), &moves);
            let known = redirects(to_task(family, old + 1000, NEW).ack(1)).counting(&[Local]);
            check(node, hook, "the new flow goes on", ask(old + 1000).ack(1), &known);
        }
        // Nobody's flow is tried at both, and refused.
        let stranger = (51000..51200)
            .find(|port| node.run(XDP, &ask(*port).ack(1).build()).unwrap().counters.contains_key(&HandedOn));
        let port = stranger.unwrap();
        let reset = tcp(&*at(&family.node(0), 8080), &*at(&family.client(7), port)).rst().seq(1).window(0);
        let reset = reset.id(0).ttl(64).macs(uplink_mac(0), CLIENT_MAC);
        let expect = turns_back(reset).counting(&[HandedOn]).refused(UnknownFlow);
        check(node, XDP, "nobody's flow", ask(port).ack(1), &expect);

        // The same port again: a new connection of an old client moves.
        let moves = redirects(to_task(family, old, NEW).syn()).counting(&[FlowNew, Local]);
        check(node, XDP, "a new connection from the port of an old one", ask(old).syn(), &moves);
    }
}

#[test]
fn when_the_drain_ends_its_slots_forget_it() {
    let mut site = Site::new(World::new(V4, &[web(0, OLD), web(0, NEW)]).with_web(), 1);
    let ask = from_outside(V4);
    let old = port_to(&site.nodes[0], &ask, 0, OLD);
    site.world.tasks[0].draining = true;
    site.apply();
    site.world.tasks[0].service = None;
    site.apply();
    let reset = tcp("192.0.2.1:8080", &*at("198.51.100.7", old)).rst().seq(1).window(0);
    let reset = reset.id(0).ttl(64).macs(uplink_mac(0), CLIENT_MAC);
    check(&site.nodes[0], XDP, "its flow", ask(old).ack(1), &turns_back(reset).refused(UnknownFlow));
}

#[test]
fn where_all_backends_drain_they_go_on_serving() {
    let mut site = Site::new(World::new(V4, &[web(0, OLD)]).with_web(), 1);
    site.world.tasks[0].draining = true;
    site.apply();
    let expect = redirects(to_task(V4, 50000, OLD).syn()).counting(&[FlowNew, Local]);
    check(&site.nodes[0], XDP, "a new flow", from_outside(V4)(50000).syn(), &expect);
}

/// Node 0 is dialled, the backends are on nodes 1 (old) and 2 (new).
#[test]
fn across_nodes_the_new_backend_hands_old_flows_back_to_the_old_one() {
    for family in BOTH {
        let mut site = Site::new(World::new(V4, &[web(1, OLD), web(2, NEW)]).with_web(), 3);
        let ask = from_outside(family);
        let old = port_to(&site.nodes[0], &ask, 50, OLD);
        let open = site.nodes[0].run(XDP, &ask(old).syn().build()).unwrap().frame;
        let opened = redirects(to_task(family, old, OLD).syn()).counting(&[DecapTc, FlowNew, Local]);
        check(&site.nodes[1], BULK, "opened at the old one", open, &opened);
        site.world.tasks[0].draining = true;
        site.apply();
        let [entry, home, fresh] = &site.nodes[..] else { panic!("three nodes") };

        let packet = ask(old).ack(1);
        let inner = |to: u8| packet.clone().macs(ROUTER, mac(to));
        let seen = entry.run(XDP, &packet.build()).unwrap().frame;
        let first = site.world.our_tunnel((0, 2), INGRESS, inner(NEW), &seen);
        check(entry, XDP, "to the new one", &packet, &turns_back(&*first).counting(&[Forwarded]));
        let seen = fresh.run(BULK, &first).unwrap().frame;
        let second = site.world.our_tunnel((2, 1), INGRESS, inner(OLD), &seen);
        let expect = turns_back(&*second).counting(&[DecapTc, HandedOn, Forwarded]);
        check(fresh, BULK, "handed on", first, &expect);
        let arrives = redirects(to_task(family, old, OLD).ack(1)).counting(&[DecapTc, Local]);
        check(home, BULK, "at home", second, &arrives);
    }
}

#[test]
fn a_flow_that_neither_backend_knows_is_refused_after_one_hand_on() {
    for family in BOTH {
        // Each family dials addresses that are VTEPs.
        let mut site = Site::new(World::new(family, &[web(1, OLD), web(2, NEW)]).with_web(), 3);
        let ask = from_outside(family);
        let old = port_to(&site.nodes[0], &ask, 14 + site.world.header() + 16, OLD);
        site.world.tasks[0].draining = true;
        site.apply();
        let [entry, home, fresh] = &site.nodes[..] else { panic!("three nodes") };
        let first = entry.run(XDP, &ask(old).ack(9).build()).unwrap().frame;
        let second = fresh.run(BULK, &first).unwrap().frame;
        let reset = tcp(&*at(&family.node(0), 8080), &*at(&family.client(7), old)).rst().seq(9).window(0);
        let reset = reset.id(0).ttl(64).macs(ROUTER, ROUTER);
        let seen = home.run(BULK, &second).unwrap().frame;
        let back = site.world.our_tunnel((1, 0), INGRESS, &reset, &seen);
        let expect = turns_back(&*back).counting(&[DecapTc]).refused(UnknownFlow);
        check(home, BULK, "refused", second, &expect);
        check(entry, BULK, "back at the node dialled", back, &redirects(reset).counting(&[ReplyForwarded]));
    }
}

#[test]
fn a_vip_hands_on_too() {
    for family in BOTH {
        let mut site = Site::new(World::new(V4, &[red(0, CLIENT), web(1, OLD), web(0, NEW)]).with_web(), 2);
        let (client, vip) = (family.host(CLIENT), family.host(VIP));
        let ask = |port: u16| tcp(&*at(&client, port), &*at(&vip, 80)).macs(mac(CLIENT), ROUTER);
        let old = port_to(&site.nodes[0], ask, 50, OLD);
        let open = site.nodes[0].run(from_task(0), &ask(old).syn().build()).unwrap().frame;
        site.nodes[1].run(BULK, &open).unwrap();
        site.world.tasks[1].draining = true;
        site.apply();
        let packet = ask(old).ack(1);
        let seen = site.nodes[0].run(from_task(0), &packet.build()).unwrap().frame;
        let outer = site.world.our_tunnel((0, 1), RED, packet.clone().macs(mac(CLIENT), mac(OLD)), &seen);
        let expect = redirects(&*outer).counting(&[Vip, HandedOn, Forwarded]);
        check(&site.nodes[0], from_task(0), "from here to there", packet, &expect);
        let arrives = tcp(&*at(&client, old), &*at(&family.host(OLD), 80)).ack(1).macs(ROUTER, mac(OLD));
        check(&site.nodes[1], BULK, "there", outer, &redirects(arrives).counting(&[DecapTc, Local]));
    }
}
