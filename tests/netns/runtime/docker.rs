//! A Docker Engine: the suite, and what its own client sees and does.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mesh_daemon::runtime::docker::DockerRuntime;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::bed::{Bed, LIMIT, container, is_running, options, shell, threads};
use super::{lifecycle, process, run_all};

/// An engine of our own, which ends with this value.
struct Engine {
    dockerd: Child,
    socket: PathBuf,
}

impl Engine {
    fn start(files: &TempDir) -> Self {
        let path = |name: &str| files.path().join(name);
        let log = std::fs::File::create(path("dockerd.log")).unwrap();
        let socket = path("docker.sock");
        let mut command = Command::new("dockerd");
        command.arg("--data-root").arg(path("data")).arg("--exec-root").arg(path("exec"));
        command.arg("--pidfile").arg(path("pid")).arg("--host").arg(format!("unix://{}", socket.display()));
        command.arg("--cgroup-parent").arg(options(files).cgroup_parent);
        // It has no network, so that it touches nothing of the machine's.
        command.args(["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-masq=false"]);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let mut engine = Self { dockerd: command.spawn().expect("docker.io is installed"), socket };
        let deadline = Instant::now() + LIMIT;
        while !engine.answers() {
            let ended = engine.dockerd.try_wait().unwrap();
            let said = || std::fs::read_to_string(path("dockerd.log")).unwrap_or_default();
            assert!(ended.is_none() && Instant::now() < deadline, "dockerd does not start:\n{}", said());
            std::thread::sleep(Duration::from_millis(50));
        }
        engine
    }

    fn answers(&self) -> bool {
        self.socket.exists() && self.docker(&["version"]).is_ok()
    }

    fn docker(&self, args: &[&str]) -> Result<String, String> {
        let mut command = Command::new("docker");
        let output =
            command.arg("--host").arg(format!("unix://{}", self.socket.display())).args(args).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.dockerd.id().cast_signed()), Signal::SIGTERM);
        let deadline = Instant::now() + LIMIT;
        while Instant::now() < deadline {
            if !matches!(self.dockerd.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.dockerd.kill();
        let _ = self.dockerd.wait();
    }
}

/// The bed is dropped first: its containers go while the engine is there.
fn bed() -> (Bed, Engine) {
    harness::require_root().unwrap();
    let files = tempfile::Builder::new().prefix("mesh-rt-").tempdir().unwrap();
    let engine = Engine::start(&files);
    let tokio = threads();
    let runtime = tokio.block_on(DockerRuntime::open(&engine.socket, files.path())).unwrap();
    let bed = Bed::over(files, tokio, Arc::new(runtime));
    bed.load(&shell());
    (bed, engine)
}

#[test]
fn a_docker_engine_behaves() {
    let (bed, engine) = bed();
    run_all(&bed, &[lifecycle::ALL, lifecycle::CHECKED, process::ALL].concat());
    what_its_client_sees_and_does(&bed, &engine);
    drop((engine, bed));
}

fn what_its_client_sees_and_does(bed: &Bed, engine: &Engine) {
    let wanted = container("echo hello; exec sleep 1000");
    let id = bed.block_on(bed.start(&wanted));
    assert!(engine.docker(&["ps", "--format", "{{.Names}}"]).unwrap().contains(&wanted.name));
    assert_eq!(engine.docker(&["logs", &wanted.name]).unwrap(), "hello\n");
    // Another's container on the same engine is none of ours.
    engine
        .docker(&["run", "--detach", "--name", "theirs", "--net", "none", "shell:1", "sh", "-c", "sleep 1000"])
        .unwrap();
    let all = bed.block_on(bed.runtime.list()).unwrap();
    assert!(all.iter().any(is_running) && all.iter().all(|status| status.name != "theirs"), "{all:?}");
    engine.docker(&["stop", "--time", "0", &wanted.name]).unwrap();
    let exit = bed.block_on(bed.runtime.wait(&id)).unwrap();
    assert_eq!(exit.code, 137);
    engine.docker(&["rm", "--force", "theirs"]).unwrap();
    bed.block_on(bed.runtime.remove(&id)).unwrap();
    assert!(!engine.docker(&["ps", "--all", "--format", "{{.Names}}"]).unwrap().contains(&wanted.name));
}
