//! The controllers together, on a store of their own, with nodes that do as they are told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;

use super::Controllers;
use crate::model::cluster::Cluster;
use crate::model::id::{ClusterId, NetworkId, NodeId, ServiceId, TaskId};
use crate::model::meta::Annotations;
use crate::model::network::{Network, NetworkSpec};
use crate::model::node::{Availability, Node, NodeDescription, NodeState, Role};
use crate::model::service::{
    FailureAction, Port, Service, ServiceMode, ServiceSpec, UpdateConfig, UpdateOrder, UpdateState,
};
use crate::model::state::TaskState;
use crate::model::task::{RestartCondition, Task};
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

#[test]
fn replicas_run_spread_over_the_nodes_with_addresses_and_ports() {
    let mut world = World::new(3);
    world.with_service(|spec| {
        replicas(6)(spec);
        spec.endpoint.ports = vec![Port { target_port: 80, ..Port::default() }];
    });
    assert_eq!(world.on_nodes(), BTreeMap::from([(1, 2), (2, 2), (3, 2)]));
    let slots: Vec<_> = world.running().iter().map(|task| task.slot).collect();
    assert_eq!(slots, [1, 2, 3, 4, 5, 6]);
    let addresses: BTreeSet<_> = world.running().iter().map(|task| task.networks[0].addresses[0].address).collect();
    assert_eq!(addresses.len(), 6);
    let service = world.store.view().services().get(SERVICE).unwrap().clone();
    assert_eq!(service.endpoint.as_ref().unwrap().ports[0].published_port, 30_000);
    assert_eq!(service.update_status, None);
}

#[test]
fn scaling_keeps_who_runs_and_takes_from_the_fullest_node() {
    let mut world = World::new(3);
    world.with_service(replicas(2));
    let before: BTreeSet<_> = world.running().iter().map(|task| task.id).collect();
    world.change(replicas(7));
    assert_eq!(world.running().len(), 7);
    assert!(before.is_subset(&world.running().iter().map(|task| task.id).collect()));
    world.change(replicas(3));
    assert_eq!(world.on_nodes(), BTreeMap::from([(1, 1), (2, 1), (3, 1)]));
    world.change(replicas(0));
    assert_eq!(world.states(), []);
    assert_eq!(world.update_state(), None);
}

#[test]
fn a_task_that_ended_is_replaced_after_the_delay() {
    let mut world = World::new(1);
    world.with_service(replicas(1));
    let first = world.running()[0].id;
    world.end(first, TaskState::Failed);
    let waiting: Vec<_> = world.states().iter().map(|(_, state, desired, _)| (*state, *desired)).collect();
    assert_eq!(
        waiting,
        [(TaskState::Failed, TaskState::Shutdown), (TaskState::Ready, TaskState::Ready)],
        "its successor is made ready while the delay lasts"
    );
    world.pass_time(4.9);
    assert_eq!(world.running().len(), 0);
    world.pass_time(0.2);
    assert_eq!(world.running().len(), 1);
    assert_eq!(world.running()[0].slot, 1);
}

#[test]
fn who_is_not_to_be_restarted_keeps_its_place() {
    for (condition, ends, replaced) in [
        (RestartCondition::Any, TaskState::Complete, true),
        (RestartCondition::OnFailure, TaskState::Complete, false),
        (RestartCondition::OnFailure, TaskState::Failed, true),
        (RestartCondition::None, TaskState::Failed, false),
    ] {
        let mut world = World::new(1);
        world.with_service(|spec| {
            replicas(2)(spec);
            spec.task.restart.condition = condition;
        });
        let first = world.running()[0].id;
        world.end(first, ends);
        world.pass_time(6.0);
        let expected = if replaced { 2 } else { 1 };
        assert_eq!(world.running().len(), expected, "{condition:?} after {ends:?}");
        assert_eq!(world.tasks().len(), expected + 1);
        // A change of the service gives it another chance.
        world.change(image("other"));
        world.pass_time(20.0);
        assert_eq!(world.running().len(), 2);
    }
}

