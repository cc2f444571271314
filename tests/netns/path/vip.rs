//! Virtual addresses between tasks: all ports, both families, and oneself among the tasks.

use std::net::IpAddr;

use harness::clients::{Ping, ask};
use harness::meshd::{Cluster, State, TaskSpec};
use harness::process::Proc;
use harness::{Netns, Plan, Transport, servers};

use super::dial::{assert_reaches_all, assert_tcp_refused, assert_udp_refused};
use super::{assert_no_drops, assert_pings, cluster, drops};

const WEB: &str = "[[services]]\nname = \"web\"\nnetwork = \"net\"\nvips = [\"10.0.9.100\", \"fd00:9::100\"]\n";
const NOBODY: &str = "[[services]]\nname = \"nobody\"\nnetwork = \"net\"\nvips = [\"10.0.9.101\", \"fd00:9::101\"]\n";
/// `whoami` listens on both, and no port is named in the service: a VIP has all of them.
const PORTS: [u16; 2] = [7000, 49_000];

fn vips() -> [IpAddr; 2] {
    [[10, 0, 9, 100].into(), [0xfd00, 9, 0, 0, 0, 0, 0, 0x100].into()]
}

fn empty_vips() -> [IpAddr; 2] {
    [[10, 0, 9, 101].into(), [0xfd00, 9, 0, 0, 0, 0, 0, 0x101].into()]
}

/// A task that is no task of the service on each node, and one of it on each.
fn start() -> (Cluster, Vec<Proc>) {
    let tasks = vec![
        TaskSpec::new("here", 0, 2),
        TaskSpec::new("there", 1, 3),
        TaskSpec::new("web1", 0, 4).of("web"),
        TaskSpec::new("web2", 1, 5).of("web"),
    ];
    let state = State { services: format!("{WEB}{NOBODY}"), tasks, ..State::default() };
    let cluster = cluster(&Plan::default(), state, &[]);
    let serve = |name: &str| PORTS.map(|port| servers::whoami(&cluster.task(name).unwrap().ns, name, port).unwrap());
    let servers = ["web1", "web2"].into_iter().flat_map(serve).collect();
    (cluster, servers)
}

fn task<'a>(cluster: &'a Cluster, name: &str) -> (&'a Netns, [IpAddr; 2]) {
    let spec = cluster.state.tasks.iter().find(|task| task.name == name).unwrap();
    (&cluster.task(name).unwrap().ns, spec.addresses())
}

#[test]
fn a_vip_answers_on_every_port_and_to_ping() {
    let (cluster, _servers) = start();
    for client in ["here", "there"] {
        let (ns, own) = task(&cluster, client);
        for (own, vip) in own.into_iter().zip(vips()) {
            for port in PORTS {
                assert_reaches_all(ns, Transport::Tcp, vip, port, own, &["web1", "web2"]);
                assert_reaches_all(ns, Transport::Udp, vip, port, own, &["web1", "web2"]);
            }
            // Each run has another identifier, and so perhaps another backend.
            for _ in 0..4 {
                assert_pings(ns, vip, &Ping::default());
            }
        }
    }
    for meshd in &cluster.meshd {
        for counter in ["Vip", "Local", "Reply", "FlowNew", "Forwarded", "DecapXdp", "DecapTc"] {
            assert!(meshd.counter(counter).unwrap() > 0, "{counter}");
        }
    }
    assert_no_drops(&cluster);
}

#[test]
fn a_task_may_be_sent_to_itself() {
    let (cluster, _servers) = start();
    for name in ["web1", "web2"] {
        let (ns, own) = task(&cluster, name);
        for (own, vip) in own.into_iter().zip(vips()) {
            for transport in [Transport::Tcp, Transport::Udp] {
                let mut met = [false; 2];
                for _ in 0..64 {
                    let seen = ask(ns, transport, vip, 7000).unwrap();
                    let itself = seen.name == name;
                    // It sees the VIP where it would see itself, and its own port in either case.
                    assert_eq!(seen.peer.ip(), if itself { vip } else { own }, "{seen:?}");
                    assert_eq!(Some(seen.peer.port()), seen.sent_from.map(|own| own.port()));
                    met[usize::from(itself)] = true;
                }
                assert_eq!(met, [true; 2], "{name}, {transport:?} to {vip}: [another, itself]");
            }
            for _ in 0..4 {
                assert_pings(ns, vip, &Ping::default());
            }
        }
    }
    assert_no_drops(&cluster);
}

#[test]
fn a_port_that_no_task_listens_on_is_refused() {
    let (cluster, _servers) = start();
    for client in ["here", "web1"] {
        let (ns, _) = task(&cluster, client);
        for vip in vips() {
            for _ in 0..8 {
                assert_tcp_refused(ns, vip, 9);
            }
        }
    }
    assert_no_drops(&cluster);
}

#[test]
fn a_vip_without_tasks_refuses_at_once() {
    let (cluster, _servers) = start();
    let (ns, _) = task(&cluster, "here");
    for vip in empty_vips() {
        assert_tcp_refused(ns, vip, 7000);
        assert_udp_refused(ns, vip, 7000);
    }
    assert_eq!(drops(&cluster.meshd[0]), [("NoBackend".to_owned(), 4)]);
}
