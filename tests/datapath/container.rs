//! What a task sends: who may send what, and which questions are answered on the spot.

use harness::Packet;
use harness::packet::{
    arp_reply, arp_request, ethernet, icmp, icmp_echo, ip, neighbour_advertisement, neighbour_solicitation, tcp, udp,
    vxlan,
};
use harness::run::Node;
use mesh_common::counter::Counter::{Local, NeighbourAnswered};
use mesh_common::drop::DropReason::{
    Fragment, GroupTraffic, Malformed, Nested, SpoofedAddress, SpoofedMac, Truncated, UnknownEndpoint, UnknownLink,
    UnknownNeighbour, UnknownProtocol, UnsupportedTransport,
};

use crate::check::{Expect, check, drops, passes, redirects, turns_back};
use crate::world::{
    BOTH, Family, GATEWAY, RED, ROUTER, Site, V4, V6, VIP, World, at, blue, from_task, lab, mac, red, web,
};

/// Task 0 and its neighbour 1 on node 0, task 2 on node 1, tasks 3 and 4 of the other network on
/// node 0, and a task of the service "web".
fn site() -> Site {
    let tasks = [red(0, 11), red(0, 12), red(1, 13), blue(0, 11), blue(0, 14), web(0, 21)];
    Site::new(World::new(V4, &tasks).with_web(), 1)
}

fn datagram(family: Family, src: u8, dst: u8) -> Packet {
    udp(&*at(&family.host(src), 4000), &*at(&family.host(dst), 7)).payload("hello").macs(mac(src), mac(dst))
}

