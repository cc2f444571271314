//! The life of one task on its node, from the moment it is told of to the moment its record goes.
//!
//! One task, one future: it makes one step after another, reports each, and looks at its orders in
//! between. A container that an earlier daemon started is taken over where it is.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::Clock;
use super::container::container;
use super::listening::until_listening;
use super::outbox::Outbox;
use super::own;
use super::ports::{self, Taken};
use super::template::Facts;
use super::wire::{Cable, Wires, host_name};
use crate::model::assignment::{Announcement, Assigned};
use crate::model::cidr::Cidr;
use crate::model::id::TaskId;
use crate::model::service::Port;
use crate::model::state::TaskState;
use crate::model::task::{ContainerStatus, TaskStatus};
use crate::runtime::{ContainerId, Exit, Health, NetworkOrder, Runtime, State, netns};

/// A task that is to stop waits so long for the managers to say that it is drained, should they be away.
const DRAIN_PATIENCE: Duration = Duration::from_secs(4);
/// Between two attempts to remove what a task has left.
const CLEAN_RETRY: Duration = Duration::from_secs(2);

/// What is wanted of a task now.
#[derive(Debug, Clone)]
pub(super) enum Order {
    /// As this says.
    Be(Arc<Assigned>),
    /// Its record is gone: nothing of it stays.
    Gone,
}

/// What the lives of all tasks share.
pub(super) struct Shared {
    pub(super) runtime: Arc<dyn Runtime>,
    pub(super) wires: Wires,
    pub(super) outbox: Outbox,
    pub(super) clock: Clock,
    pub(super) announcement: watch::Receiver<Announcement>,
    /// Where network namespaces are pinned.
    pub(super) namespaces: PathBuf,
    /// Links that are there, by task: what the packet path is made from.
    pub(super) links: watch::Sender<std::collections::BTreeMap<TaskId, Linked>>,
    /// Cables of a task, as the picture has them now.
    pub(super) cables: Cables,
    /// Addresses of tasks that are in none of the cluster's networks.
    pub(super) own: Arc<own::Addresses>,
    /// Ports of a task that others are led to.
    pub(super) targets: Targets,
}

/// Says on which ports a task is awaited.
pub(super) type Targets = Box<dyn Fn(&Assigned) -> Vec<u16> + Send + Sync>;

/// Says which links a task needs; one with addresses in the node's own network, one there.
pub(super) type Cables = Box<dyn Fn(&Assigned, &[Cidr]) -> Result<Vec<Cable>, String> + Send + Sync>;

/// A task's links, and where its names are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Linked {
    /// The node's ends, in the order of the task's networks.
    pub(super) names: Vec<String>,
    /// Its network namespace.
    pub(super) netns: PathBuf,
    /// Its addresses in the node's own network, if it is in that.
    pub(super) own: Vec<Cidr>,
    /// Ports of the node that lead to it alone.
    pub(super) ports: Vec<Port>,
}

/// One task.
pub(super) struct Life {
    shared: Arc<Shared>,
    id: TaskId,
    orders: watch::Receiver<Order>,
    cables: usize,
    container: Option<ContainerId>,
    pid: u32,
    /// Ports of the node that lead to it alone.
    ports: Vec<Port>,
}

/// How a stretch of a task's life ended.
enum End {
    /// It is to be reported so.
    State(TaskState, String, i32),
    /// Its record is gone.
    Gone,
}

impl Life {
    pub(super) fn new(shared: Arc<Shared>, id: TaskId, orders: watch::Receiver<Order>) -> Self {
        Self { shared, id, orders, cables: 0, container: None, pid: 0, ports: Vec::new() }
    }

    /// Lives. `found` is the container that is there already.
    pub(super) async fn run(mut self, found: Option<(ContainerId, State)>) {
        if let Some((container, _)) = &found {
            self.container = Some(container.clone());
        }
        let end = match self.until_end(found.map(|(_, state)| state)).await {
            Ok(end) => end,
            Err(end) => end,
        };
        if let End::State(state, text, code) = end {
            self.unplug().await;
            // The container stays for those who ask what it said; its network is of no use to anyone.
            self.remove_namespace();
            self.report_end(state, &text, code);
            self.until_gone().await;
        }
        self.clean().await;
    }

