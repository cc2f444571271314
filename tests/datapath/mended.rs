//! Cases that were wrong once.

use harness::Packet;
use harness::packet::{icmp, icmp_echo, tcp, udp};
use harness::run::Action;
use mesh_common::counter::Counter::{DecapTc, DecapXdp, FlowNew, Local, Vip};
use mesh_common::drop::DropReason::{NoBackend, UnknownFlow};

use crate::check::{check, drops, redirects, turns_back};
use crate::world::{
    BOTH, BULK, CLIENT_MAC, Family, RED, ROUTER, Site, V4, VIP, World, XDP, at, from_task, mac, red, uplink_mac, web,
};

const CLIENT: u8 = 11;
const TASK: u8 = 21;
const PORT: u16 = 40000;

fn outside(family: Family, port: u16) -> (String, String) {
    (at(&family.client(7), 40000), at(&family.node(0), port))
}

#[test]
fn an_echo_to_a_vip_without_a_backend_gets_silence() {
    let site = Site::new(World::new(V4, &[red(0, 11)]).with_web(), 1);
    for family in BOTH {
        let echo = icmp_echo(&*family.host(11), &*family.host(VIP)).macs(mac(11), ROUTER);
        check(&site.nodes[0], from_task(0), "echo", echo, &drops(NoBackend).counting(&[Vip]));
    }
}

#[test]
fn a_reset_is_never_answered() {
    let site = Site::new(World::new(V4, &[red(0, 11)]).with_web(), 1);
    let (client, dialled) = outside(V4, 8080);
    let reset = tcp(&*client, &*dialled).rst().macs(CLIENT_MAC, uplink_mac(0));
    check(&site.nodes[0], XDP, "reset", reset, &drops(NoBackend));
}

#[test]
fn a_reset_of_a_connection_that_nobody_knows_is_not_answered_either() {
    let site = Site::new(World::new(V4, &[red(0, 11), web(0, 21)]).with_web(), 1);
    let (client, dialled) = outside(V4, 8080);
    let reset = tcp(&*client, &*dialled).rst().macs(CLIENT_MAC, uplink_mac(0));
    check(&site.nodes[0], XDP, "reset", reset, &drops(UnknownFlow));
}

#[test]
fn padding_of_a_short_frame_is_not_taken_for_data() {
    let site = Site::new(World::new(V4, &[red(0, 11)]).with_web(), 1);
    let (client, dialled) = outside(V4, 8080);
    let syn = tcp(&*client, &*dialled).seq(1000).syn().macs(CLIENT_MAC, uplink_mac(0)).trailer(&[0; 6]);
    let reset = tcp(&*dialled, &*client).rst().window(0).seq(0).ack(1001).id(0).ttl(64).macs(uplink_mac(0), CLIENT_MAC);
    check(&site.nodes[0], XDP, "padded", syn, &turns_back(reset).refused(NoBackend));
}

#[test]
fn a_refusal_from_the_node_of_the_backend_finds_back_to_the_task() {
    let site = Site::new(World::new(V4, &[red(0, 11), web(1, 21)]).with_web(), 2);
    let ask = tcp(&*at("10.0.0.11", 40000), "10.0.0.80:80").ack(77).macs(mac(11), ROUTER);
    let outer = site.nodes[0].run(from_task(0), &ask.build()).unwrap().frame;
    let back = site.nodes[1].run(BULK, &outer).unwrap().frame;
    let reset = tcp("10.0.0.80:80", "10.0.0.11:40000").rst().seq(77).window(0).id(0).ttl(64).macs(ROUTER, mac(11));
    check(&site.nodes[0], BULK, "reset", back, &redirects(reset).counting(&[DecapTc]));
}

#[test]
fn a_task_cannot_claim_the_address_of_another_by_neighbour_discovery() {
    let site = Site::new(World::new(V4, &[red(0, 11), red(0, 12), red(1, 13)]), 1);
    let mut body = "fd00::d".parse::<std::net::Ipv6Addr>().unwrap().octets().to_vec();
    body.extend([2, 1]);
    body.extend(mac(11));
    let lie = icmp("fd00::b", "fd00::c", 136, 0, [0x60, 0, 0, 0]).payload(body).ttl(255).macs(mac(11), mac(12));
    let outcome = site.nodes[0].run(from_task(0), &lie.build()).unwrap();
    assert_eq!(outcome.action, Action::Drop, "{outcome:?}");
}

