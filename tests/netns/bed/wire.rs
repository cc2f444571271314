//! What the wire carries, and how large.

use std::net::IpAddr;
use std::time::Duration;

use harness::clients::{Ping, iperf3, ping};
use harness::netns::Netns;
use harness::servers;
use harness::{Bed, Capture, Host, KernelVxlan, Plan, TaskPlan, Wire, describe};

use super::{addresses, assert_reaches, bed};

const LIMIT: Duration = Duration::from_secs(5);
const ETH: usize = 14;
const VLAN_TAG: usize = 4;
/// IP and ICMP headers of an echo.
const ECHO_V4: u32 = 28;
const ECHO_V6: u32 = 48;

/// Everyone reaches everyone, with the largest packet that fits and with none that does not.
#[track_caller]
fn check_mtu(plan: &Plan) {
    let bed = bed(plan);
    let once = Ping { count: 1, ..Ping::default() };
    for from in bed.hosts() {
        for to in bed.hosts().filter(|to| to.name != from.name) {
            for address in addresses(to) {
                assert_reaches(from, address, &once);
            }
        }
    }
    for address in addresses(&bed.nodes[1]) {
        let largest = plan.mtu - if address.is_ipv4() { ECHO_V4 } else { ECHO_V6 };
        let fits = Ping { size: largest, dont_fragment: true, ..Ping::default() };
        assert_reaches(&bed.nodes[0], address, &fits);
        assert_reaches(&bed.clients[0], address, &fits);
        let above = ping(&bed.nodes[0].ns, address, &Ping { size: largest + 1, wait_ms: 100, ..fits }).unwrap();
        assert_eq!(above.received, 0, "{}", above.said);
        assert!(above.said.contains("message too long"), "{}", above.said);
    }
}

#[test]
fn five_machines_reach_each_other_at_every_mtu() {
    for mtu in [1280, 1500, 9000] {
        check_mtu(&Plan { nodes: 3, clients: 2, mtu, ..Plan::default() });
    }
    check_mtu(&Plan { nodes: 3, clients: 2, wire: Wire::Bulk, ..Plan::default() });
}

#[test]
fn an_mtu_that_is_not_one_is_refused() {
    for mtu in [0, 1279, 9001] {
        let error = Bed::new(&Plan { mtu, ..Plan::default() }).unwrap_err();
        assert!(format!("{error:#}").contains("1280..=9000"), "{error:#}");
    }
}

#[test]
fn a_vlan_tags_every_frame_and_costs_no_mtu() {
    let plan = Plan { vlan: Some(100), ..Plan::default() };
    check_mtu(&plan);
    let bed = bed(&plan);
    let [one, two] = [&bed.nodes[0], &bed.nodes[1]];
    let mut capture = Capture::start(&bed.wire, &two.port, "").unwrap();
    assert_reaches(one, two.ip4, &Ping { size: 1472, dont_fragment: true, count: 1, ..Ping::default() });
    let frames = capture.stop().unwrap();
    let longest = frames.iter().map(Vec::len).max().unwrap();
    assert_eq!(longest, ETH + VLAN_TAG + 1500);
    for frame in &frames {
        assert!(describe(frame).contains(" vlan 100 "), "{}", describe(frame));
    }
    // Who is not on the VLAN is not heard.
    two.ns.run(["tc", "filter", "del", "dev", two.uplink, "egress"]).unwrap();
    let outside = ping(&two.ns, one.ip4, &Ping { wait_ms: 100, ..Ping::default() }).unwrap();
    assert_eq!(outside.received, 0, "{}", outside.said);
    // A tag kept beside the frame, for an offload, would be hidden from XDP.
    for (ns, device) in [(&one.ns, one.uplink), (&bed.wire, one.port.as_str())] {
        assert_eq!(feature(ns, device, "tx-vlan-offload"), "off", "{device}");
    }
}

#[track_caller]
fn feature(ns: &Netns, device: &str, name: &str) -> String {
    let shown = ns.run(["ethtool", "-k", device]).unwrap().stdout;
    let value = shown.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(": "));
    value.unwrap_or_else(|| panic!("{device} has no {name}: {shown}")).split(' ').next().unwrap_or_default().to_owned()
}

/// Sends TCP from `from` to `to`, captures it at the wire's end of the cable, and returns the
/// frames with payload.
fn bulk(bed: &Bed, from: &Netns, to: (&Netns, IpAddr), at: &Host) -> Vec<Vec<u8>> {
    let _server = servers::iperf3(to.0, 5201).unwrap();
    let mut capture = Capture::start(&bed.wire, &at.port, "").unwrap();
    let measured = iperf3(from, to.1, 5201, &["-n", "2M"]).unwrap();
    assert!(measured.sent >= 2 << 20, "{measured:?}");
    let frames = capture.stop().unwrap();
    let full: Vec<_> = frames.into_iter().filter(|frame| frame.len() > 1000).collect();
    assert!(full.len() > 20, "only {} frames with payload", full.len());
    full
}

