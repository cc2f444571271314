//! What a task sends to another node: the tunnel put on, byte by byte, and taken off there.

use std::collections::BTreeSet;

use harness::Packet;
use harness::packet::{icmp_echo, ip, tcp, udp};
use mesh_common::counter::Counter::{DecapTc, Encap};
use mesh_common::drop::DropReason::NoNeighbour;

use crate::check::{check, drops, redirects};
use crate::world::{BLUE, BOTH, BULK, Family, RED, Site, V4, World, at, blue, from_task, mac, red};

/// Task 0 on node 0, task 1 on node 1, and the same two in the other network.
fn world(underlay: Family) -> World {
    World::new(underlay, &[red(0, 11), red(1, 13), blue(0, 11), blue(1, 13)])
}

fn datagram(family: Family, port: u16) -> Packet {
    udp(&*at(&family.host(11), port), &*at(&family.host(13), 7)).payload("hello").macs(mac(11), mac(13))
}

#[test]
fn a_frame_for_a_task_elsewhere_gets_a_tunnel_and_loses_it_there() {
    for underlay in BOTH {
        let site = Site::new(world(underlay), 2);
        for family in BOTH {
            let (src, dst) = (family.host(11), family.host(13));
            let plain = datagram(family, 4000);
            let rows = [
                ("udp", plain.clone()),
                ("a full frame", plain.clone().payload(vec![7; 1380])),
                ("a wrong checksum", plain.clone().bad_checksum()),
                ("syn", tcp(&*at(&src, 4000), &*at(&dst, 80)).syn().mss(1400)),
                ("the middle of a connection", tcp(&*at(&src, 4000), &*at(&dst, 80)).ack(9).payload("x")),
                ("echo", icmp_echo(&*src, &*dst).payload("ping")),
                ("another protocol", ip(&*src, &*dst, 132, vec![0; 20])),
                ("a first fragment", plain.clone().fragment(0, true)),
                ("a later fragment", ip(&*src, &*dst, 17, vec![0; 16]).fragment(512, false)),
                ("a marked packet", plain.clone().tos(0xbb).ttl(1)),
            ];
            for (row, packet) in rows {
                let packet = packet.macs(mac(11), mac(13)).build();
                for (task, vni) in [(0, RED), (2, BLUE)] {
                    let row = format!("{row} {family:?} over {underlay:?}");
                    let seen = site.nodes[0].run(from_task(task), &packet).unwrap().frame;
                    let outer = site.world.our_tunnel((0, 1), vni, &*packet, &seen);
                    let expect = redirects(outer.clone()).counting(&[Encap]);
                    check(&site.nodes[0], from_task(task), &row, &*packet, &expect);
                    check(&site.nodes[1], BULK, &row, outer, &redirects(&*packet).counting(&[DecapTc]));
                }
            }
        }
    }
}

#[test]
fn the_outer_source_port_stands_for_the_flow() {
    let site = Site::new(world(V4), 1);
    for family in BOTH {
        let port_of = |packet: &Packet| {
            let outcome = site.nodes[0].run(from_task(0), &packet.build()).unwrap();
            site.world.source_port(&outcome.frame)
        };
        let ports: BTreeSet<u16> = (1000..1064)
            .map(|port| {
                let first = port_of(&datagram(family, port));
                let second = port_of(&datagram(family, port).payload("another datagram of the flow"));
                assert_eq!(first, second, "{family:?} from port {port}");
                first
            })
            .collect();
        // 64 of 16384 values: two of them are equal once in ten runs or so, five never.
        assert!(ports.len() > 60, "64 flows have only {} source ports", ports.len());
        assert!(ports.iter().all(|port| *port >= 49152), "{ports:?}");
    }
}

#[test]
fn without_a_next_hop_nothing_leaves() {
    for underlay in BOTH {
        let mut site = Site::new(World { unresolved: vec![1], ..world(underlay) }, 1);
        for family in BOTH {
            check(&site.nodes[0], from_task(0), "unresolved", datagram(family, 1), &drops(NoNeighbour));
        }
        site.world.unresolved.clear();
        site.apply();
        let outcome = site.nodes[0].run(from_task(0), &datagram(V4, 1).build()).unwrap();
        assert!(outcome.drops.is_empty(), "{outcome:?}");
    }
}
