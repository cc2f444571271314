//! Tasks, to the client.

use super::{recall, service::ports, time, version};
use crate::api::wire;
use crate::model::resources::GenericResource;
use crate::model::task::{Task, TaskSpec, TaskStatus};

/// A task; `network` shows one of its networks, if that is still there.
pub(in crate::api) fn task(
    task: &Task,
    network: impl Fn(crate::model::id::NetworkId) -> Option<wire::Network>,
) -> wire::Task {
    let attachment = |attachment: &crate::model::task::NetworkAttachment| {
        Some(wire::NetworkAttachment {
            network: wire::AttachedNetwork::from(&network(attachment.network_id)?),
            addresses: attachment.addresses.iter().map(ToString::to_string).collect(),
            ..wire::NetworkAttachment::default()
        })
    };
    wire::Task {
        id: task.id.to_string(),
        version: version(task.meta.version),
        created_at: time(task.meta.created_at),
        updated_at: time(task.meta.updated_at),
        name: task.annotations.name.clone(),
        labels: task.annotations.labels.clone(),
        spec: task_spec(&task.spec),
        service_id: task.service_id.map(|id| id.to_string()).unwrap_or_default(),
        // Docker counts the slots of jobs from 0, and its CLI relies on it; those of services from 1.
        slot: if task.job_iteration.is_some() { task.slot.saturating_sub(1) } else { task.slot },
        node_id: task.node_id.map(|id| id.to_string()).unwrap_or_default(),
        status: status(&task.status),
        desired_state: task.desired_state.to_string(),
        networks_attachments: task.networks.iter().filter_map(attachment).collect(),
        generic_resources: task.generic_resources.iter().map(generic).collect(),
        job_iteration: task
            .job_iteration
            .map(|version| wire::JobIteration { index: version.0, ..wire::JobIteration::default() }),
        ..wire::Task::default()
    }
}

/// A template as its client sent it.
pub(super) fn task_spec(spec: &TaskSpec) -> wire::TaskSpec {
    recall(spec.docker.as_ref()).unwrap_or_else(|| wire::TaskSpec {
        container_spec: Some(wire::ContainerSpec {
            image: spec.container.image.clone(),
            args: spec.container.args.clone(),
            tty: spec.container.tty,
            ..wire::ContainerSpec::default()
        }),
        force_update: spec.force_update,
        ..wire::TaskSpec::default()
    })
}

fn status(status: &TaskStatus) -> wire::TaskStatus {
    wire::TaskStatus {
        timestamp: time(status.timestamp),
        state: status.state.to_string(),
        message: status.message.clone(),
        err: status.err.clone(),
        container_status: status.container.as_ref().map(|container| wire::ContainerStatus {
            container_id: container.container_id.clone(),
            pid: container.pid.into(),
            exit_code: container.exit_code.into(),
            ..wire::ContainerStatus::default()
        }),
        port_status: wire::PortStatus { ports: ports(&status.ports), ..wire::PortStatus::default() },
        ..wire::TaskStatus::default()
    }
}

pub(super) fn generic(resource: &GenericResource) -> wire::GenericResource {
    match resource {
        GenericResource::Discrete { kind, value } => wire::GenericResource {
            discrete: Some(wire::DiscreteResource {
                kind: kind.clone(),
                value: *value,
                ..wire::DiscreteResource::default()
            }),
            ..wire::GenericResource::default()
        },
        GenericResource::Named { kind, value } => wire::GenericResource {
            named: Some(wire::NamedResource {
                kind: kind.clone(),
                value: value.clone(),
                ..wire::NamedResource::default()
            }),
            ..wire::GenericResource::default()
        },
    }
}
