//! A node whose containers a Docker Engine runs, beside one that runs its own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use harness::nodes::Runs;
use harness::process::{Output, Proc};
use harness::{Bed, Host, Plan};
use nix::sys::signal::Signal;

use super::{IMAGE, TARGET, agree, assert_served, image, swarm_on, turn};

const PORT: u16 = 8080;
const LIMIT: Duration = Duration::from_secs(30);

/// Debian's engine on a machine of a bed; it ends with this value, and its containers before.
struct Engine {
    host: Host,
    socket: PathBuf,
    process: Option<Proc>,
}

impl Engine {
    fn start(host: &Host, folder: &Path) -> Self {
        let path = |name: &str| folder.join(name).display().to_string();
        let socket = folder.join("docker.sock");
        let listen = format!("unix://{}", socket.display());
        let (data, exec, pid) = (path("data"), path("exec"), path("pid"));
        let mut argv =
            vec!["dockerd", "--data-root", &data, "--exec-root", &exec, "--pidfile", &pid, "--host", &listen];
        argv.extend(["--cgroup-parent", "/mesh-t-engine"]);
        // It has no network of its own: what containers have is the node's.
        argv.extend(["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-masq=false"]);
        let mut process = host.ns.command(argv).spawn().expect("docker.io is installed");
        process.wait_line("API listen on", LIMIT).unwrap();
        let engine = Self { host: host.clone(), socket, process: Some(process) };
        let archive = folder.join("image.tar");
        image().unwrap().write_tar(std::fs::File::create(&archive).unwrap()).unwrap();
        engine.docker(&["load", "-q", "-i", &archive.display().to_string()]);
        engine
    }

    fn attempt(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        let host = format!("unix://{}", self.socket.display());
        self.host.ns.run([&["docker", "--host", &host], arguments].concat())
    }

    fn docker(&self, arguments: &[&str]) -> String {
        self.attempt(arguments).unwrap().stdout.trim_end().to_owned()
    }

    fn names(&self) -> Vec<String> {
        self.docker(&["ps", "--format", "{{.Names}}"]).lines().map(str::to_owned).collect()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // After a failed test the bed may be gone, and the engine with it.
        let all = self.attempt(&["ps", "-aq"]).map(|output| output.stdout).unwrap_or_default();
        if !all.trim().is_empty() {
            let ids: Vec<_> = all.lines().collect();
            let _ = self.attempt(&[&["rm", "-f"], &ids[..]].concat());
        }
        if let Some(process) = self.process.take() {
            let _ = process.signal(Signal::SIGTERM).and_then(|()| process.wait(LIMIT).map(drop));
        }
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let _ = std::fs::remove_dir(hierarchy.path().join("mesh-t-engine"));
        }
        let _ = std::fs::remove_dir("/sys/fs/cgroup/mesh-t-engine");
    }
}

#[test]
fn a_node_with_a_docker_engine_takes_part_as_any() {
    let _turn = turn();
    let bed = Bed::new(&Plan { nodes: 2, clients: 1, ..Plan::default() }).unwrap_or_else(|error| panic!("{error:#}"));
    let folder = bed.folder("engine").unwrap();
    let engine = Engine::start(&bed.nodes[1], &folder);
    let socket = engine.socket.clone();
    let mut nodes =
        swarm_on(bed, 1, |number| Runs { engine: (number == 1).then(|| socket.clone()), ..Runs::default() });
    nodes.docker(0, &["network", "create", "-d", "overlay", "net"]).unwrap();
    let publish = format!("{PORT}:{TARGET}");
    let fixed =
        ["service", "create", "-d", "-q", "--name", "web", "--mode", "global", "--network", "net", "-p", &publish];
    nodes
        .docker(0, &[&fixed[..], &["--restart-delay", "500ms", "--hostname", "{{.Node.Hostname}}", IMAGE]].concat())
        .unwrap();
    nodes.until_running(0, "web", 2).unwrap();
    let both = ["node1".to_owned(), "node2".to_owned()].into();
    assert_served(&nodes, PORT, &both);

    // The engine's own client sees the task; its node's API is the engine's where it is its business.
    let names = engine.names();
    assert!(names.len() == 1 && names[0].starts_with("web."), "{names:?}");
    assert_eq!(nodes.docker(1, &["ps", "--format", "{{.Names}}"]).unwrap(), names[0]);
    assert_eq!(nodes.docker(1, &["logs", &names[0]]).unwrap(), engine.docker(&["logs", &names[0]]));
    // Names of the network, by this node, in the container.
    let tasks =
        engine.docker(&["exec", &names[0], "/bin/sh", "-c", "while read line; do echo $line; done < /etc/resolv.conf"]);
    assert!(tasks.contains("nameserver 127.0.0.11"), "{tasks}");

    // Another daemon takes over what runs.
    nodes.nodes[1].kill().unwrap();
    nodes.nodes[1].start().unwrap();
    nodes.until_running(0, "web", 2).unwrap();
    assert_eq!(engine.names(), names, "the container was not taken over");
    assert_served(&nodes, PORT, &both);
    agree(&nodes, 0);

    // Ended by hand, as Swarm has it: the exit code says whether the task failed, and another takes its place.
    for (verb, state) in [(&["stop"][..], "Complete"), (&["kill"], "Failed")] {
        let before = engine.names();
        engine.docker(&[verb, &[before[0].as_str()]].concat());
        nodes
            .until("the end is told", |nodes| {
                let states = nodes.docker(0, &["service", "ps", "web", "--format", "{{.CurrentState}} {{.Error}}"])?;
                let is_it = |line: &str| line.starts_with(state) && (state != "Failed" || line.contains("exit (137)"));
                Ok(states.lines().any(is_it))
            })
            .unwrap();
        nodes
            .until("another container runs", |nodes| {
                let now = engine.names();
                Ok(now.len() == 1 && now != before && nodes.running(0, "web")?.len() == 2)
            })
            .unwrap();
        assert_served(&nodes, PORT, &both);
        agree(&nodes, 0);
    }

    nodes.docker(0, &["service", "rm", "web"]).unwrap();
    nodes.until("the container goes", |_| Ok(engine.docker(&["ps", "-aq"]).is_empty())).unwrap();
    drop((engine, nodes));
}
