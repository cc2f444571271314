//! Where nodes are: interfaces in the place of addresses, a port of the user's own, IPv6 under it all.

use std::collections::BTreeSet;
use std::net::IpAddr;

use harness::Transport;
use harness::clients::ask;
use harness::nodes::Nodes;

use super::{ENOUGH, IMAGE, NAMED, TARGET, names, nodes, turn};

const PORT: u16 = 8080;
const TUNNELS: &str = "5789";

/// Does each of these addresses answer for all of these tasks, to the client's own address?
fn answers(nodes: &Nodes, entries: &[IpAddr], client: IpAddr, tasks: &BTreeSet<String>) -> bool {
    entries.iter().all(|entry| {
        let asked = (0..ENOUGH).map(|_| ask(&nodes.bed.clients[0].ns, Transport::Tcp, *entry, PORT));
        let met: Result<BTreeSet<_>, _> = asked.map(|seen| seen.map(|seen| (seen.name, seen.peer.ip()))).collect();
        met.is_ok_and(|met| {
            met.iter().all(|(_, peer)| *peer == client)
                && met.iter().map(|(name, _)| name.clone()).collect::<BTreeSet<_>>() == *tasks
        })
    })
}

#[test]
fn a_swarm_stands_on_ipv6_alone_with_a_port_of_its_own_for_tunnels() {
    let _turn = turn();
    let nodes = nodes(2);
    for node in &nodes.nodes {
        node.ns().run(["ip", "-4", "addr", "flush", "dev", node.host.uplink]).unwrap();
    }
    let uplink = nodes.nodes[0].host.uplink;
    let first = nodes.nodes[0].host.ip6;
    // The first says its interface, which has no other address; clients of the second would not know a link's.
    let said = nodes
        .docker(
            0,
            &["swarm", "init", "--advertise-addr", uplink, "--data-path-addr", uplink, "--data-path-port", TUNNELS],
        )
        .unwrap();
    assert!(said.contains(&format!("[{first}]:2377")), "{said}");
    let token = nodes.docker(0, &["swarm", "join-token", "-q", "worker"]).unwrap();
    let wrong = ["swarm", "join", "--token", &token, "--advertise-addr", "nosuch0", &format!("[{first}]:2377")];
    assert!(nodes.nodes[1].refused(&wrong).unwrap().contains("advertise address must be"));
    nodes.docker(1, &["swarm", "join", "--token", &token, &format!("[{first}]:2377")]).unwrap();
    nodes
        .until("both are ready", |nodes| {
            let states = nodes.docker(0, &["node", "ls", "--format", "{{.Status}}"])?;
            Ok(states.lines().filter(|state| *state == "Ready").count() == 2)
        })
        .unwrap();
    let publish = format!("{PORT}:{TARGET}");
    // Clients of IPv6 are served by tasks that have such an address.
    let subnets = ["--ipv6", "--subnet", "10.9.0.0/24", "--subnet", "fd00:9::/64"];
    nodes.docker(0, &[&["network", "create", "-d", "overlay"][..], &subnets, &["both"]].concat()).unwrap();
    let fixed =
        ["service", "create", "-d", "-q", "--name", "web", "--replicas", "2", "--network", "both", "-p", &publish];
    nodes.docker(0, &[&fixed[..], &NAMED, &[IMAGE]].concat()).unwrap();
    nodes.until_running(0, "web", 2).unwrap();
    // The second has not been started again since it was told the port.
    for node in &nodes.nodes {
        let devices = node.ns().run(["ip", "-d", "link", "show", "type", "vxlan"]).unwrap().stdout;
        assert!(devices.contains(&format!("dstport {TUNNELS}")), "{devices}");
        assert!(!devices.contains("4789"), "{devices}");
    }
    let entries: Vec<IpAddr> = nodes.nodes.iter().map(|node| node.host.ip6.into()).collect();
    let client = nodes.bed.clients[0].ip6;
    nodes
        .until("both nodes answer for both tasks", |nodes| Ok(answers(nodes, &entries, client.into(), &names(2))))
        .unwrap();
}
