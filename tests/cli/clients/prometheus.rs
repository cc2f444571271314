//! Debian's Prometheus finds what to ask by `dockerswarm_sd`: nodes, services and tasks become targets.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use harness::swarm::Served;
use mesh_daemon::model::node::Role;
use serde_json::{Value, json};

use crate::api::ask;

/// Time for targets to appear: Prometheus starts in a second, and looks at once.
const SOON: Duration = Duration::from_secs(30);

/// A Prometheus, until it is dropped.
struct Prometheus {
    child: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl Prometheus {
    fn start(served: &Served) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let job = |role: &str| {
            format!(
                "- job_name: {role}\n  dockerswarm_sd_configs:\n  - host: unix://{}\n    role: {role}\n    port: 9100\n    refresh_interval: 1s\n",
                served.socket.display()
            )
        };
        let jobs = ["nodes", "services", "tasks"].map(job).concat();
        std::fs::write(folder.path().join("prometheus.yml"), format!("scrape_configs:\n{jobs}")).unwrap();
        // Free a moment ago: nobody else on this machine draws it within a moment.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", folder.path().join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(folder.path().join("log")).unwrap())
            .spawn()
            .unwrap_or_else(|error| panic!("prometheus does not start, cargo xtask setup installs it: {error}"));
        Self { child, port, folder }
    }

    /// What it would ask, by job.
    fn targets(&self) -> Option<Vec<Value>> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.write_all(b"GET /api/v1/targets HTTP/1.0\r\nHost: p\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let answer: Value = serde_json::from_str(text.split_once("\r\n\r\n")?.1).ok()?;
        answer["data"]["activeTargets"].as_array().cloned()
    }

    #[track_caller]
    fn until(&self, what: &str, so: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let begun = Instant::now();
        loop {
            let targets = self.targets().unwrap_or_default();
            if so(&targets) {
                return targets;
            }
            let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(begun.elapsed() < SOON, "not in time: {what}: {targets:#?}\n{log}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The values of a label of the targets of a job.
fn labels(targets: &[Value], job: &str, label: &str) -> BTreeSet<String> {
    let of_job = targets.iter().filter(|target| target["scrapePool"] == job);
    let label = format!("__meta_dockerswarm_{label}");
    of_job.map(|target| target["discoveredLabels"][&label].as_str().unwrap_or_default().to_owned()).collect()
}

fn set(values: &[&str]) -> BTreeSet<String> {
    values.iter().map(|value| (*value).to_owned()).collect()
}

#[test]
fn prometheus_discovers_nodes_services_and_tasks() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::new(folder.path()).unwrap();
    let post = |path: &str, body: Value| {
        let answer = ask(&served.socket, "POST", path, &body.to_string());
        assert!(answer.status < 300, "{path}: {}", answer.body);
    };
    post("/swarm/init", json!({"AdvertiseAddr": "10.77.0.11", "ListenAddr": "0.0.0.0:2377"}));
    served.block_on(served.cluster.add_node("node2", "10.77.0.12", Role::Worker)).unwrap().unwrap();
    post("/networks/create", json!({"Name": "back", "Driver": "overlay"}));
    post(
        "/services/create",
        json!({"Name": "web", "Labels": {"tier": "front"}, "TaskTemplate": {"ContainerSpec": {"Image": "web:1"},
            "Networks": [{"Target": "back"}]}, "Mode": {"Replicated": {"Replicas": 3}},
            "EndpointSpec": {"Ports": [{"TargetPort": 80, "PublishedPort": 8080}]}}),
    );
    let prometheus = Prometheus::start(&served);
    let targets = prometheus.until("three tasks, one service and two nodes are targets", |targets| {
        labels(targets, "tasks", "task_slot") == set(&["1", "2", "3"])
            && labels(targets, "services", "service_name") == set(&["web"])
            && labels(targets, "nodes", "node_hostname") == set(&["node1", "node2"])
    });
    assert_eq!(labels(&targets, "nodes", "node_address"), set(&["10.77.0.11", "10.77.0.12"]));
    assert_eq!(labels(&targets, "nodes", "node_role"), set(&["manager", "worker"]));
    assert_eq!(labels(&targets, "services", "service_label_tier"), set(&["front"]));
    assert_eq!(labels(&targets, "services", "service_endpoint_port_publish_mode"), set(&["ingress"]));
    assert_eq!(labels(&targets, "services", "network_name"), set(&["back", "ingress"]));
    assert_eq!(labels(&targets, "tasks", "task_state"), set(&["running"]));
    assert!(labels(&targets, "tasks", "network_name").contains("back"), "{targets:#?}");
    // What goes is a target no longer.
    let removed = ask(&served.socket, "DELETE", "/services/web", "");
    assert_eq!(removed.status, 200);
    prometheus
        .until("the service is a target no longer", |targets| labels(targets, "services", "service_name").is_empty());
}
