//! From nothing to a container that runs, and back to nothing. Each step may be interrupted by the end of
//! the daemon: what is half made has no record, and goes at the next start.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::stat::Mode;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::net::unix::pipe;
use tokio::process::Command;
use tokio::sync::watch;

use super::bundle::{self, Host, Parts};
use super::cgroup::Hierarchies;
use super::control::{find, is_over};
use super::logs::Limits;
use super::record::{self, Directory, Phase, Record};
use super::shim::{Order, STARTED};
use super::volumes::Mounted;
use super::{Inner, blocking, rootfs};
use crate::runtime::health::{self, Check};
use crate::runtime::images::{Digest, Image};
use crate::runtime::{Container, ContainerId, Exec, Exit, Health, RuntimeError, Started, State};

/// An OCI runtime starts a container in tens of milliseconds; a node may be busy.
const START: Duration = Duration::from_secs(60);
/// From SIGKILL to the end.
const KILL: Duration = Duration::from_secs(10);

/// What this node can do.
pub(super) fn host(hierarchies: &Hierarchies, version: &str, cgroup_parent: &str) -> Host {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bounding = status.lines().find_map(|line| line.strip_prefix("CapBnd:")).unwrap_or_default();
    Host {
        unified: hierarchies.is_unified(),
        counts_swap: hierarchies.counts_swap(),
        // runc and youki name the library they are built with, crun the feature.
        filters_calls: version.contains("libseccomp") || version.contains("+SECCOMP"),
        capabilities: bundle::capabilities_of(u64::from_str_radix(bounding.trim(), 16).unwrap_or_default()),
        cgroup_parent: cgroup_parent.to_owned(),
    }
}

/// Where the health of a container is kept, for a daemon that comes back.
pub(super) fn health_file(directory: &Directory) -> PathBuf {
    directory.path.join("health.json")
}

/// The id of a task's container: the same whoever asks.
fn id_of(container: &Container) -> ContainerId {
    ContainerId(Digest::of(format!("task {}", container.task).as_bytes()).hex().to_owned())
}

impl Inner {
    pub(super) async fn prepare(self: &Arc<Self>, container: &Container) -> Result<ContainerId, RuntimeError> {
        let id = id_of(container);
        let _turn = self.turns.take(&id.0).await;
        let directory = self.directory(&id);
        if directory.record().exists() {
            return Ok(id);
        }
        let hold = self.images.hold().await;
        let image = self.images.ensure(&hold, &container.spec.image, &container.credentials).await?;
        self.images.unpack(&hold, &image).await?;
        let (inner, container, of) = (self.clone(), container.clone(), id.clone());
        let make = move || {
            let mut mounted = Mounted::default();
            let made =
                rootfs::remove(&directory).and_then(|()| inner.make(&directory, &of, &container, &image, &mut mounted));
            made.inspect_err(|_| {
                // The first error is the one to tell; what stays goes at the next start.
                let _ = inner.volumes.remove(&mounted.nameless);
                let _ = rootfs::remove(&directory);
            })
        };
        blocking(make).await?;
        drop(hold);
        Ok(id)
    }

