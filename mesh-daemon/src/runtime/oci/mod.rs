//! The embedded runtime: containers by the command line of an OCI runtime, without an engine.
//!
//! A container is a directory. `record` says what lies in it and what that means; `rootfs` and `volumes`
//! make its file systems; `bundle` writes what the OCI runtime is told; [`shim`] is the process beside it,
//! which outlives the daemon. The daemon itself only starts shims, reads files and waits. Networks are the
//! caller's: a container joins a namespace that is there.

mod bundle;
mod cgroup;
mod control;
mod exec;
mod lifecycle;
mod logs;
mod record;
mod rootfs;
pub mod shim;
mod volumes;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::cgroup::Hierarchies;
use self::control::Control;
use self::logs::Place;
use self::record::{Directory, Phase, Record};
use self::volumes::Volumes;
use super::images::{Credentials, Described, Digest, ImageOptions, ImageStore, ImageSummary};
use super::turns::Turns;
use super::{
    Answer, Container, ContainerId, Description, Exec, ExecSession, Exit, Health, LogQuery, LogStream, NetworkOrder,
    Runtime, RuntimeError, Started, State, Stats, Status,
};

/// Between two looks for new lines of a container that runs.
const FOLLOW: Duration = Duration::from_millis(150);

/// Where the embedded runtime keeps what, and what it uses.
#[derive(Clone, Debug)]
pub struct OciOptions {
    /// Images, containers, logs, volumes.
    pub root: PathBuf,
    /// What the OCI runtime knows of containers that run; goes with a restart of the node.
    pub state: PathBuf,
    /// The OCI runtime. None: runc, crun or youki, the first that is installed.
    pub program: Option<PathBuf>,
    /// The program whose subcommand `shim` is [`shim::run`]: meshd itself.
    pub shim: PathBuf,
    /// The control group of all containers.
    pub cgroup_parent: String,
    /// What reaps orphans where a container asks for it. None: tini, if it is installed.
    pub init: Option<PathBuf>,
    /// How images are kept.
    pub images: ImageOptions,
}

impl OciOptions {
    /// The defaults below a directory.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self {
            images: ImageOptions::new(root.join("images")),
            root,
            state: "/run/mesh/oci".into(),
            program: None,
            shim: "/proc/self/exe".into(),
            cgroup_parent: "/mesh".to_owned(),
            init: None,
        }
    }
}

/// The embedded runtime. Dropping it leaves containers as they are.
pub struct OciRuntime(Arc<Inner>);

struct Inner {
    options: OciOptions,
    control: Control,
    version: String,
    host: bundle::Host,
    hierarchies: Hierarchies,
    images: ImageStore,
    volumes: Volumes,
    turns: Turns,
    health: Mutex<HashMap<ContainerId, watch::Receiver<Health>>>,
    /// Shims to reap and health checks; they end with the runtime.
    tasks: Mutex<JoinSet<()>>,
    execs: AtomicU64,
    clock: fn() -> Timestamp,
}

impl OciRuntime {
    /// Opens the runtime, and adopts what runs.
    ///
    /// # Errors
    /// There is no OCI runtime, or its directory holds what cannot be read.
    pub async fn open(options: OciOptions, clock: fn() -> Timestamp) -> Result<Self, RuntimeError> {
        let program = match &options.program {
            Some(program) => program.clone(),
            None => ["runc", "crun", "youki"].into_iter().find_map(control::find).unwrap_or_else(|| "runc".into()),
        };
        let containers = options.root.join("containers");
        // Images may hold programs that run as their owner whoever starts them.
        lifecycle::make_private(&options.root)?;
        for made in [&containers, &options.root.join("volumes"), &options.state] {
            fs::create_dir_all(made).map_err(RuntimeError::file("make", made))?;
        }
        let control = Control { program, state: options.state.clone() };
        let version = control.version()?;
        let hierarchies = Hierarchies::look();
        let host = lifecycle::host(&hierarchies, &version, &options.cgroup_parent);
        let used = Box::new(move || used(&containers));
        let images = ImageStore::open(options.images.clone(), clock, used)?;
        let volumes = Volumes { root: options.root.join("volumes") };
        let runtime = Self(Arc::new(Inner {
            control,
            version,
            host,
            hierarchies,
            images,
            volumes,
            turns: Turns::default(),
            health: Mutex::default(),
            tasks: Mutex::default(),
            execs: AtomicU64::default(),
            clock,
            options,
        }));
        runtime.0.adopt().await?;
        Ok(runtime)
    }

