//! The edges of the packet path: the node's own processes dial published ports, and tasks dial the
//! world outside.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use harness::clients::{Ping, ask, curl, iperf3, url};
use harness::meshd::{Cluster, State, TaskSpec};
use harness::process::Proc;
use harness::{Plan, TaskPlan, Transport, servers};

use super::dial::{assert_tcp_refused, failed_requests};
use super::{addresses, assert_no_drops, assert_pings, cluster, drops};

const PORT: u16 = 8080;
const SERVICES: &str = r#"
[[services]]
name = "web"
network = "net"
ports = [{ published = 8080, target = 7000 }, { protocol = "udp", published = 8080, target = 7000 }]

[[services]]
name = "empty"
network = "net"
ports = [{ published = 8090, target = 7000 }]
"#;
const BOTH: [Transport; 2] = [Transport::Tcp, Transport::Udp];

/// Two nodes and a client; the one task of "web" is on the first node.
fn state() -> State {
    State { services: SERVICES.to_owned(), tasks: vec![TaskSpec::new("web1", 0, 2).of("web")], ..State::default() }
}

fn serve(cluster: &Cluster) -> Proc {
    servers::whoami(&cluster.tasks[0].ns, "web1", 7000).unwrap()
}

fn loopbacks() -> [IpAddr; 2] {
    [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
}

#[track_caller]
fn check_own_processes(cluster: &Cluster) {
    for node in &cluster.bed.nodes {
        for (own, loopback) in addresses(node).into_iter().zip(loopbacks()) {
            for transport in BOTH {
                let seen = ask(&node.ns, transport, own, PORT).unwrap();
                assert_eq!((seen.name.as_str(), Some(seen.peer)), ("web1", seen.sent_from), "{transport:?} {own}");
                // The task sees an address of the node, and a port that the node lends.
                let seen = ask(&node.ns, transport, loopback, PORT).unwrap();
                assert_eq!((seen.name.as_str(), seen.peer.ip()), ("web1", own), "{transport:?} {loopback}");
                assert!(seen.peer.port() >= 61_000, "{seen:?}");
            }
            assert_eq!(failed_requests(&node.ns, loopback, PORT, 100), Vec::<String>::new(), "{loopback}");
            let response = curl(&node.ns, &url(loopback, PORT), &[]).unwrap();
            assert_eq!(response.status, 200);
        }
    }
    assert_no_drops(cluster);
}

#[test]
fn a_nodes_own_processes_reach_published_ports_with_and_without_a_local_task() {
    let cluster = cluster(&Plan::default(), state(), &[]);
    let _server = serve(&cluster);
    check_own_processes(&cluster);
}

#[test]
fn clsact_carries_a_nodes_own_processes_too() {
    let cluster = cluster(&Plan::default(), state(), &["--tc", "clsact"]);
    let _server = serve(&cluster);
    check_own_processes(&cluster);
}

#[test]
fn what_a_node_does_not_publish_stays_its_own_and_what_nobody_serves_is_refused() {
    let cluster = cluster(&Plan::default(), state(), &[]);
    let node = &cluster.bed.nodes[1].ns;
    let _own = servers::whoami(node, "own", 9000).unwrap();
    for address in loopbacks().into_iter().chain(addresses(&cluster.bed.nodes[1])) {
        for transport in BOTH {
            let seen = ask(node, transport, address, 9000).unwrap();
            assert_eq!((seen.name.as_str(), Some(seen.peer)), ("own", seen.sent_from));
        }
        assert_tcp_refused(node, address, 9999);
        assert_tcp_refused(node, address, 8090);
    }
    assert_eq!(drops(&cluster.meshd[1]), [("NoBackend".to_owned(), 4)]);
}

#[track_caller]
fn check_way_out(cluster: &Cluster) {
    let (task, node, client) = (&cluster.tasks[0].ns, &cluster.bed.nodes[0], &cluster.bed.clients[0]);
    let _outside = servers::whoami(&client.ns, "outside", 9001).unwrap();
    let _host = servers::whoami(&node.ns, "host", 9002).unwrap();
    for (own, outside) in addresses(node).into_iter().zip(addresses(client)) {
        for transport in BOTH {
            let seen = ask(task, transport, outside, 9001).unwrap();
            assert_eq!((seen.name.as_str(), seen.peer.ip()), ("outside", own), "{transport:?} {outside}");
            // The host itself, as it would be asked for names.
            let seen = ask(task, transport, own, 9002).unwrap();
            assert_eq!(seen.name, "host", "{transport:?} {own}");
        }
        assert_eq!(failed_requests(task, outside, 9001, 100), Vec::<String>::new());
        assert_pings(task, outside, &Ping::default());
        assert_pings(task, own, &Ping::default());
    }
    assert_no_drops(cluster);
}

#[test]
fn a_task_reaches_the_outside_and_its_node_with_the_nodes_address() {
    let cluster = cluster(&Plan::default(), state(), &[]);
    check_way_out(&cluster);
}

#[test]
fn clsact_carries_the_way_out_too() {
    let cluster = cluster(&Plan::default(), state(), &["--tc", "clsact"]);
    check_way_out(&cluster);
}

/// By its own node and by the other, as any client outside.
#[test]
fn a_task_dials_published_ports_of_nodes() {
    let cluster = cluster(&Plan::default(), state(), &[]);
    let _server = serve(&cluster);
    for node in &cluster.bed.nodes {
        for address in addresses(node) {
            for transport in BOTH {
                assert_eq!(ask(&cluster.tasks[0].ns, transport, address, PORT).unwrap().name, "web1");
            }
        }
    }
    assert_no_drops(&cluster);
}

/// A machine behind the client, on a wire of 1300 bytes: the client routes, and tells who sends too much.
#[test]
fn a_task_learns_how_much_the_path_to_the_outside_carries() {
    let cluster = cluster(&Plan::default(), state(), &[]);
    let (task, node, client) = (&cluster.tasks[0].ns, &cluster.bed.nodes[0], &cluster.bed.clients[0]);
    let [router4, router6]: [IpAddr; 2] = [[10, 99, 0, 1].into(), "fd00:99::1".parse::<Ipv6Addr>().unwrap().into()];
    let plan = TaskPlan::new("behind").ip4("10.99.0.2/24").ip6("fd00:99::2/64").mtu(1300);
    let behind = client.task(&plan.gateway(router4).gateway(router6)).unwrap();
    let link = &behind.host_link;
    client
        .ns
        .ip(&[format!("addr add {router4}/24 dev {link}"), format!("addr add {router6}/64 dev {link} nodad")])
        .unwrap();
    client.ns.sysctl("net/ipv4/ip_forward", "1").unwrap();
    client.ns.sysctl("net/ipv6/conf/all/forwarding", "1").unwrap();
    node.ns
        .ip(&[
            format!("route add 10.99.0.0/24 via {}", client.ip4),
            format!("route add fd00:99::/64 via {}", client.ip6),
        ])
        .unwrap();
    let _server = servers::iperf3(&behind.ns, 5201).unwrap();
    let target = |v6: bool| -> IpAddr { if v6 { "fd00:99::2".parse().unwrap() } else { [10, 99, 0, 2].into() } };
    for v6 in [false, true] {
        cluster.meshd[0]
            .wait_until("know the route", |_| Ok(iperf3(task, target(v6), 5201, &["-n", "1K"]).is_ok()))
            .unwrap();
        let sent = iperf3(task, target(v6), 5201, &["-n", "2M"]).unwrap();
        assert!(sent.sent >= 2 << 20, "{sent:?}");
    }
    assert!(cluster.meshd[0].counter("ErrorReturned").unwrap() >= 2);
    assert_no_drops(&cluster);
}

/// Two ways to the outside: each flow has the address of the one it takes.
#[test]
fn what_leaves_has_the_address_of_the_way_it_takes() {
    let mut cluster = cluster(&Plan::default(), state(), &[]);
    let (node, client) = (cluster.bed.nodes[0].clone(), cluster.bed.clients[0].clone());
    let peer = client.ns.name();
    node.ns
        .ip(&[
            format!("link add second type veth peer name second netns {peer}"),
            "addr add 10.98.0.1/24 dev second".to_owned(),
            "addr add fd00:98::1/64 dev second nodad".to_owned(),
            "link set second up".to_owned(),
        ])
        .unwrap();
    client
        .ns
        .ip(&[
            "addr add 10.98.0.9/24 dev second".to_owned(),
            "addr add fd00:98::9/64 dev second nodad".to_owned(),
            "link set second up".to_owned(),
        ])
        .unwrap();
    for ns in [&node.ns, &client.ns] {
        ns.run(["ethtool", "-K", "second", "tx", "off"]).unwrap();
    }
    let task = cluster.tasks[0].ns.clone();
    let _outside = servers::whoami(&client.ns, "outside", 9001).unwrap();
    let second: [IpAddr; 2] = [[10, 98, 0, 9].into(), "fd00:98::9".parse::<Ipv6Addr>().unwrap().into()];
    // Not an uplink yet: no program would see what is answered there.
    cluster.meshd[0].wait_until("know the routes", |meshd| Ok(meshd.dump("ROUTES")?.len() >= 7)).unwrap();
    for outside in second {
        assert_tcp_refused(&task, outside, 9001);
    }
    let text =
        cluster.state.file(&cluster.bed.nodes, 0).replace(r#"uplinks = ["eth0"]"#, r#"uplinks = ["eth0", "second"]"#);
    cluster.meshd[0].apply(&text).unwrap();
    let own: [IpAddr; 2] = [[10, 98, 0, 1].into(), "fd00:98::1".parse::<Ipv6Addr>().unwrap().into()];
    for (own, outside) in own.into_iter().chain(addresses(&node)).zip(second.into_iter().chain(addresses(&client))) {
        for transport in BOTH {
            let seen = ask(&task, transport, outside, 9001).unwrap();
            assert_eq!((seen.name.as_str(), seen.peer.ip()), ("outside", own), "{transport:?} {outside}");
        }
    }
}