    async fn until_end(&mut self, found: Option<State>) -> Result<End, End> {
        let assigned = self.assigned()?;
        let ran_before = matches!(found, Some(State::Running { .. }));
        if assigned.task.status.state.is_terminal() {
            return Err(End::State(assigned.task.status.state, assigned.task.status.err.clone(), 0));
        }
        if let Some(State::Exited(exit)) = found {
            return Ok(ended(&exit));
        }
        if found.is_none() {
            self.report(TaskState::Accepted, "accepted");
            self.report(TaskState::Preparing, "preparing");
            self.prepare(&assigned).await?;
            self.report(TaskState::Ready, "prepared");
        }
        if !ran_before {
            self.until_wanted(|order| order >= TaskState::Running).await?;
            self.report(TaskState::Starting, "starting");
            self.start(&assigned).await?;
        } else if let Some(State::Running { pid, .. }) = found {
            self.pid = pid;
            self.plug_running(&assigned, None).await?;
        }
        self.until_healthy().await?;
        if !ran_before {
            self.until_listening(&assigned).await?;
        }
        self.report(TaskState::Running, "started");
        self.while_running().await
    }

    /// What is wanted now; an end if nothing is any more.
    fn assigned(&self) -> Result<Arc<Assigned>, End> {
        match &*self.orders.borrow() {
            Order::Be(assigned) => Ok(Arc::clone(assigned)),
            Order::Gone => Err(End::Gone),
        }
    }

    /// Waits until the task is wanted in such a state; ends if it is to stop before.
    async fn until_wanted(&mut self, enough: impl Fn(TaskState) -> bool) -> Result<(), End> {
        loop {
            let desired = self.assigned()?.task.desired_state;
            if desired > TaskState::Complete {
                return Err(End::State(TaskState::Shutdown, String::new(), 0));
            }
            if enough(desired) {
                return Ok(());
            }
            self.other_orders().await;
        }
    }

    /// Waits until the task is to stop.
    async fn until_unwanted(&mut self) -> End {
        match self.until_wanted(|_| false).await {
            Err(end) => end,
            Ok(()) => End::Gone,
        }
    }

    async fn prepare(&mut self, assigned: &Assigned) -> Result<(), End> {
        let shared = Arc::clone(&self.shared);
        let rejected = |text: String| End::State(TaskState::Rejected, text, 0);
        let facts = Facts::new(&assigned.task, &shared.announcement.borrow().description.clone());
        let space = match shared.runtime.network_order() {
            NetworkOrder::BeforeStart => Some(self.namespace(assigned).map_err(rejected)?),
            NetworkOrder::AfterStart => None,
        };
        let own = self.own(assigned).map_err(rejected)?;
        let container = container(assigned, &facts, &own, space).map_err(|unfit| rejected(unfit.to_string()))?;
        let prepared = tokio::select! {
            prepared = shared.runtime.prepare(&container) => prepared,
            end = self.until_unwanted() => return Err(end),
        };
        self.container = Some(prepared.map_err(|error| rejected(chain(&error)))?);
        Ok(())
    }

    fn path(&self) -> PathBuf {
        self.shared.namespaces.join(self.id.to_string())
    }

    /// The task's own namespace; on node networks (`host`) there is none to make.
    fn namespace(&self, _assigned: &Assigned) -> Result<PathBuf, String> {
        let path = self.path();
        if !netns::exists(&path) {
            // The file of one that a reboot took away.
            netns::remove(&path).and_then(|()| netns::create(&path)).map_err(|error| chain(&error))?;
        }
        Ok(path)
    }

    async fn start(&mut self, assigned: &Assigned) -> Result<(), End> {
        let shared = Arc::clone(&self.shared);
        let Some(container) = self.container.clone() else { return Err(End::Gone) };
        if shared.runtime.network_order() == NetworkOrder::BeforeStart {
            let path = self.path();
            self.plug(assigned, Some(path)).await?;
        }
        let started = tokio::select! {
            started = shared.runtime.start(&container) => started,
            end = self.until_unwanted() => return Err(end),
        };
        let started = started.map_err(|error| End::State(TaskState::Failed, chain(&error), 0))?;
        self.pid = started.pid;
        if shared.runtime.network_order() == NetworkOrder::AfterStart {
            self.plug_running(assigned, Some(started.netns)).await?;
        }
        Ok(())
    }

    /// The task's addresses in the node's own network, if it is in no other.
    fn own(&self, assigned: &Assigned) -> Result<Vec<Cidr>, String> {
        if !assigned.task.networks.is_empty() {
            return Ok(Vec::new());
        }
        let given = self.shared.own.give(&host_name(self.id, 0));
        if given.is_empty() { Err("the node's own network has no address left".to_owned()) } else { Ok(given) }
    }

    /// Of a container that runs: one that gets no links must not run on, beside the task that replaces it.
    async fn plug_running(&mut self, assigned: &Assigned, space: Option<PathBuf>) -> Result<(), End> {
        match self.plug(assigned, space).await {
            Err(end) => Err(self.stop(end).await),
            Ok(()) => Ok(()),
        }
    }