/// Frames that no NIC would deliver: longer than the MTU, or with a checksum left to do.
fn untrue(frames: &[Vec<u8>], mtu: u32) -> Vec<String> {
    let longest = ETH + usize::try_from(mtu).unwrap();
    let texts = frames.iter().map(|frame| (frame.len(), describe(frame)));
    texts.filter(|(len, text)| *len > longest || text.contains("BAD")).map(|(_, text)| text).collect()
}

#[test]
fn frames_are_what_a_nic_would_deliver() {
    for mtu in [1500, 9000] {
        let bed = bed(&Plan { mtu, ..Plan::default() });
        let [one, two] = [&bed.nodes[0], &bed.nodes[1]];
        for address in addresses(two) {
            let frames = bulk(&bed, &one.ns, (&two.ns, address), two);
            assert_eq!(untrue(&frames, mtu), Vec::<String>::new());
        }
    }
}

/// The counter-proof: with offloads on, the same look finds what it looks for.
#[test]
fn bulk_is_what_veths_pass_among_themselves() {
    let bed = bed(&Plan { wire: Wire::Bulk, ..Plan::default() });
    let [one, two] = [&bed.nodes[0], &bed.nodes[1]];
    let frames = bulk(&bed, &one.ns, (&two.ns, two.ip4.into()), two);
    assert!(frames.iter().any(|frame| frame.len() > ETH + 1500), "no GSO frame");
    assert!(frames.iter().any(|frame| describe(frame).contains("BAD")), "no checksum left to an offload");
}

/// A task keeps its offloads, as a container does; the uplink makes true frames of what it sends.
#[test]
fn frames_of_a_task_are_true_on_the_wire() {
    let bed = bed(&Plan::default());
    let [one, two] = [&bed.nodes[0], &bed.nodes[1]];
    let task = one.task(&TaskPlan::new("web").ip4("10.0.9.2/24").mtu(1500).gateway([10, 0, 9, 1])).unwrap();
    one.ns.ip(&[format!("addr add 10.0.9.1/24 dev {}", task.host_link)]).unwrap();
    one.ns.sysctl("net.ipv4.ip_forward", "1").unwrap();
    two.ns.ip(&[format!("route add 10.0.9.0/24 via {}", one.ip4)]).unwrap();
    assert_eq!(feature(&task.ns, "eth0", "tcp-segmentation-offload"), "on");
    let frames = bulk(&bed, &task.ns, (&two.ns, two.ip4.into()), two);
    assert_eq!(untrue(&frames, 1500), Vec::<String>::new());
}

fn join(bed: &Bed, ipv6: bool) {
    for (host, peer, last) in [(&bed.nodes[0], &bed.nodes[1], 1), (&bed.nodes[1], &bed.nodes[0], 2)] {
        let family = usize::from(ipv6);
        let addresses = [format!("10.100.0.{last}/24"), format!("fd00:100::{last}/64")];
        let vxlan = KernelVxlan {
            name: "vx100",
            vni: 100,
            port: 4789,
            local: super::addresses(host)[family],
            remote: super::addresses(peer)[family],
            addresses: &[&addresses[0], &addresses[1]],
            mac: [0x02, 0x42, 10, 100, 0, last],
        };
        host.kernel_vxlan(&vxlan).unwrap();
    }
}

#[test]
fn a_kernel_vxlan_device_joins_two_nodes() {
    for ipv6 in [false, true] {
        let bed = bed(&Plan::default());
        let [one, two] = [&bed.nodes[0], &bed.nodes[1]];
        join(&bed, ipv6);
        let mut capture = Capture::start(&bed.wire, &two.port, "udp port 4789").unwrap();
        let overhead = if ipv6 { 70 } else { 50 };
        for (address, headers) in [("10.100.0.2", ECHO_V4), ("fd00:100::2", ECHO_V6)] {
            let largest = Ping { size: 1500 - overhead - headers, dont_fragment: true, ..Ping::default() };
            assert_reaches(one, address.parse::<IpAddr>().unwrap(), &largest);
        }
        let request = |frame: &Vec<u8>| {
            let text = describe(frame);
            text.contains("vxlan vni 100 ") && text.contains("10.100.0.1 > 10.100.0.2") && text.contains("echo request")
        };
        let frames = capture.wait_for(LIMIT, |frames| frames.iter().any(request)).unwrap();
        assert!(frames.iter().all(|frame| frame.len() <= ETH + 1500));
        let full = bulk(&bed, &one.ns, (&two.ns, "10.100.0.2".parse().unwrap()), two);
        assert_eq!(untrue(&full, 1500), Vec::<String>::new());
    }
}