#[test]
fn restarts_end_at_their_limit() {
    let mut world = World::new(1);
    world.fails.lock().unwrap().insert("broken".into());
    world.with_service(|spec| {
        image("broken")(spec);
        spec.task.restart.max_attempts = 3;
        spec.task.restart.delay = Duration::from_secs(1);
    });
    world.pass_time(10.0);
    assert_eq!(world.tasks().len(), 4);
    assert!(world.tasks().iter().all(|task| task.desired_state == TaskState::Shutdown));
}

#[test]
fn history_is_bounded() {
    let mut world = World::new(1);
    world.fails.lock().unwrap().insert("broken".into());
    world.with_service(|spec| {
        image("broken")(spec);
        spec.task.restart.delay = Duration::from_millis(500);
    });
    world.pass_time(20.0);
    let ended = world.tasks().iter().filter(|task| task.status.state == TaskState::Failed).count();
    assert_eq!(ended, 5);
}

#[test]
fn tasks_of_a_lost_node_run_elsewhere_at_once_and_the_old_ones_end_when_it_returns() {
    let mut world = World::new(2);
    world.with_service(replicas(4));
    world.on_node(2, |node| node.status.state = NodeState::Down);
    world.pass_time(0.2);
    assert_eq!(world.on_nodes(), BTreeMap::from([(1, 4)]));
    world.on_node(2, |node| node.status.state = NodeState::Ready);
    assert_eq!(world.on_nodes(), BTreeMap::from([(1, 4)]), "nothing moves back by itself");
    let live = world.tasks().iter().filter(|task| !task.status.state.is_terminal()).count();
    assert_eq!(live, 4);
}

#[test]
fn a_drained_node_is_emptied_and_keeps_others_running() {
    for order in [UpdateOrder::StartFirst, UpdateOrder::StopFirst] {
        let mut world = World::new(2);
        world.with_service(|spec| {
            replicas(4)(spec);
            spec.update = Some(UpdateConfig { order, ..UpdateConfig::default() });
        });
        world.on_node(2, |node| node.spec.availability = Availability::Drain);
        world.pass_time(0.2);
        assert_eq!(world.on_nodes(), BTreeMap::from([(1, 4)]), "{order:?}");
    }
}

#[test]
fn a_node_that_no_longer_fits_loses_its_tasks() {
    let mut world = World::new(2);
    for number in [1, 2] {
        world.on_node(number, |node| {
            node.spec.annotations.labels.insert("zone".into(), "a".into());
        });
    }
    world.with_service(|spec| {
        replicas(2)(spec);
        spec.task.placement.constraints = vec!["node.labels.zone==a".into()];
    });
    world.on_node(1, |node| {
        node.spec.annotations.labels.insert("zone".into(), "b".into());
    });
    world.pass_time(6.0);
    assert_eq!(world.on_nodes(), BTreeMap::from([(2, 2)]));
}

#[test]
fn a_service_that_no_node_takes_says_why_and_runs_when_one_does() {
    let mut world = World::new(2);
    world.with_service(|spec| spec.task.placement.constraints = vec!["node.role==manager".into()]);
    let reason = "no suitable node (scheduling constraints not satisfied on 2 nodes)";
    assert_eq!(world.states(), [(1, TaskState::Pending, TaskState::Running, reason.into())]);
    world.on_node(2, |node| node.role = Role::Manager);
    assert_eq!(world.on_nodes(), BTreeMap::from([(2, 1)]));
}

