//! Refusals: a reset or "port unreachable" in the place of the packet, byte by byte.

use harness::Packet;
use harness::packet::{Checksum, icmp_port_unreachable, icmp_too_big, tcp, udp};
use harness::run::Hook;
use mesh_common::counter::Counter::{DecapTc, Forwarded, ReplyForwarded, Vip};
use mesh_common::drop::DropReason::{NoBackend, TooBig, UnknownFlow};

use crate::check::{check, drops, redirects, turns_back};
use crate::world::{
    BOTH, BULK, CLIENT_MAC, Family, INGRESS, ROUTER, Site, V4, V6, VIP, World, XDP, at, from_task, mac, red,
    uplink_mac, web,
};

const CLIENT: u8 = 11;
const TASK: u8 = 21;
const PORT: u16 = 40000;

/// A way to a service: where its packets come in, who dials what, and between which MACs.
struct Way {
    hook: Hook,
    client: String,
    dialled: String,
    macs: [[u8; 6]; 2],
    is_vip: bool,
}

impl Way {
    fn ask(&self, packet: Packet) -> Packet {
        packet.macs(self.macs[0], self.macs[1])
    }

    fn answer(&self, packet: Packet) -> Packet {
        packet.id(0).ttl(64).macs(self.macs[1], self.macs[0])
    }
}

/// The published port of this number by both programs, and the VIP.
fn ways(family: Family, published: u16) -> [Way; 3] {
    let outside = |hook| Way {
        hook,
        client: at(&family.client(7), PORT),
        dialled: at(&family.node(0), published),
        macs: [CLIENT_MAC, uplink_mac(0)],
        is_vip: false,
    };
    let vip = Way {
        hook: from_task(0),
        client: at(&family.host(CLIENT), PORT),
        dialled: at(&family.host(VIP), published),
        macs: [mac(CLIENT), ROUTER],
        is_vip: true,
    };
    [outside(XDP), outside(BULK), vip]
}

