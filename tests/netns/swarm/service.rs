//! A service from its creation to its end.

use harness::nodes::Nodes;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{IMAGE, NAMED, TARGET, agree, assert_served, is_served, names, swarm, turn};

const PORT: u16 = 8080;

#[track_caller]
fn create(nodes: &Nodes, name: &str, more: &[&str]) {
    let fixed = ["service", "create", "-d", "-q", "--name", name, "--network", "net"];
    nodes.docker(0, &[&fixed[..], &NAMED, more, &[IMAGE]].concat()).unwrap();
}

#[test]
fn a_service_is_reached_scaled_named_mended_and_removed() {
    let _turn = turn();
    let nodes = swarm(3, 1);
    nodes.docker(0, &["network", "create", "-d", "overlay", "net"]).unwrap();
    let publish = format!("{PORT}:{TARGET}");
    create(&nodes, "web", &["--replicas", "2", "-p", &publish]);
    nodes.until_running(0, "web", 2).unwrap();
    nodes.until("both tasks are reached", |nodes| Ok(is_served(nodes, &[0, 1, 2], PORT, &names(2)))).unwrap();
    assert_served(&nodes, PORT, &names(2));
    agree(&nodes, 0);

    nodes.docker(0, &["service", "scale", "-d", "web=6"]).unwrap();
    nodes.until_running(0, "web", 6).unwrap();
    nodes.until("all six are reached", |nodes| Ok(is_served(nodes, &[0, 1, 2], PORT, &names(6)))).unwrap();
    assert_served(&nodes, PORT, &names(6));

    check_names(&nodes);
    check_mending(&nodes);
    agree(&nodes, 0);

    nodes.docker(0, &["service", "scale", "-d", "web=1"]).unwrap();
    nodes.until_running(0, "web", 1).unwrap();
    nodes.until("one is reached", |nodes| Ok(is_served(nodes, &[0, 1, 2], PORT, &names(1)))).unwrap();
    assert_served(&nodes, PORT, &names(1));
    agree(&nodes, 0);

    nodes.docker(0, &["service", "rm", "web"]).unwrap();
    nodes.until("nothing of the service is left", |nodes| Ok(left(nodes)?.is_empty())).unwrap_or_else(|error| {
        panic!("{:?} is left; {error:#}", left(&nodes));
    });
    nodes.docker(0, &["network", "rm", "net"]).unwrap();
}

/// What services have left on the nodes, in words.
fn left(nodes: &Nodes) -> anyhow::Result<Vec<String>> {
    let mut left = Vec::new();
    for node in &nodes.nodes {
        for map in ["SERVICES", "BACKENDS", "ENDPOINTS"] {
            left.extend(node.dump(map)?.iter().map(|row| format!("{map} of {}: {row}", node.host.name)));
        }
        // The packet path's own, which stays as long as the node is in the swarm.
        left.extend(node.links()?.into_iter().filter(|link| link != "mesh-gro"));
        left.extend(node.spaces()?.iter().map(|space| space.display().to_string()));
        left.extend(node.processes()?.iter().map(|pid| format!("process {pid}")));
    }
    Ok(left)
}

/// A task finds its service by one address and the tasks by theirs, on each node.
#[track_caller]
fn check_names(nodes: &Nodes) {
    for node in &nodes.nodes {
        for space in node.spaces().unwrap() {
            assert_eq!(node.resolve(&space, "web").unwrap().len(), 1, "web, at {}", node.host.name);
            assert_eq!(node.resolve(&space, "tasks.web").unwrap().len(), 6, "tasks.web, at {}", node.host.name);
            assert_eq!(node.resolve(&space, "nobody").unwrap().len(), 0);
        }
    }
}

/// A container whose process is killed is replaced.
#[track_caller]
fn check_mending(nodes: &Nodes) {
    let node = nodes.nodes.iter().find(|node| !node.spaces().unwrap().is_empty()).unwrap();
    let inside = harness::nodes::inside(&node.spaces().unwrap()[..1]).unwrap();
    for pid in inside {
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    }
    nodes
        .until("the failure is told", |nodes| {
            let states = nodes.docker(0, &["service", "ps", "web", "--format", "{{.CurrentState}} {{.Error}}"])?;
            Ok(states.lines().any(|state| state.starts_with("Failed") && state.contains("non-zero exit (137)")))
        })
        .unwrap();
    nodes.until_running(0, "web", 6).unwrap();
    nodes.until("all six are reached", |nodes| Ok(is_served(nodes, &[0, 1, 2], PORT, &names(6)))).unwrap();
    assert_served(nodes, PORT, &names(6));
}
