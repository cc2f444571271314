//! Where a service failed of late.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use jiff::Timestamp;

use crate::model::id::{NodeId, ServiceId};
use crate::model::meta::Version;

/// So many failures of a service within [`WINDOW`] put a node behind all others.
const LIMIT: usize = 5;
const WINDOW: Duration = Duration::from_mins(5);
/// At most so many pairs of node and service are remembered; the oldest is forgotten.
const CAPACITY: usize = 65_536;

/// What failed where: one version of a service on one node.
type Key = (NodeId, ServiceId, Version);

/// The memory of failures.
#[derive(Debug, Default)]
pub struct Failures {
    times: HashMap<Key, VecDeque<Timestamp>>,
    order: VecDeque<Key>,
}

impl Failures {
    /// A task of the service failed on the node.
    pub fn add(&mut self, node: NodeId, service: ServiceId, version: Version, now: Timestamp) {
        let key = (node, service, version);
        if !self.times.contains_key(&key) {
            if self.order.len() >= CAPACITY
                && let Some(oldest) = self.order.pop_front()
            {
                self.times.remove(&oldest);
            }
            self.order.push_back(key);
        }
        let times = self.times.entry(key).or_default();
        if times.len() >= LIMIT {
            times.pop_front();
        }
        times.push_back(now);
    }

    /// Whether the node comes behind others for this version of the service.
    pub(super) fn too_many(&self, node: NodeId, service: Option<ServiceId>, version: Version, now: Timestamp) -> bool {
        let times = service.and_then(|service| self.times.get(&(node, service, version)));
        let recent = |time: &&Timestamp| now.duration_since(**time).unsigned_abs() <= WINDOW;
        times.is_some_and(|times| times.iter().filter(recent).count() >= LIMIT)
    }
}
