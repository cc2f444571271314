//! A task that is about to go finishes what it has begun; one that is gone is refused for.

use std::io::ErrorKind;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use harness::clients::ask;
use harness::meshd::{Cluster, Meshd, State, TaskSpec};
use harness::process::Proc;
use harness::{Plan, Transport, servers};

use super::dial::{Datagrams, Long};
use super::{addresses, assert_no_drops, cluster};

const PORT: u16 = 8080;
/// Connections opened before anything changes: that all 24 go to one of two has a probability of
/// 2^-23.
const LONG: usize = 24;

fn services(return_path: &str) -> String {
    format!(
        "[[services]]\nname = \"web\"\nnetwork = \"net\"\nreturn_path = \"{return_path}\"\n\
         ports = [{{ published = {PORT}, target = 7000 }}]\n"
    )
}

/// Tasks "stays" on the first and "leaves" on the second of three nodes.
fn start(return_path: &str) -> (Cluster, Vec<Proc>) {
    let tasks = vec![TaskSpec::new("stays", 0, 2).of("web"), TaskSpec::new("leaves", 1, 3).of("web")];
    let state = State { services: services(return_path), tasks, ..State::default() };
    let cluster = cluster(&Plan { nodes: 3, ..Plan::default() }, state, &[]);
    let serve = |name: &str| servers::whoami(&cluster.task(name).unwrap().ns, name, 7000).unwrap();
    let servers = vec![serve("stays"), serve("leaves")];
    (cluster, servers)
}

/// Every address of every node.
fn entries(cluster: &Cluster) -> Vec<IpAddr> {
    cluster.bed.nodes.iter().flat_map(addresses).collect()
}

#[track_caller]
fn check_drain(return_path: &str) {
    let (mut cluster, _servers) = start(return_path);
    let client = cluster.bed.clients[0].ns.clone();
    let entries = entries(&cluster);
    let mut long: Vec<_> = (0..LONG).map(|index| Long::open(&client, entries[index % entries.len()], PORT)).collect();
    for name in ["stays", "leaves"] {
        assert!(long.iter().any(|long| long.name == name), "no connection to {name}");
    }

    let mut state = cluster.state.clone();
    state.tasks[1].draining = true;
    cluster.apply(state.clone()).unwrap();
    for long in &mut long {
        for _ in 0..3 {
            assert_eq!(long.ask().unwrap().name, long.name);
        }
    }
    for entry in entries.iter().cycle().take(48) {
        assert_eq!(ask(&client, Transport::Tcp, *entry, PORT).unwrap().name, "stays");
    }
    assert!(cluster.counter("HandedOn").unwrap() >= 3, "nothing was handed on");
    assert_no_drops(&cluster);

    state.tasks.pop();
    cluster.apply(state).unwrap();
    for long in &mut long {
        let answer = long.ask();
        match long.name.as_str() {
            "leaves" => assert_eq!(answer.unwrap_err().kind(), ErrorKind::ConnectionReset),
            name => assert_eq!(answer.unwrap().name, name),
        }
    }
    let refused: u64 = cluster.meshd.iter().map(|meshd| meshd.count("DROPS", "UnknownFlow").unwrap()).sum();
    let left = long.iter().filter(|long| long.name == "leaves").count();
    assert!(refused >= left as u64, "{refused} resets for {left} connections");
}

#[test]
fn a_connection_outlives_the_drain_of_its_task_but_not_the_task() {
    check_drain("tunnel");
}

#[test]
fn a_connection_with_direct_return_outlives_the_drain_too() {
    check_drain("direct");
}

