//! Containers and images of a node without an engine, of a runtime in memory: what `docker events` tells of them,
//! and how tasks of other nodes are asked for.

use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use mesh_daemon::model::container::ContainerSpec;
use mesh_daemon::model::id::{NodeId, TaskId};
use mesh_daemon::model::state::TaskState;
use mesh_daemon::model::task::{ContainerStatus, Task, TaskSpec};
use mesh_daemon::runtime::{Container, ContainerId, Runtime as _};
use serde_json::{Value, json};

use super::{Manager, engine};

fn container(task: u128) -> Container {
    let (task, spec) =
        (TaskId::from_u128(task), ContainerSpec { image: "web:1".to_owned(), ..ContainerSpec::default() });
    let labels = [("tier".to_owned(), "front".to_owned())].into();
    Container { labels, ..Container::new(task, format!("web.1.{task}"), spec) }
}

/// A life, by the runtime's own hands.
fn live(manager: &Manager) -> ContainerId {
    let told = std::sync::Arc::clone(&manager.served.cluster.told);
    let life = async {
        let id = told.prepare(&container(7)).await.unwrap();
        told.start(&id).await.unwrap();
        told.kill(&id, "TERM").await.unwrap();
        told.wait(&id).await.unwrap();
        told.remove(&id).await.unwrap();
        id
    };
    manager.served.block_on(life).unwrap()
}

/// The events of a query, as soon as there are so many.
#[track_caller]
fn events(manager: &Manager, query: &str, count: usize) -> Vec<Value> {
    let begun = Instant::now();
    loop {
        let until = jiff::Timestamp::now().as_second() + 1;
        let answer = manager.get(&format!("/events?since=1&until={until}{query}"));
        let lines = answer.body.lines().filter(|line| line.starts_with('{'));
        let all: Vec<Value> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
        if all.len() >= count {
            return all;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "{all:?}");
    }
}

#[test]
fn the_life_of_a_container_is_told_and_filtered() {
    let manager = Manager::new();
    let id = live(&manager);
    let filter = "&filters=%7B%22type%22%3A%5B%22container%22%5D%7D";
    let all = events(&manager, filter, 5);
    let actions: Vec<_> = all.iter().map(|event| event["Action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["create", "start", "kill", "die", "destroy"]);
    for event in &all {
        let attributes = &event["Actor"]["Attributes"];
        assert_eq!((&event["Actor"]["ID"], &event["id"]), (&json!(id.0), &json!(id.0)));
        assert_eq!((&event["scope"], &event["status"]), (&json!("local"), &event["Action"]));
        assert_eq!((&attributes["image"], &attributes["tier"]), (&json!("web:1"), &json!("front")));
        assert!(attributes["name"].as_str().unwrap().starts_with("web.1."), "{event}");
    }
    assert_eq!(all[2]["Actor"]["Attributes"]["signal"], json!("TERM"));
    assert_eq!(all[3]["Actor"]["Attributes"]["exitCode"], json!("0"));
    let died = events(&manager, "&filters=%7B%22event%22%3A%7B%22die%22%3Atrue%7D%7D", 1);
    assert_eq!(died.len(), 1, "{died:?}");
    // Nothing of it when it is not asked for.
    let until = jiff::Timestamp::now().as_second() + 1;
    let none =
        manager.get(&format!("/events?since=1&until={until}&filters=%7B%22label%22%3A%5B%22tier%3Dback%22%5D%7D"));
    assert!(!none.body.contains("Action"), "{}", none.body);
}

/// A task that runs on a node that is not this one.
fn task_elsewhere(manager: &Manager, node: NodeId, container: &str) -> TaskId {
    let id = TaskId::from_u128(99);
    let mut task = Task { node_id: Some(node), slot: 4, ..Task::new(id, None, TaskSpec::default()) };
    task.status.state = TaskState::Running;
    task.status.container = Some(ContainerStatus { container_id: container.to_owned(), ..ContainerStatus::default() });
    let store = manager.served.cluster.store().unwrap();
    manager.served.block_on(store.update(|tx| tx.create(task.clone()))).unwrap().unwrap();
    id
}

#[test]
fn a_container_of_another_node_is_asked_for_there_and_nothing_else_is() {
    let manager = Manager::new();
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("peer.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || engine::play(listener));
    let node = NodeId::from_u128(5);
    manager.served.cluster.peers.lock().unwrap().insert(node, socket);
    let id = "0123456789abcdef".repeat(4);
    let task = task_elsewhere(&manager, node, &id);
    for name in [id.clone(), id[..12].to_owned(), format!("web.4.{task}")] {
        let answer = manager.get(&format!("/v1.41/containers/{name}/logs?stdout=1"));
        let asked = format!("GET /v1.41/containers/{id}/logs?stdout=1 HTTP/1.1");
        assert_eq!(answer.json()[0]["asked"], json!(asked), "{name}");
        assert!(answer.head.contains("api-version: 1.47"), "{}", answer.head);
    }
    // What is too short to be meant in the whole cluster, or nobody's, is this node's to answer for.
    for name in [&id[..11], &task.to_string(), "web.4", "nosuch"] {
        let answer = manager.get(&format!("/containers/{name}/json"));
        assert_eq!((answer.status, answer.message()), (404, format!("No such container: {name}")));
    }
    assert!(!manager.get("/containers/json").body.contains("asked"));
    manager.served.cluster.peers.lock().unwrap().clear();
    let away = manager.get(&format!("/containers/{id}/json"));
    assert_eq!((away.status, away.message()), (503, format!("{node} is far away")));
}
