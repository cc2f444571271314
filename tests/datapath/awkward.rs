//! Packets to services that no stack sends unasked, or that come in pieces.

use harness::packet::{icmp_error, icmp_port_unreachable, ip, tcp, udp, vxlan};
use mesh_common::counter::Counter::{DecapTc, DecapXdp, FlowNew, Local, Reply, Vip};
use mesh_common::drop::DropReason::{Fragment, Malformed, Nested, Truncated, UnsupportedTransport};

use crate::check::{check, drops, left_to_the_host, passes, redirects};
use crate::world::{
    BOTH, BULK, CLIENT_MAC, INGRESS, RED, ROUTER, Site, V4, VIP, World, XDP, at, from_task, mac, red, uplink_mac, web,
};

const TASK: u8 = 21;

/// A client in "red", and the one task of "web", both on node 0.
fn site() -> Site {
    Site::new(World::new(V4, &[red(0, 11), web(0, TASK)]).with_web(), 1)
}

#[test]
fn a_port_of_zero_is_a_port_like_any_other() {
    let site = site();
    let node = &site.nodes[0];
    for family in BOTH {
        let (own, vip, task) = (family.host(11), family.host(VIP), family.host(TASK));
        for (from, to) in [(0, 7), (7, 0), (0, 0)] {
            let row = format!("{family:?} from {from} to {to}");
            let ask = udp(&*at(&own, from), &*at(&vip, to)).macs(mac(11), ROUTER);
            let arrives = udp(&*at(&own, from), &*at(&task, to)).macs(ROUTER, mac(TASK));
            check(node, from_task(0), &row, ask, &redirects(arrives).counting(&[Vip, FlowNew, Local]));
            let answer = |src: &str| udp(&*at(src, to), &*at(&own, from));
            let heard = redirects(answer(&vip).macs(mac(TASK), mac(11))).counting(&[Reply, Local]);
            check(node, from_task(1), &row, answer(&task).macs(mac(TASK), mac(11)), &heard);
        }
        let (client, here) = (family.client(7), family.node(0));
        let ask = |port| udp(&*at(&client, 0), &*at(&here, port)).macs(CLIENT_MAC, uplink_mac(0));
        let arrives = udp(&*at(&client, 0), &*at(&task, 53)).macs(ROUTER, mac(TASK));
        check(node, XDP, "a client's port", ask(5353), &redirects(arrives).counting(&[FlowNew, Local]));
        // Nobody can publish it.
        for hook in [XDP, BULK] {
            check(node, hook, "port zero of the node", ask(0), &left_to_the_host(hook));
        }
    }
}

#[test]
fn vxlan_in_vxlan_is_taken_off_once_and_from_a_task_never_sent() {
    let site = site();
    for family in BOTH {
        let deep = udp(&*at(&family.host(13), 1), &*at(&family.host(11), 2)).macs(mac(13), mac(11));
        // A tunnel of the tasks' own, by another port: a datagram like any other.
        let other = |src: &str, dst: &str| vxlan(RED, src, &at(dst, 8472), deep.clone());
        let inner = other(&family.host(13), &family.host(11)).macs(mac(13), mac(11));
        let outer = site.world.tunnel((1, 0), RED, &inner);
        check(&site.nodes[0], XDP, "by another port", outer, &redirects(inner).counting(&[DecapXdp]));
        // By the overlay's port: from a member it is the task's affair, from a task it is forged.
        let inner = vxlan(RED, &family.host(13), &family.host(11), deep.clone()).macs(mac(13), mac(11));
        let outer = site.world.tunnel((1, 0), RED, &inner);
        check(&site.nodes[0], XDP, "by our port", outer, &redirects(inner).counting(&[DecapXdp]));
        for to in [family.host(VIP), family.node(1), family.client(7)] {
            let forged = vxlan(RED, &family.host(11), &to, deep.clone()).macs(mac(11), ROUTER);
            check(&site.nodes[0], from_task(0), &format!("from a task to {to}"), forged, &drops(Nested));
        }
    }
}

