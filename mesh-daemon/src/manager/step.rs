//! What controllers decide, one thing at a time, and how it is written.
//!
//! Every step is carried out on what is there then: one that no longer fits is left out, and its
//! controller, which looks again after every change, decides anew.

use crate::model::id::{NetworkId, NodeId, ServiceId, TaskId};
use crate::model::network::Network;
use crate::model::resources::GenericResource;
use crate::model::service::{Endpoint, JobStatus, Service, UpdateState, UpdateStatus};
use crate::model::state::{Actor, TaskState};
use crate::model::task::{NetworkAttachment, Task};
use crate::store::{Error, Tx};

use jiff::Timestamp;

/// One thing to change.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// A new task.
    Create(Box<Task>),
    /// A task is to come to this state.
    Want {
        /// Which.
        task: TaskId,
        /// The state.
        state: TaskState,
    },
    /// A task is to end, another takes its place.
    Replace {
        /// The one that ends.
        old: TaskId,
        /// The other.
        new: Box<Task>,
    },
    /// A task's record goes.
    Remove(TaskId),
    /// How far a change of a service is.
    Update {
        /// The service.
        service: ServiceId,
        /// How far.
        status: UpdateStatus,
    },
    /// A service goes back to the spec before.
    RollBack {
        /// The service.
        service: ServiceId,
        /// Why.
        message: String,
    },
    /// A job begins a run.
    Job {
        /// The service.
        service: ServiceId,
        /// The run.
        status: JobStatus,
    },
    /// What a network got.
    Network(Box<Network>),
    /// A network cannot have what it asks for.
    NetworkRefused {
        /// The network.
        network: NetworkId,
        /// Why.
        reason: String,
    },
    /// What a service got.
    Endpoint {
        /// The service.
        service: ServiceId,
        /// Its ports and addresses.
        endpoint: Endpoint,
    },
    /// A service cannot have what it asks for.
    ServiceRefused {
        /// The service.
        service: ServiceId,
        /// Why.
        reason: String,
    },
    /// What a task got: it waits for a node from now on.
    Addresses {
        /// The task.
        task: TaskId,
        /// Its addresses.
        networks: Vec<NetworkAttachment>,
        /// Its service's ports and addresses.
        endpoint: Option<Endpoint>,
    },
    /// A task gets a node.
    Place {
        /// The task.
        task: TaskId,
        /// The node.
        node: NodeId,
        /// What it got of what the node counts or names.
        resources: Vec<GenericResource>,
    },
    /// Why a task waits.
    Waits {
        /// The task.
        task: TaskId,
        /// Why.
        reason: String,
    },
    /// A task's node no longer fits it.
    Evict {
        /// The task.
        task: TaskId,
        /// Why.
        reason: String,
    },
    /// Nobody waits any longer for a task whose node has been away for so long.
    Orphan(TaskId),
}

