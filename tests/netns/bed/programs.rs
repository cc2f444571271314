//! Tasks, servers and clients on the bed.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use harness::clients::{Ping, ask, ask_http, curl, iperf3, nc, ping, url};
use harness::servers::{self, Nginx};
use harness::{Plan, TaskPlan, Transport};

use super::{addresses, bed};

const LIMIT: Duration = Duration::from_secs(5);

#[test]
fn whoami_tells_each_client_its_address() {
    let bed = bed(&Plan { nodes: 1, clients: 2, ..Plan::default() });
    let node = &bed.nodes[0];
    let _server = servers::whoami(&node.ns, "one", 7000).unwrap();
    let mut answers = 0;
    for client in &bed.clients {
        for (own, target) in addresses(client).into_iter().zip(addresses(node)) {
            for transport in [Transport::Tcp, Transport::Udp] {
                let seen = ask(&client.ns, transport, target, 7000).unwrap();
                let sent_from = seen.sent_from.unwrap();
                // UDP's own view of its address is that of the connected socket, so both are whole.
                assert_eq!((seen.name.as_str(), seen.said.as_str(), seen.peer), ("one", "hello", sent_from));
                assert_eq!(seen.peer.ip(), own);
                answers += 1;
                assert_eq!(seen.seq, answers);
            }
            let seen = ask_http(&client.ns, target, 7000).unwrap();
            answers += 1;
            assert_eq!((seen.peer.ip(), seen.seq, seen.said.as_str()), (own, answers, "/"));
        }
    }
}

#[test]
fn whoami_keeps_a_connection_until_asked_to_close() {
    let bed = bed(&Plan { nodes: 1, clients: 1, ..Plan::default() });
    let (node, client) = (&bed.nodes[0], &bed.clients[0].ns);
    let _server = servers::whoami(&node.ns, "one", 7000).unwrap();
    let target = url(node.ip4, 7000);
    // curl's count after the second URL: one connection in all, or one more.
    let connects = |more: &[&str]| {
        let argv = ["-o", "/dev/null", &target].iter().chain(more).copied().collect::<Vec<_>>();
        curl(client, &target, &argv).unwrap().connects
    };
    assert_eq!(connects(&[]), 0, "the second request opened a connection although the first was kept");
    assert_eq!(connects(&["-H", "Connection: close"]), 1, "a connection was kept although the client closed it");
}

#[test]
fn whoami_refuses_what_is_too_much() {
    let bed = bed(&Plan { nodes: 1, clients: 1, ..Plan::default() });
    let (node, client) = (&bed.nodes[0], &bed.clients[0].ns);
    let program = harness::program("whoami").unwrap();
    let argv = [program.to_str().unwrap(), "--port", "7000", "--max-connections", "1", "--idle-ms", "300"];
    let mut server = node.ns.spawn(argv).unwrap();
    server.wait_line("listens on port", LIMIT).unwrap();
    let target = SocketAddr::new(node.ip4.into(), 7000);
    let text = |stream: &mut std::net::TcpStream| {
        let mut text = String::new();
        std::io::Read::read_to_string(stream, &mut text).map(|_| text)
    };
    client
        .enter(|| {
            let mut first = std::net::TcpStream::connect(target).unwrap();
            let mut second = std::net::TcpStream::connect(target).unwrap();
            assert!(text(&mut second).unwrap().contains("too many connections"));
            // The first says nothing and is closed when its idle time is over.
            assert_eq!(text(&mut first).unwrap(), "");
        })
        .unwrap();
    let long = nc(client, Transport::Tcp, node.ip4, 7000, &[b'x'; 5000]);
    assert!(!long.is_ok_and(|said| said.contains("seq")), "a line of 5000 bytes was answered");
    let posted = curl(client, &url(node.ip4, 7000), &["-d", "body"]).unwrap();
    assert_eq!(posted.status, 413);
}

#[test]
fn whoami_ends_cleanly_when_told() {
    let bed = bed(&Plan { nodes: 1, clients: 0, ..Plan::default() });
    let server = servers::whoami(&bed.nodes[0].ns, "one", 7000).unwrap();
    let output = server.terminate(LIMIT).unwrap();
    assert!(output.status.success(), "{output}");
}