    fn make(
        &self,
        directory: &Directory,
        id: &ContainerId,
        container: &Container,
        image: &Image,
        mounted: &mut Mounted,
    ) -> Result<(), RuntimeError> {
        let spec = &container.spec;
        check(container)?;
        let init = spec.init.unwrap_or(false).then(|| self.init()).transpose()?;
        make_private(&directory.path)?;
        rootfs::mount_root(directory, &self.images, image)?;
        let accounts = rootfs::accounts(directory)?;
        let hostname = bundle::hostname(&id.0, &spec.hostname);
        let mut binds = rootfs::mount_files(directory, container, &hostname, &accounts)?;
        self.volumes.mount(directory, &id.0, container, &image.config, mounted)?;
        // What the user mounts stands before what we make, in the same place.
        binds.retain(|bind| mounted.binds.iter().all(|other| other.target != bind.target));
        binds.extend(mounted.binds.iter().cloned());
        let parts = Parts {
            id: &id.0,
            container,
            image: &image.config,
            accounts: &accounts,
            binds: &binds,
            init: init.as_deref(),
            host: &self.host,
        };
        record::write(&directory.configuration(), &bundle::configuration(&parts)?)?;
        nix::unistd::mkfifo(&directory.alive(), Mode::from_bits_truncate(0o600))
            .map_err(|errno| RuntimeError::file("make", &directory.alive())(errno.into()))?;
        let check = Check::of(spec.healthcheck.as_ref(), image.config.healthcheck.as_ref());
        let signals = [spec.stop_signal.as_str(), image.config.stop_signal.as_deref().unwrap_or_default(), "SIGTERM"];
        let order = self.order(id, container)?;
        record::write(&directory.path.join("order.json"), &order)?;
        let record = Record {
            id: id.clone(),
            task: container.task,
            name: container.name.clone(),
            labels: container.labels.clone(),
            image: spec.image.clone(),
            image_id: image.id.clone(),
            manifest: image.manifest.clone(),
            command: bundle::command(spec, &image.config)?,
            ports: image.config.exposed_ports.iter().flat_map(|ports| ports.keys().cloned()).collect(),
            tty: spec.tty,
            created: (self.clock)(),
            stop_signal: signals.iter().find(|signal| !signal.is_empty()).copied().unwrap_or_default().to_owned(),
            grace_ms: u64::try_from(spec.stop_grace().as_millis()).unwrap_or(u64::MAX),
            check,
            netns: container.netns.clone(),
            volumes: mounted.nameless.clone(),
        };
        record::write(&directory.record(), &record)
    }

    fn order(&self, id: &ContainerId, container: &Container) -> Result<Order, RuntimeError> {
        Ok(Order {
            program: self.control.program.clone(),
            state: self.control.state.clone(),
            id: id.0.clone(),
            group: self.group(id),
            tty: container.spec.tty,
            stdin: container.spec.open_stdin,
            log: Limits::of(container.log.as_ref())?,
        })
    }

    fn init(&self) -> Result<PathBuf, RuntimeError> {
        let named = self.options.init.clone();
        // Those that need no library of the image.
        let found = named.or_else(|| ["tini-static", "docker-init", "catatonit"].into_iter().find_map(find));
        found.ok_or_else(|| RuntimeError::spec("Init", "no init program is installed on this node: install tini"))
    }

    pub(super) async fn start(self: &Arc<Self>, id: &ContainerId) -> Result<Started, RuntimeError> {
        let _turn = self.turns.take(&id.0).await;
        let (directory, record) = self.record(id)?;
        match directory.phase()? {
            Phase::Is(State::Created) => {}
            Phase::Is(State::Running { pid, .. }) => return Ok(started(pid, &record)),
            Phase::Is(State::Exited(_)) | Phase::Lost => {
                return Err(RuntimeError::State { id: id.clone(), why: "has run already: a container runs once" });
            }
        }
        let order = directory.path.join("order.json");
        fs::rename(&order, directory.shim()).map_err(RuntimeError::file("put in place", &directory.shim()))?;
        let said = self.spawn_shim(&directory, id).await?;
        if said != STARTED {
            return Err(RuntimeError::Refused { act: "start", id: id.clone(), said });
        }
        let Phase::Is(State::Running { pid, .. }) = directory.phase()? else {
            // It was short.
            let pid = record::read::<record::Running>(&directory.running())?.map_or(0, |running| running.pid);
            return Ok(started(pid, &record));
        };
        self.watch_health(&directory, &record, Duration::ZERO)?;
        Ok(started(pid, &record))
    }

