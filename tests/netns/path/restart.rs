//! The daemon comes and goes; packets do not notice. What it cannot follow changes nothing.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use harness::clients::{Ping, Pinged, ping};
use harness::meshd::{Cluster, State, TaskSpec, put_task};
use harness::{Netns, Plan};

use super::{assert_no_drops, assert_pings, cluster};

/// Echo requests of one ping of the flood.
const ROUND: u32 = 1000;
/// Packets that must have been on their way while the daemons came and went.
const LEAST: u32 = 20_000;

fn two_tasks() -> State {
    State { tasks: vec![TaskSpec::new("one", 0, 2), TaskSpec::new("two", 1, 3)], ..State::default() }
}

/// `ping -f`, again and again until `done`: what was sent, and what came back.
fn flood(from: &Netns, to: IpAddr, done: &AtomicBool) -> (u32, u32) {
    let (mut sent, mut received) = (0, 0);
    while !done.load(Ordering::SeqCst) || sent < LEAST / 2 {
        let (target, count) = (to.to_string(), ROUND.to_string());
        let output = from.run(["ping", "-q", "-n", "-f", "-c", &count, "-W", "1", &target]).unwrap();
        let numbers = output.stdout.lines().find_map(|line| {
            let (sent, rest) = line.split_once(" packets transmitted, ")?;
            Some((sent.parse::<u32>().ok()?, rest.split(' ').next()?.parse::<u32>().ok()?))
        });
        let (more, back) = numbers.unwrap();
        (sent, received) = (sent + more, received + back);
    }
    (sent, received)
}

/// Runs `meanwhile` under a flood in both families, and loses nothing.
#[track_caller]
fn without_loss(cluster: &mut Cluster, meanwhile: impl FnOnce(&mut Cluster)) {
    let from = cluster.tasks[0].ns.clone();
    let targets = cluster.state.tasks[1].addresses();
    let done = AtomicBool::new(false);
    let floods = std::thread::scope(|scope| {
        let floods = targets.map(|to| {
            scope.spawn({
                let (from, done) = (&from, &done);
                move || flood(from, to, done)
            })
        });
        // Whatever happens, the floods must end.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| meanwhile(cluster)));
        done.store(true, Ordering::SeqCst);
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
        floods.map(|flood| flood.join().unwrap())
    });
    for (sent, received) in floods {
        assert!(sent >= LEAST / 2, "only {sent} packets");
        assert_eq!(sent - received, 0, "of {sent} packets");
    }
}

/// The programs on the interfaces of a node, by their ids.
fn programs(cluster: &Cluster, node: usize) -> Vec<u64> {
    let links = harness::meshd::files_below(&cluster.meshd[node].pins.join("links"));
    links
        .iter()
        .map(|pin| {
            let shown =
                cluster.bed.wire.run(["bpftool", "-j", "link", "show", "pinned", &pin.to_string_lossy()]).unwrap();
            let link: serde_json::Value = serde_json::from_str(&shown.stdout).unwrap();
            link["prog_id"].as_u64().unwrap()
        })
        .collect()
}

#[track_caller]
fn check_restart(arguments: &[&str], pinned_links: usize) {
    let mut cluster = cluster(&Plan::default(), two_tasks(), arguments);
    let before = programs(&cluster, 0);
    assert_eq!(before.len(), pinned_links);
    let mut changes = Vec::new();
    without_loss(&mut cluster, |cluster| {
        for meshd in &mut cluster.meshd {
            changes.push(meshd.log().unwrap().matches("maps change").count());
            meshd.kill().unwrap();
            meshd.start().unwrap();
            let output = meshd.terminate().unwrap();
            assert!(output.status.success(), "{output}");
            assert!(output.stderr.contains("stops; the packet path stays in place"), "{output}");
            meshd.start().unwrap();
        }
    });
    let after = programs(&cluster, 0);
    assert_eq!(after.len(), pinned_links);
    assert!(after.iter().all(|id| !before.contains(id)), "{after:?} replace {before:?}");
    // An adopted state is the desired one: nothing was left to change.
    for (meshd, before) in cluster.meshd.iter().zip(changes) {
        let log = meshd.log().unwrap();
        assert_eq!(log.matches("maps change").count(), before, "{log}");
    }
    assert_no_drops(&cluster);
}

