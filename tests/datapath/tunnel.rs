//! What other nodes send: the tunnel taken off, or the frame left alone.

use harness::Packet;
use harness::packet::{ethernet, icmp_echo, ip, tcp, udp, vxlan};
use harness::run::{Hook, Node};
use mesh_common::counter::Counter;
use mesh_common::counter::Counter::{DecapTc, DecapXdp};
use mesh_common::drop::DropReason::{
    GroupTraffic, Malformed, Truncated, UnknownEndpoint, UnknownService, UnknownVni, UnknownVtep, UnsupportedTransport,
};

use crate::check::{Expect, check, drops, left_to_the_host, passes, redirects};
use crate::world::{
    BLUE, BOTH, BULK, CLIENT_MAC, Family, RED, Site, V4, World, XDP, at, blue, lab, mac, red, uplink_mac,
};

/// Tasks 0 and 1 are on node 0, task 2 on node 1; task 3 has the address of task 0 in the other
/// network, task 4 is on node 1 there.
fn world(underlay: Family) -> World {
    World::new(underlay, &[red(0, 11), red(0, 12), red(1, 13), blue(0, 11), blue(1, 14)])
}

fn decap(hook: Hook) -> Counter {
    if hook == XDP { DecapXdp } else { DecapTc }
}

/// From task 2 to task 0.
fn inner(family: Family, packet: impl Fn(&str, &str) -> Packet) -> Packet {
    packet(&family.host(13), &family.host(11)).macs(mac(13), mac(11))
}

fn datagram(family: Family) -> Packet {
    inner(family, |src, dst| udp(&*at(src, 4000), &*at(dst, 7)).payload("hello"))
}

fn segment(family: Family) -> Packet {
    inner(family, |src, dst| tcp(&*at(src, 4000), &*at(dst, 7)).syn().mss(1400))
}

#[test]
fn a_frame_for_a_local_task_loses_its_tunnel() {
    for underlay in BOTH {
        let site = Site::new(world(underlay), 1);
        for family in BOTH {
            let rows: [(&str, Packet); 7] = [
                ("udp", datagram(family)),
                ("a long udp", datagram(family).payload(vec![7; 1300])),
                ("echo", inner(family, |src, dst| icmp_echo(src, dst))),
                ("another protocol", inner(family, |src, dst| ip(src, dst, 132, vec![1; 20]))),
                ("a first fragment", datagram(family).fragment(0, true)),
                ("a later fragment", inner(family, |src, dst| ip(src, dst, 17, vec![1; 16]).fragment(1024, false))),
                ("wrong checksums", datagram(family).bad_checksum()),
            ];
            for hook in [XDP, BULK] {
                for (row, inner) in &rows {
                    let outer = site.world.tunnel((1, 0), RED, inner);
                    let expect = redirects(inner).counting(&[decap(hook)]);
                    check(&site.nodes[0], hook, &format!("{row} {family:?} over {underlay:?}"), outer, &expect);
                }
            }
        }
    }
}

#[test]
fn odd_frames_for_a_local_task_lose_their_tunnel_too() {
    for underlay in BOTH {
        let site = Site::new(world(underlay), 1);
        let plain = datagram(V4);
        let rows: [(&str, Packet); 5] = [
            ("inner options", plain.clone().ip_options(&[1, 1, 1, 1])),
            ("inner tag", plain.clone().payload(vec![3; 20]).vlan(7)),
            ("inner LLDP", ethernet(0x88cc, vec![0; 46]).macs(mac(13), mac(11))),
            ("inner trailer", plain.clone().trailer(&[0; 9])),
            ("an inner length that lies", plain.clone().ip_length(900)),
        ];
        for hook in [XDP, BULK] {
            let expect = |inner: &Packet| redirects(inner).counting(&[decap(hook)]);
            for (row, inner) in &rows {
                check(&site.nodes[0], hook, row, site.world.tunnel((1, 0), RED, inner), &expect(inner));
            }
            let outer = site.world.tunnel((1, 0), RED, &plain);
            for (row, outer) in [
                ("a udp length that lies low", outer.clone().udp_length(8)),
                ("a udp length that lies high", outer.clone().udp_length(1400)),
                ("an ip length that lies high", outer.clone().ip_length(1400)),
                ("an ip length that lies low", outer.clone().ip_length(21)),
                ("reserved bits of the VXLAN header", outer.clone().set(14 + site.world.header() + 9, &[1, 2, 3])),
                ("more VXLAN flags", outer.clone().set(14 + site.world.header() + 8, &[0x88])),
                ("a hop limit of 1", outer.clone().ttl(1)),
            ] {
                check(&site.nodes[0], hook, row, outer, &expect(&plain));
            }
            if underlay == V4 {
                let outer = outer.ip_options(&[1; 8]);
                check(&site.nodes[0], hook, "outer options", outer, &expect(&plain));
            }
        }
    }
}