    /// The store of images, for what [`Runtime`] has no word for.
    #[must_use]
    pub fn image_store(&self) -> &ImageStore {
        &self.0.images
    }
}

/// The images that containers were made of.
fn used(containers: &Path) -> BTreeMap<Digest, String> {
    let entries = fs::read_dir(containers).into_iter().flatten().flatten();
    let record = |entry: fs::DirEntry| {
        let directory = Directory { path: entry.path() };
        let record: Record = record::read(&directory.record()).ok().flatten()?;
        Some((record.manifest, record.name))
    };
    entries.filter_map(record).collect()
}

impl Inner {
    fn directory(&self, id: &ContainerId) -> Directory {
        // An id is a name of ours; any other leads to a directory that is not there.
        let name = if id.0.bytes().all(|byte| byte.is_ascii_hexdigit()) { &id.0 } else { "-" };
        Directory { path: self.options.root.join("containers").join(name) }
    }

    fn directories(&self) -> Result<Vec<Directory>, RuntimeError> {
        let containers = self.options.root.join("containers");
        let entries = fs::read_dir(&containers).map_err(RuntimeError::file("list", &containers))?;
        Ok(entries.flatten().map(|entry| Directory { path: entry.path() }).collect())
    }

    fn record(&self, id: &ContainerId) -> Result<(Directory, Record), RuntimeError> {
        let directory = self.directory(id);
        let record = record::read(&directory.record())?.ok_or_else(|| RuntimeError::Unknown { id: id.clone() })?;
        Ok((directory, record))
    }

    fn group(&self, id: &ContainerId) -> String {
        format!("{}/{id}", self.options.cgroup_parent)
    }

    fn status(&self, directory: &Directory, record: Record) -> Result<Status, RuntimeError> {
        let state = match directory.phase()? {
            Phase::Is(state) => state,
            Phase::Lost => State::Exited(record::lost((self.clock)())),
        };
        let told = self.told().get(&record.id).map(|told| told.borrow().clone());
        let health = match (&state, &record.check) {
            (_, None) => Health::None,
            (_, Some(_)) if told.is_some() => told.unwrap_or_default(),
            (State::Created, Some(_)) => Health::Starting,
            (State::Running { .. } | State::Exited(_), Some(_)) => {
                record::read(&lifecycle::health_file(directory))?.unwrap_or(Health::Starting)
            }
        };
        Ok(Status {
            id: record.id,
            task: Some(record.task),
            name: record.name,
            labels: record.labels,
            image: record.image,
            image_id: record.image_id.to_string(),
            command: record.command,
            ports: record.ports,
            tty: record.tty,
            created: record.created,
            state,
            health,
        })
    }

    fn told(&self) -> MutexGuard<'_, HashMap<ContainerId, watch::Receiver<Health>>> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs something beside the callers, to its end or that of the runtime.
    fn beside(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(work);
    }

    fn exec(&self, id: &ContainerId, exec: &Exec) -> Result<exec::Ready, RuntimeError> {
        let (directory, _) = self.record(id)?;
        let configuration: serde_json::Value = record::read(&directory.configuration())?.unwrap_or_default();
        let accounts = rootfs::accounts(&directory)?;
        let process = bundle::exec_process(exec::process_of(&configuration), exec, &accounts)?;
        let number = self.execs.fetch_add(1, Ordering::Relaxed);
        let file = |kind: &str| directory.path.join(format!("exec-{number}.{kind}"));
        record::write(&file("json"), &process)?;
        Ok(exec::Ready {
            control: self.control.clone(),
            id: id.clone(),
            process: file("json"),
            pid_file: file("pid"),
            words: file("log"),
        })
    }
}

