//! What a container reaches outside of the cluster, and ports of one node that lead into it.

use std::net::IpAddr;

use harness::clients::{Seen, ask};
use harness::nodes::{Node, Nodes};
use harness::{Netns, Transport, servers};

use super::{IMAGE, TARGET, swarm, turn};

/// Where the server outside listens.
const OUTSIDE: u16 = 9001;
const BOTH: [Transport; 2] = [Transport::Tcp, Transport::Udp];

/// The one task's namespace, and its node.
#[track_caller]
fn only_task(nodes: &Nodes, service: &str) -> (usize, Netns) {
    let running = nodes.until_running(0, service, 1).unwrap();
    let node = nodes.nodes.iter().position(|node| node.host.name == running[0].1).unwrap();
    let spaces = nodes.nodes[node].spaces().unwrap();
    assert_eq!(spaces.len(), 1, "{spaces:?}");
    (node, Netns::at(&spaces[0]))
}

/// Asks the server outside from a task: it sees the node.
#[track_caller]
fn assert_way_out(nodes: &Nodes, node: &Node, task: &Netns) {
    let client = &nodes.bed.clients[0];
    for (own, outside) in
        [(IpAddr::from(node.host.ip4), IpAddr::from(client.ip4)), (node.host.ip6.into(), client.ip6.into())]
    {
        for transport in BOTH {
            let Seen { name, peer, .. } = ask(task, transport, outside, OUTSIDE).unwrap();
            assert_eq!((name.as_str(), peer.ip()), ("outside", own), "{transport:?} {outside}");
        }
    }
}

#[test]
fn a_container_reaches_the_outside_in_a_network_of_the_cluster_or_in_none() {
    let _turn = turn();
    let nodes = swarm(2, 1);
    let client = &nodes.bed.clients[0];
    let _outside = servers::whoami(&client.ns, "outside", OUTSIDE).unwrap();
    nodes.docker(0, &["network", "create", "-d", "overlay", "--ipv6", "net"]).unwrap();
    nodes.docker(0, &["network", "create", "-d", "overlay", "--internal", "inside"]).unwrap();
    let create = ["service", "create", "-d", "-q", "--name", "web"];
    for network in [&["--network", "net"][..], &[]] {
        nodes.docker(0, &[&create[..], network, &[IMAGE]].concat()).unwrap();
        let (node, task) = only_task(&nodes, "web");
        nodes
            .until("the way out is there", |nodes| {
                Ok(ask(&task, Transport::Tcp, nodes.bed.clients[0].ip4, OUTSIDE).is_ok())
            })
            .unwrap();
        assert_way_out(&nodes, &nodes.nodes[node], &task);
        nodes.docker(0, &["service", "rm", "web"]).unwrap();
        nodes.until("the task is gone", |nodes| Ok(nodes.nodes[node].spaces()?.is_empty())).unwrap();
    }
    // The container itself, by its own shell: what it hears tells the node's address.
    let fetch = format!("echo hello | nc -w 5 {} {OUTSIDE}", client.ip4);
    let once = ["--restart-condition", "none", "--entrypoint", "/bin/sh"];
    nodes.docker(0, &[&create[..], &once, &[IMAGE, "-c", &fetch]].concat()).unwrap();
    nodes
        .until("it has fetched", |nodes| {
            let states = nodes.docker(0, &["service", "ps", "web", "--format", "{{.CurrentState}}"])?;
            Ok(states.starts_with("Complete"))
        })
        .unwrap();
    nodes
        .until("its log is there", |nodes| Ok(nodes.docker(0, &["service", "logs", "web"])?.contains("outside")))
        .unwrap();
    let said = nodes.docker(0, &["service", "logs", "--raw", "web"]).unwrap();
    let heard = harness::clients::seen(&said).unwrap();
    assert!(nodes.nodes.iter().any(|node| heard.peer.ip() == IpAddr::from(node.host.ip4)), "{heard:?}");
    nodes.docker(0, &["service", "rm", "web"]).unwrap();

    // None out of an internal network.
    nodes.docker(0, &[&create[..], &["--network", "inside", IMAGE]].concat()).unwrap();
    let (node, task) = only_task(&nodes, "web");
    let routes = task.run(["ip", "route", "show", "default"]).unwrap().stdout;
    assert_eq!(routes, "", "at {}", nodes.nodes[node].host.name);
}

