//! What is in force, for whoever waits for it: an orchestrator ends a task that drains when every node has
//! acknowledged the version in which it does, and the task's node has no connection left.
//!
//! [`super::reconcile::Datapath::watch`] hands it out; `meshd datapath --status FILE` writes it as JSON.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mesh_common::flow::{CHOICE, Flow, state};
use serde::Serialize;
use tracing::info;

use super::desired::{Desired, Endpoint, mac};
use super::facts::Facts;
use super::maps;

/// What is in force on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Status {
    /// The `version` of the desired state that the maps were last made equal to.
    pub version: u64,
    /// What should be and cannot be yet.
    pub waiting: Vec<String>,
    /// The tasks of this node that drain.
    pub draining: Vec<Draining>,
}

/// A task of this node that drains.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Draining {
    /// Its network.
    pub network: String,
    /// Its link-layer address.
    pub mac: String,
    /// The service it is a task of.
    pub service: String,
    /// TCP connections it still has through the service; once the drain has ended, those it had then.
    pub connections: u64,
    /// Has it ended, at its time, whatever was left? Connections left are reset.
    pub ended: bool,
}

/// Its time is over.
fn is_overdue(endpoint: &Endpoint, now: u64) -> bool {
    endpoint.drain_until.is_some_and(|until| until <= now)
}

/// The desired state at a time, in seconds since 1970: a task whose drain has ended is nobody's task.
pub(super) fn at(desired: &Desired, now: u64) -> Cow<'_, Desired> {
    if !desired.endpoints.iter().any(|endpoint| is_overdue(endpoint, now)) {
        return Cow::Borrowed(desired);
    }
    let mut desired = desired.clone();
    for endpoint in desired.endpoints.iter_mut().filter(|endpoint| is_overdue(endpoint, now)) {
        endpoint.service = None;
    }
    Cow::Owned(desired)
}

/// Follows the drains of this node's tasks.
#[derive(Debug, Default)]
pub(super) struct Drains {
    /// Connections that were left when a drain ended, by network and link-layer address.
    left: BTreeMap<(String, String), u64>,
}

impl Drains {
    /// Is there one to be followed?
    pub(super) fn any(desired: &Desired) -> bool {
        desired.endpoints.iter().any(|endpoint| endpoint.link.is_some() && endpoint.draining)
    }

    /// How each of them is doing; `flows` is what the node remembers.
    pub(super) fn look(&mut self, desired: &Desired, facts: &Facts, now: u64, flows: &[Flow]) -> Vec<Draining> {
        let mut connections: BTreeMap<u32, u64> = BTreeMap::new();
        // Those of the task itself to the outside are nothing that the service waits for.
        let is_of_service = |flow: &&Flow| flow.ifindex & CHOICE == 0 && flow.state & state::OUTWARD != state::OUTWARD;
        for flow in flows.iter().filter(is_of_service).filter(|flow| maps::is_live(flow)) {
            *connections.entry(flow.ifindex).or_default() += 1;
        }
        let mut left = BTreeMap::new();
        let mut draining = Vec::new();
        for endpoint in desired.endpoints.iter().filter(|endpoint| endpoint.draining) {
            let (Some(link), Some(service)) = (&endpoint.link, &endpoint.service) else { continue };
            let ifindex = facts.interfaces.get(link).map_or(0, |interface| interface.ifindex);
            let mut count = connections.get(&ifindex).copied().unwrap_or(0);
            let key = (endpoint.network.clone(), mac::format(endpoint.mac));
            let ended = is_overdue(endpoint, now);
            if ended {
                count = self.left.get(&key).copied().unwrap_or_else(|| {
                    info!(network = key.0, mac = key.1, connections = count, "drain ends at its time");
                    count
                });
                left.insert(key.clone(), count);
            }
            let (network, mac) = key;
            draining.push(Draining { network, mac, service: service.clone(), connections: count, ended });
        }
        self.left = left;
        draining
    }
}

/// The status could not be written.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// It is no JSON.
    #[error("write the status as JSON")]
    Json(#[source] serde_json::Error),
    /// The file.
    #[error("write the status to {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

/// Writes it into a file, whole or not at all.
///
/// # Errors
/// The file or its neighbour `.new` cannot be written.
pub fn write(status: &Status, path: &Path) -> Result<(), StatusError> {
    let text = serde_json::to_string_pretty(status).map_err(StatusError::Json)?;
    let failed = |source| StatusError::Write { path: path.to_owned(), source };
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    std::fs::write(&new, text + "\n").map_err(failed)?;
    std::fs::rename(&new, path).map_err(failed)
}
