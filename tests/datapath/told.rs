//! What watchers are told of packets, program by program.

use harness::Packet;
use harness::packet::{tcp, udp, vxlan};
use harness::run::{Hook, Node};
use mesh_common::drop::DropReason::{self, NoBackend, NoRoute, SpoofedMac, UnknownFlow, UnknownService, UnknownVtep};
use mesh_common::node::LOOPBACK;
use mesh_common::watch::{Watch, hook, verdict, wants, watcher};
use mesh_daemon::datapath::seeing::watch::Told;

use crate::world::{
    BOTH, BULK, CLIENT_MAC, Family, RED, ROUTER, Site, V4, World, XDP, at, from_task, link, mac, red, uplink_mac, web,
};

const TASK: u8 = 21;
const DROPS: Watch = Watch { on: wants::DROPS, every: 1, limit: u32::MAX, bytes: 192 };

fn site(underlay: Family) -> Site {
    let mut world = World::new(underlay, &[red(0, 11), web(0, TASK)]).with_web();
    let empty = mesh_daemon::datapath::desired::Service {
        name: "empty".to_owned(),
        vips: vec!["10.0.0.90".parse().unwrap(), "fd00::5a".parse().unwrap()],
        ports: Vec::new(),
        ..world.services[0].clone()
    };
    world.services.push(empty);
    Site::new(world, 1)
}

/// Runs a packet and hands on the one thing that is told of it.
#[track_caller]
fn told(node: &Node, hook: Hook, wish: Watch, packet: &Packet) -> Told {
    let mut listener = node.listen(watcher::TRACE, wish).unwrap();
    node.run(hook, &packet.build()).unwrap();
    let batch = listener.take();
    let [told] = &batch.told[..] else { panic!("told of {batch:?}") };
    assert_eq!(batch.lost, 0);
    told.clone()
}

#[test]
fn a_packet_that_is_lost_is_told_with_reason_network_interface_and_ends() {
    for underlay in BOTH {
        let site = site(underlay);
        for family in BOTH {
            let (own, client, here) = (family.host(11), at(&family.client(7), 4000), family.node(0));
            let inner = |dst: &str| udp(&*at(&family.host(13), 1), &*at(dst, 2)).macs(mac(13), mac(11));
            let stranger = vxlan(RED, &underlay.node(7), &underlay.node(0), inner(&own));
            let unknown = site.world.tunnel((1, 0), RED, inner(&family.host(77)));
            let from = |to: &str| udp(&*at(&own, 1), &*at(to, 2)).macs(mac(11), ROUTER);
            let lost = tcp(&*client, &*at(&here, 8080)).ack(1).macs(CLIENT_MAC, uplink_mac(0));
            let empty = if family == V4 { "10.0.0.90" } else { "fd00::5a" };
            let task = from_task(0);
            let rows: [(Packet, Hook, u8, DropReason, u32); 6] = [
                (stranger, XDP, verdict::DROPPED, UnknownVtep, 0),
                (unknown, XDP, verdict::DROPPED, UnknownService, RED),
                (from(&family.client(7)), task, verdict::DROPPED, NoRoute, RED),
                (from(empty).macs([2, 9, 9, 9, 9, 9], ROUTER), task, verdict::DROPPED, SpoofedMac, RED),
                (from(empty), task, verdict::REFUSED, NoBackend, RED),
                (lost, BULK, verdict::REFUSED, UnknownFlow, crate::world::INGRESS),
            ];
            for (packet, hook, kind, reason, vni) in rows {
                let told = told(&site.nodes[0], hook, DROPS, &packet);
                let (event, row) = (&told.event, format!("{reason:?} {family:?} over {underlay:?}: {told:?}"));
                assert_eq!((event.verdict, told.reason(), event.vni), (kind, Some(reason), vni), "{row}");
                let (program, ifindex) = match hook {
                    Hook::Underlay(ifindex) => (hook::UNDERLAY, ifindex),
                    Hook::Bulk(ifindex) => (hook::UNDERLAY_BULK, ifindex),
                    Hook::Container(ifindex) => (hook::CONTAINER, ifindex),
                    Hook::Outward(ifindex) => (hook::OUTWARD, ifindex),
                    Hook::HostLend => (hook::HOST_LEND, LOOPBACK),
                    Hook::Host => (hook::HOST, LOOPBACK),
                };
                assert_eq!((event.hook, event.ifindex), (program, ifindex), "{row}");
                let frame = told.frame(4789);
                let ends = frame.packet.unwrap_or_else(|| panic!("{row}"));
                let sent = harness::describe(&packet.build());
                assert!(sent.contains(&ends.src.to_string()) && sent.contains(&ends.dst.to_string()), "{row}\n{sent}");
                let network = frame.vni.unwrap_or(event.vni);
                assert_eq!(network, if vni == 0 { RED } else { vni }, "{row}");
            }
        }
    }
}

