//! What fails, and what goes on.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use harness::Transport;
use harness::clients::ask;
use harness::load::Load;
use harness::nodes::Nodes;
use nix::sys::signal::Signal;

use super::{ENOUGH, IMAGE, NAMED, TARGET, agree, identities, is_served, names, swarm, turn};

const PORT: u16 = 8080;
/// The worker of four nodes.
const WORKER: usize = 3;
/// Longer than a session that broke is waited for, and than any time of membership.
const AWHILE: Duration = Duration::from_secs(4);
/// Times are of an idle machine, which the one of tests is not.
const BUSY: u32 = 3;

/// Four nodes, three of them managers, with a service of four tasks that all nodes answer for.
fn cluster() -> Nodes {
    let nodes = swarm(4, 3);
    nodes.docker(0, &["network", "create", "-d", "overlay", "net"]).unwrap();
    let publish = format!("{PORT}:{TARGET}");
    let fixed =
        ["service", "create", "-d", "-q", "--name", "web", "--replicas", "4", "--network", "net", "-p", &publish];
    nodes.docker(0, &[&fixed[..], &NAMED, &[IMAGE]].concat()).unwrap();
    nodes.until_running(0, "web", 4).unwrap();
    nodes.until("all are reached", |nodes| Ok(is_served(nodes, &[0, 1, 2, 3], PORT, &names(4)))).unwrap();
    agree(&nodes, 0);
    nodes
}

fn addresses(nodes: &Nodes) -> Vec<Ipv4Addr> {
    nodes.nodes.iter().map(|node| node.host.ip4).collect()
}

fn state(nodes: &Nodes, at: usize, node: usize) -> String {
    let name = &nodes.nodes[node].host.name;
    nodes.docker(at, &["node", "inspect", name, "--format", "{{.Status.State}}"]).unwrap()
}

#[track_caller]
fn until_ready(nodes: &Nodes, at: usize, node: usize) {
    let what = format!("{} is ready", nodes.nodes[node].host.name);
    nodes.until(&what, |nodes| Ok(state(nodes, at, node) == "ready")).unwrap();
}

/// A manager that is not this node.
fn other_than(node: usize) -> usize {
    usize::from(node == 0)
}

/// Waits until a manager takes a change; it is of no consequence.
#[track_caller]
fn until_writes(nodes: &Nodes, at: usize) -> Duration {
    let begun = Instant::now();
    let label = format!("seen={}", begun.elapsed().as_nanos());
    let change = ["node", "update", "--label-add", &label, "node4"];
    nodes.until("a change is taken", |nodes| Ok(nodes.docker(at, &change).is_ok())).unwrap();
    begun.elapsed()
}

#[test]
fn daemons_end_crash_and_hang_and_nobody_notices() {
    let _turn = turn();
    let mut nodes = cluster();
    println!(
        "resident: manager {} KiB, worker {} KiB",
        nodes.nodes[0].resident().unwrap(),
        nodes.nodes[WORKER].resident().unwrap()
    );
    let before = identities(&nodes, 0, "web");
    let load = Load::start(&nodes.bed.clients[0].ns, &addresses(&nodes), PORT, 2).unwrap();

    nodes.nodes[WORKER].kill().unwrap();
    std::thread::sleep(AWHILE);
    assert_eq!(state(&nodes, 0, WORKER), "ready", "it crashed and will be back");
    nodes.nodes[WORKER].start().unwrap();
    agree(&nodes, 0);

    let said = nodes.nodes[WORKER].terminate().unwrap();
    assert!(said.status.success(), "{said}");
    std::thread::sleep(AWHILE);
    assert_eq!(state(&nodes, 0, WORKER), "ready", "it was stopped and will be back");
    nodes.nodes[WORKER].start().unwrap();
    agree(&nodes, 0);

    let mut leader = 0;
    nodes.until("somebody is said to lead", |nodes| nodes.leader(0).map(|at| leader = at).map(|()| true)).unwrap();
    nodes.nodes[leader].kill().unwrap();
    let other = other_than(leader);
    println!("a change is taken {:?} after the leader was killed", until_writes(&nodes, other));
    nodes.until("another is said to lead", |nodes| Ok(nodes.leader(other)? != leader)).unwrap();
    std::thread::sleep(AWHILE);
    assert_eq!(state(&nodes, other, leader), "ready");
    nodes.nodes[leader].start().unwrap();
    nodes
        .until("the former leader follows", |nodes| {
            let roles =
                nodes.docker(leader, &["node", "ls", "--format", "{{.Self}} {{.Status}} {{.ManagerStatus}}"])?;
            Ok(roles.lines().any(|row| row == "true Ready Reachable"))
        })
        .unwrap();
    agree(&nodes, leader);

    let mut next = 0;
    nodes.until("somebody is said to lead", |nodes| nodes.leader(leader).map(|at| next = at).map(|()| true)).unwrap();
    for stopped in [WORKER, next] {
        nodes.nodes[stopped].signal(Signal::SIGSTOP).unwrap();
        let other = other_than(stopped);
        until_writes(&nodes, other);
        std::thread::sleep(AWHILE * 2);
        assert_eq!(state(&nodes, other, stopped), "ready", "it hangs");
        nodes.nodes[stopped].signal(Signal::SIGCONT).unwrap();
        until_writes(&nodes, other);
        agree(&nodes, other);
    }

    let after = identities(&nodes, 0, "web");
    if after != before {
        let said = nodes.docker(0, &["service", "ps", "--no-trunc", "web"]).unwrap();
        let logs: Vec<_> =
            nodes.nodes.iter().map(|node| format!("--- {}\n{}", node.host.name, node.log().unwrap())).collect();
        panic!("a task moved or began anew: {before:?}, {after:?}\n{said}\n{}", logs.join("\n"));
    }
    let loaded = load.end();
    println!("{} requests were answered meanwhile", loaded.asked);
    loaded.check(1000).unwrap();
}

