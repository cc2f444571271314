//! Two nodes, a task on each.

use harness::clients::{Ping, iperf3};
use harness::meshd::{State, TaskSpec, VNI};
use harness::{Capture, Plan, Transport, clients, describe, servers};

use super::{assert_no_drops, assert_pings, cluster};

fn two_tasks(underlay_v6: bool) -> State {
    let tasks = vec![TaskSpec::new("one", 0, 2), TaskSpec::new("two", 1, 3)];
    State { underlay_v6, tasks, ..State::default() }
}

/// Tasks on two nodes reach each other by ping, TCP and UDP; the wire carries VXLAN and nothing of
/// the tasks' own.
#[track_caller]
fn check(underlay_v6: bool, arguments: &[&str]) {
    let cluster = cluster(&Plan::default(), two_tasks(underlay_v6), arguments);
    let (one, two) = (&cluster.tasks[0].ns, &cluster.tasks[1].ns);
    let mut wire = Capture::start(&cluster.bed.wire, &cluster.bed.nodes[1].port, "").unwrap();
    let _whoami = servers::whoami(two, "two", 7000).unwrap();
    let _iperf3 = servers::iperf3(two, 5201).unwrap();
    let [own4, own6] = cluster.state.tasks[0].addresses();
    for (own, address) in [own4, own6].into_iter().zip(cluster.state.tasks[1].addresses()) {
        assert_pings(one, address, &Ping { count: 20, ..Ping::default() });
        // Fragments: forwarding between tasks looks at link-layer addresses only.
        assert_pings(one, address, &Ping { size: 4000, ..Ping::default() });
        for transport in [Transport::Tcp, Transport::Udp] {
            let seen = clients::ask(one, transport, address, 7000).unwrap();
            assert_eq!((seen.name.as_str(), seen.peer.ip(), Some(seen.peer)), ("two", own, seen.sent_from));
        }
        let measured = iperf3(one, address, 5201, &["-n", "2M"]).unwrap();
        assert!(measured.sent >= 2 << 20, "{measured:?}");
    }
    let frames: Vec<_> = wire.stop().unwrap().iter().map(|frame| describe(frame)).collect();
    let tunnelled = frames.iter().filter(|text| text.contains(&format!("vxlan vni {VNI} "))).count();
    assert!(tunnelled > 1000, "{tunnelled} of {} frames are VXLAN of the network", frames.len());
    for text in &frames {
        // Inside or outside of a tunnel: what the tasks ask is answered before the wire.
        let asks = text.contains("arp") && text.contains("10.0.9.");
        let bare = text.contains("10.0.9.") && !text.contains("vxlan");
        assert!(!asks && !bare, "{text}");
        assert!(!text.contains("BAD"), "{text}");
    }
    for meshd in &cluster.meshd {
        for (counter, least) in [("DecapXdp", 42), ("DecapTc", 10), ("Encap", 100), ("NeighbourAnswered", 2)] {
            let count = meshd.counter(counter).unwrap();
            assert!(count >= least, "{counter} is {count}");
        }
    }
    assert_no_drops(&cluster);
}

#[test]
fn tasks_of_two_nodes_reach_each_other() {
    check(false, &[]);
}

#[test]
fn tasks_reach_each_other_over_an_ipv6_underlay() {
    check(true, &[]);
}

#[test]
fn tasks_reach_each_other_by_clsact() {
    check(false, &["--tc", "clsact"]);
}