#[test]
fn what_goes_on_is_told_only_if_it_is_asked_for() {
    let site = site(V4);
    let node = &site.nodes[0];
    let packet = udp("198.51.100.7:4000", "192.0.2.1:5353").macs(CLIENT_MAC, uplink_mac(0));
    let mut listener = node.listen(watcher::TRACE, DROPS).unwrap();
    node.run(XDP, &packet.build()).unwrap();
    assert_eq!(listener.take(), Default::default());
    drop(listener);
    let told = told(node, XDP, Watch { on: wants::DROPS | wants::VERDICTS, ..DROPS }, &packet);
    assert_eq!((told.event.verdict, told.event.to), (verdict::REDIRECTED, link(1)));
    assert_eq!(told.frame(4789).packet.unwrap().to_string(), "198.51.100.7:4000 > 10.0.0.21:53 udp");
    // Nobody is told any more.
    node.run(XDP, &packet.build()).unwrap();
    let mut listener = node.listen(watcher::TRACE, DROPS).unwrap();
    assert_eq!(listener.take(), Default::default());
}

#[test]
fn above_the_limit_events_are_kept_back_and_counted() {
    let site = site(V4);
    let node = &site.nodes[0];
    let lost = tcp("198.51.100.7:4000", "192.0.2.1:8080").ack(1).macs(CLIENT_MAC, uplink_mac(0));
    let mut listener = node.listen(watcher::TRACE, Watch { limit: 1, ..DROPS }).unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    let (mut sent, mut told, mut missed) = (0, 0, 0);
    // A window later one more event comes, and says how many did not.
    while told == 0 || missed == 0 {
        assert!(std::time::Instant::now() < deadline, "{told} told, {missed} missed of {sent}");
        node.run(BULK, &lost.build()).unwrap();
        sent += 1;
        let batch = listener.take();
        told += batch.told.len() as u64;
        missed += batch.lost;
    }
    assert!(told + missed <= sent, "{told} told, {missed} missed of {sent}");
    assert!(told < sent);
}

#[test]
fn a_frame_is_captured_as_it_comes_and_as_it_leaves() {
    for underlay in BOTH {
        let site = site(underlay);
        let node = &site.nodes[0];
        let inner = udp("10.0.0.13:1", "10.0.0.11:2").payload(vec![7; 500]).macs(mac(13), mac(11));
        let outer = site.world.tunnel((1, 0), RED, &inner).build();
        for (hook, bytes) in [(XDP, 2000), (BULK, 2000), (XDP, 100)] {
            let wish = Watch { on: wants::ARRIVALS, every: 1, limit: u32::MAX, bytes };
            let mut listener = node.listen(watcher::CAPTURE, wish).unwrap();
            node.run(hook, &outer).unwrap();
            let batch = listener.take();
            let [came, left] = &batch.told[..] else { panic!("{batch:?}") };
            let cut = |frame: &[u8]| frame[..frame.len().min(bytes as usize)].to_vec();
            assert_eq!((came.event.verdict, &came.bytes), (verdict::ARRIVED, &cut(&outer)));
            assert_eq!((left.event.verdict, &left.bytes), (verdict::REDIRECTED, &cut(&inner.build())));
            assert_eq!((came.event.len as usize, left.event.len as usize), (outer.len(), inner.build().len()));
            assert!(came.event.time < left.event.time);
        }
    }
}
