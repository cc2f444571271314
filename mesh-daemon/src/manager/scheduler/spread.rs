//! The best node for each of a group of like tasks.
//!
//! Nodes are kept in a tree by the labels that the preferences name, and in a heap within each
//! branch, so that a task is placed in a time that grows with the logarithm of the nodes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use crate::model::node::Node;
use crate::model::resources::Preference;

/// The order of nodes: those where the service failed last, then few tasks of the service, then few
/// tasks, then by place in the list, so that the same input gives the same spread.
pub(super) type Rank = (bool, u64, u64, usize);

/// Nodes by preference.
pub(super) struct Spread {
    /// Tasks of the service in this branch.
    tasks: u64,
    branches: BTreeMap<String, Spread>,
    nodes: BinaryHeap<Reverse<Rank>>,
}

impl Spread {
    pub(super) fn new() -> Self {
        Self { tasks: 0, branches: BTreeMap::new(), nodes: BinaryHeap::new() }
    }

    /// Adds a node that has so many tasks of the service.
    pub(super) fn add(&mut self, preferences: &[Preference], node: &Node, rank: Rank) {
        self.tasks += rank.1;
        match preferences.split_first() {
            Some((Preference::Spread(label), rest)) => {
                let branch = self.branches.entry(value(node, label)).or_insert_with(Self::new);
                branch.add(rest, node, rank);
            }
            None => self.nodes.push(Reverse(rank)),
        }
    }

    /// Lets `try_place` have the best node; it answers with the node's new rank, or None if the node
    /// takes no more, which removes it. Returns whether a node took the task.
    pub(super) fn place(&mut self, try_place: &mut impl FnMut(usize) -> Option<Rank>) -> bool {
        let placed = if self.branches.is_empty() { self.place_here(try_place) } else { self.place_below(try_place) };
        self.tasks += u64::from(placed);
        placed
    }

    fn place_here(&mut self, try_place: &mut impl FnMut(usize) -> Option<Rank>) -> bool {
        while let Some(Reverse(rank)) = self.nodes.pop() {
            if let Some(rank) = try_place(rank.3) {
                self.nodes.push(Reverse(rank));
                return true;
            }
        }
        false
    }

    fn place_below(&mut self, try_place: &mut impl FnMut(usize) -> Option<Rank>) -> bool {
        while let Some(name) = self.branches.iter().min_by_key(|(_, branch)| branch.tasks).map(|(name, _)| name.clone())
        {
            if self.branches.get_mut(&name).is_some_and(|branch| branch.place(try_place)) {
                return true;
            }
            self.branches.remove(&name);
        }
        false
    }
}

/// What a node has for `node.labels.X` or `engine.labels.X`; nodes without are alike.
fn value(node: &Node, label: &str) -> String {
    let lower = label.to_lowercase();
    let labels = if lower.starts_with("node.labels.") {
        label.get("node.labels.".len()..).and_then(|name| node.spec.annotations.labels.get(name))
    } else if lower.starts_with("engine.labels.") {
        let labels = node.description.as_ref().map(|description| &description.engine.labels);
        label.get("engine.labels.".len()..).and_then(|name| labels.and_then(|labels| labels.get(name)))
    } else {
        None
    };
    labels.cloned().unwrap_or_default()
}
