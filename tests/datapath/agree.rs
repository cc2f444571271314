//! What user space computes, the programs do: the same parser, the same choice of a backend. Any
//! packet will do to show it.

use harness::Packet;
use harness::packet::{arp_request, ethernet, icmp_echo, tcp, udp, vxlan};
use harness::run::{Action, Hook, Outcome};
use mesh_common::addr::{Addr, Mac};
use mesh_common::drop::DropReason;
use mesh_common::header::{EthHeader, UdpHeader, VxlanHeader, ether_type, proto};
use mesh_common::maglev::{Tuple, slot};
use mesh_common::parse::{self, Bytes as _, ETH_LEN};
use mesh_common::service::ServiceKey;
use mesh_daemon::datapath::desired::addr;
use mesh_daemon::datapath::tables::Tables;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::world::{
    BOTH, BULK, CLIENT_MAC, Family, INGRESS, RED, ROUTER, Site, V4, V6, VIP, World, XDP, at, from_task, link, mac, red,
    uplink_mac, web,
};

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() })
}

/// The link-layer address of the backend that user space would choose.
fn chosen(tables: &Tables, key: &ServiceKey, flow: &Tuple) -> Mac {
    let service = tables.services[key];
    let at = slot(flow.hash(), service.slots);
    let number = tables.slots[&service.slots_at][at as usize].current;
    tables.backends[&number].mac
}

fn family() -> impl Strategy<Value = Family> {
    prop_oneof![Just(V4), Just(V6)]
}

fn ip(text: &str) -> Addr {
    addr(text.parse().unwrap())
}

/// The task that a frame which was balanced goes to, wherever that is.
fn leads_to(site: &Site, outcome: &Outcome) -> Mac {
    let outer = 14 + site.world.header() + 16;
    let is_tunnelled = outcome.frame[..6] == uplink_mac(1) || outcome.frame[..6] == uplink_mac(0);
    let at = if is_tunnelled { outer } else { 0 };
    Mac { bytes: outcome.frame[at..at + 6].try_into().unwrap() }
}

