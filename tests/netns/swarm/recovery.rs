//! A swarm that has lost its managers, and goes on.

use harness::nodes::Nodes;

use super::{IMAGE, NAMED, TARGET, agree, identities, is_served, names, swarm, turn};

const PORT: u16 = 8080;

/// Who is in the list, and as what.
fn listed(nodes: &Nodes, at: usize) -> anyhow::Result<Vec<String>> {
    let rows = nodes.docker(at, &["node", "ls", "--format", "{{.Hostname}} {{.Status}} {{.ManagerStatus}}"])?;
    let mut rows: Vec<_> = rows.lines().map(|row| row.trim_end().to_owned()).collect();
    rows.sort();
    Ok(rows)
}

#[test]
fn the_last_manager_of_three_goes_on_alone_and_takes_others_in_again() {
    let _turn = turn();
    let mut nodes = swarm(4, 3);
    let publish = format!("{PORT}:{TARGET}");
    let fixed = ["service", "create", "-d", "-q", "--name", "web", "--replicas", "4", "-p", &publish];
    nodes.docker(0, &[&fixed[..], &NAMED, &[IMAGE]].concat()).unwrap();
    nodes.until_running(0, "web", 4).unwrap();
    nodes.until("all are reached", |nodes| Ok(is_served(nodes, &[0, 1, 2, 3], PORT, &names(4)))).unwrap();
    let (_, before) = identities(&nodes, 0, "web");
    let own: Vec<_> =
        [0, 3].iter().flat_map(|at| harness::nodes::inside(&nodes.nodes[*at].spaces().unwrap()).unwrap()).collect();
    assert!(own.iter().all(|pid| before.contains(pid)) && !own.is_empty());

    // A worker has nothing to begin anew from.
    assert!(nodes.nodes[3].refused(&["swarm", "init", "--force-new-cluster"]).unwrap().contains("not a swarm manager"));
    nodes.nodes[1].kill().unwrap();
    nodes.nodes[2].kill().unwrap();
    // What was in the making when they went is told otherwise.
    let without = |nodes: &Nodes| {
        let said = nodes.nodes[0].refused(&["service", "scale", "-d", "web=5"])?;
        Ok(said.contains("does not have a leader"))
    };
    nodes.until("it says that others are missing", without).unwrap();
    let address = nodes.nodes[0].host.ip4.to_string();
    nodes.docker(0, &["swarm", "init", "--force-new-cluster", "--advertise-addr", &address]).unwrap();
    nodes
        .until("the lost managers are gone, the worker is there", |nodes| {
            Ok(listed(nodes, 0)? == ["node1 Ready Leader", "node4 Ready"])
        })
        .unwrap();
    nodes.until_running(0, "web", 4).unwrap();
    let (_, after) = identities(&nodes, 0, "web");
    assert!(own.iter().all(|pid| after.contains(pid)), "tasks of those that are left were touched");
    nodes.until("all are reached", |nodes| Ok(is_served(nodes, &[0, 3], PORT, &names(4)))).unwrap();

    // One that was lost comes back: it is none of the swarm's any more, until it joins.
    nodes.nodes[1].start().unwrap();
    nodes.nodes[1].refused(&["service", "scale", "-d", "web=1"]).unwrap();
    assert_eq!(listed(&nodes, 0).unwrap(), ["node1 Ready Leader", "node4 Ready"]);
    nodes.docker(1, &["swarm", "leave", "--force"]).unwrap();
    let token = nodes.docker(0, &["swarm", "join-token", "-q", "manager"]).unwrap();
    nodes.docker(1, &["swarm", "join", "--token", &token, &format!("{address}:2377")]).unwrap();
    nodes
        .until("it is a manager again", |nodes| {
            Ok(listed(nodes, 1)? == ["node1 Ready Leader", "node2 Ready Reachable", "node4 Ready"])
        })
        .unwrap();
    nodes.docker(1, &["service", "scale", "-d", "web=5"]).unwrap();
    nodes.until_running(1, "web", 5).unwrap();
    agree(&nodes, 1);
}

#[test]
fn a_swarm_is_begun_again_from_its_backup_and_its_workers_come_by_themselves() {
    let _turn = turn();
    let nodes = swarm(2, 1);
    let publish = format!("{PORT}:{TARGET}");
    let fixed = ["service", "create", "-d", "-q", "--name", "web", "--replicas", "2", "-p", &publish];
    nodes.docker(0, &[&fixed[..], &NAMED, &[IMAGE]].concat()).unwrap();
    nodes.until_running(0, "web", 2).unwrap();
    nodes.until("both are reached", |nodes| Ok(is_served(nodes, &[0, 1], PORT, &names(2)))).unwrap();
    nodes.docker(0, &["swarm", "update", "--autolock"]).unwrap();
    let key = nodes.docker(0, &["swarm", "unlock-key", "-q"]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backup").display().to_string();
    let said = nodes.nodes[0].meshctl(&["swarm", "backup", &file]).unwrap();
    assert!(said.starts_with("Swarm saved to"), "{said}");
    let again = nodes.nodes[0].meshctl_command(&["swarm", "backup", &file]).unwrap().attempt().unwrap();
    assert!(!again.status.success(), "a file that was there is kept");
    nodes.docker(0, &["service", "create", "-d", "-q", "--name", "late", IMAGE]).unwrap();
    let worker = harness::nodes::inside(&nodes.nodes[1].spaces().unwrap()).unwrap();
    let (root, id) = (nodes.docker(0, &["swarm", "ca"]).unwrap(), node_id(&nodes, 0));

    nodes.docker(0, &["swarm", "leave", "--force"]).unwrap();
    let address = nodes.nodes[0].host.ip4.to_string();
    let restore = |more: &[&str], key: &str| {
        let arguments = [&["swarm", "restore", &file, "--advertise-addr", &address], more].concat();
        nodes.nodes[0].meshctl_command(&arguments).unwrap().input(key.as_bytes()).attempt().unwrap()
    };
    let said = restore(&[], "");
    assert!(said.stderr.contains("sealed by the unlock key of its swarm"), "{said}");
    let wrong = format!("SWMKEY-1-{}", "A".repeat(43));
    assert!(restore(&["--unlock"], &wrong).stderr.contains("invalid key provided"));
    assert!(nodes.nodes[0].refused(&["node", "ls"]).unwrap().contains("This node is not a swarm manager"));
    let said = restore(&["--unlock"], &key);
    assert!(said.status.success(), "{said}");

    nodes
        .until("the worker is there again", |nodes| Ok(listed(nodes, 0)? == ["node1 Ready Leader", "node2 Ready"]))
        .unwrap();
    assert_eq!((nodes.docker(0, &["swarm", "ca"]).unwrap(), node_id(&nodes, 0)), (root, id));
    let services = nodes.docker(0, &["service", "ls", "--format", "{{.Name}}"]).unwrap();
    assert_eq!(services, "web", "what came after the backup is gone");
    nodes.until_running(0, "web", 2).unwrap();
    nodes.until("both are reached", |nodes| Ok(is_served(nodes, &[0, 1], PORT, &names(2)))).unwrap();
    let still = harness::nodes::inside(&nodes.nodes[1].spaces().unwrap()).unwrap();
    assert!(worker.iter().any(|pid| still.contains(pid)), "the worker's task was touched");
    assert_eq!(nodes.docker(0, &["swarm", "unlock-key", "-q"]).unwrap(), key);
    agree(&nodes, 0);
}

fn node_id(nodes: &Nodes, at: usize) -> String {
    nodes.docker(at, &["info", "--format", "{{.Swarm.NodeID}}"]).unwrap()
}