#[test]
fn an_error_about_a_packet_with_options_quotes_a_valid_header() {
    let site = Site::new(World::new(V4, &[red(0, 11)]).with_web(), 1);
    let (client, dialled) = outside(V4, 5353);
    let ask = udp(&*client, &*dialled).payload("hello").ip_options(&[1; 4]).macs(CLIENT_MAC, uplink_mac(0));
    let outcome = site.nodes[0].run(XDP, &ask.build()).unwrap();
    let text = harness::describe(&outcome.frame);
    assert!(!text.contains("BAD"), "{text}");
}

#[test]
fn a_segment_with_options_is_reset() {
    let site = Site::new(World::new(V4, &[red(0, 11)]).with_web(), 1);
    let (client, dialled) = outside(V4, 8080);
    let syn = tcp(&*client, &*dialled).seq(1000).syn().ip_options(&[1; 4]).macs(CLIENT_MAC, uplink_mac(0));
    let reset = tcp(&*dialled, &*client).rst().window(0).seq(0).ack(1001).id(0).ttl(64).macs(uplink_mac(0), CLIENT_MAC);
    for hook in [XDP, BULK] {
        check(&site.nodes[0], hook, "options", &syn, &turns_back(&reset).refused(NoBackend));
    }
}

#[test]
fn a_segment_with_options_reaches_a_published_port() {
    let site = Site::new(World::new(V4, &[web(0, 21)]).with_web(), 1);
    let (client, dialled) = outside(V4, 8080);
    let syn = tcp(&*client, &*dialled).syn().ip_options(&[1; 8]).macs(CLIENT_MAC, uplink_mac(0));
    let arrives = tcp(&*client, &*at("10.0.0.21", 80)).syn().ip_options(&[1; 8]).macs(ROUTER, mac(21));
    for hook in [XDP, BULK] {
        check(&site.nodes[0], hook, "options", &syn, &redirects(&arrives).counting(&[FlowNew, Local]));
    }
}

#[test]
fn what_came_by_broadcast_is_left_to_the_host() {
    // RFC 1122 3.2.2: no error for a datagram that came by link-layer broadcast.
    let site = Site::new(World::new(V4, &[red(0, 11)]).with_web(), 1);
    let (client, dialled) = outside(V4, 5353);
    let ask: Packet = udp(&*client, &*dialled).payload("hello").macs(CLIENT_MAC, [0xff; 6]);
    let outcome = site.nodes[0].run(XDP, &ask.build()).unwrap();
    assert_eq!(outcome.action, Action::Pass, "{}", harness::describe(&outcome.frame));
}

#[test]
fn a_udp_checksum_that_becomes_zero_is_written_as_all_ones() {
    let site = Site::new(World::new(V4, &[red(0, CLIENT), web(0, TASK), red(1, 13)]).with_web(), 1);
    for family in BOTH {
        for (client, hook) in [(CLIENT, from_task(0)), (13, XDP)] {
            let ask = |dst: u8, fill: u16| {
                let packet = udp(&*at(&family.host(client), PORT), &*at(&family.host(dst), 53));
                packet.payload(fill.to_be_bytes())
            };
            // One filling makes the sum towards the task all ones, which is written for zero (RFC 768).
            let at = if family == V4 { 14 + 20 + 6 } else { 14 + 40 + 6 };
            let sum = |fill| ask(TASK, fill).build()[at..at + 2] == [0xff, 0xff];
            let fill = (0..=u16::MAX).find(|fill| sum(*fill)).unwrap();
            let arrives = redirects(ask(TASK, fill).macs(ROUTER, mac(TASK)));
            let (packet, counted) = if hook == XDP {
                let inner = ask(VIP, fill).macs(ROUTER, mac(TASK));
                (site.world.tunnel((1, 0), RED, inner), [DecapXdp, FlowNew, Local])
            } else {
                (ask(VIP, fill).macs(mac(CLIENT), ROUTER), [Vip, FlowNew, Local])
            };
            check(&site.nodes[0], hook, &format!("{family:?}"), packet, &arrives.counting(&counted));
        }
    }
}
