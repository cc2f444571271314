//! Published ports: every node answers, whichever has the tasks, and the task sees who asks.

use std::collections::BTreeSet;

use harness::clients::ask;
use harness::meshd::{Cluster, State, TaskSpec};
use harness::process::Proc;
use harness::{Capture, Plan, Transport, describe, servers};

use super::dial::{assert_reaches_all, assert_tcp_refused, assert_udp_refused, failed_requests};
use super::{addresses, assert_no_drops, cluster, drops};

/// What two services of two tasks each, and one of none, are published as.
const TUNNEL: u16 = 8080;
const DIRECT: u16 = 8081;
const EMPTY: u16 = 8090;
const SERVICES: &str = r#"
[[services]]
name = "tunnel"
network = "net"
ports = [{ published = 8080, target = 7000 }, { protocol = "udp", published = 8080, target = 7000 }]

[[services]]
name = "direct"
network = "net"
return_path = "direct"
ports = [{ published = 8081, target = 7000 }, { protocol = "udp", published = 8081, target = 7000 }]

[[services]]
name = "empty"
network = "net"
ports = [{ published = 8090, target = 7000 }, { protocol = "udp", published = 8090, target = 7000 }]
"#;

/// Three nodes and two clients. Each service has a task on the first and on the second node; the
/// third has none.
fn plan() -> Plan {
    Plan { nodes: 3, clients: 2, ..Plan::default() }
}

fn state() -> State {
    let tasks = vec![
        TaskSpec::new("tunnel1", 0, 2).of("tunnel"),
        TaskSpec::new("tunnel2", 1, 3).of("tunnel"),
        TaskSpec::new("direct1", 0, 4).of("direct"),
        TaskSpec::new("direct2", 1, 5).of("direct"),
    ];
    State { services: SERVICES.to_owned(), tasks, ..State::default() }
}

fn serve(cluster: &Cluster) -> Vec<Proc> {
    let start = |(spec, task): (&TaskSpec, &harness::Task)| servers::whoami(&task.ns, spec.name, 7000).unwrap();
    cluster.state.tasks.iter().zip(&cluster.tasks).map(start).collect()
}

/// Both clients reach both tasks by every node, in both families and by both protocols, and none
/// of 200 requests fails.
#[track_caller]
fn check(cluster: &Cluster, port: u16, names: [&str; 2]) {
    for client in &cluster.bed.clients {
        for entry in &cluster.bed.nodes {
            for (own, address) in addresses(client).into_iter().zip(addresses(entry)) {
                for transport in [Transport::Tcp, Transport::Udp] {
                    assert_reaches_all(&client.ns, transport, address, port, own, &names);
                }
            }
        }
    }
    for entry in &cluster.bed.nodes {
        for address in addresses(entry) {
            let failed = failed_requests(&cluster.bed.clients[0].ns, address, port, 200);
            assert_eq!(failed, Vec::<String>::new(), "at {address}");
        }
    }
    assert_no_drops(cluster);
}

#[test]
fn every_node_answers_for_every_task_and_the_task_sees_the_client() {
    let cluster = cluster(&plan(), state(), &[]);
    let _servers = serve(&cluster);
    let [first, second, third] = &cluster.meshd[..] else { panic!("three nodes") };
    check(&cluster, TUNNEL, ["tunnel1", "tunnel2"]);
    // The third node has no task: all it gets it forwards, and all replies come back through it.
    assert!(third.counter("Forwarded").unwrap() > 1000);
    assert!(third.counter("ReplyForwarded").unwrap() > 1000);
    assert_eq!((third.counter("Local").unwrap(), third.counter("FlowNew").unwrap()), (0, 0));
    let returned = third.counter("ReplyForwarded").unwrap();
    let returned_by_first = first.counter("ReplyForwarded").unwrap();

    check(&cluster, DIRECT, ["direct1", "direct2"]);
    assert_eq!(third.counter("ReplyForwarded").unwrap(), returned, "a direct reply went through the node dialled");
    assert_eq!(first.counter("ReplyForwarded").unwrap(), returned_by_first);
    for with_tasks in [first, second] {
        for counter in ["Local", "Reply", "FlowNew"] {
            assert!(with_tasks.counter(counter).unwrap() > 500, "{counter}");
        }
    }
}

