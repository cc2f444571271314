//! How nodes come, change and go.

use harness::nodes::Nodes;

use super::{agree, nodes, turn};

/// Host names by a column of `docker node ls`.
fn column(nodes: &Nodes, at: usize, field: &str) -> Vec<(String, String)> {
    let format = format!("{{{{.Hostname}}}}={{{{.{field}}}}}");
    let text = nodes.docker(at, &["node", "ls", "--format", &format]).unwrap();
    let mut rows: Vec<_> = text
        .lines()
        .filter_map(|row| row.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    rows.sort();
    rows
}

fn rows(rows: &[(&str, &str)]) -> Vec<(String, String)> {
    rows.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[track_caller]
fn until_column(nodes: &Nodes, at: usize, field: &str, wanted: &[(&str, &str)]) {
    let what = format!("{field} is {wanted:?}");
    nodes.until(&what, |nodes| Ok(column(nodes, at, field) == rows(wanted))).unwrap();
}

#[track_caller]
fn assert_refused(nodes: &Nodes, at: usize, arguments: &[&str], needle: &str) {
    let said = nodes.nodes[at].refused(arguments).unwrap();
    assert!(said.contains(needle), "docker {} says: {said}", arguments.join(" "));
}

/// A node that has left has nothing of the swarm.
#[track_caller]
fn assert_nothing_left(nodes: &Nodes, at: usize) {
    let node = &nodes.nodes[at];
    assert_eq!(node.links().unwrap(), Vec::<String>::new(), "interfaces of {}", node.host.name);
    assert_eq!(node.pinned(), Vec::<std::path::PathBuf>::new(), "pins of {}", node.host.name);
    assert_eq!(node.mounts().unwrap(), Vec::<std::path::PathBuf>::new(), "mounts of {}", node.host.name);
    assert_eq!(node.processes().unwrap(), Vec::<i32>::new(), "processes of {}", node.host.name);
    assert_eq!(node.holders().unwrap(), Vec::<i32>::new(), "holders of the place of {}", node.host.name);
}

#[test]
fn nodes_join_change_their_role_and_leave_nothing_behind() {
    let _turn = turn();
    let nodes = nodes(4);
    let manager = format!("{}:2377", nodes.nodes[0].host.ip4);
    assert_refused(&nodes, 0, &["node", "ls"], "This node is not a swarm manager");
    nodes.docker(0, &["swarm", "init", "--advertise-addr", &nodes.nodes[0].host.ip4.to_string()]).unwrap();
    assert_refused(&nodes, 0, &["swarm", "init"], "This node is already part of a swarm");
    let worker = nodes.docker(0, &["swarm", "join-token", "-q", "worker"]).unwrap();

    // A token that is cut short, and one whose secret is another.
    assert_refused(&nodes, 1, &["swarm", "join", "--token", &worker[..40], &manager], "invalid join token");
    let (fixed, secret) = worker.rsplit_once('-').unwrap();
    let wrong = format!("{fixed}-{}", "0".repeat(secret.len()));
    assert_refused(&nodes, 1, &["swarm", "join", "--token", &wrong, &manager], "token");

    nodes.docker(1, &["swarm", "join", "--token", &worker, &manager]).unwrap();
    let token = nodes.docker(0, &["swarm", "join-token", "-q", "manager"]).unwrap();
    nodes.docker(2, &["swarm", "join", "--token", &token, &manager]).unwrap();
    // By one that follows, once it has caught up.
    nodes.until("the new manager answers", |nodes| Ok(nodes.docker(2, &["node", "ls", "-q"]).is_ok())).unwrap();
    let follower = format!("{}:2377", nodes.nodes[2].host.ip4);
    nodes.docker(3, &["swarm", "join", "--token", &token, &follower]).unwrap();
    let all_ready = [("node1", "Ready"), ("node2", "Ready"), ("node3", "Ready"), ("node4", "Ready")];
    until_column(&nodes, 0, "Status", &all_ready);
    let standing = [("node1", "Leader"), ("node2", ""), ("node3", "Reachable"), ("node4", "Reachable")];
    until_column(&nodes, 2, "ManagerStatus", &standing);
    assert_refused(&nodes, 1, &["node", "ls"], "This node is not a swarm manager");

    // Whoever changes a node between the CLI's look at it and its word is ahead of it, as in Swarm.
    nodes.until("it is promoted", |nodes| nodes.docker(2, &["node", "promote", "node2"]).map(|_| true)).unwrap();
    until_column(
        &nodes,
        0,
        "ManagerStatus",
        &[("node1", "Leader"), ("node2", "Reachable"), ("node3", "Reachable"), ("node4", "Reachable")],
    );
    nodes
        .until("the promoted node answers", |nodes| Ok(nodes.docker(1, &["node", "ls", "-q"])?.lines().count() == 4))
        .unwrap();
    nodes.docker(1, &["node", "demote", "node2", "node4"]).unwrap();
    until_column(
        &nodes,
        0,
        "ManagerStatus",
        &[("node1", "Leader"), ("node2", ""), ("node3", "Reachable"), ("node4", "")],
    );
    nodes.until("the demoted node is a worker", |nodes| Ok(nodes.nodes[1].docker(&["node", "ls"]).is_err())).unwrap();

    // With a task on every node, so that there is something to leave.
    nodes.docker(0, &["network", "create", "-d", "overlay", "net"]).unwrap();
    let create =
        ["service", "create", "-q", "-d", "--mode", "global", "--network", "net", "--name", "all", super::IMAGE];
    nodes.docker(0, &create).unwrap();
    nodes.until_running(0, "all", 4).unwrap();

    nodes.docker(0, &["node", "update", "--availability", "drain", "node4"]).unwrap();
    let left = nodes.until_running(0, "all", 3).unwrap();
    assert!(left.iter().all(|(_, node)| node != "node4"), "{left:?}");
    nodes.until("the drained node has no task", |nodes| Ok(nodes.nodes[3].spaces()?.is_empty())).unwrap();
    nodes.docker(0, &["node", "update", "--availability", "active", "node4"]).unwrap();
    nodes.until_running(0, "all", 4).unwrap();
    agree(&nodes, 0);

    assert_refused(&nodes, 0, &["node", "rm", "node4"], "is not down and can't be removed");
    nodes.docker(3, &["swarm", "leave"]).unwrap();
    assert_nothing_left(&nodes, 3);
    until_column(&nodes, 0, "Status", &[("node1", "Ready"), ("node2", "Ready"), ("node3", "Ready"), ("node4", "Down")]);
    nodes.docker(0, &["node", "rm", "node4"]).unwrap();
    until_column(&nodes, 0, "Status", &[("node1", "Ready"), ("node2", "Ready"), ("node3", "Ready")]);

    // It may come again, as a node that nobody knows.
    nodes.docker(3, &["swarm", "join", "--token", &worker, &manager]).unwrap();
    nodes.until_running(0, "all", 4).unwrap();
    nodes.docker(0, &["node", "rm", "--force", "node4"]).unwrap();

    // The leader steps down, and the other manager goes on alone.
    nodes.docker(0, &["node", "demote", "node1"]).unwrap();
    until_column(&nodes, 2, "ManagerStatus", &[("node1", ""), ("node2", ""), ("node3", "Leader")]);
    assert_refused(&nodes, 2, &["swarm", "leave"], "--force");
    for at in [0, 1] {
        nodes.docker(at, &["swarm", "leave"]).unwrap();
        assert_nothing_left(&nodes, at);
    }
    nodes.docker(2, &["swarm", "leave", "--force"]).unwrap();
    assert_nothing_left(&nodes, 2);
}