#[test]
fn a_global_service_follows_the_nodes() {
    let mut world = World::new(2);
    world.with_service(|spec| spec.mode = ServiceMode::Global);
    assert_eq!(world.on_nodes(), BTreeMap::from([(1, 1), (2, 1)]));
    world.write(|tx| tx.create(node(3)));
    world.settle();
    assert_eq!(world.on_nodes(), BTreeMap::from([(1, 1), (2, 1), (3, 1)]));
    world.on_node(1, |node| node.spec.availability = Availability::Drain);
    assert_eq!(world.on_nodes(), BTreeMap::from([(2, 1), (3, 1)]));
    world.on_node(2, |node| node.spec.availability = Availability::Pause);
    assert_eq!(world.on_nodes(), BTreeMap::from([(2, 1), (3, 1)]));
    world.on_node(1, |node| node.spec.availability = Availability::Active);
    assert_eq!(world.on_nodes(), BTreeMap::from([(1, 1), (2, 1), (3, 1)]));
    world.write(|tx| tx.remove::<Node>(NodeId::from_u128(3)));
    world.settle();
    assert_eq!(world.tasks().iter().filter(|task| task.node_id == Some(NodeId::from_u128(3))).count(), 0);
}

#[test]
fn a_global_service_is_updated_node_by_node() {
    let mut world = World::new(3);
    world.with_service(|spec| spec.mode = ServiceMode::Global);
    world.change(image("new"));
    world.pass_time(10.0);
    assert!(world.running().iter().all(|task| task.spec.container.image == "new"));
    assert_eq!(world.on_nodes(), BTreeMap::from([(1, 1), (2, 1), (3, 1)]));
    assert_eq!(world.update_state(), Some(UpdateState::Completed));
}

#[test]
fn a_change_goes_place_by_place() {
    for (order, parallelism) in [
        (UpdateOrder::StopFirst, 1),
        (UpdateOrder::StopFirst, 2),
        (UpdateOrder::StartFirst, 1),
        (UpdateOrder::StartFirst, 0),
    ] {
        let mut world = World::new(3);
        world.with_service(|spec| {
            replicas(4)(spec);
            spec.update =
                Some(UpdateConfig { order, parallelism, delay: Duration::from_secs(2), ..UpdateConfig::default() });
        });
        world.write(|tx| {
            tx.modify::<Service>(SERVICE, |service| {
                service.previous_spec = Some(Box::new(service.spec.clone()));
                image("new")(&mut service.spec);
            })
        });
        let (mut fewest, mut new) = (4, Vec::new());
        for _ in 0..200 {
            world.pass_time(0.1);
            fewest = fewest.min(world.running().len());
            let now = world.running().iter().filter(|task| task.spec.container.image == "new").count();
            if new.last() != Some(&now) {
                new.push(now);
            }
        }
        let label = format!("{order:?}, {parallelism} at once");
        assert_eq!(fewest, 4, "{label}: at rest all run");
        match parallelism {
            0 => assert_eq!(new, [4], "{label}"),
            1 => assert_eq!(new, [1, 2, 3, 4], "{label}"),
            _ => assert_eq!(new, [2, 4], "{label}"),
        }
        assert_eq!(world.update_state(), Some(UpdateState::Completed), "{label}");
    }
}

#[test]
fn a_broken_change_pauses_and_waits_for_its_user() {
    let mut world = World::new(3);
    world.fails.lock().unwrap().insert("broken".into());
    world.with_service(replicas(3));
    world.change(image("broken"));
    world.pass_time(30.0);
    assert_eq!(world.update_state(), Some(UpdateState::Paused));
    assert_eq!(world.running().len(), 2, "the others were not touched");
    let message = world.store.view().services().get(SERVICE).unwrap().update_status.clone().unwrap().message;
    assert!(message.starts_with("update paused due to failure or early termination of task "), "{message}");
    world.change(image("good"));
    world.pass_time(40.0);
    assert_eq!(world.running().iter().filter(|task| task.spec.container.image == "good").count(), 3);
    assert_eq!(world.update_state(), Some(UpdateState::Completed));
}

