//! What meshctl shows of a swarm that runs: containers, output, programs in them, rates.

use harness::Transport;
use harness::clients::ask;
use harness::nodes::Nodes;
use serde_json::Value;

use super::{IMAGE, TARGET, is_served, names, swarm, turn};

const PORT: u16 = 8080;

fn json(nodes: &Nodes, node: usize, arguments: &[&str]) -> Vec<Value> {
    serde_json::from_str(&nodes.nodes[node].meshctl(arguments).unwrap()).unwrap()
}

#[test]
fn meshctl_shows_containers_output_programs_and_rates() {
    let _turn = turn();
    let nodes = swarm(2, 1);
    let file = nodes.bed.folder("stack").unwrap().join("stack.yml");
    std::fs::write(
        &file,
        format!(
            "services:\n  web:\n    image: {IMAGE}\n    hostname: '{{{{.Task.Slot}}}}'\n    entrypoint: [/bin/sh, -c, 'echo hello; echo oops >&2; exec /whoami']\n    ports: ['{PORT}:{TARGET}']\n    deploy: {{replicas: 2, placement: {{max_replicas_per_node: 1}}}}\n"
        ),
    )
    .unwrap();
    let file = file.display().to_string();
    let said = nodes.nodes[0].meshctl(&["stack", "deploy", "--detach=false", "-c", &file, "my"]).unwrap();
    assert!(said.contains("Creating service my_web") && said.ends_with("verify: Service my_web converged"), "{said}");
    nodes.until("both are reached", |nodes| Ok(is_served(nodes, &[0, 1], PORT, &names(2)))).unwrap();
    let again = nodes.nodes[0].meshctl(&["stack", "deploy", "-c", &file, "my"]).unwrap();
    assert!(again.starts_with("Unchanged service my_web"), "{again}");

    let first = json(&nodes, 0, &["ps", "-o", "json"]);
    let name = first[0]["Names"][0].as_str().unwrap().trim_start_matches('/').to_owned();
    assert!(first.len() == 1 && name.starts_with("my_web."), "{first:?}");
    assert!(nodes.nodes[0].meshctl(&["ps"]).unwrap().ends_with(&name));

    // The service's output is that of both tasks; a task's, or a container's, its own.
    let lines = nodes.nodes[0].meshctl(&["logs", "--raw", "my_web"]).unwrap();
    assert_eq!(lines.lines().filter(|line| *line == "hello").count(), 2, "{lines}");
    let slot = name.rsplit_once('.').unwrap().0;
    for of in [slot, &name] {
        let lines = nodes.nodes[0].meshctl(&["logs", "--raw", of]).unwrap();
        assert_eq!(lines.lines().filter(|line| *line == "hello").count(), 1, "{of}: {lines}");
    }
    let last = nodes.nodes[0].meshctl_command(&["logs", "--tail", "1", "-t", slot]).unwrap().run().unwrap();
    let last = last.stdout + &last.stderr;
    assert!(last.lines().count() == 1 && last.contains(&format!("{slot}.")), "{last}");

    // A program in the container that the task is: its output, its input, its exit code.
    check_exec(&nodes, slot);
    let elsewhere = if slot == "my_web.1" { "my_web.2" } else { "my_web.1" };
    // Another node's does as well.
    check_exec(&nodes, elsewhere);

    // Requests at one node are counted there, the tasks of both take them.
    check_rates(&nodes);
    let said = nodes.nodes[0].meshctl(&["stack", "rm", "--detach=false", "my"]).unwrap();
    assert_eq!(said, "Removing service my_web\nRemoving network my_default");
}

fn check_exec(nodes: &Nodes, slot: &str) {
    let node = &nodes.nodes[0];
    let shell =
        ["exec", "-i", "-e", "WHO=me", slot, "/bin/sh", "-c", "read line; echo $line $WHO; echo err >&2; exit 3"];
    let done = node.meshctl_command(&shell).unwrap().input(b"from outside\n").attempt().unwrap();
    assert_eq!(done.status.code(), Some(3), "{done}");
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("from outside me\n", "err\n"));
    // With a terminal both outputs are one, and lines end as terminals want it.
    let done = node.meshctl_command(&["exec", "-t", slot, "/bin/sh", "-c", "echo one; test -t 1 && echo terminal >&2"]);
    let done = done.unwrap().attempt().unwrap();
    assert_eq!(done.stdout, "one\r\nterminal\r\n", "{done}");
}

fn check_rates(nodes: &Nodes) {
    let client = nodes.bed.clients[0].ns.clone();
    let entry: std::net::IpAddr = nodes.nodes[0].host.ip4.into();
    let until = std::sync::atomic::AtomicBool::new(false);
    let rows = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !until.load(std::sync::atomic::Ordering::Relaxed) {
                ask(&client, Transport::Tcp, entry, PORT).unwrap();
            }
        });
        let rows = json(nodes, 0, &["top", "-o", "json", "--interval-ms", "2000"]);
        until.store(true, std::sync::atomic::Ordering::Relaxed);
        rows
    });
    let row = &rows[0];
    assert_eq!((&row["service"], &row["replicas"]), (&"my_web".into(), &"2/2 (max 1 per node)".into()), "{row}");
    assert!(row["flows_per_s"].as_u64() > Some(0) && row["packets_per_s"].as_u64() > Some(0), "{row}");
    let at = |name: &str| row["nodes"].as_array().unwrap().iter().find(|node| node["node"] == name).unwrap();
    for name in ["node1", "node2"] {
        assert!(at(name)["tasks"] == 1 && at(name)["flows_per_s"].as_u64() > Some(0), "{row}");
    }
    assert!(at("node1")["packets_per_s"].as_u64() > Some(0) && at("node2")["packets_per_s"] == 0, "{row}");
    let shown = nodes.nodes[0].meshctl(&["top", "--once"]).unwrap();
    assert!(shown.starts_with("SERVICE") && shown.contains("node2"), "{shown}");
}
