//! One pass over what has changed: what each controller decides, in order.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::allocator::Allocator;
use super::enforcer;
use super::orchestrator::{Ids, Orchestrator, later};
use super::scheduler::{Candidate, Decision, Failures, schedule};
use super::step::Step;
use crate::model::cluster::Cluster;
use crate::model::id::{NodeId, ServiceId};
use crate::model::node::NodeState;
use crate::model::state::TaskState;
use crate::model::task::Task;
use crate::store::{AnyObject, Event, Key, Tables};

/// Tasks of a node that is down are given up after so long.
const ORPHANED_AFTER: Duration = Duration::from_hours(24);

/// What has changed since the controllers looked.
#[derive(Debug, Default)]
struct Dirty {
    services: BTreeSet<ServiceId>,
    nodes: BTreeSet<NodeId>,
    networks: bool,
    tasks: bool,
}

/// All controllers of a leader, and what they remember.
pub struct Controllers {
    allocator: Option<Allocator>,
    orchestrator: Orchestrator,
    failures: Failures,
    dirty: Dirty,
    wakes: std::collections::BTreeMap<ServiceId, Timestamp>,
}

/// What a pass decided.
#[derive(Debug, Default)]
pub struct Pass {
    /// What to write, in order.
    pub steps: Vec<Step>,
    /// When to make a pass although nothing has changed.
    pub wake: Option<Timestamp>,
}

impl Controllers {
    /// Controllers that know nothing: [`Controllers::resync`] comes first.
    #[must_use]
    pub fn new(ids: Ids) -> Self {
        Self {
            allocator: None,
            orchestrator: Orchestrator::new(ids),
            failures: Failures::default(),
            dirty: Dirty::default(),
            wakes: std::collections::BTreeMap::new(),
        }
    }

    /// Everything may have changed.
    pub fn resync(&mut self, view: &Tables) {
        self.allocator = view.cluster().map(|cluster| load(cluster, view));
        self.dirty.services = view.services().iter().map(|service| service.id).collect();
        // Tasks of services that are gone are theirs to remove.
        self.dirty.services.extend(view.tasks().iter().filter_map(|task| task.service_id));
        self.dirty.nodes = view.nodes().iter().map(|node| node.id).collect();
        (self.dirty.networks, self.dirty.tasks) = (true, true);
    }

    /// This happened.
    pub fn note(&mut self, view: &Tables, event: &Event, now: Timestamp) {
        match event.object() {
            AnyObject::Cluster(_) if self.allocator.is_none() => self.resync(view),
            AnyObject::Cluster(_) | AnyObject::Secret(_) | AnyObject::Config(_) => {}
            AnyObject::Network(network) => {
                self.dirty.networks = true;
                self.dirty.services.extend(view.services().iter().map(|service| service.id));
                if let (Event::Removed(_), Some(allocator)) = (event, &mut self.allocator) {
                    allocator.free_network(network);
                }
            }
            AnyObject::Service(service) => {
                self.dirty.services.insert(service.id);
                if let (Event::Removed(_), Some(allocator)) = (event, &mut self.allocator) {
                    allocator.free_service(service);
                    // What it gave back another may wait for.
                    self.dirty.services.extend(waiting_services(view));
                }
            }
            AnyObject::Node(node) => {
                self.dirty.nodes.insert(node.id);
                self.dirty.tasks = true;
                let on_node = view.tasks().by_key(Key::Node(node.id)).filter_map(|task| task.service_id);
                self.dirty.services.extend(on_node);
                let global = view.services().iter().filter(|service| service.spec.mode.is_global());
                self.dirty.services.extend(global.map(|service| service.id));
            }
            AnyObject::Task(task) => self.note_task(event, task, now),
        }
    }

    fn note_task(&mut self, event: &Event, task: &Arc<Task>, now: Timestamp) {
        self.dirty.tasks = true;
        self.dirty.services.extend(task.service_id);
        let before = match event {
            Event::Changed { before: AnyObject::Task(before), .. } => Some(before),
            _ => None,
        };
        let ended = task.status.state.is_terminal() || matches!(event, Event::Removed(_));
        let had_ended = before.is_some_and(|before| before.status.state.is_terminal())
            || (matches!(event, Event::Removed(_)) && task.status.state.is_terminal());
        if ended && !had_ended {
            if let Some(allocator) = &mut self.allocator {
                allocator.free_task(task);
            }
            let failed = matches!(task.status.state, TaskState::Failed | TaskState::Rejected);
            if let (true, Some(node), Some(service)) = (failed, task.node_id, task.service_id) {
                self.failures.add(node, service, task.spec_version, now);
            }
        }
    }

    /// What to do now.
    pub fn pass(&mut self, view: &Tables, now: Timestamp) -> Pass {
        let mut pass = Pass::default();
        let dirty = std::mem::take(&mut self.dirty);
        if dirty.networks {
            self.allocate_networks(view, &mut pass);
        }
        let due: Vec<_> = self.wakes.iter().filter(|(_, time)| **time <= now).map(|(service, _)| *service).collect();
        let services: BTreeSet<_> = dirty.services.iter().copied().chain(due).collect();
        for node in &dirty.nodes {
            pass.steps.extend(enforcer::plan(view, *node));
        }
        let given_up = give_up(view, now, &mut pass);
        for service in &services {
            self.allocate_service(view, *service, &mut pass);
            self.wakes.remove(service);
            let plan = self.orchestrator.plan(view, *service, now);
            pass.steps.extend(plan.steps);
            if let Some(wake) = plan.wake {
                self.wakes.insert(*service, wake);
            }
        }
        if dirty.tasks || !services.is_empty() {
            self.allocate_tasks(view, &services, &mut pass);
            self.schedule(view, now, &mut pass);
        }
        pass.wake = self.wakes.values().copied().chain(given_up).min();
        pass
    }

