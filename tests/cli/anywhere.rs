//! Any manager answers for every task, also one that does not lead and of nodes that are not its own: logs, exec,
//! attach, stats, top, stop. Real nodes, the unmodified docker CLI, at a follower.

use std::collections::BTreeSet;
use std::time::Duration;

use harness::Plan;
use harness::nodes::{Node, Nodes};

use super::containers::{attempt, docker, shell};

/// Each task says its slot on both outputs, then counts.
const COUNTS: &str =
    "trap 'exit 0' TERM; echo err $SLOT >&2; n=0; while true; do echo $SLOT says $n; n=$((n+1)); sleep 0.5; done";

/// Time for what is followed to be heard.
const SOON: Duration = Duration::from_secs(15);

/// The manager that does not lead.
const FOLLOWER: usize = 1;

/// The node that is no manager.
const WORKER: usize = 2;

fn node_of(nodes: &Nodes, slot: u64) -> (usize, String) {
    let follower = &nodes.nodes[FOLLOWER];
    let format = "{{.ID}} {{.Name}} {{.Node}}";
    let filter = format!("name=chat.{slot}");
    let command = ["service", "ps", "chat", "--no-trunc", "--filter", "desired-state=running", "--filter", &filter];
    let row = follower.docker(&[&command[..], &["--format", format]].concat()).unwrap();
    let words: Vec<_> = row.split(' ').collect();
    let at = nodes.nodes.iter().position(|node| node.host.name == words[2]).unwrap();
    (at, format!("chat.{slot}.{}", words[0]))
}

#[test]
fn a_follower_answers_for_tasks_of_every_node() {
    super::docker::require_docker();
    let plan = Plan { nodes: 3, clients: 0, ..Plan::default() };
    let nodes = Nodes::start(&plan, &shell()).unwrap_or_else(|error| panic!("{error:#}"));
    nodes.form(2).unwrap();
    let follower = &nodes.nodes[FOLLOWER];
    nodes
        .until("all nodes are ready, and the second manager follows", |nodes| {
            let rows =
                nodes.docker(FOLLOWER, &["node", "ls", "--format", "{{.Status}} {{.Self}} {{.ManagerStatus}}"])?;
            Ok(rows.lines().filter(|row| row.starts_with("Ready")).count() == 3 && rows.contains("true Reachable"))
        })
        .unwrap();
    let create = ["service", "create", "-d", "--no-resolve-image", "--replicas", "3", "--restart-delay", "0s"];
    let task = ["--env", "SLOT={{.Task.Slot}}", "--name", "chat", "shell:1", "/bin/sh", "-c", COUNTS];
    follower.docker(&[&create[..], &task].concat()).unwrap();
    let running = nodes.until_running(FOLLOWER, "chat", 3).unwrap();
    assert_eq!(running.iter().map(|(_, node)| node).collect::<BTreeSet<_>>().len(), 3, "{running:?}");

    check_service_logs(&nodes, follower);
    let far: Vec<_> = (1..=3).map(|slot| node_of(&nodes, slot)).filter(|(node, _)| *node != FOLLOWER).collect();
    assert_eq!(far.len(), 2);
    for (_, name) in &far {
        check_container(follower, name);
    }
    let slot = far[0].1.split('.').nth(1).unwrap().to_owned();
    check_names(&nodes, follower, &far[0].1, &slot);
    // A worker answers for its own containers alone.
    let (_, elsewhere) = (1..=3).map(|slot| node_of(&nodes, slot)).find(|(node, _)| *node != WORKER).unwrap();
    let refused = nodes.nodes[WORKER].refused(&["logs", &elsewhere]).unwrap();
    assert!(refused.contains("No such container"), "{refused}");
    check_stop(&nodes, follower, &far[0].1, &slot);
    follower.docker(&["service", "rm", "chat"]).unwrap();
}