#[test]
fn nginx_serves_and_logs_its_clients() {
    let bed = bed(&Plan { nodes: 1, clients: 1, ..Plan::default() });
    let (node, client) = (&bed.nodes[0], &bed.clients[0]);
    let nginx = Nginx::start(&node.ns, 80, "it works\n").unwrap();
    nginx.file("big", &[b'x'; 300_000]).unwrap();
    for (address, port) in addresses(node).into_iter().zip(["4000", "4001"]) {
        let response = curl(&client.ns, &url(address, 80), &["--local-port", port]).unwrap();
        assert_eq!((response.status, response.body.as_str()), (200, "it works\n"));
        let big = curl(&client.ns, &format!("{}big", url(address, 80)), &[]).unwrap();
        assert_eq!(big.body.len(), 300_000);
    }
    let log = nginx.access_log().unwrap();
    assert_eq!(log.len(), 4);
    assert_eq!(log[0], format!("{} 4000 200 /", client.ip4));
    assert!(log[3].starts_with(&format!("{} ", client.ip6)), "{log:?}");
}

#[test]
fn nc_carries_bytes_and_iperf3_counts_them() {
    let bed = bed(&Plan { nodes: 1, clients: 1, ..Plan::default() });
    let (node, client) = (&bed.nodes[0], &bed.clients[0]);
    for (transport, port) in [(Transport::Tcp, 9000), (Transport::Udp, 9001)] {
        let mut server = servers::nc(&node.ns, transport, port).unwrap();
        nc(&client.ns, transport, node.ip4, port, b"over the wire\n").unwrap();
        server.wait_line("over the wire", LIMIT).unwrap();
    }
    let _server = servers::iperf3(&node.ns, 5201).unwrap();
    let tcp = iperf3(&client.ns, node.ip6, 5201, &["-n", "1M"]).unwrap();
    assert!(tcp.sent >= 1 << 20 && tcp.received > 0 && tcp.bits_per_second > 0.0, "{tcp:?}");
    let udp = iperf3(&client.ns, node.ip4, 5201, &["-u", "-b", "8M", "-l", "1000", "-k", "100"]).unwrap();
    assert_eq!((udp.datagrams, udp.lost_datagrams, udp.received), (100, 0, 100_000), "{udp:?}");
    let refused = iperf3(&client.ns, node.ip4, 5999, &["-n", "1K"]).unwrap_err();
    assert!(format!("{refused:#}").contains("refused"), "{refused:#}");
}

#[test]
fn a_task_has_the_link_that_was_planned() {
    let bed = bed(&Plan { nodes: 1, clients: 0, ..Plan::default() });
    let node = &bed.nodes[0];
    let plan = TaskPlan::new("web").ip4("10.0.9.2/24").ip6("fd00:9::2/64").mtu(1430).gateway([10, 0, 9, 1]);
    let task = node.task(&plan).unwrap();
    let (inside, outside) = (task.ns.link("eth0").unwrap(), node.ns.link(&task.host_link).unwrap());
    assert_eq!((inside.mac, inside.mtu, outside.mtu), ([0x02, 0x42, 10, 0, 9, 2], 1430, 1430));
    assert_eq!((inside.mac, outside.ifindex), (task.mac, task.host_ifindex));
    let gro = task.ns.run(["ethtool", "-k", "eth0"]).unwrap();
    assert!(gro.stdout.contains("generic-receive-offload: on"), "{gro}");
    let route = task.ns.run(["ip", "route", "show", "default"]).unwrap();
    assert!(route.stdout.contains("via 10.0.9.1 dev eth0"), "{route}");
    assert_eq!(node.ns.run(["ip", "addr", "show", "dev", &task.host_link]).unwrap().stdout.matches("inet").count(), 0);

    node.ns.ip(&[format!("addr add 10.0.9.1/24 dev {}", task.host_link)]).unwrap();
    let gateway: IpAddr = [10, 0, 9, 1].into();
    assert!(ping(&task.ns, gateway, &Ping::default()).unwrap().is_whole());
    let (path, host_link) = (task.ns.path(), task.host_link.clone());
    task.remove().unwrap();
    assert!(!path.exists());
    // The kernel takes the link away when it gets to it.
    let deadline = std::time::Instant::now() + LIMIT;
    while node.ns.link(&host_link).is_ok() {
        assert!(std::time::Instant::now() < deadline, "{host_link} outlives its task");
    }
}

#[test]
fn an_unreachable_address_is_counted_as_lost() {
    let bed = bed(&Plan { nodes: 1, clients: 0, ..Plan::default() });
    let pinged = ping(&bed.nodes[0].ns, [192, 0, 2, 77], &Ping { count: 2, wait_ms: 50, ..Ping::default() }).unwrap();
    assert_eq!((pinged.sent, pinged.received), (2, 0), "{}", pinged.said);
}
