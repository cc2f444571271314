//! Services, to the client.

use super::{recall, time, version};
use crate::api::wire;
use crate::model::service::{
    Endpoint, EndpointMode, EndpointSpec, JobStatus, Port, Protocol, PublishMode, Service, ServiceMode, ServiceSpec,
    UpdateState, UpdateStatus,
};

/// A service, without the count of its tasks.
pub(in crate::api) fn service(service: &Service) -> wire::Service {
    wire::Service {
        id: service.id.to_string(),
        version: version(service.meta.version),
        created_at: time(service.meta.created_at),
        updated_at: time(service.meta.updated_at),
        spec: service_spec(&service.spec),
        previous_spec: service.previous_spec.as_deref().map(service_spec),
        endpoint: service.endpoint.as_ref().map(endpoint).unwrap_or_default(),
        update_status: service.update_status.as_ref().map(update_status),
        job_status: service.job_status.as_ref().map(job_status),
        ..wire::Service::default()
    }
}

/// A spec as its client sent it. One that no client sent shows what says the most: name, image, mode,
/// ports.
pub(in crate::api) fn service_spec(spec: &ServiceSpec) -> wire::ServiceSpec {
    let sent: Option<wire::ServiceSpec> = recall(spec.docker.as_ref());
    let mut shown = sent.unwrap_or_else(|| wire::ServiceSpec {
        name: spec.annotations.name.clone(),
        labels: spec.annotations.labels.clone(),
        mode: mode(spec.mode),
        endpoint_spec: Some(endpoint_spec(&spec.endpoint)),
        ..wire::ServiceSpec::default()
    });
    shown.task_template = super::task::task_spec(&spec.task);
    // As the engine writes it; a task's own copy does not have it.
    if shown.task_template.runtime.is_empty() {
        shown.task_template.runtime = "container".to_owned();
    }
    shown
}

fn mode(mode: ServiceMode) -> wire::ServiceMode {
    let global = || Some(wire::GlobalMode::default());
    match mode {
        ServiceMode::Replicated { replicas } => wire::ServiceMode {
            replicated: Some(wire::Replicated { replicas: Some(replicas), ..wire::Replicated::default() }),
            ..wire::ServiceMode::default()
        },
        ServiceMode::Global => wire::ServiceMode { global: global(), ..wire::ServiceMode::default() },
        ServiceMode::ReplicatedJob { max_concurrent, total_completions } => wire::ServiceMode {
            replicated_job: Some(wire::ReplicatedJob {
                max_concurrent: Some(max_concurrent),
                total_completions: Some(total_completions),
                ..wire::ReplicatedJob::default()
            }),
            ..wire::ServiceMode::default()
        },
        ServiceMode::GlobalJob => wire::ServiceMode { global_job: global(), ..wire::ServiceMode::default() },
    }
}

fn endpoint(endpoint: &Endpoint) -> wire::Endpoint {
    let empty = endpoint.ports.is_empty() && endpoint.vips.is_empty();
    wire::Endpoint {
        spec: if empty { wire::EndpointSpec::default() } else { endpoint_spec(&endpoint.spec) },
        ports: ports(&endpoint.ports),
        virtual_ips: endpoint
            .vips
            .iter()
            .map(|vip| wire::VirtualIp {
                network_id: vip.network_id.to_string(),
                addr: vip.address.to_string(),
                ..wire::VirtualIp::default()
            })
            .collect(),
        ..wire::Endpoint::default()
    }
}

fn endpoint_spec(spec: &EndpointSpec) -> wire::EndpointSpec {
    let mode = match spec.mode {
        EndpointMode::Vip => "vip",
        EndpointMode::Dnsrr => "dnsrr",
    };
    wire::EndpointSpec { mode: mode.to_owned(), ports: ports(&spec.ports), ..wire::EndpointSpec::default() }
}

/// Ports, of a spec or as they were given.
pub(in crate::api) fn ports(ports: &[Port]) -> Vec<wire::PortConfig> {
    let port = |port: &Port| {
        let protocol = match port.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        };
        let publish_mode = match port.publish_mode {
            PublishMode::Ingress => "ingress",
            PublishMode::Host => "host",
        };
        wire::PortConfig {
            name: port.name.clone(),
            protocol: protocol.to_owned(),
            target_port: port.target_port.into(),
            published_port: port.published_port.into(),
            publish_mode: publish_mode.to_owned(),
            ..wire::PortConfig::default()
        }
    };
    ports.iter().map(port).collect()
}

fn update_status(status: &UpdateStatus) -> wire::UpdateStatus {
    let state = match status.state {
        UpdateState::Updating => "updating",
        UpdateState::Paused => "paused",
        UpdateState::Completed => "completed",
        UpdateState::RollbackStarted => "rollback_started",
        UpdateState::RollbackPaused => "rollback_paused",
        UpdateState::RollbackCompleted => "rollback_completed",
    };
    wire::UpdateStatus {
        state: state.to_owned(),
        started_at: status.started_at.map(time),
        completed_at: status.completed_at.map(time),
        message: status.message.clone(),
        ..wire::UpdateStatus::default()
    }
}

fn job_status(status: &JobStatus) -> wire::JobStatus {
    wire::JobStatus {
        job_iteration: wire::JobIteration { index: status.iteration.0, ..wire::JobIteration::default() },
        last_execution: status.last_execution.map(time),
        ..wire::JobStatus::default()
    }
}