#[test]
fn machines_and_links_fail_and_one_copy_of_each_task_runs() {
    let _turn = turn();
    let mut nodes = cluster();

    // All processes of a machine end: its kernel still answers, and yet nobody waits.
    nodes.nodes[WORKER].kill_all().unwrap();
    check_gone(&nodes, "all its processes were killed");
    nodes.nodes[WORKER].absence = Some(Duration::from_secs(3));
    nodes.nodes[WORKER].start().unwrap();
    until_ready(&nodes, 0, WORKER);
    spread(&nodes);

    // A daemon that does not come back in time: its tasks are replaced, and end when it does.
    nodes.nodes[WORKER].kill().unwrap();
    nodes.until("the node is given up", |nodes| Ok(state(nodes, 0, WORKER) == "down")).unwrap();
    until_elsewhere(&nodes, 0);
    agree(&nodes, 0);
    nodes.nodes[WORKER].start().unwrap();
    until_ready(&nodes, 0, WORKER);
    agree(&nodes, 0);
    spread(&nodes);

    // A link is cut and mended: for a while both sides run what they know of.
    nodes.nodes[WORKER].unplug(&nodes.bed).unwrap();
    check_gone(&nodes, "its link was cut");
    nodes.nodes[WORKER].plug(&nodes.bed).unwrap();
    until_ready(&nodes, 0, WORKER);
    println!("the nodes agree {:?} after the node is ready again", agree(&nodes, 0));
    spread(&nodes);

    let (off, bed) = (&mut nodes.nodes[WORKER], &nodes.bed);
    off.power_off(bed).unwrap();
    check_gone(&nodes, "it was switched off");
    assert_eq!(state(&nodes, 0, WORKER), "down");
    agree(&nodes, 0);
    // Under a machine that is gone nothing is asked for by name either, so the client is sent to the rest.
    nodes.until("each sends to all of them", |nodes| Ok(all_are_met(nodes, &[0, 1, 2], &names(4)))).unwrap();

    // Too few managers are left: that is said, with their names, and what is known is told.
    for manager in [1, 2] {
        nodes.nodes[manager].kill().unwrap();
    }
    let begun = Instant::now();
    let said = nodes.nodes[0].refused(&["service", "scale", "-d", "web=5"]).unwrap();
    let took = begun.elapsed();
    println!("without a quorum, {took:?} later: {said}");
    for manager in [1, 2] {
        assert!(said.contains(&nodes.nodes[manager].host.ip4.to_string()), "{said}");
    }
    assert!(took < Duration::from_secs(2) * BUSY, "it took {took:?} to say so");
    assert_eq!(nodes.running(0, "web").unwrap().len(), 4, "what is known is told");
    assert!(is_served(&nodes, &[0, 1, 2], PORT, &names(4)), "and traffic goes on");
}

/// Has the worker have its part of the tasks again: nobody moves them by themselves.
#[track_caller]
fn spread(nodes: &Nodes) {
    nodes.docker(0, &["service", "update", "-d", "-q", "--force", "--update-parallelism", "0", "web"]).unwrap();
    nodes
        .until("the worker has a task", |nodes| Ok(nodes.running(0, "web")?.iter().any(|(_, node)| node == "node4")))
        .unwrap();
    nodes.until_running(0, "web", 4).unwrap();
    agree(nodes, 0);
}

/// The worker is dead, and the others must know: its tasks run elsewhere, and nobody is sent there.
#[track_caller]
fn check_gone(nodes: &Nodes, what: &str) {
    let begun = Instant::now();
    // Requests may be lost until the node is known to be dead; after that none.
    let (client, entry) = (nodes.bed.clients[0].ns.clone(), nodes.nodes[0].host.ip4);
    let (mut in_a_row, mut last_lost) = (0, Duration::ZERO);
    while in_a_row < 60 {
        assert!(begun.elapsed() < Duration::from_secs(30), "requests are lost {:?} after {what}", begun.elapsed());
        let at = begun.elapsed();
        match ask(&client, Transport::Tcp, entry, PORT) {
            Ok(_) => in_a_row += 1,
            Err(_) => (in_a_row, last_lost) = (0, at),
        }
    }
    println!("the last request that was lost was made {last_lost:?} after {what}");
    assert!(last_lost < Duration::from_secs(1) * BUSY, "a request was lost {last_lost:?} after {what}");
    until_elsewhere(nodes, 1);
    println!("its tasks run elsewhere {:?} after {what}", begun.elapsed());
}

#[track_caller]
fn until_elsewhere(nodes: &Nodes, at: usize) {
    nodes
        .until("its tasks run elsewhere", |nodes| {
            let running = nodes.running(at, "web")?;
            Ok(running.len() == 4 && running.iter().all(|(_, node)| node != "node4"))
        })
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