#[test]
fn a_broken_change_goes_back_if_it_is_to() {
    let mut world = World::new(3);
    world.fails.lock().unwrap().insert("broken".into());
    world.with_service(|spec| {
        replicas(3)(spec);
        image("good")(spec);
        spec.update = Some(UpdateConfig { failure_action: FailureAction::Rollback, ..UpdateConfig::default() });
    });
    world.change(image("broken"));
    world.pass_time(40.0);
    assert_eq!(world.update_state(), Some(UpdateState::RollbackCompleted), "{:#?}", world.states());
    assert_eq!(world.running().iter().filter(|task| task.spec.container.image == "good").count(), 3);
}

#[test]
fn a_broken_change_goes_on_if_it_is_to() {
    let mut world = World::new(3);
    world.fails.lock().unwrap().insert("broken".into());
    world.with_service(|spec| {
        replicas(2)(spec);
        spec.task.restart.condition = RestartCondition::None;
        spec.update = Some(UpdateConfig { failure_action: FailureAction::Continue, ..UpdateConfig::default() });
    });
    world.change(image("broken"));
    world.pass_time(40.0);
    assert_eq!(world.update_state(), Some(UpdateState::Completed));
    assert_eq!(world.running().len(), 0);
}

#[test]
fn what_the_packet_path_changes_alone_replaces_no_task() {
    let mut world = World::new(2);
    world.with_service(replicas(2));
    let before: Vec<_> = world.running().iter().map(|task| task.id).collect();
    world.change(|spec| {
        spec.endpoint.ports = vec![Port { target_port: 80, published_port: 8080, ..Port::default() }];
        spec.update = Some(UpdateConfig { parallelism: 2, ..UpdateConfig::default() });
        spec.annotations.labels.insert("a".into(), "b".into());
    });
    world.pass_time(10.0);
    assert_eq!(world.running().iter().map(|task| task.id).collect::<Vec<_>>(), before);
    assert_eq!(world.store.view().services().get(SERVICE).unwrap().endpoint.as_ref().unwrap().ports.len(), 1);
}

#[test]
fn a_job_runs_to_its_number_so_many_at_once_and_again_when_it_changes() {
    let mut world = World::new(2);
    let mode = ServiceMode::ReplicatedJob { max_concurrent: 2, total_completions: 5 };
    world.with_service(|spec| spec.mode = mode);
    let completed =
        |world: &World| world.tasks().iter().filter(|task| task.status.state == TaskState::Complete).count();
    assert_eq!((completed(&world), world.tasks().len()), (5, 5));
    world.change(|spec| spec.task.force_update += 1);
    assert_eq!((completed(&world), world.tasks().len()), (5, 5));
}

#[test]
fn a_global_job_runs_once_on_each_node() {
    let mut world = World::new(3);
    world.with_service(|spec| spec.mode = ServiceMode::GlobalJob);
    let done: Vec<_> = world.tasks().iter().map(|task| (task.node_id.unwrap().to_u128(), task.status.state)).collect();
    assert_eq!(done, [(1, TaskState::Complete), (2, TaskState::Complete), (3, TaskState::Complete)]);
}

#[test]
fn a_service_that_goes_leaves_nothing() {
    let mut world = World::new(2);
    world.with_service(replicas(3));
    world.write(|tx| tx.remove::<Service>(SERVICE));
    world.settle();
    assert_eq!(world.states(), []);
}

#[test]
fn a_conflict_over_a_port_is_shown_and_ends_with_it() {
    let mut world = World::new(1);
    let published = |spec: &mut ServiceSpec| {
        spec.endpoint.ports = vec![Port { target_port: 80, published_port: 8080, ..Port::default() }];
    };
    world.with_service(published);
    let other = ServiceId::from_u128(2);
    world.write(|tx| {
        let mut spec = ServiceSpec { annotations: Annotations::named("other"), ..ServiceSpec::default() };
        published(&mut spec);
        tx.create(Service::new(other, spec))
    });
    world.settle();
    let error = |world: &World| world.store.view().services().get(other).unwrap().allocation_error.clone();
    assert_eq!(error(&world), format!("port '8080' is already in use by service {SERVICE} as an ingress port"));
    world.write(|tx| tx.remove::<Service>(SERVICE));
    world.settle();
    assert_eq!((error(&world), world.running().len()), (String::new(), 1));
}