    /// Starts the process beside a container; returns the one line that it says.
    async fn spawn_shim(&self, directory: &Directory, id: &ContainerId) -> Result<String, RuntimeError> {
        let program = self.options.shim.clone();
        let mut command = Command::new(&program);
        command.args(["shim", "--directory"]).arg(&directory.path).current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|source| RuntimeError::Program { program, source })?;
        let stdout = child.stdout.take();
        // It outlives us; while we are here, it is our child to reap.
        self.beside(async move {
            let _ = child.wait().await;
        });
        let mut line = String::new();
        if let Some(stdout) = stdout {
            let mut stdout = BufReader::new(stdout.take(64 << 10));
            let read = stdout.read_line(&mut line);
            let late = |_| RuntimeError::Timeout { act: "start", id: id.clone(), seconds: START.as_secs() };
            tokio::time::timeout(START, read)
                .await
                .map_err(late)?
                .map_err(RuntimeError::file("hear the shim of", &directory.path))?;
        }
        let line = line.trim();
        Ok(if line.is_empty() { "its shim ended without a word".to_owned() } else { line.to_owned() })
    }

    pub(super) async fn wait(&self, id: &ContainerId) -> Result<Exit, RuntimeError> {
        loop {
            let (directory, _) = self.record(id)?;
            match directory.phase()? {
                Phase::Is(State::Exited(exit)) => return Ok(exit),
                Phase::Is(State::Created) => {
                    return Err(RuntimeError::State { id: id.clone(), why: "was not started" });
                }
                Phase::Is(State::Running { .. }) => gone(&directory).await?,
                Phase::Lost => self.bury(&directory, id).await?,
            }
        }
    }

    /// Ends what a lost shim left, and says so.
    async fn bury(&self, directory: &Directory, id: &ContainerId) -> Result<(), RuntimeError> {
        self.control.delete(id).await?;
        record::write(&directory.exit(), &record::lost((self.clock)()))
    }

    pub(super) async fn shutdown(&self, id: &ContainerId, grace: Option<Duration>) -> Result<Exit, RuntimeError> {
        let (directory, record) = self.record(id)?;
        if directory.phase()? == Phase::Is(State::Created) {
            let _turn = self.turns.take(&id.0).await;
            if directory.phase()? == Phase::Is(State::Created) {
                let error = Some("it was stopped before it was started".to_owned());
                record::write(&directory.exit(), &Exit { code: 0, oom_killed: false, error, at: (self.clock)() })?;
            }
        }
        if let Phase::Is(State::Exited(exit)) = directory.phase()? {
            return Ok(exit);
        }
        let asked = match self.control.kill(id, &record.stop_signal).await {
            Err(RuntimeError::Refused { said, .. }) if !is_over(&said) => {
                tracing::warn!(container = %record.name, signal = record.stop_signal, said, "cannot be asked to stop");
                false
            }
            Err(RuntimeError::Refused { .. }) | Ok(()) => true,
            Err(other) => return Err(other),
        };
        let own = || Duration::from_millis(record.grace_ms);
        let grace = if asked { grace.unwrap_or_else(own) } else { Duration::ZERO };
        if let Ok(exit) = tokio::time::timeout(grace, self.wait(id)).await {
            return exit;
        }
        match self.control.kill(id, "SIGKILL").await {
            Err(RuntimeError::Refused { said, .. }) if is_over(&said) => {}
            other => other?,
        }
        let late = |_| RuntimeError::Timeout { act: "kill", id: id.clone(), seconds: KILL.as_secs() };
        tokio::time::timeout(KILL, self.wait(id)).await.map_err(late)?
    }

    pub(super) async fn remove(self: &Arc<Self>, id: &ContainerId) -> Result<(), RuntimeError> {
        let _turn = self.turns.take(&id.0).await;
        let (directory, record) = match self.record(id) {
            Ok(found) => found,
            Err(RuntimeError::Unknown { .. }) => return Ok(()),
            Err(other) => return Err(other),
        };
        if !matches!(directory.phase()?, Phase::Is(State::Created | State::Exited(_))) {
            self.control.delete(id).await?;
            // The shim says its last word and goes.
            let late = |_| RuntimeError::Timeout { act: "remove", id: id.clone(), seconds: KILL.as_secs() };
            tokio::time::timeout(KILL, self.wait(id)).await.map_err(late)??;
        }
        self.control.delete(id).await?;
        self.told().remove(id);
        let volumes = self.volumes.clone();
        blocking(move || {
            volumes.remove(&record.volumes)?;
            // Without a record it is no container: what is left after a crash here goes at the next start.
            let path = directory.record();
            fs::remove_file(&path).map_err(RuntimeError::file("remove", &path))?;
            rootfs::remove(&directory)
        })
        .await
    }

    /// Takes over what an earlier daemon left: sweeps what is half made or half removed, says of what is
    /// lost that it is, and goes on with health checks.
    pub(super) async fn adopt(self: &Arc<Self>) -> Result<(), RuntimeError> {
        for directory in self.directories()? {
            let Some(record) = record::read::<Record>(&directory.record())? else {
                let id = directory.path.file_name().map(|name| name.to_string_lossy().into_owned());
                self.control.delete(&ContainerId(id.unwrap_or_default())).await?;
                blocking(move || rootfs::remove(&directory)).await?;
                continue;
            };
            match directory.phase()? {
                Phase::Is(State::Running { since, .. }) => {
                    let age = Duration::try_from((self.clock)().duration_since(since)).unwrap_or_default();
                    self.watch_health(&directory, &record, age)?;
                }
                Phase::Lost => self.bury(&directory, &record.id).await?,
                Phase::Is(State::Created | State::Exited(_)) => {}
            }
        }
        Ok(())
    }

    fn watch_health(
        self: &Arc<Self>,
        directory: &Directory,
        record: &Record,
        age: Duration,
    ) -> Result<(), RuntimeError> {
        let Some(check) = record.check.clone() else { return Ok(()) };
        let file = health_file(directory);
        let first = record::read(&file)?.unwrap_or(Health::Starting);
        let (tell, told) = watch::channel(first);
        self.told().insert(record.id.clone(), told.clone());
        // Not the runtime itself: its tasks end with it.
        let (weak, directory, id) = (Arc::downgrade(self), directory.clone(), record.id.clone());
        let ends = directory.clone();
        let command = Exec { command: check.command.clone(), ..Exec::default() };
        let limit = check.timeout;
        let probe = move || {
            let ready = weak.upgrade().map(|inner| inner.exec(&id, &command));
            async move {
                match ready {
                    Some(Ok(ready)) => ready.probe(limit).await,
                    Some(Err(error)) => health::Probed { well: false, output: error.to_string() },
                    None => health::Probed { well: false, output: "the daemon ends".to_owned() },
                }
            }
        };
        let mut changes = told;
        let keep = async move {
            while changes.changed().await.is_ok() {
                let health = changes.borrow_and_update().clone();
                if let Err(error) = record::write(&file, &health) {
                    tracing::warn!(%error, "the health of a container is not kept");
                }
            }
        };
        self.beside(async move {
            tokio::select! {
                () = health::watch(check, age, tell, probe) => {}
                () = keep => {}
                _ = gone(&ends) => {}
            }
        });
        Ok(())
    }
}

