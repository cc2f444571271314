//! The Docker API below the CLI: what its wire says where the docker CLI does not look, and what it stands.

mod containers;
mod engine;
mod fuzz;
#[cfg(test)]
mod remote;
mod safety;
mod wire;

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use harness::swarm::Served;
use mesh_daemon::api::Standing;
use serde_json::{Value, json};
use tempfile::TempDir;

/// An answer, read whole.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    pub(crate) fn message(&self) -> String {
        self.json()["message"].as_str().unwrap().to_owned()
    }
}

/// One request on a connection of its own.
#[track_caller]
pub(crate) fn ask(socket: &Path, method: &str, path: &str, body: &str) -> Answer {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: d\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all((head + body).as_bytes()).unwrap();
    let mut text = Vec::new();
    stream.read_to_end(&mut text).unwrap();
    let text = String::from_utf8_lossy(&text).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_lowercase(), body: body.to_owned() }
}

/// A manager alone in a swarm.
pub(crate) struct Manager {
    pub(crate) served: Served,
    _folder: TempDir,
}

impl Manager {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let served = Served::new(folder.path()).unwrap();
        let manager = Self { served, _folder: folder };
        let made = manager.post("/swarm/init", &json!({"AdvertiseAddr": "10.77.0.11", "ListenAddr": "0.0.0.0:2377"}));
        assert_eq!(made.status, 200, "{}", made.body);
        manager
    }

    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Answer {
        ask(&self.served.socket, "GET", path, "")
    }

    #[track_caller]
    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        ask(&self.served.socket, "POST", path, &body.to_string())
    }

    /// Makes a service of this name; its id.
    #[track_caller]
    fn service(&self, name: &str) -> String {
        let made =
            self.post("/services/create", &json!({"Name": name, "TaskTemplate": {"ContainerSpec": {"Image": "a"}}}));
        assert_eq!(made.status, 201, "{}", made.body);
        made.json()["ID"].as_str().unwrap().to_owned()
    }
}

#[test]
fn a_node_says_what_it_is_in_every_answer() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::new(folder.path()).unwrap();
    for (standing, word) in [
        (Standing::Outside, "inactive"),
        (Standing::Pending, "pending"),
        (Standing::Locked, "locked"),
        (Standing::Failed("x".to_owned()), "error"),
        (Standing::Worker, "active/worker"),
    ] {
        served.cluster.stand(standing);
        let answer = ask(&served.socket, "HEAD", "/_ping", "");
        assert!(answer.head.contains(&format!("swarm: {word}\r\n")), "{}", answer.head);
        assert!(answer.head.contains("api-version: 1.47"), "{}", answer.head);
    }
}