#[test]
fn inner_tcp_is_left_to_be_coalesced_and_taken_by_tc() {
    for underlay in BOTH {
        let site = Site::new(world(underlay), 1);
        for family in BOTH {
            let outer = site.world.tunnel((1, 0), RED, segment(family));
            check(&site.nodes[0], XDP, "tcp", &outer, &passes());
            check(&site.nodes[0], BULK, "tcp", &outer, &redirects(segment(family)).counting(&[DecapTc]));
        }
    }
}

#[test]
fn overlapping_subnets_are_told_apart_by_their_network() {
    let site = Site::new(world(V4), 2);
    for family in BOTH {
        let datagram = datagram(family);
        for vni in [RED, BLUE] {
            let outer = site.world.tunnel((1, 0), vni, &datagram);
            check(&site.nodes[0], XDP, "the same address twice", outer, &redirects(&datagram).counting(&[DecapXdp]));
        }
        // Task 2's address exists on node 1 in one network only.
        let back = udp(&*at(&family.host(11), 7), &*at(&family.host(13), 4000)).macs(mac(11), mac(13));
        let outer = |vni| site.world.tunnel((0, 1), vni, &back);
        check(&site.nodes[1], XDP, "its network", outer(RED), &redirects(&back).counting(&[DecapXdp]));
        check(&site.nodes[1], XDP, "the other network", outer(BLUE), &drops(UnknownEndpoint));
    }
}

#[test]
fn what_is_not_for_the_tunnel_passes_untouched() {
    for underlay in BOTH {
        let site = Site::new(world(underlay), 1);
        let (here, there) = (underlay.node(0), underlay.node(1));
        let ours = site.world.tunnel((1, 0), RED, datagram(V4));
        let to = |port| vxlan(RED, &there, &at(&here, port), datagram(V4)).macs(uplink_mac(1), uplink_mac(0));
        let rows: [(&str, Packet, bool); 14] = [
            ("another port", to(4790), true),
            ("the port of another kind of tunnel", to(8472), true),
            ("another destination", vxlan(RED, &there, &underlay.node(7), datagram(V4)), true),
            ("a first fragment", ours.clone().fragment(0, true), true),
            ("a later fragment", ours.clone().fragment(64, false), true),
            ("tcp on the tunnel's port", tcp(&*at(&there, 4789), &*at(&here, 4789)).syn(), true),
            ("a reply from the tunnel's port", udp(&*at(&there, 4789), &*at(&here, 9)), true),
            ("a client's datagram", udp(&*at(&underlay.client(7), 53), &*at(&here, 53)), true),
            ("an echo", icmp_echo(&*there, &*here), true),
            ("another protocol", ip(&*there, &*here, 89, vec![0; 24]), true),
            ("a tagged tunnel", ours.clone().vlan(5), false),
            ("LLDP", ethernet(0x88cc, vec![0; 40]), false),
            ("arp", harness::packet::arp_request(CLIENT_MAC, "192.0.2.9", "192.0.2.1"), false),
            ("a version that lies", ours.set(14, &[0x25]), false),
        ];
        for hook in [XDP, BULK] {
            for (row, packet, is_counted) in &rows {
                let expect = if *is_counted { left_to_the_host(hook) } else { passes() };
                check(&site.nodes[0], hook, &format!("{row} over {underlay:?}"), packet, &expect);
            }
        }
    }
}

