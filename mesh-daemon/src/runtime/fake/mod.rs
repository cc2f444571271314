//! The runtime of simulations: nothing runs, and everything happens as its script says, on the clock of
//! whoever simulates. The same script gives the same run.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::images::{Credentials, Described, Digest, ImageError, ImageSummary};
use super::{
    Answer, Container, ContainerId, Description, Exec, ExecSession, Exit, Health, LogLine, LogQuery, LogStream,
    NetworkOrder, Runtime, RuntimeError, Started, State, Stats, Status, Stream,
};

/// What happens to a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// How long its image takes to come.
    pub prepare: Duration,
    /// Why it cannot be made.
    pub prepare_fails: Option<String>,
    /// How long it takes to start.
    pub start: Duration,
    /// Why it does not start.
    pub start_fails: Option<String>,
    /// When it ends by itself, after its start, and its code.
    pub ends: Option<(Duration, i32)>,
    /// How long it takes to stop when asked, and its code; None: it does not listen, and is killed after
    /// its grace.
    pub stops: Option<(Duration, i32)>,
    /// When it is healthy, after its start; None: it has no health check.
    pub healthy: Option<Duration>,
    /// When it becomes unhealthy, after its start.
    pub unhealthy: Option<Duration>,
    /// What it writes at its start, a line each.
    pub writes: Vec<String>,
}

impl Default for Script {
    /// Comes at once, runs for ever, and stops when asked.
    fn default() -> Self {
        Self {
            prepare: Duration::ZERO,
            prepare_fails: None,
            start: Duration::ZERO,
            start_fails: None,
            ends: None,
            stops: Some((Duration::ZERO, 0)),
            healthy: None,
            unhealthy: None,
            writes: Vec::new(),
        }
    }
}

/// Says what happens to which container.
pub type Scripts = Box<dyn Fn(&Container) -> Script + Send + Sync>;

/// The runtime of simulations.
pub struct FakeRuntime {
    scripts: Scripts,
    containers: Mutex<BTreeMap<ContainerId, Arc<Fake>>>,
    /// Who tells of health; they end with the runtime.
    tasks: Mutex<JoinSet<()>>,
    begun: Instant,
    /// The simulated time when `begun` was.
    epoch: Timestamp,
}

struct Fake {
    container: Container,
    script: Script,
    created: Timestamp,
    life: watch::Sender<Life>,
}

#[derive(Clone, Debug, Default)]
struct Life {
    started: Option<Instant>,
    exit: Option<Exit>,
}

impl Fake {
    /// When it ends by itself.
    fn end(&self, life: &Life) -> Option<(Instant, i32)> {
        let (after, code) = self.script.ends?;
        Some((life.started? + after, code))
    }

    fn health_at(&self, now: Instant, life: &Life) -> Health {
        let Some(healthy) = self.script.healthy else { return Health::None };
        let age = life.started.map(|started| now.duration_since(started)).unwrap_or_default();
        match self.script.unhealthy {
            Some(unhealthy) if age >= unhealthy => Health::Unhealthy { output: "as scripted".to_owned() },
            _ if age >= healthy && life.started.is_some() => Health::Healthy,
            _ => Health::Starting,
        }
    }
}

impl FakeRuntime {
    /// A runtime whose time is tokio's, beginning at `epoch`.
    #[must_use]
    pub fn new(epoch: Timestamp, scripts: Scripts) -> Self {
        Self { scripts, containers: Mutex::default(), tasks: Mutex::default(), begun: Instant::now(), epoch }
    }

