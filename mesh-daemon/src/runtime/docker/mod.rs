//! A Docker Engine as runtime, over its own socket: containers that `docker ps` shows and `docker stop` stops.
//!
//! Containers have the network `none`; the caller puts links into their namespace once they run. Of the
//! engine's containers only those with our label are seen. Its images are its owner's: none is removed here
//! unless asked for by name.

mod body;
mod seen;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bollard::Docker;
use bollard::auth::DockerCredentials;
use bollard::errors::Error as EngineError;
use bollard::exec::{StartExecOptions, StartExecResults};
use bollard::models::{ContainerInspectResponse, ExecConfig};
use bollard::query_parameters::{
    CreateContainerOptions, CreateImageOptions, EventsOptions, ImportImageOptions, KillContainerOptions,
    ListContainersOptions, ListImagesOptions, LogsOptions, RemoveContainerOptions, RemoveImageOptions,
    ResizeExecOptions, StartContainerOptions, StatsOptions, WaitContainerOptions,
};
use futures_util::stream::{self, StreamExt as _};
use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use self::body::TASK;
use super::files;
use super::images::{Credentials, Described, Digest, ImageSummary};
use super::{
    Answer, Container, ContainerId, Description, Exec, ExecSession, Exit, Health, LogQuery, LogStream, NetworkOrder,
    Output, Runtime, RuntimeError, Size, Started, State, Stats, Status, Stream,
};

/// For an answer of the engine; what waits for a container asks again.
const ANSWER_SECONDS: u64 = 120;
/// From SIGKILL to the end.
const KILL: Duration = Duration::from_secs(10);
/// How often an exec is looked at.
const LOOK: Duration = Duration::from_millis(30);
/// Health is looked at when the engine tells of it, and so often.
const HEALTH: Duration = Duration::from_secs(2);

/// The runtime over an engine.
pub struct DockerRuntime {
    docker: Docker,
    version: String,
    /// Secrets and configs of containers, in memory.
    files: PathBuf,
    tasks: Mutex<JoinSet<()>>,
}

impl DockerRuntime {
    /// Speaks to the engine behind a socket. `root` is a directory for secrets and configs.
    ///
    /// # Errors
    /// Nobody answers there.
    pub async fn open(socket: &Path, root: &Path) -> Result<Self, RuntimeError> {
        let failed = failed(format!("reach the engine at {}", socket.display()));
        let path = socket.to_string_lossy();
        let docker = Docker::connect_with_unix(&path, ANSWER_SECONDS, bollard::API_DEFAULT_VERSION).map_err(&failed)?;
        let docker = docker.negotiate_version().await.map_err(&failed)?;
        let version = docker.version().await.map_err(&failed)?.version.unwrap_or_default();
        Ok(Self { docker, version, files: root.join("files"), tasks: Mutex::default() })
    }

    async fn seen(&self, id: &ContainerId) -> Result<ContainerInspectResponse, RuntimeError> {
        self.docker.inspect_container(&id.0, None).await.map_err(|error| of(id, "inspect", error))
    }

    async fn status(&self, id: &ContainerId) -> Result<Status, RuntimeError> {
        Ok(seen::status(id.clone(), self.seen(id).await?))
    }

    /// Our containers, or that of a task.
    async fn find(&self, task: Option<&str>) -> Result<Vec<ContainerId>, RuntimeError> {
        let label = task.map_or_else(|| TASK.to_owned(), |task| format!("{TASK}={task}"));
        let filters = HashMap::from([("label".to_owned(), vec![label])]);
        let options = ListContainersOptions { all: true, filters: Some(filters), ..ListContainersOptions::default() };
        let found = self.docker.list_containers(Some(options)).await.map_err(failed("list containers"))?;
        Ok(found.into_iter().filter_map(|container| container.id.map(ContainerId)).collect())
    }

    async fn ensure_image(&self, reference: &str, credentials: &Credentials) -> Result<(), RuntimeError> {
        match self.docker.inspect_image(&by_digest(reference)).await {
            Ok(_) => Ok(()),
            Err(error) if is(&error, 404) => self.fetch(reference, credentials).await,
            Err(error) => Err(failed(format!("look at image {reference}"))(error)),
        }
    }

    async fn fetch(&self, reference: &str, credentials: &Credentials) -> Result<(), RuntimeError> {
        // Without a tag the engine fetches all of them.
        let from = if reference.contains('@') || has_tag(reference) {
            by_digest(reference)
        } else {
            format!("{reference}:latest")
        };
        let options = CreateImageOptions { from_image: Some(from), ..CreateImageOptions::default() };
        let mut progress = self.docker.create_image(Some(options), None, for_engine(credentials));
        while let Some(step) = progress.next().await {
            step.map_err(failed(format!("pull image {reference}")))?;
        }
        Ok(())
    }

