//! What nodes are told, item by item, each with the version of the store that brought it.
//!
//! One board serves all sessions: what all nodes get is made and written as JSON once.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::model::assignment::{Assigned, Backend, Item, ItemKey, Member, Reachable};
use crate::model::id::{NodeId, TaskId};
use crate::model::network::Network;
use crate::model::node::{Node, NodeState};
use crate::model::service::Service;
use crate::model::state::TaskState;
use crate::model::task::Task;
use crate::store::{AnyObject, Event, Key, Tables};

/// So many removals are remembered; a node that was away for longer gets everything.
const MAX_REMOVALS: usize = 65_536;

/// A leader's versions begin at its term, so far to the left.
const TERM_SHIFT: u32 = 32;

/// An item on the board, or that it is gone.
#[derive(Debug, Clone)]
struct Entry {
    /// For this node alone; None: for all.
    audience: Option<NodeId>,
    version: u64,
    item: Option<Arc<Item>>,
}

/// All items.
#[derive(Debug, Default)]
pub(super) struct Board {
    entries: BTreeMap<ItemKey, Entry>,
    /// Keys by version, so that what is new is found without a look at what is not.
    order: BTreeMap<(u64, ItemKey), ()>,
    removals: usize,
    version: u64,
    /// Who is further behind gets everything.
    oldest: u64,
    /// Tasks that are to stop, and the version from which on no node sends to them.
    draining: HashMap<TaskId, u64>,
}

/// What a node has not been told yet.
#[derive(Debug, Default)]
pub(super) struct News {
    pub(super) set: Vec<Arc<Item>>,
    pub(super) gone: Vec<ItemKey>,
    /// Whether this is all there is, in the place of what the node had.
    pub(super) complete: bool,
    pub(super) version: u64,
}

impl Board {
    /// Everything anew.
    pub(super) fn rebuild(&mut self, view: &Tables) {
        *self = Self { version: self.version, ..Self::default() };
        self.version = self.version.max(view.version().0) + 1;
        self.oldest = self.version;
        view.networks().iter().for_each(|network| self.network(network));
        view.nodes().iter().for_each(|node| self.node(node));
        view.services().iter().for_each(|service| self.service(service));
        view.tasks().iter().for_each(|task| self.task(view, task));
    }

    /// This manager leads now. From here on its versions are above all that leaders before it gave: what a node
    /// has put in force for one of them must not count as an answer to this one.
    pub(super) fn lead(&mut self, term: u64) {
        let first = term << TERM_SHIFT;
        if self.version < first {
            self.version = first;
            self.draining.values_mut().for_each(|since| *since = first);
        }
    }

    /// This happened.
    pub(super) fn note(&mut self, view: &Tables, events: &[Event]) {
        self.version = (self.version + 1).max(view.version().0);
        for event in events {
            match (event, event.object()) {
                (Event::Removed(_), AnyObject::Network(network)) => self.put(ItemKey::Network(network.id), None, None),
                (Event::Removed(_), AnyObject::Node(node)) => self.put(ItemKey::Member(node.id), None, None),
                (Event::Removed(_), AnyObject::Service(service)) => self.put(ItemKey::Service(service.id), None, None),
                (Event::Removed(_), AnyObject::Task(task)) => {
                    self.put(ItemKey::Backend(task.id), None, None);
                    self.put(ItemKey::Task(task.id), task.node_id, None);
                    self.draining.remove(&task.id);
                }
                (_, AnyObject::Network(network)) => self.network(network),
                (_, AnyObject::Node(node)) => {
                    self.node(node);
                    // Whether its tasks are reached depends on whether it is there.
                    view.tasks().by_key(Key::Node(node.id)).for_each(|task| self.task(view, task));
                }
                (_, AnyObject::Service(service)) => self.service(service),
                (_, AnyObject::Task(task)) => self.task(view, task),
                (_, AnyObject::Cluster(_) | AnyObject::Secret(_) | AnyObject::Config(_)) => {}
            }
        }
    }

    fn network(&mut self, network: &Arc<Network>) {
        let item = network.vni.is_some().then(|| Item::Network(Box::new(Network::clone(network))));
        self.put(ItemKey::Network(network.id), None, item);
    }

    fn node(&mut self, node: &Node) {
        let member = Member {
            id: node.id,
            hostname: node.description.as_ref().map(|it| it.hostname.clone()).unwrap_or_default(),
            vteps: node.vteps.clone(),
            gossip: node.gossip_addr,
        };
        // One that is down is no way to anywhere.
        let item = (node.status.state != NodeState::Down).then_some(Item::Member(member));
        self.put(ItemKey::Member(node.id), None, item);
    }

    fn service(&mut self, service: &Service) {
        let item = service.endpoint.as_ref().map(|endpoint| {
            Item::Service(Box::new(Reachable {
                id: service.id,
                name: service.spec.annotations.name.clone(),
                labels: service.spec.annotations.labels.clone(),
                mode: service.spec.endpoint.mode,
                endpoint: endpoint.clone(),
                networks: service.spec.networks().to_vec(),
            }))
        });
        self.put(ItemKey::Service(service.id), None, item);
    }

