//! Policies with real sockets: who answers, dialled at which node.

use std::collections::BTreeMap;
use std::net::IpAddr;

use harness::clients::ask;
use harness::meshd::{Cluster, State, TaskSpec};
use harness::process::Proc;
use harness::{Netns, Plan, Transport, servers};

use super::dial::Long;
use super::{addresses, assert_no_drops, cluster};

const PORT: u16 = 8080;

/// Tasks "a", "b" and "c" on the nodes of these numbers, of three.
fn start(balancing: &str, nodes: [usize; 3]) -> (Cluster, Vec<Proc>) {
    let services = format!(
        "[[services]]\nname = \"web\"\nnetwork = \"net\"\nbalancing = \"{balancing}\"\n\
         ports = [{{ published = {PORT}, target = 7000 }}]\n"
    );
    let names = ["a", "b", "c"];
    let specs = names.iter().zip(nodes).zip(2..).map(|((name, node), last)| TaskSpec::new(name, node, last).of("web"));
    let state = State { services, tasks: specs.collect(), ..State::default() };
    let cluster = cluster(&Plan { nodes: 3, ..Plan::default() }, state, &[]);
    let serve = |name: &&str| servers::whoami(&cluster.task(name).unwrap().ns, name, 7000).unwrap();
    let servers = names.iter().map(serve).collect();
    (cluster, servers)
}

/// How often each task answers.
#[track_caller]
fn answers(client: &Netns, to: IpAddr, count: usize) -> BTreeMap<String, usize> {
    let mut answers = BTreeMap::new();
    for _ in 0..count {
        *answers.entry(ask(client, Transport::Tcp, to, PORT).unwrap().name).or_default() += 1;
    }
    answers
}

fn each(count: usize) -> BTreeMap<String, usize> {
    ["a", "b", "c"].map(|name| (name.to_owned(), count)).into()
}

#[test]
fn connections_are_dealt_out_in_turn_by_every_node() {
    let (mut cluster, _servers) = start("round-robin", [0, 1, 1]);
    let client = cluster.bed.clients[0].ns.clone();
    let entries: Vec<_> = cluster.bed.nodes.iter().flat_map(addresses).collect();
    for entry in &entries {
        // A SYN that is lost and sent again takes no second turn.
        assert_eq!(answers(&client, *entry, 12), each(4), "at {entry}");
    }
    let mut long: Vec<_> = entries.iter().cycle().take(18).map(|entry| Long::open(&client, *entry, PORT)).collect();
    let mut state = cluster.state.clone();
    state.tasks[0].draining = true;
    cluster.apply(state).unwrap();
    for long in &mut long {
        assert_eq!(long.ask().unwrap().name, long.name);
    }
    for entry in &entries {
        assert_eq!(answers(&client, *entry, 4).keys().collect::<Vec<_>>(), ["b", "c"], "at {entry}");
    }
    assert_no_drops(&cluster);
}

#[test]
fn a_node_with_a_task_of_its_own_does_not_bother_others() {
    let (cluster, _servers) = start("prefer-local", [0, 1, 1]);
    let client = &cluster.bed.clients[0].ns;
    for (node, names) in cluster.bed.nodes.iter().zip([&["a"][..], &["b", "c"], &["a", "b", "c"]]) {
        for entry in addresses(node) {
            // That one of three is not met in 64 has a probability of 2^-35.
            assert_eq!(answers(client, entry, 64).keys().collect::<Vec<_>>(), names, "at {entry}");
        }
    }
    assert_eq!(cluster.meshd[0].counter("Forwarded").unwrap(), 0);
    assert_no_drops(&cluster);
}