#[test]
fn what_no_member_would_send_is_dropped_by_name() {
    for underlay in BOTH {
        let site = Site::new(world(underlay), 1);
        let good = site.world.tunnel((1, 0), RED, datagram(V4));
        let flags_at = 14 + site.world.header() + 8;
        let stranger = vxlan(RED, &underlay.node(7), &underlay.node(0), datagram(V4));
        let to = |mac: [u8; 6]| site.world.tunnel((1, 0), RED, datagram(V4).macs([2, 0x42, 10, 0, 0, 13], mac));
        let carrying = |inner: Packet| site.world.tunnel((1, 0), RED, inner);
        let rows: [(&str, Packet, Expect); 11] = [
            ("the I flag unset", good.clone().set(flags_at, &[0]), drops(Malformed)),
            ("all but the I flag", good.set(flags_at, &[0xf7]), drops(Malformed)),
            ("an unknown network", site.world.tunnel((1, 0), 0x2001, datagram(V4)), drops(UnknownVni)),
            ("network 0", site.world.tunnel((1, 0), 0, datagram(V4)), drops(UnknownVni)),
            ("a stranger", stranger, drops(UnknownVtep)),
            ("nobody's address", to(mac(99)), drops(UnknownEndpoint)),
            ("a task of a third node", to(mac(13)), drops(UnknownEndpoint)),
            ("broadcast", to([0xff; 6]), drops(GroupTraffic)),
            ("multicast", to([0x01, 0, 0x5e, 0, 0, 1]), drops(GroupTraffic)),
            ("an inner version that lies", carrying(datagram(V4).set(14, &[0x65])), drops(Malformed)),
            ("an inner header too short", carrying(datagram(V4).set(14, &[0x44])), drops(Malformed)),
        ];
        for hook in [XDP, BULK] {
            for (row, packet, expect) in &rows {
                check(&site.nodes[0], hook, row, packet, expect);
            }
            // The tunnel is off by then.
            let counted = [decap(hook)];
            let elsewhere = udp("10.0.0.13:1", "10.0.0.99:2").macs(mac(13), mac(11));
            let expect = drops(UnknownService).counting(&counted);
            check(&site.nodes[0], hook, "an address that is not the task's", carrying(elsewhere), &expect);
            let elsewhere = ip("10.0.0.13", "10.0.0.99", 132, vec![0; 20]).macs(mac(13), mac(11));
            let expect = drops(UnsupportedTransport).counting(&counted);
            check(&site.nodes[0], hook, "a service without ports", carrying(elsewhere), &expect);
        }
    }
}

/// The kernel runs no XDP program on less than an Ethernet header, and no TC program on less than the
/// network header that the frame announces.
const SHORTEST: usize = 14;

#[test]
fn a_frame_cut_at_any_byte_passes_or_is_dropped_as_truncated() {
    for underlay in BOTH {
        let site = Site::new(world(underlay), 1);
        for family in BOTH {
            let inner = datagram(family);
            let whole = site.world.tunnel((1, 0), RED, &inner);
            let (len, outer) = (whole.build().len(), 14 + site.world.header());
            let needed = outer + 16 + 14 + if family == V4 { 20 } else { 40 };
            for cut in SHORTEST..=len {
                for hook in [XDP, BULK].into_iter().filter(|hook| *hook == XDP || cut >= outer) {
                    let expect = if cut < outer {
                        passes()
                    } else if cut < outer + 8 {
                        left_to_the_host(hook)
                    } else if cut < needed {
                        drops(Truncated)
                    } else {
                        let inner = inner.clone().truncate(cut - outer - 16);
                        redirects(inner).counting(&[decap(hook)])
                    };
                    let row = format!("{family:?} over {underlay:?} cut to {cut} of {len}");
                    check(&site.nodes[0], hook, &row, whole.clone().truncate(cut), &expect);
                }
            }
        }
    }
}

#[test]
fn a_node_that_is_not_configured_passes_everything() {
    let lab = lab();
    let node = Node::load(&lab, "fresh").unwrap();
    let world = world(V4);
    for hook in [XDP, BULK] {
        for packet in [world.tunnel((1, 0), RED, datagram(V4)), world.tunnel((1, 0), RED, segment(V4)), datagram(V4)] {
            check(&node, hook, "a fresh node", packet, &passes());
        }
    }
}