#[test]
fn a_port_in_host_mode_leads_to_the_task_of_its_node_alone() {
    let _turn = turn();
    let nodes = swarm(2, 1);
    let publish = format!("mode=host,published=8080,target={TARGET}");
    let create = ["service", "create", "-d", "-q", "--name", "web", "--publish", &publish, IMAGE];
    nodes.docker(0, &create).unwrap();
    let (node, _) = only_task(&nodes, "web");
    let client = &nodes.bed.clients[0];
    let there = &nodes.nodes[node].host;
    let asks = |from: &Netns, to: IpAddr| ask(from, Transport::Tcp, to, 8080);
    nodes.until("it is reached", |_| Ok(asks(&client.ns, there.ip4.into()).is_ok())).unwrap();
    let seen = asks(&client.ns, there.ip4.into()).unwrap();
    assert_eq!(seen.peer.ip(), IpAddr::from(client.ip4));
    assert_eq!(asks(&client.ns, there.ip6.into()).unwrap().peer.ip(), IpAddr::from(client.ip6));
    // The node's own processes, by each of its names.
    for address in [IpAddr::from(there.ip4), there.ip6.into(), [127, 0, 0, 1].into()] {
        asks(&there.ns, address).unwrap();
    }
    // The other node has no such port.
    let other = &nodes.nodes[1 - node].host;
    assert!(asks(&client.ns, other.ip4.into()).is_err());
    // It is told by the task.
    let ports = "{{range .Status.PortStatus.Ports}}{{.PublishMode}} {{.PublishedPort}} {{.TargetPort}}{{end}}";
    let task = nodes.docker(0, &["service", "ps", "-q", "web"]).unwrap();
    assert_eq!(nodes.docker(0, &["inspect", "--format", ports, &task]).unwrap(), format!("host 8080 {TARGET}"));
    let listed = nodes.docker(0, &["service", "ps", "--format", "{{.Ports}}", "web"]).unwrap();
    assert!(listed.contains(&format!("8080->{TARGET}/tcp")), "{listed}");

    // One more on each node, and no third.
    nodes.docker(0, &["service", "scale", "-d", "web=3"]).unwrap();
    nodes.until_running(0, "web", 2).unwrap();
    nodes
        .until("both are reached", |nodes| {
            Ok(nodes.nodes.iter().all(|node| asks(&client.ns, node.host.ip4.into()).is_ok()))
        })
        .unwrap();
    nodes
        .until("the third waits", |nodes| {
            let errors = nodes.docker(0, &["service", "ps", "--no-trunc", "--format", "{{.Error}}", "web"])?;
            Ok(errors.contains("host-mode port already in use"))
        })
        .unwrap();
    nodes.docker(0, &["service", "rm", "web"]).unwrap();
    nodes
        .until("nobody answers", |nodes| {
            Ok(nodes.nodes.iter().all(|node| asks(&client.ns, node.host.ip4.into()).is_err()))
        })
        .unwrap();
}

#[test]
fn a_port_of_the_nodes_choice_is_told_and_outlives_the_daemon() {
    let _turn = turn();
    let mut nodes = swarm(1, 1);
    let publish = format!("mode=host,target={TARGET}");
    nodes.docker(0, &["service", "create", "-d", "-q", "--name", "web", "--publish", &publish, IMAGE]).unwrap();
    only_task(&nodes, "web");
    let told = |nodes: &Nodes| -> anyhow::Result<u16> {
        let ports = "{{range .Status.PortStatus.Ports}}{{.PublishedPort}}{{end}}";
        let task = nodes.docker(0, &["service", "ps", "-q", "web"])?;
        Ok(nodes.docker(0, &["inspect", "--format", ports, &task])?.parse()?)
    };
    let port = told(&nodes).unwrap();
    assert!((20_000..30_000).contains(&port), "{port}");
    let reached = |nodes: &Nodes| ask(&nodes.bed.clients[0].ns, Transport::Tcp, nodes.nodes[0].host.ip4, port).is_ok();
    nodes.until("it is reached", |nodes| Ok(reached(nodes))).unwrap();
    nodes.nodes[0].kill().unwrap();
    assert!(reached(&nodes), "no daemon runs");
    nodes.nodes[0].start().unwrap();
    nodes.until("the task is told of again", |nodes| Ok(told(nodes)? == port)).unwrap();
    nodes.until("it is reached again", |nodes| Ok(reached(nodes))).unwrap();
}
