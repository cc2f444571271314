//! The controllers together, on a store of their own, with nodes that do as they are told.

mod anything;
mod rebalance;
mod services;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;

use super::Controllers;
use crate::model::cluster::Cluster;
use crate::model::id::{ClusterId, NetworkId, NodeId, ServiceId, TaskId};
use crate::model::meta::Annotations;
use crate::model::network::{Network, NetworkSpec};
use crate::model::node::{Node, NodeDescription, NodeState, Role};
use crate::model::service::{Service, ServiceMode, ServiceSpec, UpdateState};
use crate::model::state::TaskState;
use crate::model::task::Task;
use crate::store::{AnyObject, Error, Event, Notice, Store, Tx, View, Watch};

const SERVICE: ServiceId = ServiceId::from_u128(1);

/// A cluster in one thread, with a clock that only the test moves.
struct World {
    runtime: tokio::runtime::Runtime,
    clock: Arc<AtomicI64>,
    store: Store,
    watch: Watch,
    view: View,
    controllers: Controllers,
    /// Tasks whose container is to end so when it is started.
    fails: Arc<Mutex<BTreeSet<String>>>,
    /// Every state that a task was in, in order.
    log: Vec<(TaskId, TaskState)>,
    leaders: u128,
}

impl World {
    fn new(nodes: u128) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let clock = Arc::new(AtomicI64::new(1_000_000_000));
        let seen = Arc::clone(&clock);
        let store = Store::local(Arc::new(move || at(seen.load(Ordering::Relaxed))));
        let (view, watch) = store.watch();
        let mut world = Self {
            runtime,
            clock,
            store,
            watch,
            view,
            controllers: controllers(1),
            fails: Arc::default(),
            log: Vec::new(),
            leaders: 1,
        };
        world.write(|tx| {
            tx.create(Cluster::new(ClusterId::from_u128(1)))?;
            let annotations = Annotations::named("ingress");
            let spec = NetworkSpec { annotations, ingress: true, ..NetworkSpec::default() };
            tx.create(Network::new(NetworkId::from_u128(1), spec))?;
            (1..=nodes).try_for_each(|number| tx.create(node(number)))
        });
        world
    }

    fn now(&self) -> Timestamp {
        at(self.clock.load(Ordering::Relaxed))
    }

    fn write(&mut self, run: impl Fn(&mut Tx) -> Result<(), Error>) {
        self.runtime.block_on(self.store.update(run)).unwrap();
    }

    fn with_service(&mut self, change: impl Fn(&mut ServiceSpec)) {
        let mut spec = ServiceSpec { annotations: Annotations::named("web"), ..ServiceSpec::default() };
        change(&mut spec);
        self.write(|tx| tx.create(Service::new(SERVICE, spec.clone())));
        self.settle();
    }

    /// A user changes the service.
    fn change(&mut self, change: impl Fn(&mut ServiceSpec)) {
        self.write(|tx| {
            tx.modify::<Service>(SERVICE, |service| {
                service.previous_spec = Some(Box::new(service.spec.clone()));
                service.update_status = None;
                change(&mut service.spec);
            })
        });
        self.settle();
    }

    fn on_node(&mut self, number: u128, change: impl Fn(&mut Node)) {
        self.write(|tx| tx.modify::<Node>(NodeId::from_u128(number), &change));
        self.settle();
    }

    /// What happened so far reaches the controllers.
    fn hear(&mut self) {
        while let Some(notice) = self.watch.try_next() {
            match notice {
                Notice::Transaction(transaction) => {
                    self.view = Arc::clone(&transaction.view);
                    for event in &transaction.events {
                        if let (Event::Changed { .. } | Event::Created(_), AnyObject::Task(task)) =
                            (event, event.object())
                        {
                            self.log.push((task.id, task.status.state));
                        }
                        self.controllers.note(&self.view, event, self.now());
                    }
                }
                Notice::Resync => {
                    self.view = self.store.view();
                    self.controllers.resync(&self.view);
                }
            }
        }
    }

    /// Controllers and nodes act until nothing changes any more at this time.
    fn settle(&mut self) {
        for _ in 0..1000 {
            self.hear();
            let (now, pass) = (self.now(), self.controllers.pass(&self.view, self.now()));
            let written = self.store.batch(None, &pass.steps, |tx, step| step.apply(tx, now));
            self.runtime.block_on(written).unwrap();
            let moved = self.agents();
            if pass.steps.is_empty() && !moved {
                self.hear();
                return;
            }
        }
        panic!("the controllers do not come to rest: {:#?}", self.states());
    }

    /// Every node that is there moves its tasks one step; whether any moved.
    fn agents(&mut self) -> bool {
        let view = self.store.view();
        let now = self.now();
        let fails = self.fails.lock().unwrap().clone();
        let next = |task: &Task| -> Option<TaskState> {
            let node = view.nodes().get(task.node_id?)?;
            if node.status.state != NodeState::Ready || !task.status.state.is_on_node() {
                return None;
            }
            if task.desired_state > TaskState::Complete {
                return Some(TaskState::Shutdown);
            }
            match task.status.state {
                TaskState::Assigned => Some(TaskState::Accepted),
                TaskState::Accepted => Some(TaskState::Preparing),
                TaskState::Preparing => Some(TaskState::Ready),
                TaskState::Ready if task.desired_state >= TaskState::Running => Some(TaskState::Starting),
                TaskState::Starting if fails.contains(&task.spec.container.image) => Some(TaskState::Failed),
                TaskState::Starting => Some(TaskState::Running),
                TaskState::Running if task.desired_state == TaskState::Complete => Some(TaskState::Complete),
                _ => None,
            }
        };
        let moves: Vec<_> = view.tasks().iter().filter_map(|task| Some((task.id, next(task)?))).collect();
        for (id, state) in &moves {
            self.write(|tx| tx.modify::<Task>(*id, |task| (task.status.state, task.status.timestamp) = (*state, now)));
        }
        !moves.is_empty()
    }

    fn pass_time(&mut self, seconds: f64) {
        let end = self.clock.load(Ordering::Relaxed) + (seconds * 1000.0) as i64;
        while self.clock.load(Ordering::Relaxed) < end {
            self.clock.fetch_add(100, Ordering::Relaxed);
            self.settle();
        }
    }

    /// A container ends by itself.
    fn end(&mut self, task: TaskId, state: TaskState) {
        let now = self.now();
        self.write(|tx| tx.modify::<Task>(task, |task| (task.status.state, task.status.timestamp) = (state, now)));
        self.settle();
    }

    fn tasks(&self) -> Vec<Arc<Task>> {
        let mut tasks: Vec<_> = self.store.view().tasks().iter().cloned().collect();
        tasks.sort_by_key(|task| (task.slot, task.node_id, task.meta.created_at, task.id));
        tasks
    }

    fn running(&self) -> Vec<Arc<Task>> {
        let runs =
            |task: &Arc<Task>| task.status.state == TaskState::Running && task.desired_state == TaskState::Running;
        self.tasks().into_iter().filter(runs).collect()
    }

    fn states(&self) -> Vec<(u64, TaskState, TaskState, String)> {
        let row = |task: &Arc<Task>| (task.slot, task.status.state, task.desired_state, task.status.err.clone());
        self.tasks().iter().map(row).collect()
    }

    fn on_nodes(&self) -> BTreeMap<u128, usize> {
        let mut counts = BTreeMap::new();
        for node in self.running().iter().filter_map(|task| task.node_id) {
            *counts.entry(node.to_u128()).or_default() += 1;
        }
        counts
    }

    fn update_state(&self) -> Option<UpdateState> {
        self.store.view().services().get(SERVICE)?.update_status.as_ref().map(|status| status.state)
    }

    /// Another manager leads: what was only remembered is gone.
    fn new_leader(&mut self) {
        self.hear();
        self.leaders += 1;
        self.controllers = controllers(self.leaders);
        self.controllers.resync(&self.view);
        self.settle();
    }
}

fn at(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap()
}

fn controllers(first: u128) -> Controllers {
    let mut next = first << 64;
    Controllers::new(Box::new(move || {
        next += 1;
        TaskId::from_u128(next)
    }))
}

fn node(number: u128) -> Node {
    let mut node = Node::new(NodeId::from_u128(number), Role::Worker);
    node.status.state = NodeState::Ready;
    node.description = Some(NodeDescription { hostname: format!("node{number}"), ..NodeDescription::default() });
    if let Some(description) = &mut node.description {
        description.resources.nano_cpus = 8_000_000_000;
        description.resources.memory_bytes = 1 << 33;
    }
    node
}

fn replicas(count: u64) -> impl Fn(&mut ServiceSpec) {
    move |spec| spec.mode = ServiceMode::Replicated { replicas: count }
}

fn image(name: &str) -> impl Fn(&mut ServiceSpec) + '_ {
    move |spec| spec.task.container.image = name.to_owned()
}