#[track_caller]
fn check_service_logs(nodes: &Nodes, follower: &Node) {
    let logs = |options: &[&str]| attempt(follower, &[&["service", "logs"], options, &["chat"]].concat());
    let slots = |text: &str| -> BTreeSet<String> {
        text.lines().filter_map(|line| line.split(" says ").next()?.rsplit(' ').next().map(str::to_owned)).collect()
    };
    let all: BTreeSet<String> = ["1", "2", "3"].map(str::to_owned).into();
    // Not once only: the two outputs are not in order with each other, and the other has one line.
    let spoken = |said: &str| (1..=3).all(|slot| said.contains(&format!("{slot} says 2")));
    nodes.until("all three have spoken", |_| Ok(spoken(&logs(&["--raw"]).stdout))).unwrap();
    let errors: BTreeSet<_> = logs(&["--raw"]).stderr.lines().map(str::to_owned).collect();
    assert_eq!(errors, [1, 2, 3].map(|slot| format!("err {slot}")).into());

    let last = logs(&["--raw", "--tail", "1"]).stdout;
    assert_eq!(slots(&last), all, "the last line of each: {last}");
    assert!(last.lines().count() <= 3, "{last}");
    let since = logs(&["--raw", "--since", "2099-01-01T00:00:00Z"]);
    assert_eq!((since.stdout.as_str(), since.stderr.as_str()), ("", ""));
    let stamped = logs(&["--raw", "-t", "--tail", "1"]).stdout;
    for line in stamped.lines() {
        let (at, rest) = line.split_once(' ').unwrap();
        assert!(at.len() == "2026-11-24T04:07:05.100000000Z".len() && rest.contains(" says "), "{line}");
    }
    // Which task of which node says what, and its details.
    let named = logs(&["--tail", "1"]).stdout;
    for slot in 1..=3 {
        let (node, name) = node_of(nodes, slot);
        let node = &nodes.nodes[node].host.name;
        let line = named.lines().find(|line| line.contains(&format!("| {slot} says"))).unwrap();
        // The id is cut as docker cuts it.
        assert!(line.starts_with(&name[..name.len() - 13]) && line.contains(&format!("@{node} ")), "{line}");
    }
    let task = node_of(nodes, 1).1;
    let task = task.rsplit('.').next().unwrap();
    let details = attempt(follower, &["service", "logs", "--raw", "--details", "--tail", "1", task]).stdout;
    assert!(details.contains("1 says"), "{details}");

    let mut following = follower.command(&["service", "logs", "-f", "--raw", "--tail", "0", "chat"]).spawn().unwrap();
    for slot in 1..=3 {
        following.wait_line(&format!("{slot} says"), SOON).unwrap();
    }
    following.signal(nix::sys::signal::Signal::SIGINT).unwrap();
    following.wait(SOON).unwrap();
}

/// What docker does to a container, on one of another node.
#[track_caller]
fn check_container(follower: &Node, name: &str) {
    let id = docker(follower, &format!("inspect --format {{{{.Id}}}} {name}"));
    assert!(docker(follower, "ps -q --no-trunc").lines().all(|own| own != id), "{id} is not of this node");
    assert!(docker(follower, &format!("logs --tail 1 {id}")).contains(" says "));
    let ran = attempt(follower, &["exec", &id[..12], "sh", "-c", "echo out; echo err >&2; exit 3"]);
    assert_eq!((ran.status.code(), ran.stdout.as_str(), ran.stderr.as_str()), (Some(3), "out\n", "err\n"));
    let much = vec![b'x'; 1 << 20];
    let echoed = follower.command(&["exec", "-i", name, "cat"]).input(&much).run().unwrap();
    assert_eq!(echoed.stdout.len(), much.len());
    let terminal = attempt(follower, &["exec", "-t", name, "tty"]);
    assert!(terminal.stdout.starts_with("/dev/pts/"), "{terminal}");
    let top = docker(follower, &format!("top {name}"));
    assert!(top.contains("/bin/sh -c trap"), "{top}");
    let stats = docker(follower, &format!("stats --no-stream --format {{{{.PIDs}}}} {name}"));
    assert!(stats.parse::<u32>().unwrap() > 0, "{stats}");
    let mut attached = follower.command(&["attach", "--no-stdin", "--sig-proxy=false", name]).spawn().unwrap();
    attached.wait_line(" says ", SOON).unwrap();
    attached.signal(nix::sys::signal::Signal::SIGKILL).unwrap();
    attached.wait(SOON).unwrap();
}

/// A slot of a service is a name for whatever runs there; what nobody has is nobody's.
#[track_caller]
fn check_names(nodes: &Nodes, follower: &Node, name: &str, slot: &str) {
    assert_eq!(docker(follower, &format!("exec chat.{slot} sh -c :")), "");
    assert!(docker(follower, &format!("logs --tail 1 {name}")).contains(&format!("{slot} says")));
    // The id of a task is the task's.
    let task = name.rsplit('.').next().unwrap();
    assert_eq!(docker(follower, &format!("inspect --format {{{{.Status.State}}}} {task}")), "running");
    for nobody in ["chat.9", "nosuch.1", "0123456789ab"] {
        let refused = follower.refused(&["exec", nobody, "true"]).unwrap();
        assert!(refused.contains(&format!("No such container: {nobody}")), "{refused}");
    }
    // Nothing but containers is answered in another's name, and all of it the same at the leader.
    assert_eq!(docker(&nodes.nodes[0], &format!("exec {name} sh -c :")), "");
}

#[track_caller]
fn check_stop(nodes: &Nodes, follower: &Node, name: &str, slot: &str) {
    let mut attached = follower.command(&["attach", "--no-stdin", name]).spawn().unwrap();
    attached.wait_line(" says ", SOON).unwrap();
    let mut waiting = follower.command(&["wait", name]).spawn().unwrap();
    assert!(waiting.is_running().unwrap());
    assert_eq!(docker(follower, &format!("stop {name}")), name);
    assert_eq!(waiting.wait(SOON).unwrap().stdout, "0\n");
    assert_eq!(attached.wait(SOON).unwrap().status.code(), Some(0), "who attaches exits as the container does");
    nodes
        .until("another runs in its slot", |nodes| {
            let names = nodes.running(FOLLOWER, "chat")?;
            Ok(names.len() == 3 && node_of(nodes, slot.parse()?).1 != name)
        })
        .unwrap();
}