#[test]
fn both_programs_of_every_node_choose_the_backend_that_user_space_names() {
    let tasks = [red(0, 11), web(0, 21), web(0, 22), web(1, 23), web(1, 24), web(1, 25), red(1, 11 + 1)];
    let site = Site::new(World::new(V4, &tasks).with_web(), 2);
    let strategy = (family(), any::<u8>(), 1u16.., any::<bool>());
    runner(300)
        .run(&strategy, |(family, client, port, is_tcp)| {
            let (client, number, published) = (
                family.client(client),
                if is_tcp { proto::TCP } else { proto::UDP },
                if is_tcp { 8080 } else { 5353u16 },
            );
            let flow = Tuple {
                client: ip(&client),
                client_port: port.to_be_bytes(),
                port: published.to_be_bytes(),
                proto: number,
            };
            for (me, node) in site.nodes.iter().enumerate() {
                let (src, dst) = (at(&client, port), at(&family.node(me), published));
                let packet = if is_tcp { tcp(&*src, &*dst).syn() } else { udp(&*src, &*dst) };
                let key = ServiceKey::published(ip(&family.node(me)), number, published.to_be_bytes());
                let want = chosen(node.tables(), &key, &flow);
                for hook in [XDP, BULK] {
                    let outcome = node.run(hook, &packet.clone().macs(CLIENT_MAC, uplink_mac(me)).build()).unwrap();
                    prop_assert_eq!(leads_to(&site, &outcome), want, "node {} at {:?}", me, hook);
                }
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_task_reaches_the_backend_that_user_space_names() {
    let site = Site::new(World::new(V4, &[red(0, 11), web(0, 21), web(0, 22), web(1, 23), web(1, 24)]).with_web(), 1);
    let strategy = (family(), 1u16.., 1u16.., 0..3u8);
    runner(300)
        .run(&strategy, |(family, client_port, port, kind)| {
            // The overlay's own port is no tunnel for tasks.
            prop_assume!(port != 4789);
            let (client, vip) = (family.host(11), family.host(VIP));
            let (packet, number) = match kind {
                0 => (tcp(&*at(&client, client_port), &*at(&vip, port)).syn(), proto::TCP),
                1 => (udp(&*at(&client, client_port), &*at(&vip, port)), proto::UDP),
                _ => {
                    let number = if family == V4 { proto::ICMP } else { proto::ICMPV6 };
                    (icmp_echo(&*client, &*vip).echo(port, 1), number)
                }
            };
            // The identifier of an echo stands for both ports.
            let client_port = if kind == 2 { port } else { client_port };
            let flow = Tuple {
                client: ip(&client),
                client_port: client_port.to_be_bytes(),
                port: port.to_be_bytes(),
                proto: number,
            };
            let outcome = site.nodes[0].run(from_task(0), &packet.macs(mac(11), ROUTER).build()).unwrap();
            let want = chosen(site.nodes[0].tables(), &ServiceKey::vip(RED, ip(&vip)), &flow);
            prop_assert_eq!(leads_to(&site, &outcome), want);
            Ok(())
        })
        .unwrap();
}

/// What the parser says of a frame at an uplink of node 0.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    /// Not ours.
    Pass,
    /// Ours, and dropped for what its headers say, before any task is looked up.
    Drop(DropReason),
    /// Ours: not passed.
    Ours,
}

fn said(tables: &Tables, frame: &[u8], hook: Hook) -> Said {
    let config = tables.config[&0];
    let Some(eth) = frame.read::<EthHeader>(0) else { return Said::Pass };
    let Ok(Some(ip)) = parse::ip(frame, &eth, 0) else { return Said::Pass };
    let udp = frame.read::<UdpHeader>(ip.payload_at);
    let is_tunnel = ip.proto == proto::UDP
        && !ip.fragment
        && ip.dst == config.vtep
        && udp.is_some_and(|udp| udp.dst == config.vxlan_port);
    if is_tunnel {
        return tunnel_said(tables, frame, hook, &ip).unwrap_or_else(Said::Drop);
    }
    let published = match parse::transport(frame, &ip) {
        Ok(Some(transport)) if matches!(ip.proto, proto::TCP | proto::UDP) => {
            tables.services.contains_key(&ServiceKey::published(ip.dst, ip.proto, transport.ports.dst))
        }
        _ => false,
    };
    // What came by broadcast or multicast is the host's.
    let unicast = frame[0] & 1 == 0;
    if published && unicast { Said::Ours } else { Said::Pass }
}

fn tunnel_said(tables: &Tables, frame: &[u8], hook: Hook, outer: &parse::Ip) -> Result<Said, DropReason> {
    let at = outer.payload_at + size_of::<UdpHeader>();
    let header: VxlanHeader = frame.need(at)?;
    let vni = header.network().ok_or(DropReason::Malformed)?;
    if !tables.networks.contains_key(&vni) {
        return Err(DropReason::UnknownVni);
    }
    if !tables.vteps.keys().any(|key| key.addr == outer.src) {
        return Err(DropReason::UnknownVtep);
    }
    let at = at + size_of::<VxlanHeader>();
    let eth: EthHeader = frame.need(at)?;
    let inner = parse::ip(frame, &eth, at)?;
    let left = inner.is_some_and(|ip| ip.proto == proto::TCP || (vni == INGRESS && eth.dst == Mac::ROUTER));
    Ok(if left && hook == XDP { Said::Pass } else { Said::Ours })
}

/// One change of a frame.
#[derive(Clone, Debug)]
enum Mutation {
    Set(usize, u8),
    Flip(usize, u8),
    Cut(usize),
    Append(Vec<u8>),
}

fn mutations() -> impl Strategy<Value = Vec<Mutation>> {
    let one = prop_oneof![
        6 => (0..160usize, any::<u8>()).prop_map(|(at, byte)| Mutation::Set(at, byte)),
        6 => (0..160usize, 0..8u8).prop_map(|(at, bit)| Mutation::Flip(at, bit)),
        2 => (0..160usize).prop_map(Mutation::Cut),
        1 => proptest::collection::vec(any::<u8>(), 0..40).prop_map(Mutation::Append),
    ];
    proptest::collection::vec(one, 0..5)
}

fn mutate(mut frame: Vec<u8>, mutations: &[Mutation]) -> Vec<u8> {
    for mutation in mutations {
        let len = frame.len();
        match mutation {
            Mutation::Set(at, byte) => frame[at % len] = *byte,
            Mutation::Flip(at, bit) => frame[at % len] ^= 1 << bit,
            // The kernel runs nothing shorter than a link-layer header.
            Mutation::Cut(to) => frame.truncate((*to).max(ETH_LEN + 1)),
            Mutation::Append(bytes) => frame.extend(bytes),
        }
    }
    frame
}

/// The kernel runs a TC program on no less than the network header that a frame announces.
fn is_run_by_tc(frame: &[u8]) -> bool {
    let network = match [frame[12], frame[13]] {
        ether_type::IPV4 => 20,
        ether_type::IPV6 => 40,
        _ => 1,
    };
    frame.len() >= ETH_LEN + network
}

/// Frames to begin with: of every kind that an uplink may see.
fn of_an_uplink(world: &World) -> Vec<Vec<u8>> {
    let mut frames = vec![arp_request(CLIENT_MAC, "192.0.2.9", "192.0.2.1"), ethernet(0x88cc, vec![0; 46])];
    for family in BOTH {
        let (here, there, client) = (family.node(0), family.node(1), at(&family.client(7), 40000));
        let (src, dst) = (family.host(13), family.host(11));
        let inner = [
            udp(&*at(&src, 1), &*at(&dst, 2)).payload("hello"),
            tcp(&*at(&src, 1), &*at(&dst, 2)).syn(),
            icmp_echo(&*src, &*dst),
            tcp(&*client, &*at(&here, 8080)).syn(),
        ];
        let tunnel = |inner: &Packet| world.tunnel((1, 0), RED, inner.clone().macs(mac(13), mac(11)));
        frames.extend(inner.iter().map(tunnel));
        let reply = udp(&*at(&here, 5353), &*client).macs(mac(21), ROUTER);
        frames.push(world.tunnel((1, 0), INGRESS, &reply));
        frames.push(vxlan(RED, &there, &here, reply));
        frames.push(tcp(&*client, &*at(&here, 8080)).syn());
        frames.push(udp(&*client, &*at(&here, 5353)).payload("hello"));
        frames.push(tcp(&*client, &*at(&here, 22)).syn());
        frames.push(icmp_echo(&*family.client(7), &*here));
    }
    frames.iter().map(Packet::build).collect()
}

#[test]
fn an_uplink_passes_exactly_what_the_parser_says_is_not_ours() {
    for underlay in BOTH {
        let tasks = [red(0, 11), red(1, 13), web(0, 21), web(1, 22)];
        let site = Site::new(World::new(underlay, &tasks).with_web(), 1);
        let node = &site.nodes[0];
        let frames = of_an_uplink(&site.world);
        let strategy = (0..frames.len(), mutations());
        runner(2000)
            .run(&strategy, |(at, mutations)| {
                let frame = mutate(frames[at].clone(), &mutations);
                for hook in [XDP, BULK].into_iter().filter(|hook| *hook == XDP || is_run_by_tc(&frame)) {
                    let outcome = node.run(hook, &frame).unwrap();
                    let said = said(node.tables(), &frame, hook);
                    let seen = format!("{hook:?}\n{}\n{outcome:?}", harness::describe(&frame));
                    match said {
                        Said::Pass => {
                            prop_assert_eq!(outcome.action, Action::Pass, "{}", seen);
                            prop_assert_eq!(&outcome.frame, &frame, "{}", seen);
                            prop_assert!(outcome.drops.is_empty(), "{}", seen);
                        }
                        Said::Drop(reason) => {
                            prop_assert_eq!(outcome.action, Action::Drop, "{}", seen);
                            prop_assert_eq!(outcome.drops.keys().collect::<Vec<_>>(), [&reason], "{}", seen);
                        }
                        Said::Ours => prop_assert_ne!(outcome.action, Action::Pass, "{}", seen),
                    }
                }
                Ok(())
            })
            .unwrap();
    }
}

/// Frames to begin with: of every kind that a task may send.
fn of_a_task() -> Vec<Vec<u8>> {
    let mut frames = vec![
        arp_request(mac(11), "10.0.0.11", "10.0.0.12"),
        harness::packet::neighbour_solicitation(mac(11), "fd00::b", "fd00::c"),
        ethernet(0x88cc, vec![0; 46]).macs(mac(11), mac(12)),
    ];
    for family in BOTH {
        for (dst, to) in [(12, mac(12)), (13, mac(13)), (VIP, ROUTER)] {
            let (src, dst) = (family.host(11), family.host(dst));
            frames.push(udp(&*at(&src, 1), &*at(&dst, 2)).payload("hello").macs(mac(11), to));
            frames.push(tcp(&*at(&src, 1), &*at(&dst, 2)).syn().mss(1400).macs(mac(11), to));
            frames.push(tcp(&*at(&src, 1), &*at(&dst, 2)).ack(1).macs(mac(11), to));
            frames.push(icmp_echo(&*src, &*dst).macs(mac(11), to));
        }
    }
    frames.iter().map(Packet::build).collect()
}

#[test]
fn nothing_leaves_a_task_that_does_not_speak_for_itself() {
    let site = Site::new(World::new(V4, &[red(0, 11), red(0, 12), red(1, 13), web(0, 21)]).with_web(), 1);
    let own: [Addr; 2] = BOTH.map(|family| ip(&family.host(11)));
    let frames = of_a_task();
    let strategy = (0..frames.len(), mutations());
    runner(3000)
        .run(&strategy, |(at, mutations)| {
            let frame = mutate(frames[at].clone(), &mutations);
            prop_assume!(is_run_by_tc(&frame));
            let mut outcome = site.nodes[0].run(from_task(0), &frame).unwrap();
            if outcome.action == Action::Pass {
                outcome = site.nodes[0].run(Hook::Outward(link(0)), &frame).unwrap();
            }
            let seen = format!("{}\n{outcome:?}", harness::describe(&frame));
            // The programs are the whole way out of a task: nothing is left to the host.
            prop_assert_ne!(outcome.action, Action::Pass, "{}", seen);
            let eth: EthHeader = frame[..].read(0).unwrap();
            let parsed = parse::ip(&frame[..], &eth, 0);
            let is_question = outcome.counters.contains_key(&mesh_common::counter::Counter::NeighbourAnswered);
            if eth.src.bytes != mac(11) {
                prop_assert_eq!(outcome.drops.keys().collect::<Vec<_>>(), [&DropReason::SpoofedMac], "{}", seen);
            } else if !is_question && !matches!(parsed, Ok(Some(ip)) if own.contains(&ip.src)) {
                prop_assert_eq!(outcome.action, Action::Drop, "{}", seen);
            }
            Ok(())
        })
        .unwrap();
}