    fn task(&mut self, view: &Tables, task: &Task) {
        let wanted = task.desired_state <= TaskState::Complete;
        let reachable = task.status.state == TaskState::Running && !task.networks.is_empty();
        let lost = task
            .node_id
            .is_none_or(|node| view.nodes().get(node).is_none_or(|node| node.status.state == NodeState::Down));
        let backend = task.node_id.filter(|_| reachable && !lost).map(|node| {
            Item::Backend(Backend {
                id: task.id,
                name: task.name(),
                service: task.service_id,
                node,
                networks: task.networks.clone(),
                draining: !wanted,
            })
        });
        self.put(ItemKey::Backend(task.id), None, backend);
        let on_node = (TaskState::Assigned..=TaskState::Running).contains(&task.status.state);
        let drained = match (on_node, wanted) {
            (true, false) => self.drained(task),
            _ => {
                self.draining.remove(&task.id);
                false
            }
        };
        // One that has ended stays with its node until its record goes: the node keeps its output so long.
        let has_node = task.status.state >= TaskState::Assigned;
        let assigned = task.node_id.filter(|_| has_node).map(|_| Item::Task(Box::new(assigned(view, task, drained))));
        self.put(ItemKey::Task(task.id), task.node_id, assigned);
    }

    /// Whether a task that is to stop is drained; one that nobody was told of is at once.
    fn drained(&mut self, task: &Task) -> bool {
        let was = matches!(self.entries.get(&ItemKey::Task(task.id)).and_then(|entry| entry.item.as_deref()),
            Some(Item::Task(assigned)) if assigned.drained);
        if was || task.status.state < TaskState::Running || task.networks.is_empty() {
            return true;
        }
        self.draining.entry(task.id).or_insert(self.version);
        false
    }

    /// Every node that is there has applied this version: tasks whose drain is older may stop.
    pub(super) fn applied_everywhere(&mut self, version: u64) -> bool {
        let ready: Vec<_> =
            self.draining.iter().filter(|(_, since)| **since <= version).map(|(task, _)| *task).collect();
        for task in &ready {
            self.let_stop(*task);
        }
        !ready.is_empty()
    }

    /// The tasks that have been draining since this version or before.
    pub(super) fn draining(&self) -> impl Iterator<Item = (TaskId, u64)> + '_ {
        self.draining.iter().map(|(task, since)| (*task, *since))
    }

    /// The node of this task need not wait any longer.
    pub(super) fn let_stop(&mut self, task: TaskId) {
        self.draining.remove(&task);
        let key = ItemKey::Task(task);
        let Some(entry) = self.entries.get(&key).cloned() else { return };
        if let Some(Item::Task(assigned)) = entry.item.as_deref() {
            let item = Item::Task(Box::new(Assigned { drained: true, ..(**assigned).clone() }));
            self.version += 1;
            self.put(key, entry.audience, Some(item));
        }
    }

    fn put(&mut self, key: ItemKey, audience: Option<NodeId>, item: Option<Item>) {
        let before = self.entries.get(&key);
        match (before, &item) {
            (None, None) => return,
            (Some(before), _) if before.item.as_deref() == item.as_ref() => return,
            _ => {}
        }
        if let Some(before) = self.entries.remove(&key) {
            self.order.remove(&(before.version, key));
            self.removals -= usize::from(before.item.is_none());
        }
        self.removals += usize::from(item.is_none());
        self.order.insert((self.version, key), ());
        self.entries.insert(key, Entry { audience, version: self.version, item: item.map(Arc::new) });
        if self.removals > MAX_REMOVALS {
            self.forget_removals();
        }
    }

    fn forget_removals(&mut self) {
        let gone: Vec<_> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.item.is_none())
            .map(|(key, entry)| (entry.version, *key))
            .collect();
        for (version, key) in gone {
            self.order.remove(&(version, key));
            self.entries.remove(&key);
        }
        (self.removals, self.oldest) = (0, self.version);
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// What a node that knows everything up to `since` has not been told; 0: it knows nothing.
    pub(super) fn news(&self, node: NodeId, since: u64) -> News {
        let complete = since == 0 || since < self.oldest;
        let from = if complete { 0 } else { since + 1 };
        let mut news = News { complete, version: self.version, ..News::default() };
        let keys = self.order.range((from, ItemKey::Network(crate::model::id::NetworkId::from_u128(0)))..);
        for ((_, key), ()) in keys {
            let Some(entry) = self.entries.get(key) else { continue };
            if entry.audience.is_some_and(|audience| audience != node) {
                continue;
            }
            match &entry.item {
                Some(item) => news.set.push(Arc::clone(item)),
                None if complete => {}
                None => news.gone.push(*key),
            }
        }
        news
    }
}

fn assigned(view: &Tables, task: &Task, drained: bool) -> Assigned {
    let container = &task.spec.container;
    let secrets = container.secrets.iter().filter_map(|it| view.secrets().get(it.secret_id));
    let configs = container.configs.iter().filter_map(|it| view.configs().get(it.config_id));
    Assigned {
        task: task.clone(),
        secrets: secrets.map(|secret| secret.as_ref().clone()).collect(),
        configs: configs.map(|config| config.as_ref().clone()).collect(),
        drained,
    }
}
