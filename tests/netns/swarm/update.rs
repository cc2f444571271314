//! Changes under requests that never cease: none of them fails.
//!
//! A connection that is kept while its slot changes twice loses its task (docs/design/packet-path.md, drain): those are
//! counted and shown.

use std::collections::BTreeSet;

use harness::load::Load;
use harness::nodes::Nodes;

use super::{IMAGE, NAMED, TARGET, agree, is_served, names, swarm, turn};

const PORT: u16 = 8080;
const REPLICAS: u32 = 6;

#[test]
fn updates_of_both_orders_scaling_and_draining_fail_no_request() {
    let _turn = turn();
    check_changes(1, 500);
}

#[test]
#[ignore = "takes minutes: cargo xtask test netns -- two_hundred --ignored"]
fn two_hundred_replacements_fail_no_request() {
    let _turn = turn();
    check_changes(14, 10_000);
}

/// In each round, all tasks are replaced twice, by updates of both orders, and some more by scaling and draining.
#[track_caller]
fn check_changes(rounds: u32, requests: u64) {
    let nodes = swarm(3, 1);
    nodes.docker(0, &["network", "create", "-d", "overlay", "net"]).unwrap();
    let (publish, replicas) = (format!("{PORT}:{TARGET}"), REPLICAS.to_string());
    let fixed = ["service", "create", "-d", "-q", "--name", "web", "--network", "net", "--replicas", &replicas];
    let update = ["--update-parallelism", "3", "--update-delay", "0s", "--update-monitor", "200ms"];
    // No health check: a task is sent to when its program listens.
    nodes.docker(0, &[&fixed[..], &update, &["-p", &publish], &NAMED, &[IMAGE]].concat()).unwrap();
    nodes.until_running(0, "web", REPLICAS as usize).unwrap();
    nodes.until("all are reached", |nodes| Ok(is_served(nodes, &[0, 1, 2], PORT, &names(REPLICAS)))).unwrap();
    agree(&nodes, 0);

    let entries: Vec<_> = nodes.nodes.iter().map(|node| node.host.ip4).collect();
    let load = Load::start(&nodes.bed.clients[0].ns, &entries, PORT, 2).unwrap();
    let mut met = tasks(&nodes);
    for _ in 0..rounds {
        for order in ["start-first", "stop-first"] {
            replace_all(&nodes, order, &mut met);
        }
        scale(&nodes, 2);
        scale(&nodes, REPLICAS);
        nodes.docker(0, &["node", "update", "--availability", "drain", "node3"]).unwrap();
        nodes
            .until("the drained node has no task", |nodes| {
                let running = nodes.running(0, "web")?;
                Ok(running.len() == REPLICAS as usize
                    && running.iter().all(|(_, node)| node != "node3")
                    && nodes.nodes[2].spaces()?.is_empty())
            })
            .unwrap();
        nodes.docker(0, &["node", "update", "--availability", "active", "node3"]).unwrap();
        agree(&nodes, 0);
        met.extend(tasks(&nodes));
    }
    let loaded = load.end();
    println!("{} requests were made while {} tasks came and went", loaded.asked, met.len());
    println!("connections that were kept and lost: {}\n{}", loaded.lost, loaded.kept.join("\n"));
    loaded.check_short(requests).unwrap();
    let least = (rounds * 2 * REPLICAS) as usize;
    assert!(met.len() > least, "only {} tasks", met.len());
}

/// The identities of the tasks that are wanted.
fn tasks(nodes: &Nodes) -> BTreeSet<String> {
    let wanted = ["service", "ps", "web", "-q", "--no-trunc", "--filter", "desired-state=running"];
    nodes.docker(0, &wanted).unwrap().lines().map(str::to_owned).collect()
}

#[track_caller]
fn replace_all(nodes: &Nodes, order: &str, met: &mut BTreeSet<String>) {
    let before = tasks(nodes);
    nodes.docker(0, &["service", "update", "-d", "-q", "--force", "--update-order", order, "web"]).unwrap();
    let state = "{{if .UpdateStatus}}{{.UpdateStatus.State}}{{end}}";
    nodes
        .until("the update ends", |nodes| {
            Ok(tasks(nodes).is_disjoint(&before)
                && nodes.docker(0, &["service", "inspect", "web", "--format", state])? == "completed")
        })
        .unwrap();
    nodes.until_running(0, "web", REPLICAS as usize).unwrap();
    agree(nodes, 0);
    met.extend(tasks(nodes));
}

#[track_caller]
fn scale(nodes: &Nodes, replicas: u32) {
    nodes.docker(0, &["service", "scale", "-d", &format!("web={replicas}")]).unwrap();
    nodes.until_running(0, "web", replicas as usize).unwrap();
    agree(nodes, 0);
}
