//! A service's spec, from the client.

use super::{container, duration, remember};
use crate::api::error::{Code, Error};
use crate::api::wire;
use crate::model::meta::Annotations;
use crate::model::resources::{
    GenericResource, Limits, Placement, Platform, Preference, ResourceRequirements, Resources,
};
use crate::model::service::{
    EndpointMode, EndpointSpec, FailureAction, Port, Protocol, PublishMode, ServiceMode, ServiceSpec, UpdateConfig,
    UpdateOrder,
};
use crate::model::task::{LogDriver, NetworkAttachmentSpec, RestartCondition, RestartPolicy, TaskSpec};

/// Reads a spec whose networks are named by id already.
pub(in crate::api) fn service_spec(spec: &wire::ServiceSpec) -> Result<ServiceSpec, Error> {
    // The template is kept with the task's spec, from where tasks get it; once is enough.
    let mut outside = spec.clone();
    outside.task_template = wire::TaskSpec::default();
    Ok(ServiceSpec {
        annotations: Annotations { name: spec.name.clone(), labels: spec.labels.clone() },
        task: task_spec(&spec.task_template)?,
        mode: mode(&spec.mode)?,
        update: spec.update_config.as_ref().map(|update| update_config("update", update)).transpose()?,
        rollback: spec.rollback_config.as_ref().map(|update| update_config("rollback", update)).transpose()?,
        networks: networks(&spec.networks)?,
        endpoint: spec.endpoint_spec.as_ref().map_or_else(|| Ok(EndpointSpec::default()), endpoint)?,
        docker: remember(&outside)?,
    })
}

fn task_spec(spec: &wire::TaskSpec) -> Result<TaskSpec, Error> {
    let Some(container) = &spec.container_spec else {
        return Err(Error::Rpc {
            code: Code::Unimplemented,
            desc: "only tasks of containers are supported".to_owned(),
        });
    };
    Ok(TaskSpec {
        container: container::container_spec(container)?,
        resources: spec.resources.as_ref().map_or_else(|| Ok(ResourceRequirements::default()), resources)?,
        restart: spec.restart_policy.as_ref().map_or_else(|| Ok(RestartPolicy::default()), restart)?,
        placement: spec.placement.as_ref().map(placement).unwrap_or_default(),
        log_driver: spec
            .log_driver
            .as_ref()
            .map(|driver| LogDriver { name: driver.name.clone(), options: driver.options.clone() }),
        networks: networks(&spec.networks)?,
        force_update: spec.force_update,
        runtime: if spec.runtime == "container" { String::new() } else { spec.runtime.clone() },
        registry_auth: None,
        docker: remember(spec)?,
    })
}

fn mode(mode: &wire::ServiceMode) -> Result<ServiceMode, Error> {
    match (&mode.replicated, &mode.global, &mode.replicated_job, &mode.global_job) {
        (None, None, None, None) => Ok(ServiceMode::default()),
        (Some(replicated), None, None, None) => {
            Ok(ServiceMode::Replicated { replicas: replicated.replicas.unwrap_or(1) })
        }
        (None, Some(_), None, None) => Ok(ServiceMode::Global),
        (None, None, Some(job), None) => {
            let max_concurrent = job.max_concurrent.unwrap_or(1);
            let total_completions = job.total_completions.unwrap_or(max_concurrent);
            Ok(ServiceMode::ReplicatedJob { max_concurrent, total_completions })
        }
        (None, None, None, Some(_)) => Ok(ServiceMode::GlobalJob),
        _ => Err(Error::bad("must specify only one service mode")),
    }
}

fn update_config(what: &str, update: &wire::UpdateConfig) -> Result<UpdateConfig, Error> {
    let defaults = UpdateConfig::default();
    let failure_action = match update.failure_action.as_str() {
        "" | "pause" => FailureAction::Pause,
        "continue" => FailureAction::Continue,
        "rollback" => FailureAction::Rollback,
        other => return Err(Error::bad(format!("unrecognized update failure action {other}"))),
    };
    let order = match update.order.as_str() {
        "" | "stop-first" => UpdateOrder::StopFirst,
        "start-first" => UpdateOrder::StartFirst,
        other => return Err(Error::bad(format!("unrecognized update order {other}"))),
    };
    if !(0.0..=1.0).contains(&update.max_failure_ratio.0) {
        return Err(Error::invalid(format!("TaskSpec: {what}-maxfailureratio cannot be less than 0 or bigger than 1")));
    }
    #[expect(clippy::cast_possible_truncation, reason = "a ratio from 0 to 1 has no use for more digits")]
    Ok(UpdateConfig {
        parallelism: update.parallelism,
        delay: duration(&format!("TaskSpec: {what}-delay"), update.delay)?,
        failure_action,
        monitor: match update.monitor {
            0 => defaults.monitor,
            nanos => duration(&format!("TaskSpec: {what}-monitor"), nanos)?,
        },
        max_failure_ratio: update.max_failure_ratio.0 as f32,
        order,
    })
}