#[track_caller]
fn check_rows(rows: impl IntoIterator<Item = (&'static str, Packet, Expect)>) {
    let site = site();
    for (row, packet, expect) in rows {
        check(&site.nodes[0], from_task(0), row, packet, &expect);
    }
}

#[test]
fn tasks_of_one_node_reach_each_other() {
    for family in BOTH {
        let (own, other) = (family.host(11), family.host(12));
        let plain = datagram(family, 11, 12);
        let local = |packet: Packet| {
            let packet = packet.macs(mac(11), mac(12));
            (packet.clone(), redirects(packet).counting(&[Local]))
        };
        let rows = [
            ("udp", plain.clone()),
            ("syn", tcp(&*at(&own, 4000), &*at(&other, 80)).syn().mss(1400)),
            ("the middle of a connection", tcp(&*at(&own, 4000), &*at(&other, 80)).ack(9).payload("x")),
            ("echo", icmp_echo(&*own, &*other)),
            ("another protocol", ip(&*own, &*other, 132, vec![0; 20])),
            ("a first fragment", plain.clone().fragment(0, true)),
            ("a later fragment", ip(&*own, &*other, 17, vec![0; 16]).fragment(512, false)),
            ("a wrong checksum", plain.clone().bad_checksum()),
            ("a full frame", plain.payload(vec![1; 1400])),
        ];
        check_rows(rows.map(|(row, packet)| {
            let (packet, expect) = local(packet);
            (row, packet, expect)
        }));
    }
}

#[test]
fn a_task_speaks_only_for_itself() {
    let rows = BOTH.into_iter().flat_map(|family| {
        let plain = datagram(family, 11, 12);
        let from = |src: &str| udp(&*at(src, 1), &*at(&family.host(12), 2)).macs(mac(11), mac(12));
        [
            ("another's link-layer address", plain.clone().macs(mac(12), mac(12)), drops(SpoofedMac)),
            ("a group link-layer address", plain.clone().macs([0xff; 6], mac(12)), drops(SpoofedMac)),
            ("no link-layer address", plain.clone().macs([0; 6], mac(12)), drops(SpoofedMac)),
            ("the router's link-layer address", plain.macs(ROUTER, mac(12)), drops(SpoofedMac)),
            ("another's address", from(&family.host(12)), drops(SpoofedAddress)),
            ("the VIP's address", from(&family.host(VIP)), drops(SpoofedAddress)),
            ("a node's address", from(&family.node(0)), drops(SpoofedAddress)),
            ("no address", from(if family == V4 { "0.0.0.0" } else { "::" }), drops(SpoofedAddress)),
        ]
    });
    check_rows(rows);
    // The mapped form is not an IPv6 address that a host has.
    let mapped = udp("[::ffff:192.0.2.9]:1", "[fd00::c]:2").macs(mac(11), mac(12));
    check_rows([("another's mapped address", mapped, drops(SpoofedAddress))]);
}

#[test]
fn arp_is_answered_from_the_table() {
    let own = mac(11);
    let ask = |target: &str| arp_request(own, "10.0.0.11", target);
    let answer = |target: &str, mac| {
        turns_back(arp_reply(mac, target, own, "10.0.0.11").macs(mac, own)).counting(&[NeighbourAnswered])
    };
    let host = |host| V4.host(host);
    let probe = |target: &str| arp_request(own, "0.0.0.0", target);
    let probed = arp_reply(mac(12), "10.0.0.12", own, "0.0.0.0").macs(mac(12), own);
    let silent = || drops(UnknownNeighbour);
    check_rows([
        ("a neighbour here", ask(&host(12)), answer(&host(12), mac(12))),
        ("a task elsewhere", ask(&host(13)), answer(&host(13), mac(13))),
        ("the gateway", ask(&host(GATEWAY)), answer(&host(GATEWAY), ROUTER)),
        ("the VIP", ask(&host(VIP)), answer(&host(VIP), ROUTER)),
        ("asked again, by unicast", ask(&host(12)).macs(own, mac(12)), answer(&host(12), mac(12))),
        ("a probe for another's address", probe(&host(12)), turns_back(probed).counting(&[NeighbourAnswered])),
        ("a probe for its own", probe(&host(11)), silent()),
        ("its own", ask(&host(11)), silent()),
        ("nobody's", ask(&host(99)), silent()),
        ("one of the other network only", ask(&host(14)), silent()),
        ("the unspecified address", ask("0.0.0.0"), silent()),
        ("an announcement", ask(&host(11)).macs(own, [0xff; 6]), silent()),
        ("a reply", arp_reply(own, &host(11), mac(12), &host(12)), silent()),
        ("a reply for another", arp_reply(own, &host(13), mac(12), &host(12)), drops(SpoofedAddress)),
        ("another's sender address", arp_request(own, &host(12), &host(13)), drops(SpoofedAddress)),
        ("another's sender mac", arp_request(mac(12), &host(11), &host(13)).macs(own, [0xff; 6]), drops(SpoofedMac)),
        ("another's frame", arp_request(mac(12), &host(12), &host(13)), drops(SpoofedMac)),
    ]);
    let site = site();
    for cut in 15..14 + 28 {
        let row = format!("a request cut to {cut}");
        check(&site.nodes[0], from_task(0), &row, ask(&host(12)).truncate(cut), &drops(Truncated));
    }
    let padded = ask(&host(12)).trailer(&[0; 18]);
    let expect = turns_back(arp_reply(mac(12), "10.0.0.12", own, "10.0.0.11").macs(mac(12), own).trailer(&[0; 18]));
    check(&site.nodes[0], from_task(0), "a padded request", padded, &expect.counting(&[NeighbourAnswered]));
}

#[test]
fn neighbour_solicitations_are_answered_from_the_table() {
    let (own, source) = (mac(11), V6.host(11));
    let ask = |target: &str| neighbour_solicitation(own, &source, target);
    let answer = |target: &str, mac| {
        turns_back(neighbour_advertisement(mac, target, own, &source)).counting(&[NeighbourAnswered])
    };
    let host = |host| V6.host(host);
    let silent = || drops(UnknownNeighbour);
    let target = "fd00::b".parse::<std::net::Ipv6Addr>().unwrap().octets();
    let detection = icmp("::", "ff02::1:ff00:b", 135, 0, [0; 4]).payload(target).ttl(255);
    check_rows([
        ("a neighbour here", ask(&host(12)), answer(&host(12), mac(12))),
        ("a task elsewhere", ask(&host(13)), answer(&host(13), mac(13))),
        ("the gateway", ask(&host(GATEWAY)), answer(&host(GATEWAY), ROUTER)),
        ("the VIP", ask(&host(VIP)), answer(&host(VIP), ROUTER)),
        ("asked again, by unicast", ask(&host(12)).macs(own, mac(12)), answer(&host(12), mac(12))),
        ("its own", ask(&host(11)), silent()),
        ("nobody's", ask(&host(99)), silent()),
        ("one of the other network only", ask(&host(14)), silent()),
        ("duplicate address detection", detection.macs(own, [0x33, 0x33, 0xff, 0, 0, 0x0b]), silent()),
        ("a solicitation that was forwarded", ask(&host(12)).ttl(254), drops(UnknownNeighbour)),
        (
            "an advertisement to all",
            neighbour_advertisement(own, &source, [0x33, 0x33, 0, 0, 0, 1], "ff02::1"),
            drops(UnknownNeighbour),
        ),
        ("another's frame", neighbour_solicitation(mac(12), &host(12), &host(13)), drops(SpoofedMac)),
    ]);
}

#[test]
fn what_an_overlay_does_not_carry_is_dropped_by_name() {
    let own = mac(11);
    let lldp = ethernet(0x88cc, vec![0; 46]);
    let plain = |family| datagram(family, 11, 12);
    let nested = vxlan(RED, "10.0.0.11", "10.0.0.12", plain(V4)).macs(own, mac(12));
    let to_node = vxlan(RED, "10.0.0.11", "192.0.2.2", plain(V4)).macs(own, ROUTER);
    check_rows([
        ("broadcast", plain(V4).macs(own, [0xff; 6]), drops(GroupTraffic)),
        ("multicast", plain(V4).macs(own, [0x01, 0, 0x5e, 0, 0, 1]), drops(GroupTraffic)),
        ("multicast of IPv6", plain(V6).macs(own, [0x33, 0x33, 0, 0, 0, 1]), drops(GroupTraffic)),
        ("LLDP", lldp.clone().macs(own, [0x01, 0x80, 0xc2, 0, 0, 0x0e]), drops(UnknownProtocol)),
        ("LLDP to a neighbour", lldp.macs(own, mac(12)), drops(UnknownProtocol)),
        ("a length in place of a type", ethernet(46, vec![0; 46]).macs(own, mac(12)), drops(UnknownProtocol)),
        ("a tagged frame", plain(V4).vlan(5), drops(UnknownProtocol)),
        ("a tagged frame of IPv6", plain(V6).vlan(5), drops(UnknownProtocol)),
        ("a frame with two tags", plain(V4).vlan(5).vlan(6), drops(UnknownProtocol)),
        ("its own VXLAN to a neighbour", nested, drops(Nested)),
        ("its own VXLAN to a node", to_node, drops(Nested)),
        ("nobody's address", plain(V4).macs(own, mac(99)), drops(UnknownEndpoint)),
        ("an address of the other network", plain(V4).macs(own, mac(14)), drops(UnknownEndpoint)),
        ("a version that lies", plain(V4).set(14, &[0x65]), drops(Malformed)),
        ("a header too short", plain(V4).set(14, &[0x44]), drops(Malformed)),
    ]);
}

#[test]
fn the_router_takes_only_what_a_service_is_dialled_by() {
    for family in BOTH {
        let to = |dst: &str| udp(&*at(&family.host(11), 1), &*at(dst, 2)).macs(mac(11), ROUTER);
        let vip = family.host(VIP);
        let own = family.host(11);
        check_rows([
            ("a client outside", to(&family.client(7)), passes()),
            ("a neighbour's address", to(&family.host(12)), passes()),
            ("the gateway", to(&family.host(GATEWAY)), passes()),
            ("a first fragment", to(&vip).fragment(0, true), drops(Fragment)),
            (
                "a later fragment",
                ip(&*own, &*vip, 17, vec![0; 8]).fragment(64, false).macs(mac(11), ROUTER),
                drops(Fragment),
            ),
            ("another protocol", ip(&*own, &*vip, 132, vec![0; 20]).macs(mac(11), ROUTER), drops(UnsupportedTransport)),
            ("an ICMP error", icmp(&*own, &*vip, 3, 3, [0; 4]).macs(mac(11), ROUTER), drops(UnsupportedTransport)),
        ]);
        let site = site();
        let blue = to(&vip);
        check(&site.nodes[0], from_task(3), "the VIP of another network", blue, &passes());
    }
}

#[test]
fn a_task_frame_cut_at_any_byte_is_dropped_or_goes_on_as_it_is() {
    let site = site();
    for family in BOTH {
        let (own, other) = (family.host(11), family.host(12));
        let network = 14 + if family == V4 { 20 } else { 40 };
        for (row, packet, header) in [
            ("udp", datagram(family, 11, 12), 8),
            ("tcp", tcp(&*at(&own, 1), &*at(&other, 2)).syn().macs(mac(11), mac(12)), 20),
            ("echo", icmp_echo(&*own, &*other).payload("ping").macs(mac(11), mac(12)), 8),
        ] {
            for cut in network..=packet.build().len() {
                let cut_packet = packet.clone().truncate(cut);
                let expect =
                    if cut < network + header { drops(Truncated) } else { redirects(&cut_packet).counting(&[Local]) };
                check(&site.nodes[0], from_task(0), &format!("{row} cut to {cut}"), cut_packet, &expect);
            }
            let to_vip = if family == V4 { row } else { continue };
            let dialled = udp("10.0.0.11:1", "10.0.0.80:2").macs(mac(11), ROUTER);
            for cut in network..network + 8 {
                check(&site.nodes[0], from_task(0), to_vip, dialled.clone().truncate(cut), &drops(Truncated));
            }
        }
    }
}

#[test]
fn an_interface_of_no_task_carries_nothing() {
    let site = site();
    let lab = lab();
    let fresh = Node::load(&lab, "fresh").unwrap();
    for packet in [datagram(V4, 11, 12), datagram(V6, 11, 12), arp_request(mac(11), "10.0.0.11", "10.0.0.12")] {
        check(&fresh, from_task(0), "a node that is not configured", &packet, &drops(UnknownLink));
    }
    drop((fresh, lab));
    for packet in [datagram(V4, 11, 12), datagram(V6, 11, 12)] {
        // Task 2 is on another node.
        check(&site.nodes[0], from_task(2), "no task's interface", packet, &drops(UnknownLink));
    }
}