impl Step {
    /// Writes it, if it still fits.
    ///
    /// # Errors
    ///
    /// At the bounds of a transaction.
    pub fn apply(&self, tx: &mut Tx, now: Timestamp) -> Result<(), Error> {
        match self {
            Self::Create(task) => create(tx, task),
            Self::Want { task, state } => want(tx, *task, *state),
            Self::Replace { old, new } => {
                if tx.tasks().get(*old).is_none() {
                    return Ok(());
                }
                want(tx, *old, TaskState::Shutdown)?;
                create(tx, new)
            }
            Self::Remove(task) => if_there(tx.remove::<Task>(*task)),
            Self::Update { service, status } => {
                on_service(tx, *service, |service| service.update_status = Some(status.clone()))
            }
            Self::RollBack { service, message } => on_service(tx, *service, |service| roll_back(service, message, now)),
            Self::Job { service, status } => on_service(tx, *service, |service| service.job_status = Some(*status)),
            Self::Network(network) => {
                let fits = tx.networks().get(network.id).is_some_and(|there| there.vni.is_none());
                if fits {
                    if_there(tx.modify::<Network>(network.id, |there| network_got(there, network)))
                } else {
                    Ok(())
                }
            }
            Self::NetworkRefused { network, reason } => {
                if_there(tx.modify::<Network>(*network, |network| network.allocation_error.clone_from(reason)))
            }
            Self::Endpoint { service, endpoint } => on_service(tx, *service, |service| {
                service.endpoint = Some(endpoint.clone());
                service.allocation_error.clear();
            }),
            Self::ServiceRefused { service, reason } => {
                on_service(tx, *service, |service| service.allocation_error.clone_from(reason))
            }
            Self::Addresses { task, networks, endpoint } => {
                move_task(tx, *task, Actor::Allocator, TaskState::Pending, now, |task| {
                    task.networks.clone_from(networks);
                    task.endpoint.clone_from(endpoint);
                    "pending task scheduling".clone_into(&mut task.status.message);
                    task.status.err.clear();
                })
            }
            Self::Place { task, node, resources } => {
                move_task(tx, *task, Actor::Scheduler, TaskState::Assigned, now, |task| {
                    task.node_id = Some(*node);
                    task.generic_resources.clone_from(resources);
                    "scheduler assigned task to node".clone_into(&mut task.status.message);
                    task.status.err.clear();
                })
            }
            Self::Waits { task, reason } => {
                if_there(tx.modify::<Task>(*task, |task| task.status.err.clone_from(reason)))
            }
            Self::Evict { task, reason } => move_task(tx, *task, Actor::Enforcer, TaskState::Rejected, now, |task| {
                reason.clone_into(&mut task.status.err);
                "task rejected by constraint enforcer".clone_into(&mut task.status.message);
            }),
            Self::Orphan(task) => move_task(tx, *task, Actor::Dispatcher, TaskState::Orphaned, now, |task| {
                "node is away".clone_into(&mut task.status.message);
            }),
        }
    }
}

fn create(tx: &mut Tx, task: &Task) -> Result<(), Error> {
    let service = task.service_id.filter(|service| tx.services().get(*service).is_some());
    // Made for a spec that is no longer the service's: another is made for the new one.
    let current = service
        .is_some_and(|id| tx.services().get(id).is_some_and(|service| service.spec_version == task.spec_version));
    if current { tx.create(task.clone()) } else { Ok(()) }
}

fn want(tx: &mut Tx, task: TaskId, state: TaskState) -> Result<(), Error> {
    let fits = |task: &Task| Actor::Orchestrator.may_want(task.desired_state, state);
    if tx.tasks().get(task).is_some_and(|task| fits(task)) {
        return tx.modify::<Task>(task, |task| task.desired_state = state);
    }
    Ok(())
}

fn move_task(
    tx: &mut Tx,
    task: TaskId,
    actor: Actor,
    to: TaskState,
    now: Timestamp,
    change: impl FnOnce(&mut Task),
) -> Result<(), Error> {
    if !tx.tasks().get(task).is_some_and(|task| actor.may_move(task.status.state, to)) {
        return Ok(());
    }
    tx.modify::<Task>(task, |task| {
        task.status.state = to;
        task.status.timestamp = now;
        change(task);
    })
}

fn on_service(tx: &mut Tx, service: ServiceId, change: impl FnOnce(&mut Service)) -> Result<(), Error> {
    if_there(tx.modify(service, change))
}

/// As a user's own rollback, but for the words.
fn roll_back(service: &mut Service, message: &str, now: Timestamp) {
    let Some(previous) = service.previous_spec.take() else { return };
    service.spec = *previous;
    service.previous_spec_version = None;
    service.update_status = Some(UpdateStatus {
        state: UpdateState::RollbackStarted,
        started_at: Some(now),
        completed_at: None,
        message: message.to_owned(),
    });
}

fn network_got(there: &mut Network, network: &Network) {
    there.vni = network.vni;
    there.subnets.clone_from(&network.subnets);
    there.driver_options.clone_from(&network.driver_options);
    there.allocation_error.clear();
}

/// What is gone needs no change any more.
fn if_there(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(Error::NotFound { .. }) => Ok(()),
        other => other,
    }
}