/// One packet tells the return path: which cable the reply of the second node's task leaves by.
#[track_caller]
fn check_way_back(cluster: &Cluster, port: u16, names: [&str; 2], direct: bool) {
    let client = &cluster.bed.clients[0];
    let [_, second, third] = &cluster.bed.nodes[..] else { panic!("three nodes") };
    for (own, address) in addresses(client).into_iter().zip(addresses(third)) {
        let mut cable = Capture::start(&cluster.bed.wire, &second.port, "").unwrap();
        assert_reaches_all(&client.ns, Transport::Tcp, address, port, own, &names);
        let frames: Vec<_> = cable.stop().unwrap().iter().map(|frame| describe(frame)).collect();
        let to_client = format!("{address} > {own}");
        let replies: Vec<_> = frames.iter().filter(|text| text.contains(&to_client)).collect();
        assert!(replies.len() >= 3, "{} replies among {frames:#?}", replies.len());
        for reply in replies {
            assert_ne!(reply.contains("vxlan"), direct, "{reply}");
            assert!(!reply.contains("BAD"), "{reply}");
        }
    }
}

#[test]
fn a_reply_takes_the_way_that_the_service_says() {
    let cluster = cluster(&plan(), state(), &[]);
    let _servers = serve(&cluster);
    check_way_back(&cluster, TUNNEL, ["tunnel1", "tunnel2"], false);
    check_way_back(&cluster, DIRECT, ["direct1", "direct2"], true);
}

#[test]
fn a_port_without_anyone_behind_it_is_refused_at_once() {
    let cluster = cluster(&plan(), state(), &[]);
    let client = &cluster.bed.clients[0].ns;
    for (entry, meshd) in cluster.bed.nodes.iter().zip(&cluster.meshd) {
        for (index, address) in addresses(entry).into_iter().enumerate() {
            // Nobody published it: the host's own stack refuses.
            assert_tcp_refused(client, address, 9999);
            assert_udp_refused(client, address, 9999);
            assert_eq!(meshd.count("DROPS", "NoBackend").unwrap(), 2 * index as u64);
            // Published, but the service has no task: the packet path refuses.
            assert_tcp_refused(client, address, EMPTY);
            assert_udp_refused(client, address, EMPTY);
        }
        assert_eq!(drops(meshd), [("NoBackend".to_owned(), 4)]);
        let target = format!("http://{}:{EMPTY}/", entry.ip4);
        let curl = client.command(["curl", "-sS", "--noproxy", "*", "--max-time", "1", &target]).attempt().unwrap();
        assert_eq!(curl.status.code(), Some(7), "{curl}");
    }
}

#[test]
fn clsact_carries_published_ports_too() {
    let cluster = cluster(&plan(), state(), &["--tc", "clsact"]);
    let _servers = serve(&cluster);
    check(&cluster, TUNNEL, ["tunnel1", "tunnel2"]);
    check(&cluster, DIRECT, ["direct1", "direct2"]);
}

#[test]
fn an_ipv6_underlay_carries_published_ports_too() {
    let cluster = cluster(&plan(), State { underlay_v6: true, ..state() }, &[]);
    let _servers = serve(&cluster);
    check(&cluster, TUNNEL, ["tunnel1", "tunnel2"]);
    check(&cluster, DIRECT, ["direct1", "direct2"]);
}

/// With affinity a client meets one task, whichever node it dials and from whichever port.
#[test]
fn a_client_stays_with_its_task_where_the_service_says_so() {
    let services = SERVICES.replace("name = \"tunnel\"", "name = \"tunnel\"\nbalancing = \"client\"");
    let cluster = cluster(&plan(), State { services, ..state() }, &[]);
    let _servers = serve(&cluster);
    for client in &cluster.bed.clients {
        for family in [0, 1] {
            let entries = cluster.bed.nodes.iter().map(|node| addresses(node)[family]);
            let ask = |entry| ask(&client.ns, Transport::Tcp, entry, TUNNEL).unwrap().name;
            let names: BTreeSet<_> = entries.cycle().take(60).map(ask).collect();
            assert_eq!(names.len(), 1, "{names:?}");
        }
    }
    assert_no_drops(&cluster);
}