/// Work that may take long, beside the threads of the daemon.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RuntimeError> + Send + 'static,
) -> Result<T, RuntimeError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| RuntimeError::Thread)?
}

/// A reader of logs.
struct Reader {
    directory: Directory,
    query: LogQuery,
    place: Option<Place>,
    /// The container has ended: what is there is all.
    last: bool,
}

impl Reader {
    /// The next lines; none at the end.
    async fn next(mut self) -> Result<Option<(Vec<super::LogLine>, Self)>, RuntimeError> {
        loop {
            let (logs, query, place) = (self.directory.logs(), self.query.clone(), self.place);
            let read = move || {
                let at = place.map_or_else(|| logs::begin(&logs, &query), Ok)?;
                Ok((logs::read(&logs, &query, at)?, at))
            };
            let ((lines, next), at) = blocking(read).await?;
            self.place = Some(next);
            if next != at {
                return Ok(Some((lines, self)));
            }
            if self.last || !self.query.follow {
                return Ok(None);
            }
            match self.directory.phase()? {
                Phase::Is(State::Created | State::Running { .. }) if self.directory.record().exists() => {
                    tokio::time::sleep(FOLLOW).await;
                }
                // It may have written between our reading and its end.
                _ => self.last = true,
            }
        }
    }
}

impl Runtime for OciRuntime {
    fn description(&self) -> Description {
        let mut lacks = Vec::new();
        if !self.0.host.filters_calls {
            lacks.push(
                "system calls of containers are not filtered: the OCI runtime is built without seccomp".to_owned(),
            );
        }
        if !self.0.host.counts_swap {
            lacks.push("swap of containers is not limited: the kernel does not count it".to_owned());
        }
        let engine = self.0.version.lines().next().unwrap_or_default().to_owned();
        Description { name: "oci", engine, lacks }
    }

    fn network_order(&self) -> NetworkOrder {
        NetworkOrder::BeforeStart
    }

    fn prepare<'a>(&'a self, container: &'a Container) -> Answer<'a, ContainerId> {
        Box::pin(self.0.prepare(container))
    }

    fn start<'a>(&'a self, id: &'a ContainerId) -> Answer<'a, Started> {
        Box::pin(self.0.start(id))
    }

    fn wait<'a>(&'a self, id: &'a ContainerId) -> Answer<'a, Exit> {
        Box::pin(self.0.wait(id))
    }

    fn shutdown<'a>(&'a self, id: &'a ContainerId, grace: Option<Duration>) -> Answer<'a, Exit> {
        Box::pin(self.0.shutdown(id, grace))
    }