    /// Ends a container, as if by the hand of somebody else.
    ///
    /// # Errors
    /// There is none of this id.
    pub fn end(&self, id: &ContainerId, code: i32) -> Result<(), RuntimeError> {
        let fake = self.get(id)?;
        self.exit(&fake, code, false);
        Ok(())
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<ContainerId, Arc<Fake>>> {
        self.containers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, id: &ContainerId) -> Result<Arc<Fake>, RuntimeError> {
        self.all().get(id).cloned().ok_or_else(|| RuntimeError::Unknown { id: id.clone() })
    }

    fn at(&self, instant: Instant) -> Timestamp {
        self.epoch.checked_add(instant.duration_since(self.begun)).unwrap_or(self.epoch)
    }

    fn exit(&self, fake: &Fake, code: i32, never_ran: bool) {
        let error = never_ran.then(|| "it was stopped before it was started".to_owned());
        let exit = Exit { code, oom_killed: false, error, at: self.at(Instant::now()) };
        fake.life.send_if_modified(|life| {
            let first = life.exit.is_none();
            life.exit.get_or_insert(exit);
            first
        });
    }

    /// The life so far; an end whose time has come is one.
    fn life(&self, fake: &Fake) -> Life {
        let life = fake.life.borrow().clone();
        if let (None, Some((end, code))) = (&life.exit, fake.end(&life))
            && Instant::now() >= end
        {
            self.exit(fake, code, false);
        }
        fake.life.borrow().clone()
    }

    async fn make(&self, container: &Container) -> Result<ContainerId, RuntimeError> {
        let id = ContainerId(container.task.to_string());
        if self.all().contains_key(&id) {
            return Ok(id);
        }
        let script = (self.scripts)(container);
        tokio::time::sleep(script.prepare).await;
        if let Some(said) = script.prepare_fails {
            return Err(RuntimeError::Refused { act: "prepare", id, said });
        }
        let life = watch::channel(Life::default()).0;
        let created = self.at(Instant::now());
        let fake = Fake { container: container.clone(), script, created, life };
        self.all().entry(id.clone()).or_insert_with(|| Arc::new(fake));
        Ok(id)
    }

    async fn run(&self, id: &ContainerId) -> Result<Started, RuntimeError> {
        let fake = self.get(id)?;
        let started =
            Started { pid: 1, netns: fake.container.netns.clone().unwrap_or_else(|| "/proc/1/ns/net".into()) };
        let life = self.life(&fake);
        if life.exit.is_some() {
            return Err(RuntimeError::State { id: id.clone(), why: "has run already: a container runs once" });
        }
        if life.started.is_some() {
            return Ok(started);
        }
        tokio::time::sleep(fake.script.start).await;
        if let Some(said) = fake.script.start_fails.clone() {
            self.exit(&fake, 127, false);
            return Err(RuntimeError::Refused { act: "start", id: id.clone(), said });
        }
        fake.life.send_modify(|life| {
            life.started.get_or_insert_with(Instant::now);
        });
        Ok(started)
    }

    async fn ended(&self, id: &ContainerId) -> Result<Exit, RuntimeError> {
        let fake = self.get(id)?;
        let mut changes = fake.life.subscribe();
        loop {
            let life = self.life(&fake);
            if let Some(exit) = life.exit {
                return Ok(exit);
            }
            if life.started.is_none() {
                return Err(RuntimeError::State { id: id.clone(), why: "was not started" });
            }
            let end = async {
                match fake.end(&life) {
                    Some((end, _)) => tokio::time::sleep_until(end).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // The sender lives as long as `fake` does.
                _ = changes.changed() => {}
                () = end => {}
            }
        }
    }

    async fn stop(&self, id: &ContainerId, grace: Option<Duration>) -> Result<Exit, RuntimeError> {
        let fake = self.get(id)?;
        let life = self.life(&fake);
        if life.exit.is_none() && life.started.is_none() {
            self.exit(&fake, 0, true);
        }
        let grace = grace.unwrap_or_else(|| fake.container.spec.stop_grace());
        let (after, code) = match fake.script.stops {
            Some((after, code)) if after <= grace => (after, code),
            _ => (grace, 137),
        };
        match tokio::time::timeout(after, self.ended(id)).await {
            Ok(exit) => exit,
            Err(_) => {
                self.exit(&fake, code, false);
                self.ended(id).await
            }
        }
    }

    fn status(&self, id: &ContainerId) -> Result<Status, RuntimeError> {
        let fake = self.get(id)?;
        let life = self.life(&fake);
        let state = match (&life.exit, life.started) {
            (Some(exit), _) => State::Exited(exit.clone()),
            (None, Some(started)) => State::Running { pid: 1, since: self.at(started) },
            (None, None) => State::Created,
        };
        let Container { task, name, labels, spec, .. } = fake.container.clone();
        Ok(Status {
            id: id.clone(),
            task: Some(task),
            name,
            labels,
            image_id: Digest::of(spec.image.as_bytes()).to_string(),
            image: spec.image,
            ports: Vec::new(),
            tty: spec.tty,
            command: spec.command.into_iter().chain(spec.args).collect(),
            created: fake.created,
            state,
            health: fake.health_at(Instant::now(), &life),
        })
    }
}

const NOT_HERE: &str = "fake";

fn not_here<T: Send + 'static>(what: &'static str) -> Answer<'static, T> {
    Box::pin(std::future::ready(Err(RuntimeError::Unsupported { what, runtime: NOT_HERE })))
}

impl Runtime for FakeRuntime {
    fn description(&self) -> Description {
        Description { name: "fake", engine: "nothing runs".to_owned(), lacks: Vec::new() }
    }