    async fn make(&self, container: &Container) -> Result<ContainerId, RuntimeError> {
        let task = container.task.to_string();
        if let Some(id) = self.find(Some(&task)).await?.pop() {
            return Ok(id);
        }
        self.ensure_image(&container.spec.image, &container.credentials).await?;
        let memory = self.files.join(&task);
        let placed = if container.secrets.is_empty() && container.configs.is_empty() {
            Vec::new()
        } else {
            files::unmount(&memory)?;
            files::mount(&memory, container)?;
            files::place(&memory, container, numbers)?
        };
        let mut body = body::create(container, &placed)?;
        body.image = Some(by_digest(&container.spec.image));
        let options =
            CreateContainerOptions { name: Some(container.name.clone()), ..CreateContainerOptions::default() };
        match self.docker.create_container(Some(options), body).await {
            Ok(made) => Ok(ContainerId(made.id)),
            Err(error) => {
                self.forget_files(&task)?;
                Err(failed(format!("make container {}", container.name))(error))
            }
        }
    }

    fn forget_files(&self, task: &str) -> Result<(), RuntimeError> {
        let memory = self.files.join(task);
        files::unmount(&memory)?;
        match std::fs::remove_dir(&memory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(RuntimeError::file("remove", &memory)(error))
            }
            _ => Ok(()),
        }
    }

    async fn run(&self, id: &ContainerId) -> Result<Started, RuntimeError> {
        let state = self.status(id).await?.state;
        if let State::Exited(_) = state {
            return Err(RuntimeError::State { id: id.clone(), why: "has run already: a container runs once" });
        }
        if state == State::Created {
            let started = self.docker.start_container(&id.0, None::<StartContainerOptions>).await;
            started.map_err(|error| of(id, "start", error))?;
        }
        let pid = match self.status(id).await?.state {
            State::Running { pid, .. } => pid,
            // It was short.
            State::Created | State::Exited(_) => 0,
        };
        Ok(Started { pid, netns: format!("/proc/{pid}/ns/net").into() })
    }

    async fn ended(&self, id: &ContainerId) -> Result<Exit, RuntimeError> {
        loop {
            match self.status(id).await?.state {
                State::Exited(exit) => return Ok(exit),
                State::Created => return Err(RuntimeError::State { id: id.clone(), why: "was not started" }),
                State::Running { .. } => {}
            }
            // Whatever it answers, an end or that it took too long to come: we look again.
            let mut waiting = self.docker.wait_container(&id.0, None::<WaitContainerOptions>);
            if let Some(Err(error)) = waiting.next().await
                && is(&error, 404)
            {
                return Err(of(id, "wait for", error));
            }
        }
    }

    async fn signal(&self, id: &ContainerId, signal: &str) -> Result<(), RuntimeError> {
        let options = KillContainerOptions { signal: signal.to_owned() };
        self.docker.kill_container(&id.0, Some(options)).await.map_err(|error| of(id, "kill", error))
    }

    async fn stop(&self, id: &ContainerId, grace: Option<Duration>) -> Result<Exit, RuntimeError> {
        let seen = self.seen(id).await?;
        let config = seen.config.clone().unwrap_or_default();
        match seen::status(id.clone(), seen).state {
            State::Exited(exit) => return Ok(exit),
            State::Created => {
                let error = Some("it was stopped before it was started".to_owned());
                return Ok(Exit { code: 0, oom_killed: false, error, at: Timestamp::UNIX_EPOCH });
            }
            State::Running { .. } => {}
        }
        let own = config.stop_timeout.and_then(|grace| u64::try_from(grace).ok()).unwrap_or(10);
        let grace = grace.unwrap_or(Duration::from_secs(own));
        // It may have ended meanwhile, or know no such signal: what counts is whether it ends.
        if let Err(error) = self.signal(id, config.stop_signal.as_deref().unwrap_or("SIGTERM")).await {
            tracing::debug!(container = %id, %error, "cannot be asked to stop");
        }
        if let Ok(exit) = tokio::time::timeout(grace, self.ended(id)).await {
            return exit;
        }
        if let Err(error) = self.signal(id, "SIGKILL").await {
            tracing::debug!(container = %id, %error, "cannot be killed");
        }
        let late = |_| RuntimeError::Timeout { act: "kill", id: id.clone(), seconds: KILL.as_secs() };
        tokio::time::timeout(KILL, self.ended(id)).await.map_err(late)?
    }

    async fn unmake(&self, id: &ContainerId) -> Result<(), RuntimeError> {
        let task = match self.status(id).await {
            Ok(status) => status.task,
            Err(RuntimeError::Unknown { .. }) => return Ok(()),
            Err(other) => return Err(other),
        };
        let options = RemoveContainerOptions { v: true, force: true, ..RemoveContainerOptions::default() };
        match self.docker.remove_container(&id.0, Some(options)).await {
            Ok(()) => {}
            // Gone, or going by somebody else's hand.
            Err(error) if is(&error, 404) || is(&error, 409) => {}
            Err(error) => return Err(of(id, "remove", error)),
        }
        task.map_or(Ok(()), |task| self.forget_files(&task.to_string()))
    }

    async fn session(&self, id: &ContainerId, exec: Exec) -> Result<ExecSession, RuntimeError> {
        let filled = |text: String| Some(text).filter(|text| !text.is_empty());
        let config = ExecConfig {
            attach_stdin: Some(exec.stdin),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            tty: Some(exec.tty.is_some()),
            // Engines before API 1.42 do not know it: they are told after the start.
            console_size: exec.tty.map(|size| vec![usize::from(size.rows), usize::from(size.columns)]),
            env: Some(exec.env),
            cmd: Some(exec.command),
            user: filled(exec.user),
            working_dir: filled(exec.dir),
            ..ExecConfig::default()
        };
        let error = |error| of(id, "exec", error);
        let made = self.docker.create_exec(&id.0, config).await.map_err(error)?.id;
        let options = StartExecOptions { tty: exec.tty.is_some(), ..StartExecOptions::default() };
        let begun = self.docker.start_exec(&made, Some(options)).await.map_err(error)?;
        let StartExecResults::Attached { output, input } = begun else {
            return Err(RuntimeError::Unsupported { what: "an exec that is not attached", runtime: "docker" });
        };
        if let Some(size) = exec.tty {
            // A program that has ended already has no terminal to size.
            let _ = self.docker.resize_exec(&made, window(size)).await;
        }
        let (resize, mut sizes) = mpsc::channel::<Size>(8);
        let (docker, of_container) = (self.docker.clone(), id.clone());
        let exit = Box::pin(async move {
            let mut open = true;
            loop {
                let seen = docker.inspect_exec(&made).await.map_err(|error| of(&of_container, "exec", error))?;
                if seen.running != Some(true)
                    && let Some(code) = seen.exit_code
                {
                    return Ok(i32::try_from(code).unwrap_or(255));
                }
                tokio::select! {
                    size = sizes.recv(), if open => match size {
                        Some(size) => drop(docker.resize_exec(&made, window(size)).await),
                        None => open = false,
                    },
                    () = tokio::time::sleep(LOOK) => {}
                }
            }
        });
        let output = output.map(|piece| piece.map(seen::output).map_err(std::io::Error::other)).boxed();
        Ok(ExecSession { input: exec.stdin.then_some(input), output, resize, exit })
    }

    async fn watch(&self, id: &ContainerId) -> Result<watch::Receiver<Health>, RuntimeError> {
        let first = self.status(id).await?;
        let (tell, told) = watch::channel(first.health);
        let (docker, id) = (self.docker.clone(), id.clone());
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move {
            let filters = HashMap::from([("container".to_owned(), vec![id.0.clone()])]);
            let options = EventsOptions { filters: Some(filters), ..EventsOptions::default() };
            let mut events = Box::pin(docker.events(Some(options)));
            loop {
                tokio::select! {
                    _ = tokio::time::timeout(HEALTH, events.next()) => {}
                    () = tell.closed() => return,
                }
                let Ok(seen) = docker.inspect_container(&id.0, None).await else { return };
                let status = seen::status(id.clone(), seen);
                tell.send_if_modified(|health| {
                    let changed = *health != status.health;
                    *health = status.health;
                    changed
                });
                if let State::Exited(_) = status.state {
                    return;
                }
            }
        });
        Ok(told)
    }

    fn lines(&self, id: &ContainerId, query: LogQuery) -> LogStream {
        // The engine counts whole seconds; what is more is cut here.
        let seconds = |time: Option<Timestamp>| time.and_then(|time| i32::try_from(time.as_second()).ok()).unwrap_or(0);
        let options = LogsOptions {
            follow: query.follow,
            stdout: query.stdout,
            stderr: query.stderr,
            since: seconds(query.since),
            until: if query.until.is_some() { seconds(query.until).saturating_add(1) } else { 0 },
            timestamps: true,
            tail: query.tail.map_or_else(|| "all".to_owned(), |tail| tail.to_string()),
        };
        let of_container = id.clone();
        let lines = self.docker.logs(&id.0, Some(options)).filter_map(move |frame| {
            let line = match frame {
                Ok(frame) => seen::line(frame).map(Ok),
                Err(error) => Some(Err(of(&of_container, "read the logs", error))),
            };
            let wanted = match &line {
                Some(Ok(line)) => {
                    query.since.is_none_or(|since| line.at >= since) && query.until.is_none_or(|until| line.at <= until)
                }
                _ => true,
            };
            std::future::ready(line.filter(|_| wanted))
        });
        lines.boxed()
    }

    async fn load_archive(&self, archive: &Path) -> Result<Vec<String>, RuntimeError> {
        use tokio::io::AsyncReadExt as _;
        let file = tokio::fs::File::open(archive).await.map_err(RuntimeError::file("open", archive))?;
        let pieces = stream::try_unfold(file, |mut file| async move {
            let mut piece = bytes::BytesMut::with_capacity(64 << 10);
            let read = file.read_buf(&mut piece).await?;
            Ok::<_, std::io::Error>((read > 0).then(|| (piece.freeze(), file)))
        });
        let mut said = Box::pin(self.docker.import_image_stream(ImportImageOptions::default(), pieces, None));
        let mut names = Vec::new();
        while let Some(step) = said.next().await {
            let step = step.map_err(failed(format!("load {}", archive.display())))?;
            let text = step.stream.unwrap_or_default();
            names.extend(text.lines().filter_map(|line| line.strip_prefix("Loaded image: ")).map(str::to_owned));
        }
        Ok(names)
    }
}