/// A task that comes takes over some slots; who is connected elsewhere stays connected.
#[test]
fn a_connection_outlives_the_arrival_of_another_task() {
    let (mut cluster, _servers) = start("tunnel");
    let client = cluster.bed.clients[0].ns.clone();
    let entries = entries(&cluster);
    let both = cluster.state.clone();
    let mut one = both.clone();
    one.tasks.pop();
    cluster.apply(one).unwrap();
    let mut long: Vec<_> = (0..LONG).map(|index| Long::open(&client, entries[index % entries.len()], PORT)).collect();
    cluster.apply(both).unwrap();
    for long in &mut long {
        let answer = long.ask().unwrap();
        assert_eq!((long.name.as_str(), answer.name.as_str()), ("stays", "stays"));
    }
    assert!(cluster.counter("HandedOn").unwrap() > 0, "no slot changed hands");
    let names: Vec<_> =
        entries.iter().cycle().take(48).map(|entry| ask(&client, Transport::Tcp, *entry, PORT).unwrap().name).collect();
    assert!(names.iter().any(|name| name == "leaves"), "{names:?}");
    assert_no_drops(&cluster);
}

/// What the node of a task says of its drain: connections left, and whether it has ended.
fn drain(meshd: &Meshd) -> Option<(u64, bool)> {
    let status = meshd.status().unwrap();
    let drains = status["draining"].as_array()?;
    let only = drains.first()?;
    Some((only["connections"].as_u64()?, only["ended"].as_bool()?))
}

/// As an orchestrator waits before it ends a task: for every node to know, and for the last connection.
#[test]
fn a_drain_is_acknowledged_by_every_node_and_counts_down_to_its_last_connection() {
    let (mut cluster, _servers) = start("tunnel");
    let client = cluster.bed.clients[0].ns.clone();
    let entries = entries(&cluster);
    let mut long: Vec<_> = (0..LONG).map(|index| Long::open(&client, entries[index % entries.len()], PORT)).collect();
    let mut leaving: Vec<_> = long.extract_if(.., |long| long.name == "leaves").collect();
    let mut state = cluster.state.clone();
    state.tasks[1].draining = true;
    state.version = 2;
    cluster.write(state).unwrap();
    cluster.wait_for_version(2).unwrap();
    assert_eq!(drain(&cluster.meshd[0]), None, "it is not this node's task");
    assert_eq!(drain(&cluster.meshd[1]), Some((leaving.len() as u64, false)));
    let busy = cluster.meshd[1].dump("LIVE").unwrap();
    let connections: Vec<_> = busy.iter().filter_map(|row| row["connections"].as_u64()).collect();
    assert!(connections.contains(&(leaving.len() as u64)), "{busy:?}");
    // New ones go elsewhere, and count there.
    for entry in &entries {
        assert_eq!(ask(&client, Transport::Tcp, *entry, PORT).unwrap().name, "stays");
    }
    while leaving.pop().is_some() {
        let left = leaving.len() as u64;
        let is_told = |meshd: &Meshd| Ok(drain(meshd) == Some((left, false)));
        cluster.meshd[1].wait_until("say that a connection ended", is_told).unwrap();
    }
    for long in &mut long {
        assert_eq!(long.ask().unwrap().name, "stays");
    }
}

#[test]
fn a_drain_ends_at_its_time_with_a_reset_for_those_who_are_left() {
    let (mut cluster, _servers) = start("tunnel");
    let client = cluster.bed.clients[0].ns.clone();
    let entries = entries(&cluster);
    let mut long: Vec<_> = (0..LONG).map(|index| Long::open(&client, entries[index % entries.len()], PORT)).collect();
    let left = long.iter().filter(|long| long.name == "leaves").count() as u64;
    let mut state = cluster.state.clone();
    state.version = 2;
    state.tasks[1].draining = true;
    state.tasks[1].drain_until = Some(since_1970() + 8);
    cluster.write(state).unwrap();
    cluster.wait_for_version(2).unwrap();
    if drain(&cluster.meshd[1]) == Some((left, false)) {
        for long in &mut long {
            assert_eq!(long.ask().unwrap().name, long.name);
        }
    }
    for meshd in &cluster.meshd {
        meshd.wait_until("end the drain", |meshd| Ok(meshd.dump("BACKENDS")?.len() == 1)).unwrap();
    }
    cluster.meshd[1].wait_until("say so", |meshd| Ok(drain(meshd) == Some((left, true)))).unwrap();
    for long in &mut long {
        let answer = long.ask();
        match long.name.as_str() {
            "leaves" => assert_eq!(answer.unwrap_err().kind(), ErrorKind::ConnectionReset),
            name => assert_eq!(answer.unwrap().name, name),
        }
    }
    assert!(cluster.meshd[1].log().unwrap().contains("drain ends at its time"));
}