#[test]
fn no_packet_is_lost_while_the_daemon_dies_returns_and_ends() {
    check_restart(&[], 6);
}

#[test]
fn a_packet_path_on_clsact_is_adopted_by_the_next_daemon() {
    // On clsact only XDP has a link that can be pinned.
    check_restart(&["--tc", "clsact"], 1);
}

#[test]
fn without_a_daemon_the_packet_path_stays() {
    let mut cluster = cluster(&Plan::default(), two_tasks(), &[]);
    for meshd in &mut cluster.meshd {
        meshd.kill().unwrap();
    }
    for address in cluster.state.tasks[1].addresses() {
        assert_pings(&cluster.tasks[0].ns, address, &Ping { count: 50, ..Ping::default() });
    }
    assert_no_drops(&cluster);
}

#[test]
fn a_broken_file_changes_nothing_until_it_is_right_again() {
    let mut cluster = cluster(&Plan::default(), two_tasks(), &[]);
    let [_, there] = cluster.state.tasks[1].addresses();
    let from = cluster.tasks[0].ns.clone();
    let right = cluster.state.file(&cluster.bed.nodes, 0);
    let before: Vec<_> =
        ["NODES", "ENDPOINTS", "LINKS", "NETWORKS"].map(|map| cluster.meshd[0].dump(map).unwrap()).into();

    let broken = right.replace("vni = 77", "vni = 16777216");
    let line = 1 + broken.lines().position(|line| line.starts_with("vni")).unwrap();
    cluster.meshd[0].write(&broken).unwrap();
    let said = cluster.meshd[0].wait_line("the state in force stays").unwrap();
    assert!(said.contains(&format!(", line {line}: networks[0].vni: 16777216 is not in 1..16777215")), "{said}");
    assert_pings(&from, there, &Ping::default());

    cluster.meshd[0].write("this is no TOML").unwrap();
    let file = cluster.meshd[0].file.clone();
    cluster.meshd[0].wait_line("line 1").unwrap();
    std::fs::remove_file(&file).unwrap();
    cluster.meshd[0].wait_line("No such file").unwrap();
    assert_pings(&from, there, &Ping::default());
    let now: Vec<_> = ["NODES", "ENDPOINTS", "LINKS", "NETWORKS"].map(|map| cluster.meshd[0].dump(map).unwrap()).into();
    assert_eq!(now, before);

    // Right again, and another: the task there is gone.
    let mut state = cluster.state.clone();
    state.tasks.pop();
    let text = state.file(&cluster.bed.nodes, 0);
    cluster.meshd[0].apply(&text).unwrap();
    let lost: Pinged = ping(&from, there, &Ping { count: 3, wait_ms: 100, ..Ping::default() }).unwrap();
    assert_eq!(lost.received, 0, "{}", lost.said);
    cluster.meshd[0].apply(&right).unwrap();
    // The task may have learnt in the meantime that nobody has the address.
    from.run(["ip", "neigh", "flush", "dev", "eth0"]).unwrap();
    assert_pings(&from, there, &Ping::default());
}

/// A task's link that comes later than the daemon is taken up when it comes.
#[test]
fn a_link_that_is_missing_is_waited_for() {
    let mut state = two_tasks();
    let late = TaskSpec::new("late", 0, 4);
    let mut cluster = cluster(&Plan::default(), state.clone(), &[]);
    state.tasks.push(late.clone());
    cluster.apply(state.clone()).unwrap();
    cluster.meshd[0].wait_line("interface v-late of a task in network net does not exist").unwrap();
    let task = put_task(&cluster.bed.nodes[0], &late, 1450).unwrap();
    let knows = |meshd: &harness::meshd::Meshd| {
        Ok(meshd.dump("LINKS")?.len() == 2 && harness::meshd::files_below(&meshd.pins.join("links")).len() == 8)
    };
    cluster.meshd[0].wait_until("take up the late link", knows).unwrap();
    for address in cluster.state.tasks[1].addresses() {
        assert_pings(&task.ns, address, &Ping::default());
    }
    // And one that goes is let go.
    task.remove().unwrap();
    let forgot = |meshd: &harness::meshd::Meshd| Ok(meshd.dump("LINKS")?.len() == 1);
    cluster.meshd[0].wait_until("forget the link", forgot).unwrap();
}
