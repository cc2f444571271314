//! `--remove`, and what the host notices of a packet path: nothing.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use harness::clients::{Ping, iperf3};
use harness::meshd::{Cluster, Meshd, State, TaskSpec, files_below};
use harness::{Host, Netns, Plan, servers};
use serde_json::Value;

use super::{addresses, assert_no_drops, assert_pings, cluster};

/// Time for the kernel to free what nobody holds any more.
const LIMIT: Duration = Duration::from_secs(5);

fn two_tasks() -> State {
    State { tasks: vec![TaskSpec::new("one", 0, 2), TaskSpec::new("two", 1, 3)], ..State::default() }
}

fn bpftool(ns: &Netns, arguments: &[&str]) -> Option<Value> {
    let output = ns.command([&["bpftool", "-j"], arguments].concat()).attempt().unwrap();
    output.status.success().then(|| serde_json::from_str(&output.stdout).unwrap())
}

/// Links, programs and maps behind the pins of a node, as bpftool names them.
fn objects(meshd: &Meshd) -> BTreeSet<(&'static str, u64)> {
    let mut objects = BTreeSet::new();
    for pin in files_below(&meshd.pins) {
        let kind = if pin.parent().is_some_and(|parent| parent.ends_with("links")) { "link" } else { "map" };
        let shown = bpftool(&meshd.ns, &[kind, "show", "pinned", &pin.to_string_lossy()]).unwrap();
        objects.insert((kind, shown["id"].as_u64().unwrap()));
        objects.extend(shown["prog_id"].as_u64().map(|id| ("prog", id)));
    }
    objects
}

/// Programs of the traffic control and XDP hooks of a namespace, as `ip` and `tc` show them.
fn hooks(host: &Host, links: &[&str]) -> String {
    let run = |argv: &[&str]| host.ns.run(argv).unwrap().stdout;
    let xdp: String = run(&["ip", "-d", "link"]).lines().filter(|line| line.contains("prog/xdp")).collect();
    let qdiscs: String = run(&["tc", "qdisc", "show"]).lines().filter(|line| line.contains("clsact")).collect();
    let filters: String = links.iter().map(|link| run(&["tc", "filter", "show", "dev", link, "ingress"])).collect();
    format!("{xdp}{qdiscs}{filters}")
}

/// The settings of the loopback interface that the node's own processes need.
fn loopback(host: &Host) -> String {
    let settings = ["accept_local", "route_localnet"].map(|name| format!("/proc/sys/net/ipv4/conf/lo/{name}"));
    host.ns.run(["cat", &settings[0], &settings[1]]).unwrap().stdout
}

#[track_caller]
fn check_remove(arguments: &[&str], links: usize) {
    let mut cluster = cluster(&Plan::default(), two_tasks(), arguments);
    let host = cluster.bed.nodes[0].clone();
    assert_ne!(hooks(&host, &["eth0", "v-one"]), "", "nothing is attached");
    let objects = objects(&cluster.meshd[0]);
    assert_eq!(objects.iter().filter(|(kind, _)| *kind == "link").count(), links);
    assert!(objects.iter().filter(|(kind, _)| *kind == "map").count() >= 10, "{objects:?}");

    assert_eq!(loopback(&host), "1\n1\n");

    cluster.meshd[0].terminate().unwrap();
    let output = cluster.meshd[0].remove().unwrap();
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("", ""));
    assert!(!cluster.meshd[0].pins.exists(), "{:?}", files_below(&cluster.meshd[0].pins));
    assert_eq!(loopback(&host), "0\n0\n");
    let deadline = Instant::now() + LIMIT;
    // The kernel lets go of a link some moments after its last pin.
    while !hooks(&host, &["eth0", "v-one"]).is_empty() {
        assert!(Instant::now() < deadline, "{}", hooks(&host, &["eth0", "v-one"]));
    }
    let alive = |(kind, id): &(&str, u64)| bpftool(&host.ns, &[kind, "show", "id", &id.to_string()]).is_some();
    while let Some(left) = objects.iter().find(|object| alive(object)) {
        assert!(Instant::now() < deadline, "{left:?} is still there");
        std::thread::sleep(Duration::from_millis(20));
    }
    for address in addresses(&cluster.bed.nodes[1]) {
        assert_pings(&host.ns, address, &Ping::default());
    }
    // It can be said twice, and a daemon can start anew.
    cluster.meshd[0].remove().unwrap();
    cluster.meshd[0].start().unwrap();
    cluster.meshd[0].wait_for_neighbours(1).unwrap();
    for address in cluster.state.tasks[1].addresses() {
        assert_pings(&cluster.tasks[0].ns, address, &Ping::default());
    }
}