/// RFC 9293 section 3.10.7.1: what a segment to nobody gets.
fn resets(client: &str, dialled: &str) -> [(&'static str, Packet, Packet); 9] {
    let ask = || tcp(client, dialled).seq(1000);
    let reset = || tcp(dialled, client).rst().window(0);
    // Without ACK: sequence 0, and an acknowledgement of all that the segment takes.
    let acknowledging = |number| reset().seq(0).ack(number);
    [
        ("a syn", ask().syn(), acknowledging(1001)),
        ("a syn with options", ask().syn().mss(1460).window(9), acknowledging(1001)),
        ("a syn with data", ask().syn().payload("hello"), acknowledging(1006)),
        ("a fin", ask().fin(), acknowledging(1001)),
        ("data alone", ask().payload(vec![1; 900]), acknowledging(1900)),
        ("the last sequence number", ask().seq(u32::MAX).syn(), acknowledging(0)),
        // With ACK: the sequence number that it acknowledges, and no acknowledgement.
        ("an ack", ask().ack(77), reset().seq(77)),
        ("an ack with data", ask().ack(77).psh().payload("hello"), reset().seq(77)),
        ("a syn and ack", ask().syn().ack(u32::MAX), reset().seq(u32::MAX)),
    ]
}

#[test]
fn a_segment_to_a_service_without_a_backend_is_reset() {
    let site = Site::new(World::new(V4, &[red(0, CLIENT)]).with_web(), 1);
    for family in BOTH {
        for way in ways(family, 8080) {
            for (row, ask, reset) in resets(&way.client, &way.dialled) {
                let expect = turns_back(way.answer(reset)).refused(NoBackend);
                let expect = if way.is_vip { expect.counting(&[Vip]) } else { expect };
                check(&site.nodes[0], way.hook, &format!("{row} {family:?}"), way.ask(ask), &expect);
            }
        }
    }
}

#[test]
fn header_options_are_not_taken_for_data() {
    let site = Site::new(World::new(V4, &[red(0, CLIENT)]).with_web(), 1);
    for way in ways(V4, 8080) {
        for (row, ask, reset) in resets(&way.client, &way.dialled) {
            let expect = turns_back(way.answer(reset)).refused(NoBackend);
            let expect = if way.is_vip { expect.counting(&[Vip]) } else { expect };
            check(&site.nodes[0], way.hook, row, way.ask(ask).ip_options(&[1; 12]), &expect);
        }
    }
}

#[test]
fn a_segment_of_a_connection_that_nobody_knows_is_reset() {
    let site = Site::new(World::new(V4, &[red(0, CLIENT), web(0, TASK)]).with_web(), 1);
    for family in BOTH {
        for way in ways(family, 8080) {
            let opens = |row: &str| row.contains("syn") && !row.contains("ack") || row.contains("sequence");
            for (row, ask, reset) in resets(&way.client, &way.dialled).into_iter().filter(|row| !opens(row.0)) {
                let expect = turns_back(way.answer(reset)).refused(UnknownFlow);
                let expect = if way.is_vip { expect.counting(&[Vip]) } else { expect };
                check(&site.nodes[0], way.hook, &format!("{row} {family:?}"), way.ask(ask), &expect);
            }
        }
    }
}

#[test]
fn a_datagram_to_a_service_without_a_backend_is_unreachable() {
    let site = Site::new(World::new(V4, &[red(0, CLIENT)]).with_web(), 1);
    for family in BOTH {
        let quoted = 14 + if family == V4 { 28 } else { 48 };
        for way in ways(family, 5353) {
            let ask = || udp(&*way.client, &*way.dialled);
            let mut rows = vec![
                ("empty", ask()),
                ("one byte", ask().payload("x")),
                ("short", ask().payload("hello")),
                ("long", ask().payload(vec![7; 1400])),
                ("marked", ask().tos(0xbb).ttl(2).payload("hello")),
                ("a wrong checksum", ask().payload("hello").bad_checksum()),
            ];
            if family == V4 {
                rows.push(("no checksum", ask().payload("hello").checksum(Checksum::Zero)));
                rows.push(("one that may be fragmented", ask().may_fragment().id(4711)));
            }
            for (row, ask) in rows {
                // The quote: the network header and the ports (RFC 792).
                let (src, dst) = (family_addr(&way.dialled), family_addr(&way.client));
                let answer = icmp_port_unreachable(src, dst, way.ask(ask.clone()).truncate(quoted));
                let expect = turns_back(way.answer(answer)).refused(NoBackend);
                let expect = if way.is_vip { expect.counting(&[Vip]) } else { expect };
                check(&site.nodes[0], way.hook, &format!("{row} {family:?}"), way.ask(ask), &expect);
            }
        }
    }
}

#[test]
fn what_does_not_fit_into_a_tunnel_is_answered_with_the_size_that_does() {
    for (underlay, room) in [(V4, 1450), (V6, 1430)] {
        let site = Site::new(World::new(underlay, &[red(0, CLIENT), web(1, TASK)]).with_web(), 1);
        for family in BOTH {
            let quoted = 14 + if family == V4 { 28 } else { 48 };
            for way in ways(family, 5353) {
                let (src, dst) = (family_addr(&way.dialled), family_addr(&way.client));
                let overhead = if family == V4 { 28 } else { 48 };
                let of_size = |size: usize| udp(&*way.client, &*way.dialled).payload(vec![7; size - overhead]);
                let vip: &[_] = if way.is_vip { &[Vip] } else { &[] };
                // One byte too many, and as many as a client's link carries.
                for size in [room + 1, 1500] {
                    let answer = icmp_too_big(src, dst, room as u16, way.ask(of_size(size)).truncate(quoted));
                    let expect = turns_back(way.answer(answer)).refused(TooBig).counting(vip);
                    check(&site.nodes[0], way.hook, &format!("{size} {family:?}"), way.ask(of_size(size)), &expect);
                }
                // The largest that fits goes its way.
                let fits = site.nodes[0].run(way.hook, &way.ask(of_size(room)).build()).unwrap();
                assert_eq!(fits.frame.len(), 14 + 1500, "{family:?} over {underlay:?}");
                if family == V4 {
                    let may = of_size(1500).may_fragment();
                    let expect = drops(TooBig).counting(vip);
                    check(&site.nodes[0], way.hook, "one that may be fragmented", way.ask(may), &expect);
                }
            }
        }
    }
}

/// The address of an end.
fn family_addr(end: &str) -> std::net::IpAddr {
    end.parse::<std::net::SocketAddr>().unwrap().ip()
}

#[test]
fn a_backend_elsewhere_refuses_through_the_node_dialled() {
    for underlay in BOTH {
        let site = Site::new(World::new(underlay, &[web(1, TASK)]).with_web(), 2);
        let [entry, home] = &site.nodes[..] else { panic!("two nodes") };
        for family in BOTH {
            let [way, _, _] = ways(family, 8080);
            let ask = tcp(&*way.client, &*way.dialled).seq(5).ack(77).payload("x");
            let seen = entry.run(XDP, &way.ask(ask.clone()).build()).unwrap().frame;
            let outer = site.world.our_tunnel((0, 1), INGRESS, ask.clone().macs(ROUTER, mac(TASK)), &seen);
            check(entry, XDP, "there", way.ask(ask), &turns_back(&*outer).counting(&[Forwarded]));

            let reset = tcp(&*way.dialled, &*way.client).rst().seq(77).window(0).id(0).ttl(64).macs(ROUTER, ROUTER);
            let seen = home.run(BULK, &outer).unwrap().frame;
            let back = site.world.our_tunnel((1, 0), INGRESS, &reset, &seen);
            let expect = turns_back(&*back).refused(UnknownFlow).counting(&[DecapTc]);
            check(home, BULK, "a connection that nobody knows", outer, &expect);
            check(entry, BULK, "back", back, &redirects(reset).counting(&[ReplyForwarded]));
        }
    }
}
