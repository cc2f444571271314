//! A runtime under test, an image with a shell, and containers that are removed in the end.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use harness::image::{Image, ImagePlan};
use jiff::Timestamp;
use mesh_daemon::model::container::ContainerSpec;
use mesh_daemon::model::id::TaskId;
use mesh_daemon::runtime::fake::{FakeRuntime, Script};
use mesh_daemon::runtime::oci::{OciOptions, OciRuntime};
use mesh_daemon::runtime::{
    Container, ContainerId, Exec, Exit, LogQuery, Runtime, RuntimeError, State, Status, Stream,
};
use tempfile::TempDir;

/// The image that all containers of the suite are made of.
pub(super) const SHELL: &str = "shell:1";
/// More than anything here takes on a machine that others use too.
pub(super) const LIMIT: Duration = Duration::from_secs(30);

static TASKS: AtomicU64 = AtomicU64::new(1);

/// A runtime and what it stands on.
pub(super) struct Bed {
    pub(super) runtime: Arc<dyn Runtime>,
    pub(super) files: TempDir,
    tokio: tokio::runtime::Runtime,
}

impl Bed {
    /// The embedded runtime, in a directory of its own.
    pub(super) fn oci() -> Self {
        harness::require_root().unwrap();
        let files = tempfile::Builder::new().prefix("mesh-rt-").tempdir().unwrap();
        let tokio = threads();
        let runtime = tokio.block_on(OciRuntime::open(options(&files), Timestamp::now)).unwrap();
        let bed = Self { runtime: Arc::new(runtime), files, tokio };
        bed.load(&shell());
        bed
    }

    /// A runtime over these files that another made.
    pub(super) fn over(files: TempDir, tokio: tokio::runtime::Runtime, runtime: Arc<dyn Runtime>) -> Self {
        Self { runtime, files, tokio }
    }

    /// Lets the runtime go, as at the end of a daemon, and opens another in its place.
    pub(super) fn restart(&mut self) {
        self.runtime = Arc::new(FakeRuntime::new(Timestamp::UNIX_EPOCH, Box::new(|_| Script::default())));
        std::mem::replace(&mut self.tokio, threads()).shutdown_timeout(Duration::from_secs(5));
        let runtime = self.tokio.block_on(OciRuntime::open(options(&self.files), Timestamp::now)).unwrap();
        self.runtime = Arc::new(runtime);
    }

    pub(super) fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.tokio.block_on(async { tokio::time::timeout(LIMIT * 4, work).await.expect("it never ends") })
    }

    pub(super) fn load(&self, image: &Image) -> Vec<String> {
        let path = self.files.path().join("image.tar");
        image.write_tar(std::fs::File::create(&path).unwrap()).unwrap();
        let names = self.block_on(self.runtime.load(&path)).unwrap();
        std::fs::remove_file(path).unwrap();
        names
    }

    /// Prepares and starts.
    pub(super) async fn start(&self, container: &Container) -> ContainerId {
        let id = self.runtime.prepare(container).await.unwrap();
        self.runtime.start(&id).await.unwrap();
        id
    }

    /// Runs a shell line to its end, and removes the container; its exit and what it wrote.
    pub(super) async fn run(&self, container: &Container) -> (Exit, String, String) {
        let id = self.start(container).await;
        let exit = self.runtime.wait(&id).await.unwrap();
        let (out, err) = self.written(&id).await;
        self.runtime.remove(&id).await.unwrap();
        (exit, out, err)
    }

    /// What a container wrote to its two outputs.
    pub(super) async fn written(&self, id: &ContainerId) -> (String, String) {
        let mut lines = self.runtime.logs(id, LogQuery::default()).await.unwrap();
        let (mut out, mut err) = (String::new(), String::new());
        while let Some(line) = lines.next().await {
            let line = line.unwrap();
            let text = String::from_utf8_lossy(&line.text).into_owned();
            match line.stream {
                Stream::Stdout => out.push_str(&text),
                Stream::Stderr => err.push_str(&text),
            }
        }
        (out, err)
    }

    /// Runs a program in a container; its exit code and what it wrote.
    pub(super) async fn exec(&self, id: &ContainerId, line: &str) -> (i32, String) {
        let exec = Exec { command: words(&["/bin/sh", "-c", line]), ..Exec::default() };
        let mut session = self.runtime.exec(id, exec).await.unwrap();
        let mut text = Vec::new();
        while let Some(piece) = session.output.next().await {
            text.extend_from_slice(&piece.unwrap().bytes);
        }
        (session.exit.await.unwrap(), String::from_utf8_lossy(&text).into_owned())
    }

    pub(super) async fn status(&self, id: &ContainerId) -> Status {
        self.runtime.inspect(id).await.unwrap()
    }

    /// Asks again until it is so.
    pub(super) async fn until(&self, what: &str, mut so: impl AsyncFnMut() -> bool) {
        let deadline = Instant::now() + LIMIT;
        while !so().await {
            assert!(Instant::now() < deadline, "not within {LIMIT:?}: {what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let runtime = self.runtime.clone();
        self.tokio.block_on(async move {
            for status in runtime.list().await.unwrap_or_default() {
                let _ = runtime.remove(&status.id).await;
            }
        });
        // Of the embedded runtime, the empty groups of its containers are left; leaving is a test of its own.
        let group = options(&self.files).cgroup_parent;
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let _ = std::fs::remove_dir(hierarchy.path().join(group.trim_start_matches('/')));
        }
    }
}

pub(super) fn threads() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

pub(super) fn options(files: &TempDir) -> OciOptions {
    OciOptions {
        state: files.path().join("state"),
        shim: harness::program("meshd").unwrap(),
        cgroup_parent: format!("/{}", files.path().file_name().unwrap().to_str().unwrap()),
        ..OciOptions::new(files.path().join("oci"))
    }
}

/// An image with busybox as its shell, and a user.
pub(super) fn shell() -> Image {
    let busybox = std::fs::read("/bin/busybox").expect("busybox-static is installed");
    let file = |name: &str, content: &[u8], mode| (name.to_owned(), content.to_vec(), mode);
    Image::pack(&ImagePlan {
        reference: SHELL.to_owned(),
        files: vec![
            file("bin/sh", &busybox, 0o755),
            file("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n", 0o644),
            file("etc/group", b"root:x:0:\nteam:x:1001:\nextra:x:1002:app\n", 0o644),
            file("data/seed", b"seed\n", 0o640),
        ],
        entrypoint: vec![],
        env: vec!["FROM_IMAGE=1".to_owned()],
        exposed_ports: vec![],
    })
    .unwrap()
}

pub(super) fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// A container that runs a line of the shell.
pub(super) fn container(line: &str) -> Container {
    let number = TASKS.fetch_add(1, Ordering::Relaxed);
    let task = TaskId::from_u128(u128::from(std::process::id()) << 64 | u128::from(number));
    let spec = ContainerSpec {
        image: SHELL.to_owned(),
        command: words(&["/bin/sh", "-c", line]),
        stop_grace: Some(Duration::from_secs(1)),
        ..ContainerSpec::default()
    };
    Container {
        labels: [("com.docker.swarm.task.id".to_owned(), task.to_string())].into(),
        nameservers: vec!["127.0.0.11".parse().unwrap()],
        ..Container::new(task, format!("test.{number}.{task}"), spec)
    }
}

pub(super) fn is_running(status: &Status) -> bool {
    matches!(status.state, State::Running { .. })
}

/// The text of an error and all its causes.
pub(super) fn text(error: &RuntimeError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

pub(super) fn directory(bed: &Bed) -> PathBuf {
    bed.files.path().join("oci")
}