    /// Makes the task's links, and tells the packet path.
    async fn plug(&mut self, assigned: &Assigned, space: Option<PathBuf>) -> Result<(), End> {
        let failed = |text: String| End::State(TaskState::Failed, text, 0);
        let own = self.own(assigned).map_err(failed)?;
        let cables = (self.shared.cables)(assigned, &own).map_err(failed)?;
        self.cables = cables.len();
        let space = match space {
            Some(space) => space,
            None if netns::exists(&self.path()) => self.path(),
            None => PathBuf::from(format!("/proc/{}/ns/net", self.pid)),
        };
        let names = self.shared.wires.connect(self.id, &space, &cables).await.map_err(|error| failed(chain(&error)))?;
        let linked = Linked { names, netns: space, own, ports: Vec::new() };
        self.ports = self.link(assigned, linked).await.map_err(failed)?;
        Ok(())
    }

    /// Tells of the task's links, and of the ports of the node that lead to it alone: who has one has it from here on.
    /// Of other tasks, or of processes, they cannot be.
    async fn link(&self, assigned: &Assigned, linked: Linked) -> Result<Vec<Port>, String> {
        let lost = |_| "a thread of the daemon panicked".to_owned();
        let taken = match ports::wanted(&assigned.task).next() {
            Some(_) => tokio::task::spawn_blocking(Taken::by_processes).await.map_err(lost)?,
            None => Taken::default(),
        };
        let mut given = Ok(Vec::new());
        self.shared.links.send_if_modified(|links| {
            let others = links.iter().filter(|(task, _)| **task != self.id).flat_map(|(_, linked)| &linked.ports);
            given = ports::take(&assigned.task, &taken.and_by_tasks(others));
            if let Ok(ports) = &given {
                links.insert(self.id, Linked { ports: ports.clone(), ..linked });
            }
            given.is_ok()
        });
        match given {
            Ok(ports) => Ok(ports),
            Err(refused) => Err(tokio::task::spawn_blocking(move || refused.tell()).await.map_err(lost)?),
        }
    }

    async fn unplug(&mut self) {
        self.shared.links.send_if_modified(|links| links.remove(&self.id).is_some());
        self.ports.clear();
        if let Err(error) = self.shared.wires.disconnect(self.id, self.cables).await {
            tracing::warn!(task = %self.id, link = host_name(self.id, 0), error = chain(&error), "links stay behind");
        }
        self.shared.own.take_back(&host_name(self.id, 0));
    }