#[test]
fn a_new_leader_goes_on_where_the_old_one_stopped() {
    let mut world = World::new(3);
    world.with_service(replicas(4));
    world.change(image("new"));
    for _ in 0..40 {
        world.new_leader();
        world.pass_time(0.5);
    }
    assert_eq!(world.running().iter().filter(|task| task.spec.container.image == "new").count(), 4);
    assert_eq!(world.update_state(), Some(UpdateState::Completed));
    let (running, all) = (world.running().len(), world.tasks().len());
    assert_eq!((running, all), (4, 8), "each place was changed once");
}

/// Something that happens to a cluster.
#[derive(Debug, Clone)]
enum Happens {
    Scale(u64),
    Change(u8),
    Fail(usize),
    NodeDown(u128),
    NodeUp(u128),
    Drain(u128),
    Leader,
    Time(u8),
}

fn happens() -> impl Strategy<Value = Happens> {
    let node = 1_u128..4;
    prop_oneof![
        (0_u64..8).prop_map(Happens::Scale),
        any::<u8>().prop_map(Happens::Change),
        any::<usize>().prop_map(Happens::Fail),
        node.clone().prop_map(Happens::NodeDown),
        node.clone().prop_map(Happens::NodeUp),
        node.prop_map(Happens::Drain),
        Just(Happens::Leader),
        (1_u8..40).prop_map(Happens::Time),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever happens, when it ends and a node is there the service is as its user wants it.
    #[test]
    fn after_everything_the_service_is_as_wanted(steps in proptest::collection::vec(happens(), 1..25)) {
        let mut world = World::new(3);
        world.with_service(replicas(3));
        let mut wanted = 3;
        for step in steps {
            match step {
                Happens::Scale(count) => { wanted = count; world.change(replicas(count)); }
                Happens::Change(number) => world.change(|spec| image(&format!("image{number}"))(spec)),
                Happens::Fail(which) => {
                    let running = world.running();
                    if let Some(task) = running.get(which % running.len().max(1)) {
                        world.end(task.id, TaskState::Failed);
                    }
                }
                Happens::NodeDown(number) => world.on_node(number, |node| node.status.state = NodeState::Down),
                Happens::NodeUp(number) => world.on_node(number, |node| {
                    node.status.state = NodeState::Ready;
                    node.spec.availability = Availability::Active;
                }),
                Happens::Drain(number) => world.on_node(number, |node| node.spec.availability = Availability::Drain),
                Happens::Leader => world.new_leader(),
                Happens::Time(tenths) => world.pass_time(f64::from(tenths) / 10.0),
            }
        }
        for number in 1..=3 {
            world.on_node(number, |node| {
                node.status.state = NodeState::Ready;
                node.spec.availability = Availability::Active;
            });
        }
        world.pass_time(120.0);
        let service = world.store.view().services().get(SERVICE).cloned().unwrap();
        if service.update_status.as_ref().is_none_or(|status| status.state != UpdateState::Paused) {
            let slots: BTreeSet<_> = world.running().iter().map(|task| task.slot).collect();
            prop_assert_eq!(slots.len(), usize::try_from(wanted).unwrap(), "{:#?}", world.states());
            prop_assert_eq!(world.running().len(), slots.len(), "one in each place: {:#?}", world.states());
            let current = world.running().iter().all(|task| task.spec.container == service.spec.task.container);
            prop_assert!(current, "{:#?}", world.states());
        }
        let mut seen: BTreeMap<TaskId, TaskState> = BTreeMap::new();
        for (task, state) in &world.log {
            let before = seen.insert(*task, *state);
            prop_assert!(before.is_none_or(|before| before <= *state), "{} went from {:?} to {}", task, before, state);
        }
    }
}
