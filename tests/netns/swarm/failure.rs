//! What fails, and what goes on.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use harness::Transport;
use harness::clients::ask;
use harness::nodes::Nodes;

use super::{ENOUGH, IMAGE, NAMED, TARGET, is_served, names, swarm, turn};

const PORT: u16 = 8080;

/// The identities of the tasks that run, and of their containers' processes.
fn identities(nodes: &Nodes, at: usize) -> (Vec<String>, Vec<i32>) {
    let ids = nodes.docker(at, &["service", "ps", "web", "-q", "--no-trunc"]).unwrap();
    let mut ids: Vec<_> = ids.lines().map(str::to_owned).collect();
    ids.sort();
    let spaces = nodes.nodes.iter().map(|node| node.spaces().unwrap());
    let mut processes: Vec<_> = spaces.flat_map(|spaces| harness::nodes::inside(&spaces).unwrap()).collect();
    processes.sort_unstable();
    (ids, processes)
}

#[test]
fn tasks_and_traffic_outlive_daemons_leaders_and_machines() {
    let _turn = turn();
    let mut nodes = swarm(4, 3);
    let publish = format!("{PORT}:{TARGET}");
    let fixed = ["service", "create", "-d", "-q", "--name", "web", "--replicas", "4", "-p", &publish];
    let begun = Instant::now();
    nodes.docker(0, &[&fixed[..], &NAMED, &[IMAGE]].concat()).unwrap();
    nodes.until_running(0, "web", 4).unwrap();
    println!("4 replicas run {:?} after their creation", begun.elapsed());
    nodes.until("all are reached", |nodes| Ok(is_served(nodes, &[0, 1, 2, 3], PORT, &names(4)))).unwrap();
    println!(
        "resident: manager {} KiB, worker {} KiB",
        nodes.nodes[0].resident().unwrap(),
        nodes.nodes[3].resident().unwrap()
    );

    check_daemon_killed(&mut nodes);
    check_leader_killed(&mut nodes);
    check_power_off(&mut nodes);
}

/// The daemon of a worker is killed and comes back: nothing that runs notices.
#[track_caller]
fn check_daemon_killed(nodes: &mut Nodes) {
    let before = identities(nodes, 0);
    nodes.nodes[3].kill().unwrap();
    assert!(is_served(nodes, &[0, 1, 2, 3], PORT, &names(4)), "without a daemon");
    nodes.nodes[3].start().unwrap();
    nodes
        .until("the node is ready again", |nodes| {
            Ok(nodes.docker(0, &["node", "inspect", "node4", "--format", "{{.Status.State}}"])? == "ready")
        })
        .unwrap();
    // What it is told now it does: it has its part in the swarm again.
    nodes.until_running(0, "web", 4).unwrap();
    assert_eq!(identities(nodes, 0), before, "tasks were not taken over");
    // The others held it for dead; each learns for itself that it is back.
    nodes
        .until("every node sends to all of them again", |nodes| Ok(all_are_met(nodes, &[0, 1, 2, 3], &names(4))))
        .unwrap();
}

/// Does each of these nodes answer for every one of these tasks?
fn all_are_met(nodes: &Nodes, entries: &[usize], tasks: &BTreeSet<String>) -> bool {
    let client = &nodes.bed.clients[0].ns;
    entries.iter().all(|entry| {
        let entry = nodes.nodes[*entry].host.ip4;
        let asked = (0..ENOUGH).map(|_| ask(client, Transport::Tcp, entry, PORT).map(|seen| seen.name));
        asked.collect::<Result<BTreeSet<_>, _>>().is_ok_and(|met| met == *tasks)
    })
}

/// The daemon of the leader is killed: another leads, and changes go on.
#[track_caller]
fn check_leader_killed(nodes: &mut Nodes) {
    nodes.nodes[0].kill().unwrap();
    let begun = Instant::now();
    nodes.until("another leads", |nodes| Ok(nodes.docker(1, &["service", "scale", "-d", "web=5"]).is_ok())).unwrap();
    println!("a change is taken {:?} after the leader was killed", begun.elapsed());
    nodes.until_running(1, "web", 5).unwrap();
    // The node without a daemon is dead for the others by now, and its tasks run elsewhere.
    nodes.until("the fifth is reached", |nodes| Ok(is_served(nodes, &[1, 2, 3], PORT, &names(5)))).unwrap();
    nodes.nodes[0].start().unwrap();
    nodes
        .until("the former leader follows", |nodes| {
            let roles = nodes.docker(0, &["node", "ls", "--format", "{{.Hostname}} {{.Status}} {{.ManagerStatus}}"])?;
            Ok(roles.lines().any(|row| row == "node1 Ready Reachable"))
        })
        .unwrap();
}

/// A machine goes off: its tasks run elsewhere, and nobody is sent there.
#[track_caller]
fn check_power_off(nodes: &mut Nodes) {
    let (off, bed) = (3, &nodes.bed);
    nodes.nodes[off].power_off(bed).unwrap();
    let begun = Instant::now();
    // Requests may be lost until the node is known to be dead; after that none.
    let (client, entry) = (nodes.bed.clients[0].ns.clone(), nodes.nodes[0].host.ip4);
    let mut in_a_row = 0;
    let mut last_lost = Duration::ZERO;
    while in_a_row < 60 {
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "requests are lost {:?} after the machine went",
            begun.elapsed()
        );
        let at = begun.elapsed();
        match ask(&client, Transport::Tcp, entry, PORT) {
            Ok(_) => in_a_row += 1,
            Err(_) => (in_a_row, last_lost) = (0, at),
        }
    }
    println!("the last request that was lost was made {last_lost:?} after the machine went");
    nodes
        .until("its tasks run elsewhere", |nodes| {
            let running = nodes.running(1, "web")?;
            Ok(running.len() == 5 && running.iter().all(|(_, node)| node != "node4"))
        })
        .unwrap();
    println!("its tasks run elsewhere {:?} after the machine went", begun.elapsed());
    let status = nodes.docker(1, &["node", "inspect", "node4", "--format", "{{.Status.State}}"]).unwrap();
    assert_eq!(status, "down");
    // Under a machine that is gone nothing is asked for by name either, so the client is sent to the rest.
    nodes.until("each sends to all of them", |nodes| Ok(all_are_met(nodes, &[0, 1, 2], &names(5)))).unwrap();
}