#[expect(clippy::disallowed_methods, reason = "the time that the daemon under test goes by")]
fn since_1970() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

/// Nothing opens or closes datagrams: a client that goes on must not talk to nobody.
#[test]
fn datagrams_leave_a_task_that_goes_within_a_second() {
    let services = "[[services]]\nname = \"web\"\nnetwork = \"net\"\n\
                    ports = [{ protocol = \"udp\", published = 8080, target = 7000 }]\n";
    for policy in ["maglev", "round-robin", "client"] {
        let services = services.replace("name = \"web\"", &format!("name = \"web\"\nbalancing = \"{policy}\""));
        let tasks = vec![TaskSpec::new("one", 0, 2).of("web"), TaskSpec::new("other", 1, 3).of("web")];
        let state = State { services, tasks, ..State::default() };
        let mut cluster = cluster(&Plan { nodes: 3, ..Plan::default() }, state, &[]);
        let serve = |name: &str| servers::whoami(&cluster.task(name).unwrap().ns, name, 7000).unwrap();
        let _servers = [serve("one"), serve("other")];
        let client = cluster.bed.clients[0].ns.clone();
        let to = addresses(&cluster.bed.nodes[2])[0];
        let mut talk = Datagrams::open(&client, to, PORT);
        // The first may be lost, as datagrams may.
        let leaves = (0..20).find_map(|_| talk.ask()).unwrap();
        let mut state = cluster.state.clone();
        state.tasks.retain(|task| task.name != leaves);
        cluster.write(state).unwrap();
        let start = Instant::now();
        while talk.ask().is_none_or(|name| name == leaves) {
            assert!(start.elapsed() < Duration::from_secs(1), "{policy}: still with the task that is gone");
        }
        for _ in 0..20 {
            assert!(talk.ask().is_some_and(|name| name != leaves), "{policy}");
        }
    }
}

/// To a task a client is an address and a port. Of two connections from one port, to two nodes, each
/// must get its own answers and its own end, or none.
#[test]
fn a_port_of_a_client_that_dials_two_nodes_is_never_mixed_up() {
    let (mut cluster, _servers) = start("tunnel");
    let client = cluster.bed.clients[0].ns.clone();
    let [first, _] = addresses(&cluster.bed.nodes[0]);
    let [second, _] = addresses(&cluster.bed.nodes[2]);
    let from_port = |port: u16| client.sysctl("net.ipv4.ip_local_port_range", &format!("{port} {port}")).unwrap();
    let is_refused = || client.enter(|| std::net::TcpStream::connect((second, PORT))).unwrap().unwrap_err().kind();
    let mut long = (40000..40064).find_map(|port| {
        from_port(port);
        Some(Long::open(&client, first, PORT)).filter(|long| long.name == "leaves")
    });
    let long = long.as_mut().unwrap();
    assert_eq!(is_refused(), ErrorKind::ConnectionRefused, "a second connection that the task cannot tell apart");
    assert_eq!(long.ask().unwrap().name, "leaves");

    let mut state = cluster.state.clone();
    state.tasks[1].draining = true;
    cluster.apply(state.clone()).unwrap();
    // At the other task the port is free. What is remembered there is not of the first connection.
    assert_eq!(ask(&client, Transport::Tcp, second, PORT).unwrap().name, "stays");
    assert_eq!(long.ask().unwrap().name, "leaves");
    state.tasks.pop();
    cluster.apply(state).unwrap();
    assert_eq!(long.ask().unwrap_err().kind(), ErrorKind::ConnectionReset);
}