#[test]
fn a_removed_packet_path_leaves_nothing() {
    check_remove(&[], 6);
}

#[test]
fn a_removed_packet_path_on_clsact_leaves_no_qdisc() {
    check_remove(&["--tc", "clsact"], 1);
}

/// A filter of somebody else on the same clsact qdisc is not ours to remove.
#[test]
fn a_foreign_filter_stays_where_it_is() {
    let mut cluster = cluster(&Plan::default(), two_tasks(), &["--tc", "clsact"]);
    let host = cluster.bed.nodes[0].clone();
    // Any program does; ours is at hand.
    let shown = host.ns.run(["tc", "-j", "filter", "show", "dev", "eth0", "ingress"]).unwrap().stdout;
    let filters: Value = serde_json::from_str(&shown).unwrap();
    let id = filters.as_array().unwrap().iter().find_map(|filter| filter["options"]["prog"]["id"].as_u64()).unwrap();
    let pin = cluster.bed.pin_dir("foreign").unwrap().join("program").to_string_lossy().into_owned();
    host.ns.run(["bpftool", "prog", "pin", "id", &id.to_string(), &pin]).unwrap();
    let add =
        ["tc", "filter", "add", "dev", "eth0", "ingress", "prio", "7", "bpf", "direct-action", "object-pinned", &pin];
    host.ns.run(add).unwrap();
    cluster.meshd[0].terminate().unwrap();
    cluster.meshd[0].remove().unwrap();
    let left = host.ns.run(["tc", "filter", "show", "dev", "eth0", "ingress"]).unwrap().stdout;
    assert!(left.contains("pref 7 ") && !left.contains("pref 28005 "), "{left}");
    let left = host.ns.run(["tc", "filter", "show", "dev", "v-one", "ingress"]).unwrap().stdout;
    assert_eq!(left, "");
}

/// The host's own traffic passes the programs untouched, and is counted.
#[test]
fn the_host_speaks_as_before() {
    let cluster: Cluster = cluster(&Plan::default(), two_tasks(), &[]);
    let [one, two] = &cluster.bed.nodes[..] else { panic!("two nodes") };
    let _iperf3 = servers::iperf3(&two.ns, 5201).unwrap();
    for address in addresses(two) {
        let before = cluster.meshd[1].counter("UnderlayPassed").unwrap();
        assert_pings(&one.ns, address, &Ping { count: 100, size: 1400, interval_ms: 0, ..Ping::default() });
        let measured = iperf3(&one.ns, address, 5201, &["-n", "4M"]).unwrap();
        assert!(measured.sent >= 4 << 20, "{measured:?}");
        let passed = cluster.meshd[1].counter("UnderlayPassed").unwrap() - before;
        // 100 echoes, and what has arrived when iperf3 ends, coalesced to 64 KiB at most.
        let least = 100 + measured.received / 65_536;
        assert!(passed >= least, "{passed} frames passed, not {least}");
        let udp = iperf3(&one.ns, address, 5201, &["-u", "-b", "20M", "-l", "1000", "-k", "200"]).unwrap();
        assert_eq!((udp.datagrams, udp.lost_datagrams), (200, 0), "{udp:?}");
    }
    for client in &cluster.bed.clients {
        for address in addresses(one) {
            assert_pings(&client.ns, address, &Ping::default());
        }
    }
    assert_no_drops(&cluster);
}