impl Runtime for DockerRuntime {
    fn description(&self) -> Description {
        Description { name: "docker", engine: format!("Docker Engine {}", self.version), lacks: Vec::new() }
    }

    fn network_order(&self) -> NetworkOrder {
        NetworkOrder::AfterStart
    }

    fn prepare<'a>(&'a self, container: &'a Container) -> Answer<'a, ContainerId> {
        Box::pin(self.make(container))
    }

    fn start<'a>(&'a self, id: &'a ContainerId) -> Answer<'a, Started> {
        Box::pin(self.run(id))
    }

    fn wait<'a>(&'a self, id: &'a ContainerId) -> Answer<'a, Exit> {
        Box::pin(self.ended(id))
    }

    fn shutdown<'a>(&'a self, id: &'a ContainerId, grace: Option<Duration>) -> Answer<'a, Exit> {
        Box::pin(self.stop(id, grace))
    }

    fn kill<'a>(&'a self, id: &'a ContainerId, signal: &'a str) -> Answer<'a, ()> {
        Box::pin(self.signal(id, signal))
    }

    fn remove<'a>(&'a self, id: &'a ContainerId) -> Answer<'a, ()> {
        Box::pin(self.unmake(id))
    }

    fn inspect<'a>(&'a self, id: &'a ContainerId) -> Answer<'a, Status> {
        Box::pin(self.status(id))
    }

    fn list(&self) -> Answer<'_, Vec<Status>> {
        Box::pin(async move {
            let mut all = Vec::new();
            for id in self.find(None).await? {
                match self.status(&id).await {
                    Ok(status) => all.push(status),
                    // Removed between the two questions.
                    Err(RuntimeError::Unknown { .. }) => {}
                    Err(other) => return Err(other),
                }
            }
            all.sort_by_key(|status| status.created);
            Ok(all)
        })
    }

    fn health<'a>(&'a self, id: &'a ContainerId) -> Answer<'a, watch::Receiver<Health>> {
        Box::pin(self.watch(id))
    }

    fn logs<'a>(&'a self, id: &'a ContainerId, query: LogQuery) -> Answer<'a, LogStream> {
        Box::pin(async move {
            self.seen(id).await?;
            Ok(self.lines(id, query))
        })
    }

    fn stats<'a>(&'a self, id: &'a ContainerId) -> Answer<'a, Stats> {
        Box::pin(async move {
            let State::Running { .. } = self.status(id).await?.state else {
                return Err(RuntimeError::State { id: id.clone(), why: "is not running" });
            };
            let options = StatsOptions { stream: false, one_shot: true };
            let first = Box::pin(self.docker.stats(&id.0, Some(options))).next().await;
            let gone = || RuntimeError::State { id: id.clone(), why: "is not running" };
            first.ok_or_else(gone)?.map(|stats| seen::stats(&stats)).map_err(|error| of(id, "measure", error))
        })
    }

    fn exec<'a>(&'a self, id: &'a ContainerId, exec: Exec) -> Answer<'a, ExecSession> {
        Box::pin(self.session(id, exec))
    }

    fn images(&self) -> Answer<'_, Vec<ImageSummary>> {
        Box::pin(async move {
            let listed = self.docker.list_images(None::<ListImagesOptions>).await.map_err(failed("list images"))?;
            Ok(listed.into_iter().filter_map(seen::image).collect())
        })
    }

    fn pull<'a>(&'a self, reference: &'a str, credentials: &'a Credentials) -> Answer<'a, ()> {
        Box::pin(self.fetch(reference, credentials))
    }

    fn load<'a>(&'a self, archive: &'a Path) -> Answer<'a, Vec<String>> {
        Box::pin(self.load_archive(archive))
    }

    fn remove_image<'a>(&'a self, reference: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            let removed = self.docker.remove_image(&by_digest(reference), None::<RemoveImageOptions>, None).await;
            removed.map(drop).map_err(failed(format!("remove image {reference}")))
        })
    }

    fn describe<'a>(&'a self, reference: &'a str, credentials: &'a Credentials) -> Answer<'a, Described> {
        Box::pin(async move {
            let asked = self.docker.inspect_registry_image(reference, for_engine(credentials)).await;
            seen::described(asked.map_err(failed(format!("ask the registry of {reference}")))?)
        })
    }

    fn leave(&self) -> Answer<'_, ()> {
        Box::pin(async move {
            for id in self.find(None).await? {
                self.unmake(&id).await?;
            }
            Ok(())
        })
    }

    fn collect_images(&self) -> Answer<'_, Vec<String>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }
}