    fn kill<'a>(&'a self, id: &'a ContainerId, signal: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            self.0.record(id)?;
            self.0.control.kill(id, signal).await
        })
    }

    fn remove<'a>(&'a self, id: &'a ContainerId) -> Answer<'a, ()> {
        Box::pin(self.0.remove(id))
    }

    fn inspect<'a>(&'a self, id: &'a ContainerId) -> Answer<'a, Status> {
        Box::pin(async move {
            let (directory, record) = self.0.record(id)?;
            self.0.status(&directory, record)
        })
    }

    fn list(&self) -> Answer<'_, Vec<Status>> {
        Box::pin(async move {
            let mut all = Vec::new();
            for directory in self.0.directories()? {
                if let Some(record) = record::read(&directory.record())? {
                    all.push(self.0.status(&directory, record)?);
                }
            }
            all.sort_by_key(|status| status.created);
            Ok(all)
        })
    }

    fn health<'a>(&'a self, id: &'a ContainerId) -> Answer<'a, watch::Receiver<Health>> {
        Box::pin(async move {
            if let Some(told) = self.0.told().get(id) {
                return Ok(told.clone());
            }
            let (directory, record) = self.0.record(id)?;
            Ok(watch::channel(self.0.status(&directory, record)?.health).1)
        })
    }

    fn logs<'a>(&'a self, id: &'a ContainerId, query: LogQuery) -> Answer<'a, LogStream> {
        Box::pin(async move {
            let (directory, _) = self.0.record(id)?;
            let reader = Reader { directory, query, place: None, last: false };
            let batches = stream::try_unfold(reader, Reader::next);
            let lines = batches.flat_map(|batch| match batch {
                Ok(lines) => stream::iter(lines.into_iter().map(Ok).collect::<Vec<_>>()),
                Err(error) => stream::iter(vec![Err(error)]),
            });
            Ok(lines.boxed())
        })
    }

    fn stats<'a>(&'a self, id: &'a ContainerId) -> Answer<'a, Stats> {
        Box::pin(async move {
            let (directory, _) = self.0.record(id)?;
            let Phase::Is(State::Running { pid, .. }) = directory.phase()? else {
                return Err(RuntimeError::State { id: id.clone(), why: "is not running" });
            };
            let (group, of) = (self.0.group(id), &self.0.hierarchies);
            let (memory_bytes, memory_limit) = of.memory(&group);
            Ok(Stats {
                cpu_ns: of.cpu_ns(&group),
                memory_bytes,
                memory_limit,
                pids: of.pids(&group),
                network_bytes: cgroup::network_bytes(pid),
                disk_bytes: of.disk_bytes(&group),
            })
        })
    }

    fn exec<'a>(&'a self, id: &'a ContainerId, exec: Exec) -> Answer<'a, ExecSession> {
        Box::pin(async move {
            let (directory, _) = self.0.record(id)?;
            let Phase::Is(State::Running { .. }) = directory.phase()? else {
                return Err(RuntimeError::State { id: id.clone(), why: "is not running" });
            };
            self.0.exec(id, &exec)?.start(exec.stdin, exec.tty)
        })
    }

    fn images(&self) -> Answer<'_, Vec<ImageSummary>> {
        Box::pin(async move {
            let hold = self.0.images.hold().await;
            Ok(self.0.images.list(&hold)?)
        })
    }

    fn pull<'a>(&'a self, reference: &'a str, credentials: &'a Credentials) -> Answer<'a, ()> {
        Box::pin(async move {
            let hold = self.0.images.hold().await;
            self.0.images.pull(&hold, reference, credentials).await?;
            Ok(())
        })
    }

    fn load<'a>(&'a self, archive: &'a Path) -> Answer<'a, Vec<String>> {
        Box::pin(async move { Ok(self.0.images.import(archive, None).await?) })
    }

    fn remove_image<'a>(&'a self, reference: &'a str) -> Answer<'a, ()> {
        Box::pin(async move { Ok(self.0.images.remove(reference).await?) })
    }

    fn describe<'a>(&'a self, reference: &'a str, credentials: &'a Credentials) -> Answer<'a, Described> {
        Box::pin(async move { Ok(self.0.images.describe(reference, credentials).await?) })
    }

    fn leave(&self) -> Answer<'_, ()> {
        Box::pin(async move {
            for directory in self.0.directories()? {
                if let Some(record) = record::read::<Record>(&directory.record())? {
                    self.0.remove(&record.id).await?;
                }
            }
            self.0.hierarchies.remove_empty(&self.0.options.cgroup_parent);
            // Others may keep theirs there; it is empty where ours were alone.
            let _ = fs::remove_dir(&self.0.options.state);
            Ok(())
        })
    }

    fn collect_images(&self) -> Answer<'_, Vec<String>> {
        Box::pin(async move { Ok(self.0.images.collect().await?) })
    }
}