fn networks(networks: &[wire::NetworkAttachmentConfig]) -> Result<Vec<NetworkAttachmentSpec>, Error> {
    let attachment = |network: &wire::NetworkAttachmentConfig| {
        Ok(NetworkAttachmentSpec {
            network_id: network.target.parse().map_err(|_| Error::not_found("network", &network.target))?,
            aliases: network.aliases.clone(),
            driver_options: network.driver_opts.clone(),
            addresses: Vec::new(),
        })
    };
    networks.iter().map(attachment).collect()
}

fn endpoint(endpoint: &wire::EndpointSpec) -> Result<EndpointSpec, Error> {
    let mode = match endpoint.mode.as_str() {
        "" | "vip" => EndpointMode::Vip,
        "dnsrr" => EndpointMode::Dnsrr,
        other => return Err(Error::bad(format!("unrecognized endpoint mode {other}"))),
    };
    Ok(EndpointSpec { mode, ports: endpoint.ports.iter().map(port).collect::<Result<_, _>>()? })
}

fn port(port: &wire::PortConfig) -> Result<Port, Error> {
    let number = |what: &str, number: u32| {
        u16::try_from(number).map_err(|_| Error::invalid(format!("EndpointSpec: {what} {number} is no port")))
    };
    let protocol = match port.protocol.as_str() {
        "" | "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        other => return Err(Error::invalid(format!("EndpointSpec: protocol \"{other}\" is not tcp, udp or sctp"))),
    };
    let publish_mode = match port.publish_mode.as_str() {
        "" | "ingress" => PublishMode::Ingress,
        "host" => PublishMode::Host,
        other => return Err(Error::invalid(format!("EndpointSpec: publish mode \"{other}\" is not ingress or host"))),
    };
    Ok(Port {
        name: port.name.clone(),
        protocol,
        target_port: number("target port", port.target_port)?,
        published_port: number("published port", port.published_port)?,
        publish_mode,
    })
}

fn resources(resources: &wire::ResourceRequirements) -> Result<ResourceRequirements, Error> {
    let limits = resources.limits.clone().unwrap_or_default();
    let reservations = resources.reservations.clone().unwrap_or_default();
    let number = |name: &str| resources.rest.get(name).and_then(serde_json::Value::as_i64);
    Ok(ResourceRequirements {
        limits: Limits { nano_cpus: limits.nano_cpus, memory_bytes: limits.memory_bytes, pids: limits.pids },
        reservations: Resources {
            nano_cpus: reservations.nano_cpus,
            memory_bytes: reservations.memory_bytes,
            generic: reservations.generic_resources.iter().map(generic).collect::<Result<_, _>>()?,
        },
        swap_bytes: number("SwapBytes"),
        swappiness: number("MemorySwappiness"),
    })
}

fn generic(resource: &wire::GenericResource) -> Result<GenericResource, Error> {
    match (&resource.discrete, &resource.named) {
        (Some(discrete), None) => Ok(GenericResource::Discrete { kind: discrete.kind.clone(), value: discrete.value }),
        (None, Some(named)) => Ok(GenericResource::Named { kind: named.kind.clone(), value: named.value.clone() }),
        (None, None) | (Some(_), Some(_)) => {
            Err(Error::invalid("Reservations: a generic resource is either named or discrete"))
        }
    }
}

fn restart(policy: &wire::RestartPolicy) -> Result<RestartPolicy, Error> {
    let condition = match policy.condition.as_str() {
        "" | "any" => RestartCondition::Any,
        "none" => RestartCondition::None,
        "on-failure" => RestartCondition::OnFailure,
        other => return Err(Error::bad(format!("invalid RestartCondition: \"{other}\""))),
    };
    let defaults = RestartPolicy::default();
    let or = |what, nanos: Option<i64>, default| nanos.map_or(Ok(default), |nanos| duration(what, nanos));
    Ok(RestartPolicy {
        condition,
        delay: or("TaskSpec: restart-delay", policy.delay, defaults.delay)?,
        max_attempts: policy.max_attempts.unwrap_or(defaults.max_attempts),
        window: or("TaskSpec: restart-window", policy.window, defaults.window)?,
    })
}

fn placement(placement: &wire::Placement) -> Placement {
    let spread = |preference: &wire::PlacementPreference| {
        preference.spread.as_ref().map(|spread| Preference::Spread(spread.descriptor.clone()))
    };
    let platform =
        |platform: &wire::Platform| Platform { architecture: platform.architecture.clone(), os: platform.os.clone() };
    Placement {
        constraints: placement.constraints.clone(),
        preferences: placement.preferences.iter().filter_map(spread).collect(),
        max_replicas: placement.max_replicas,
        platforms: placement.platforms.iter().map(platform).collect(),
    }
}