#[test]
fn a_fragment_that_another_node_sent_to_a_service_is_dropped_as_one() {
    let site = site();
    for family in BOTH {
        let (client, vip) = (at(&family.client(7), 4000), family.host(VIP));
        let published = at(&family.node(1), 5353);
        for (row, vni, inner) in [
            ("a first one to a port", INGRESS, udp(&*client, &*published).payload(vec![1; 64]).fragment(0, true)),
            (
                "a later one to a port",
                INGRESS,
                ip(&*family.client(7), &*family.node(1), 17, vec![1; 64]).fragment(64, false),
            ),
            (
                "a first one to a VIP",
                RED,
                udp(&*at(&family.host(13), 1), &*at(&vip, 2)).payload(vec![1; 64]).fragment(0, true),
            ),
        ] {
            for (hook, counter) in [(XDP, DecapXdp), (BULK, DecapTc)] {
                let outer = site.world.tunnel((1, 0), vni, inner.clone().macs(ROUTER, mac(TASK)));
                check(&site.nodes[0], hook, &format!("{row} {family:?}"), outer, &drops(Fragment).counting(&[counter]));
            }
        }
    }
}

#[test]
fn an_icmp_error_about_a_service_reaches_no_wrong_task() {
    let site = site();
    for family in BOTH {
        let original = udp(&*at(&family.node(0), 5353), &*at(&family.client(7), 4000)).build();
        let unreachable = |src: &str, dst: &str| icmp_port_unreachable(src, dst, original.clone());
        // From outside it is the host's; from a task to a VIP it is dropped by name.
        let outside = unreachable(&family.client(7), &family.node(0)).macs(CLIENT_MAC, uplink_mac(0));
        for hook in [XDP, BULK] {
            check(&site.nodes[0], hook, "from outside", outside.clone(), &left_to_the_host(hook));
        }
        let inside = unreachable(&family.host(11), &family.host(VIP)).macs(mac(11), ROUTER);
        check(&site.nodes[0], from_task(0), "to a VIP", inside, &drops(UnsupportedTransport));
        // Between tasks it goes where it is sent.
        let between = unreachable(&family.host(11), &family.host(TASK)).macs(mac(11), mac(TASK));
        check(&site.nodes[0], from_task(0), "to a task", between.clone(), &redirects(between).counting(&[Local]));
        let time_exceeded = if family == V4 { 11 } else { 3 };
        let error = icmp_error(&*family.client(7), &*family.node(0), time_exceeded, 0, [0; 4], original.clone());
        check(&site.nodes[0], XDP, "time exceeded", error.macs(CLIENT_MAC, uplink_mac(0)), &left_to_the_host(XDP));
    }
}

#[test]
fn headers_that_lie_reach_no_service() {
    let site = site();
    let node = &site.nodes[0];
    for family in BOTH {
        let dial =
            || tcp(&*at(&family.client(7), 4000), &*at(&family.node(0), 8080)).syn().macs(CLIENT_MAC, uplink_mac(0));
        let header = if family == V4 { 20 } else { 40 };
        for hook in [XDP, BULK] {
            // Cut off inside the transport, or of another version than its EtherType says.
            check(node, hook, "cut off", dial().truncate(14 + header + 10), &left_to_the_host(hook));
            check(node, hook, "a version that lies", dial().set(14, &[0x25]), &passes());
        }
        let vip = || tcp(&*at(&family.host(11), 4000), &*at(&family.host(VIP), 80)).syn().macs(mac(11), ROUTER);
        let cut = vip().truncate(14 + header + 10);
        check(node, from_task(0), "cut off", cut, &drops(Truncated));
        check(node, from_task(0), "a version that lies", vip().set(14, &[0x25]), &drops(Malformed));
    }
}