/// Waits until the shim of a container is gone.
async fn gone(directory: &Directory) -> Result<(), RuntimeError> {
    let alive = directory.alive();
    let mut fifo = pipe::OpenOptions::new().open_receiver(&alive).map_err(RuntimeError::file("open", &alive))?;
    // Only now: were it gone before we opened the FIFO, its end would never be seen there.
    let Phase::Is(State::Running { .. }) = directory.phase()? else { return Ok(()) };
    let mut nothing = [0; 1];
    fifo.read(&mut nothing).await.map(drop).map_err(RuntimeError::file("read", &alive))
}

/// Refuses what would otherwise be left out without a word.
fn check(container: &Container) -> Result<(), RuntimeError> {
    Limits::of(container.log.as_ref())?;
    let privileges = &container.spec.privileges;
    if privileges.selinux.as_ref().is_some_and(|context| !context.disable) {
        return Err(RuntimeError::Unsupported { what: "an SELinux context", runtime: "oci" });
    }
    if !matches!(container.spec.isolation.as_str(), "" | "default") {
        let why = format!("\"{}\" is not known on Linux", container.spec.isolation);
        return Err(RuntimeError::spec("Isolation", why));
    }
    Ok(())
}

fn started(pid: u32, record: &Record) -> Started {
    let netns = record.netns.clone().unwrap_or_else(|| format!("/proc/{pid}/ns/net").into());
    Started { pid, netns }
}

/// A directory that only root may enter: what containers write is theirs.
pub(super) fn make_private(path: &std::path::Path) -> Result<(), RuntimeError> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o710).create(path).map_err(RuntimeError::file("make", path))
}
