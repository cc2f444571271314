//! Which commands are compared, and what they find: worlds that are set up and then used in order.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use harness::swarm::{FakeCluster, Served};
use jiff::Timestamp;
use mesh_daemon::api::{LogLine, Output, Standing};
use mesh_daemon::model::node::{Node, NodeState, Role};

use super::{Case, Outcome, docker};

/// By name of the recording: what was recorded, and what we do.
pub(super) type Compared = BTreeMap<String, (Outcome, Outcome)>;

/// The digests that the recordings' registry had.
pub(super) const IMAGES: [(&str, &str); 2] = [
    ("10.77.0.1:5000/web:1", "sha256:476443bdb0aa423019ba35d1048a4b594e202ce1bd4c71533cfaf2ac8ed715d0"),
    ("10.77.0.1:5000/web:2", "sha256:f2227ebac5d57a9cae2637e0095a34841cbf5e4311a0a3641c6d41393a175f94"),
];

/// A world: what it is before, and what is done in it. `= NAME` compares the recording of that name;
/// anything else is a command that only sets the scene.
struct World {
    before: fn(&Served),
    steps: &'static str,
}

const WORLDS: &[World] = &[
    World { before: nothing, steps: include_str!("worlds/outside.txt") },
    World { before: nothing, steps: include_str!("worlds/init.txt") },
    World { before: nothing, steps: include_str!("worlds/join.txt") },
    World { before: worker, steps: include_str!("worlds/worker.txt") },
    World { before: four_nodes, steps: include_str!("worlds/nodes.txt") },
    World { before: three_nodes, steps: include_str!("worlds/objects.txt") },
    World { before: three_nodes, steps: include_str!("worlds/services.txt") },
    World { before: three_nodes, steps: include_str!("worlds/updates.txt") },
    World { before: three_nodes, steps: include_str!("worlds/refusals.txt") },
    World { before: three_nodes, steps: include_str!("worlds/stacks.txt") },
];

fn nothing(_: &Served) {}

fn worker(served: &Served) {
    served.cluster.stand(Standing::Worker);
}

/// The recordings' swarm: two managers, two workers.
fn four_nodes(served: &Served) {
    let init = ["swarm", "init", "--advertise-addr", "10.77.0.11"].map(str::to_owned);
    let folder = served.socket.parent().unwrap();
    let made = docker(served, folder, &init, None);
    assert_eq!(made.code, 0, "{}", made.err);
    let nodes = async {
        for (name, addr, role) in [
            ("node2", "10.77.0.12", Role::Worker),
            ("node3", "10.77.0.13", Role::Worker),
            ("node4", "10.77.0.14", Role::Manager),
        ] {
            served.cluster.add_node(name, addr, role).await.unwrap();
        }
        write_output(&served.cluster);
    };
    served.block_on(nodes).unwrap();
}

/// The recordings' swarm while services were tried: a manager, two workers.
pub(super) fn three_nodes(served: &Served) {
    four_nodes(served);
    let store = served.cluster.store().unwrap();
    let node4 = store.view().nodes().named("node4").unwrap().id;
    served.block_on(store.update(|tx| tx.remove::<Node>(node4))).unwrap().unwrap();
}

fn write_output(cluster: &Arc<FakeCluster>) {
    let line = |output, text: &'static str| LogLine { at: Timestamp::now(), output, bytes: text.into() };
    *cluster.output.lock().unwrap() = vec![
        line(Output::Stderr, "start\n"),
        line(Output::Stdout, "line 0\n"),
        line(Output::Stdout, "line 1\n"),
        line(Output::Stdout, "line 2\n"),
    ];
}

/// Plays all worlds, each in a thread.
pub(super) fn run(cases: &BTreeMap<String, Case>) -> Compared {
    std::thread::scope(|scope| {
        let worlds: Vec<_> = WORLDS.iter().map(|world| scope.spawn(|| play(world, cases))).collect();
        worlds.into_iter().flat_map(|world| world.join().unwrap()).collect()
    })
}

fn play(world: &World, cases: &BTreeMap<String, Case>) -> Compared {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("seed.yml", include_str!("worlds/seed.yml")),
        ("stack2.yml", include_str!("worlds/stack2.yml")),
        ("app.sec", "pw"),
        ("app.cfg", "hello=1\n"),
    ] {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let served = Served::new(folder.path()).unwrap();
    *served.cluster.images.lock().unwrap() =
        IMAGES.iter().map(|(name, digest)| ((*name).to_owned(), (*digest).to_owned())).collect();
    (world.before)(&served);
    let mut compared = Compared::new();
    for step in world.steps.lines().map(str::trim).filter(|step| !step.is_empty() && !step.starts_with('#')) {
        match step.split_once(' ') {
            Some(("=", name)) => {
                let case = cases.get(name).unwrap_or_else(|| panic!("{name} was not recorded"));
                let argv = of_this_swarm(&served, &case.argv);
                let ours = docker(&served, folder.path(), &argv, case.stdin.as_deref());
                compared.insert(name.to_owned(), (case.outcome.clone(), ours));
            }
            Some(("!down", node)) => set_state(&served, node, NodeState::Down),
            // As long as an update goes on.
            Some(("!sleep", seconds)) => std::thread::sleep(Duration::from_secs(seconds.parse().unwrap())),
            _ => set_the_scene(&served, folder.path(), step),
        }
    }
    compared
}

/// Words in the place of which this swarm's own ids stand.
fn of_this_swarm(served: &Served, argv: &[String]) -> Vec<String> {
    let task = || {
        let view = served.cluster.store().unwrap().view();
        view.tasks().iter().next().unwrap().id.to_string()
    };
    argv.iter().map(|word| if word == "mgsvjaxza0x3gayi8m64ty4kg" { task() } else { word.clone() }).collect()
}

fn set_state(served: &Served, name: &str, state: NodeState) {
    let store = served.cluster.store().unwrap();
    let id = store.view().nodes().named(name).unwrap().id;
    served.block_on(store.update(|tx| tx.modify::<Node>(id, |node| node.status.state = state))).unwrap().unwrap();
}

/// A command that must succeed; `< text` at its end is its input.
fn set_the_scene(served: &Served, folder: &Path, step: &str) {
    let (command, stdin) = step.split_once(" < ").map_or((step, None), |(command, input)| (command, Some(input)));
    let argv: Vec<_> = command.split(' ').map(str::to_owned).collect();
    let stdin = stdin.map(|text| format!("{text}\n"));
    let outcome = docker(served, folder, &argv, stdin.as_deref());
    assert_eq!(outcome.code, 0, "{step}: {}", outcome.err);
}