    fn allocate_networks(&mut self, view: &Tables, pass: &mut Pass) {
        let Some(allocator) = &mut self.allocator else { return };
        for network in view.networks().iter() {
            match allocator.allocate_network(network) {
                Ok(None) => {}
                Ok(Some(changed)) => pass.steps.push(Step::Network(Box::new(changed))),
                Err(error) => {
                    let reason = error.to_string();
                    if network.allocation_error != reason {
                        pass.steps.push(Step::NetworkRefused { network: network.id, reason });
                    }
                }
            }
        }
    }

    fn allocate_service(&mut self, view: &Tables, id: ServiceId, pass: &mut Pass) {
        let (Some(allocator), Some(service)) = (&mut self.allocator, view.services().get(id)) else { return };
        match allocator.allocate_service(service) {
            Ok(None) => {}
            Ok(Some(endpoint)) => pass.steps.push(Step::Endpoint { service: id, endpoint }),
            Err(error) => {
                let reason = error.to_string();
                if service.allocation_error != reason {
                    pass.steps.push(Step::ServiceRefused { service: id, reason });
                }
            }
        }
    }

    fn allocate_tasks(&mut self, view: &Tables, services: &BTreeSet<ServiceId>, pass: &mut Pass) {
        let Some(allocator) = &mut self.allocator else { return };
        let tasks = services.iter().flat_map(|service| view.tasks().by_key(Key::Service(*service)));
        for task in tasks.filter(|task| task.status.state == TaskState::New && is_wanted(task)) {
            let service = task.service_id.and_then(|service| view.services().get(service));
            let Some(endpoint) = service.and_then(|service| service.endpoint.clone()) else { continue };
            match allocator.allocate_task(task, service.map(Arc::as_ref)) {
                Ok(networks) => {
                    pass.steps.push(Step::Addresses { task: task.id, networks, endpoint: Some(endpoint) });
                }
                Err(error) => wait(task, error.to_string(), pass),
            }
        }
    }

    fn schedule(&mut self, view: &Tables, now: Timestamp, pass: &mut Pass) {
        let waiting: Vec<_> = view
            .tasks()
            .iter()
            .filter(|task| task.status.state == TaskState::Pending && is_wanted(task))
            .cloned()
            .collect();
        if waiting.is_empty() {
            return;
        }
        let mut nodes: Vec<_> = view.nodes().iter().map(|node| Candidate::new(Arc::clone(node))).collect();
        let places: std::collections::BTreeMap<_, _> =
            view.nodes().iter().enumerate().map(|(place, node)| (node.id, place)).collect();
        for task in view.tasks().iter().filter(|task| task.status.state >= TaskState::Assigned) {
            let place = task.node_id.and_then(|node| places.get(&node));
            if let Some(candidate) = place.and_then(|place| nodes.get_mut(*place)) {
                candidate.count(task);
            }
        }
        for decision in schedule(&mut nodes, &waiting, &self.failures, now) {
            match decision {
                Decision::Place { task, node, resources } => pass.steps.push(Step::Place { task, node, resources }),
                Decision::Wait { task, reason } => {
                    if let Some(task) = view.tasks().get(task) {
                        wait(task, reason, pass);
                    }
                }
            }
        }
    }

    /// Steps were not written: what they would have given is free again, and all is looked at anew.
    pub fn undone(&mut self, view: &Tables) {
        self.resync(view);
    }
}

fn load(cluster: &Cluster, view: &Tables) -> Allocator {
    Allocator::load(
        cluster,
        view.networks().iter().map(Arc::as_ref),
        view.services().iter().map(Arc::as_ref),
        view.tasks().iter().map(Arc::as_ref),
    )
}

fn is_wanted(task: &Task) -> bool {
    task.desired_state <= TaskState::Complete
}

/// Says why a task waits, once.
fn wait(task: &Task, reason: String, pass: &mut Pass) {
    if task.status.err != reason {
        pass.steps.push(Step::Waits { task: task.id, reason });
    }
}

/// Services that could not have what they asked for, or whose tasks could not.
fn waiting_services(view: &Tables) -> impl Iterator<Item = ServiceId> + '_ {
    let refused = view.services().iter().filter(|service| !service.allocation_error.is_empty()).map(|it| it.id);
    let tasks = view.tasks().iter().filter(|task| task.status.state == TaskState::New);
    refused.chain(tasks.filter_map(|task| task.service_id))
}

/// Gives up the tasks of nodes that have been down for too long; says when the next one will have been.
fn give_up(view: &Tables, now: Timestamp, pass: &mut Pass) -> Option<Timestamp> {
    let mut next: Option<Timestamp> = None;
    for node in view.nodes().iter().filter(|node| node.status.state == NodeState::Down) {
        let mut tasks =
            view.tasks().by_key(Key::Node(node.id)).filter(|task| task.status.state.is_on_node()).peekable();
        let (Some(since), Some(_)) = (node.status.since, tasks.peek()) else { continue };
        let due = later(since, ORPHANED_AFTER);
        if due <= now {
            pass.steps.extend(tasks.map(|task| Step::Orphan(task.id)));
        } else {
            next = Some(next.map_or(due, |next| next.min(due)));
        }
    }
    next
}
