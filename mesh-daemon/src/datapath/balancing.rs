//! How a service's flows are spread: the fields of a desired state that say so, and their checks.

use mesh_common::service::service_flag;
use serde::Deserialize;

use super::desired::{Endpoint, Service};
use super::maglev;

/// Who gets a new flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Balancing {
    /// Whom the hash of the flow names: every node, without remembering anything, chooses the same task.
    #[default]
    Maglev,
    /// One task after the other, in the order of a node's new flows.
    RoundRobin,
    /// Of two that the hash names, the one that this node sends fewer connections to.
    LeastConnections,
    /// Whom the client had before, until it was silent for `affinity_seconds`; else whom the hash of its
    /// address names.
    Client,
    /// The tasks of the node that is dialled, as long as it has one; else as Maglev.
    PreferLocal,
}

/// What Swarm's own balancer and others keep a client for: three hours.
const AFFINITY_SECONDS: u32 = 10_800;
/// A week.
const LONGEST_AFFINITY: u32 = 604_800;
/// So that a share is no rounding error of the largest table.
const HEAVIEST: u32 = 256;

/// The weight of a task that says nothing.
pub(super) fn default_weight() -> u32 {
    1
}

impl Balancing {
    /// What the programs must know of it: bits of [`service_flag`].
    pub(super) fn flags(self) -> u16 {
        match self {
            Self::Maglev | Self::PreferLocal => 0,
            Self::RoundRobin => service_flag::ROUND_ROBIN,
            Self::LeastConnections => service_flag::LEAST_CONNECTIONS,
            Self::Client => service_flag::CLIENT_AFFINITY,
        }
    }
}

impl Service {
    /// For how long a client stays, in the programs' terms.
    pub(super) fn affinity(&self) -> u32 {
        self.affinity_seconds.unwrap_or(AFFINITY_SECONDS)
    }

    /// How many slots its table has, with so many tasks. It is the same on every node, whatever each has
    /// seen before.
    pub fn table_size(&self, tasks: usize) -> u32 {
        self.slots.unwrap_or_else(|| maglev::size(tasks, 0))
    }
}

/// The field that is wrong, and what is wrong with it.
type Problem = (&'static str, String);

/// Are the fields on balancing of a service in order?
pub(super) fn check_service(service: &Service) -> Result<(), Problem> {
    if let Some(slots) = service.slots
        && !(slots.is_power_of_two() && (maglev::SMALLEST..=maglev::LARGEST).contains(&slots))
    {
        let problem = format!("{slots} is no power of two in {}..{}", maglev::SMALLEST, maglev::LARGEST);
        return Err(("slots", problem));
    }
    match (service.affinity_seconds, service.balancing) {
        (None, _) => {}
        (Some(seconds), Balancing::Client) if (1..=LONGEST_AFFINITY).contains(&seconds) => {}
        (Some(seconds), Balancing::Client) => {
            return Err(("affinity_seconds", format!("{seconds} is not in 1..{LONGEST_AFFINITY}")));
        }
        (Some(_), _) => return Err(("affinity_seconds", "needs balancing = \"client\"".to_owned())),
    }
    if service.new_flows_per_second == Some(0) {
        return Err(("new_flows_per_second", "0 would let nobody in; leave it out for no limit".to_owned()));
    }
    Ok(())
}

/// Are the fields on balancing of a task in order?
pub(super) fn check_endpoint(endpoint: &Endpoint) -> Result<(), Problem> {
    if !(1..=HEAVIEST).contains(&endpoint.weight) {
        return Err(("weight", format!("{} is not in 1..{HEAVIEST}; to send nothing new, drain it", endpoint.weight)));
    }
    if endpoint.drain_until.is_some() && !endpoint.draining {
        return Err(("drain_until", "needs draining = true".to_owned()));
    }
    Ok(())
}