fn for_engine(credentials: &Credentials) -> Option<DockerCredentials> {
    match credentials {
        Credentials::Anonymous => None,
        Credentials::Basic { user, password } => Some(DockerCredentials {
            username: Some(user.clone()),
            password: Some(password.clone()),
            ..DockerCredentials::default()
        }),
        Credentials::Bearer(token) => {
            Some(DockerCredentials { registrytoken: Some(token.clone()), ..DockerCredentials::default() })
        }
    }
}

fn failed(act: impl Into<String>) -> impl Fn(EngineError) -> RuntimeError {
    let act = act.into();
    move |source| RuntimeError::Engine { act: act.clone(), source: Box::new(source) }
}

/// An error of an act on a container.
fn of(id: &ContainerId, act: &str, error: EngineError) -> RuntimeError {
    match error {
        error if is(&error, 404) && !error.to_string().contains("No such exec") => {
            let names_it = error.to_string().contains("No such container");
            if names_it {
                RuntimeError::Unknown { id: id.clone() }
            } else {
                failed(format!("{act} container {id}"))(error)
            }
        }
        error => failed(format!("{act} container {id}"))(error),
    }
}

fn is(error: &EngineError, code: u16) -> bool {
    matches!(error, EngineError::DockerResponseServerError { status_code, .. } if *status_code == code)
}

fn window(size: Size) -> ResizeExecOptions {
    ResizeExecOptions { h: i32::from(size.rows), w: i32::from(size.columns) }
}

/// The engine knows an image by name and digest, not by name, tag and digest.
fn by_digest(reference: &str) -> String {
    match reference.split_once('@') {
        Some((name, digest)) => format!("{}@{digest}", without_tag(name)),
        None => reference.to_owned(),
    }
}

fn has_tag(name: &str) -> bool {
    without_tag(name) != name
}

/// A colon behind the last slash begins a tag; one before it, a port.
fn without_tag(name: &str) -> &str {
    let last = name.rfind('/').map_or(0, |slash| slash + 1);
    name[last..].find(':').map_or(name, |colon| &name[..last + colon])
}

/// Owners by number: the files of the image, which name them, are the engine's.
fn numbers(uid: &str, gid: &str) -> Result<(u32, u32), RuntimeError> {
    let number = |text: &str| {
        let why =
            || RuntimeError::spec("File.UID", format!("\"{text}\" is no number, and an engine's image is not read"));
        if text.is_empty() { Ok(0) } else { text.parse().map_err(|_| why()) }
    };
    Ok((number(uid)?, number(gid)?))
}

#[cfg(test)]
mod tests;