    fn network_order(&self) -> NetworkOrder {
        NetworkOrder::BeforeStart
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
        Box::pin(async move {
            let fake = self.get(id)?;
            let life = self.life(&fake);
            if life.started.is_none() || life.exit.is_some() {
                return Err(RuntimeError::State { id: id.clone(), why: "is not running" });
            }
            let code = match signal.trim_start_matches("SIG") {
                "KILL" | "9" => Some(137),
                // Any other signal is a request to stop.
                _ => fake.script.stops.map(|(_, code)| code),
            };
            if let Some(code) = code {
                self.exit(&fake, code, false);
            }
            Ok(())
        })
    }

    fn remove<'a>(&'a self, id: &'a ContainerId) -> Answer<'a, ()> {
        Box::pin(async move {
            if let Some(fake) = self.all().remove(id) {
                self.exit(&fake, 137, false);
            }
            Ok(())
        })
    }

    fn inspect<'a>(&'a self, id: &'a ContainerId) -> Answer<'a, Status> {
        Box::pin(std::future::ready(self.status(id)))
    }

    fn list(&self) -> Answer<'_, Vec<Status>> {
        let ids: Vec<ContainerId> = self.all().keys().cloned().collect();
        Box::pin(std::future::ready(ids.iter().map(|id| self.status(id)).collect()))
    }

    fn health<'a>(&'a self, id: &'a ContainerId) -> Answer<'a, watch::Receiver<Health>> {
        Box::pin(async move {
            let fake = self.get(id)?;
            let (tell, told) = watch::channel(fake.health_at(Instant::now(), &self.life(&fake)));
            let times = [fake.script.healthy, fake.script.unhealthy];
            // Health changes at times that are known: whoever reads is woken at each.
            let waking = async move {
                let mut life = fake.life.subscribe();
                let Ok(started) = life.wait_for(|life| life.started.is_some()).await.map(|life| life.started) else {
                    return;
                };
                for time in times.into_iter().flatten() {
                    if let Some(started) = started {
                        tokio::time::sleep_until(started + time).await;
                    }
                    let now = fake.life.borrow().clone();
                    tell.send_replace(fake.health_at(Instant::now(), &now));
                }
            };
            let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            while tasks.try_join_next().is_some() {}
            tasks.spawn(waking);
            Ok(told)
        })
    }

    fn logs<'a>(&'a self, id: &'a ContainerId, query: LogQuery) -> Answer<'a, LogStream> {
        Box::pin(async move {
            let fake = self.get(id)?;
            let life = self.life(&fake);
            let at = life.started.map(|started| self.at(started));
            let wrote = if query.stdout { fake.script.writes.clone() } else { Vec::new() };
            let line = move |text: String| {
                at.map(|at| Ok(LogLine { at, stream: Stream::Stdout, text: Bytes::from(format!("{text}\n")) }))
            };
            let lines: Vec<_> = wrote.into_iter().filter_map(line).collect();
            let tail = query.tail.and_then(|tail| usize::try_from(tail).ok()).unwrap_or(lines.len());
            let skipped = lines.len().saturating_sub(tail);
            Ok(stream::iter(lines.into_iter().skip(skipped)).boxed())
        })
    }

    fn stats<'a>(&'a self, id: &'a ContainerId) -> Answer<'a, Stats> {
        Box::pin(std::future::ready(self.get(id).map(|_| Stats::default())))
    }

    fn exec<'a>(&'a self, _: &'a ContainerId, _: Exec) -> Answer<'a, ExecSession> {
        not_here("exec")
    }

    fn images(&self) -> Answer<'_, Vec<ImageSummary>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn pull<'a>(&'a self, _: &'a str, _: &'a Credentials) -> Answer<'a, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn load<'a>(&'a self, _: &'a Path) -> Answer<'a, Vec<String>> {
        not_here("an archive of images")
    }

    fn remove_image<'a>(&'a self, _: &'a str) -> Answer<'a, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn describe<'a>(&'a self, reference: &'a str, _credentials: &'a Credentials) -> Answer<'a, Described> {
        let unknown = ImageError::Unknown { reference: reference.to_owned() };
        Box::pin(std::future::ready(Err(unknown.into())))
    }

    fn leave(&self) -> Answer<'_, ()> {
        Box::pin(async move {
            for status in self.list().await? {
                self.remove(&status.id).await?;
            }
            Ok(())
        })
    }

    fn collect_images(&self) -> Answer<'_, Vec<String>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }
}

#[cfg(test)]
mod tests;