    async fn until_healthy(&mut self) -> Result<(), End> {
        let shared = Arc::clone(&self.shared);
        let Some(container) = self.container.clone() else { return Err(End::Gone) };
        let failed = |error: crate::runtime::RuntimeError| End::State(TaskState::Failed, chain(&error), 0);
        let mut health = shared.runtime.health(&container).await.map_err(failed)?;
        loop {
            let now = health.borrow_and_update().clone();
            match now {
                Health::None | Health::Healthy => return Ok(()),
                Health::Unhealthy { output } => return Err(self.stop_unhealthy(&output).await),
                Health::Starting => {}
            }
            let exit = tokio::select! {
                // Closed: it is no longer watched, since it ended.
                changed = health.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => shared.runtime.wait(&container).await,
                },
                exit = shared.runtime.wait(&container) => exit,
                end = self.until_unwanted() => return Err(self.stop(end).await),
            };
            return Err(exit.map_or_else(failed, |exit| ended(&exit)));
        }
    }

    /// Waits until the program is ready for others, where no health check has said so.
    async fn until_listening(&mut self, assigned: &Assigned) -> Result<(), End> {
        let shared = Arc::clone(&self.shared);
        let Some(container) = self.container.clone() else { return Err(End::Gone) };
        let health = shared.runtime.health(&container).await;
        if health.is_ok_and(|health| *health.borrow() != Health::None) {
            return Ok(());
        }
        let targets = (shared.targets)(assigned);
        tokio::select! {
            () = until_listening(self.pid, &targets) => Ok(()),
            // Its end is told by whoever waits for it next.
            _ = shared.runtime.wait(&container) => Ok(()),
            end = self.until_unwanted() => Err(self.stop(end).await),
        }
    }

    async fn while_running(&mut self) -> Result<End, End> {
        let shared = Arc::clone(&self.shared);
        let Some(container) = self.container.clone() else { return Err(End::Gone) };
        let failed = |error: crate::runtime::RuntimeError| End::State(TaskState::Failed, chain(&error), 0);
        let mut health = shared.runtime.health(&container).await.map_err(failed)?;
        loop {
            tokio::select! {
                exit = shared.runtime.wait(&container) => return exit.map(|exit| ended(&exit)).map_err(failed),
                end = self.until_unwanted() => {
                    if matches!(end, End::State(..)) {
                        self.until_drained().await;
                    }
                    return Err(self.stop(end).await);
                }
                Ok(()) = health.changed() => {
                    let now = health.borrow().clone();
                    if let Health::Unhealthy { output } = now {
                        return Err(self.stop_unhealthy(&output).await);
                    }
                }
            }
        }
    }

    /// Waits until no node sends new connections to the task.
    async fn until_drained(&mut self) {
        let deadline = Instant::now() + DRAIN_PATIENCE;
        loop {
            match &*self.orders.borrow_and_update() {
                Order::Be(assigned) if !assigned.drained => {}
                Order::Be(_) | Order::Gone => return,
            }
            if tokio::time::timeout_at(deadline, self.other_orders()).await.is_err() {
                return;
            }
        }
    }

    /// Stops the container; the end is the one that was wanted.
    async fn stop(&mut self, end: End) -> End {
        let Some(container) = self.container.clone() else { return end };
        match (self.shared.runtime.shutdown(&container, None).await, end) {
            (Ok(exit), End::State(state, text, _)) => End::State(state, text, exit.code),
            (Ok(_), End::Gone) => End::Gone,
            (Err(error), end) => {
                tracing::warn!(task = %self.id, error = chain(&error), "not stopped in order");
                end
            }
        }
    }

    async fn stop_unhealthy(&mut self, output: &str) -> End {
        let end = self.stop(End::State(TaskState::Failed, String::new(), 0)).await;
        let tail: String = output.chars().take(256).collect();
        match end {
            End::State(state, _, code) => End::State(
                state,
                format!("task: non-zero exit ({code}): dockerexec: unhealthy container: {tail}"),
                code,
            ),
            End::Gone => End::Gone,
        }
    }

    fn report(&self, state: TaskState, message: &str) {
        self.put(state, message, "", 0);
    }

    fn report_end(&self, state: TaskState, text: &str, code: i32) {
        let message = match state {
            TaskState::Complete => "finished",
            TaskState::Shutdown => "shutdown",
            TaskState::Rejected => "preparing",
            _ => "started",
        };
        self.put(state, message, text, code);
    }

    fn put(&self, state: TaskState, message: &str, err: &str, exit_code: i32) {
        let container = self.container.as_ref().map(|id| ContainerStatus {
            container_id: id.to_string(),
            pid: if state < TaskState::Complete { self.pid } else { 0 },
            exit_code,
        });
        let status = TaskStatus {
            timestamp: (self.shared.clock)(),
            state,
            message: message.to_owned(),
            err: err.to_owned(),
            container,
            ports: if state == TaskState::Running { self.ports.clone() } else { Vec::new() },
            applied_by: None,
        };
        tracing::debug!(task = %self.id, %state, err, "task");
        self.shared.outbox.put(self.id, status);
    }

    async fn until_gone(&mut self) {
        loop {
            if matches!(&*self.orders.borrow_and_update(), Order::Gone) {
                return;
            }
            self.other_orders().await;
        }
    }

    /// Removes the container and the namespace, as often as it takes.
    async fn clean(&mut self) {
        self.unplug().await;
        if let Some(container) = self.container.clone() {
            while let Err(error) = self.shared.runtime.remove(&container).await {
                tracing::warn!(task = %self.id, error = chain(&error), "the container is not removed yet");
                tokio::time::sleep(CLEAN_RETRY).await;
            }
        }
        self.remove_namespace();
    }

    fn remove_namespace(&self) {
        if let Err(error) = netns::remove(&self.path()) {
            tracing::warn!(task = %self.id, error = chain(&error), "the network namespace stays behind");
        }
    }

    /// Waits for other orders. Where nobody can give any, the daemon stops: the container is left to the next
    /// one as it is, and this future is dropped.
    async fn other_orders(&mut self) {
        if self.orders.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

/// How a container's end reads, in Swarm's words.
fn ended(exit: &Exit) -> End {
    match (exit.code, &exit.error) {
        (0, None) => End::State(TaskState::Complete, String::new(), 0),
        (code, Some(error)) => End::State(TaskState::Failed, error.clone(), code),
        (code, None) if exit.oom_killed => {
            End::State(TaskState::Failed, format!("task: non-zero exit ({code}): out of memory"), code)
        }
        (code, None) => End::State(TaskState::Failed, format!("task: non-zero exit ({code})"), code),
    }
}

/// An error with all its sources on one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(error.source(), |error| error.source());
    sources.fold(error.to_string(), |text, source| format!("{text}: {source}"))
}
