//! What `deploy:` says of a service: how many, where, with what, and how it changes.

use super::super::units;
use super::compose::{Node, Wrong};
use super::fields::Fields;
use crate::api::wire::{
    DiscreteResource, GenericResource, GlobalMode, Placement, PlacementPreference, Ratio, Replicated, ReplicatedJob,
    ResourceRequirements, Resources, RestartPolicy, ServiceMode, SpreadOver, UpdateConfig,
};

/// More than any cluster: a number beyond it is a mistake.
const MAX_COUNT: u64 = u32::MAX as u64;

pub(super) fn mode(deploy: Fields<'_>, path: &str) -> Result<ServiceMode, Wrong> {
    let replicas = deploy.count("replicas", path, MAX_COUNT)?;
    let mut mode = ServiceMode::default();
    let name = deploy.text("mode");
    match name.as_str() {
        "global" | "global-job" if replicas.is_some() => {
            return Err(deploy.wrong(
                "replicas",
                format!("{path}.replicas: replicas can only be used with replicated or replicated-job mode"),
            ));
        }
        "global" => mode.global = Some(GlobalMode::default()),
        "global-job" => mode.global_job = Some(GlobalMode::default()),
        "replicated-job" => {
            mode.replicated_job = Some(ReplicatedJob {
                max_concurrent: replicas,
                total_completions: replicas,
                ..ReplicatedJob::default()
            });
        }
        _ => mode.replicated = Some(Replicated { replicas, ..Replicated::default() }),
    }
    Ok(mode)
}

pub(super) fn resources(resources: Fields<'_>, path: &str) -> Result<ResourceRequirements, Wrong> {
    let read = |what: &str| -> Result<Option<Resources>, Wrong> {
        let (of, path) = (resources.below(what), format!("{path}.{what}"));
        if !of.is_there() {
            return Ok(None);
        }
        Ok(Some(Resources {
            nano_cpus: of.read("cpus", &path, units::cpus)?,
            memory_bytes: of.read("memory", &path, units::size)?,
            pids: of.integer("pids"),
            generic_resources: of.items("generic_resources").iter().map(generic).collect(),
            ..Resources::default()
        }))
    };
    Ok(ResourceRequirements {
        limits: read("limits")?,
        reservations: read("reservations")?,
        ..ResourceRequirements::default()
    })
}

fn generic(node: &Node) -> GenericResource {
    let spec = Fields::of(Some(node)).below("discrete_resource_spec");
    let discrete = spec.is_there().then(|| DiscreteResource {
        kind: spec.text("kind"),
        value: spec.integer("value"),
        ..DiscreteResource::default()
    });
    GenericResource { discrete, ..GenericResource::default() }
}

/// What `deploy.restart_policy` says, or what the older `restart` does.
pub(super) fn restart(service: Fields<'_>, policy: Fields<'_>, path: &str) -> Result<Option<RestartPolicy>, Wrong> {
    if policy.is_there() {
        return Ok(Some(RestartPolicy {
            condition: policy.text("condition"),
            delay: policy.some_duration("delay"),
            max_attempts: policy.count("max_attempts", &format!("{path}.restart_policy"), u64::MAX)?,
            window: policy.some_duration("window"),
            ..RestartPolicy::default()
        }));
    }
    let text = service.text("restart");
    let (name, attempts) = text.split_once(':').map_or((text.as_str(), None), |(name, most)| (name, Some(most)));
    let wrong = |why: &str| Err(service.wrong("restart", format!("invalid restart policy: {why}")));
    let max_attempts = match attempts.map(str::parse::<u64>) {
        Some(Err(_)) => return wrong("maximum retry count must be an integer"),
        Some(Ok(_)) if name != "on-failure" => {
            return wrong("maximum retry count can only be used with 'on-failure'");
        }
        Some(Ok(most)) => Some(most).filter(|most| *most > 0),
        None => None,
    };
    let condition = match name {
        "" | "no" => return Ok(None),
        "always" | "unless-stopped" => "any",
        "on-failure" => "on-failure",
        other => {
            return wrong(&format!(
                "unknown policy '{other}' (must be one of 'no', 'always', 'on-failure', or 'unless-stopped')"
            ));
        }
    };
    Ok(Some(RestartPolicy { condition: condition.to_owned(), max_attempts, ..RestartPolicy::default() }))
}

pub(super) fn placement(placement: Fields<'_>, path: &str) -> Result<Placement, Wrong> {
    let preference = |node: &Node| {
        let descriptor = Fields::of(Some(node)).text("spread");
        PlacementPreference {
            spread: Some(SpreadOver { descriptor, ..SpreadOver::default() }),
            ..PlacementPreference::default()
        }
    };
    Ok(Placement {
        constraints: placement.texts("constraints"),
        preferences: placement.items("preferences").iter().map(preference).collect(),
        max_replicas: placement.count("max_replicas_per_node", path, MAX_COUNT)?.unwrap_or_default(),
        ..Placement::default()
    })
}

pub(super) fn update(update: Fields<'_>, path: &str) -> Result<Option<UpdateConfig>, Wrong> {
    if !update.is_there() {
        return Ok(None);
    }
    Ok(Some(UpdateConfig {
        parallelism: update.count("parallelism", path, MAX_COUNT)?.unwrap_or(1),
        delay: update.duration("delay"),
        failure_action: update.text("failure_action"),
        monitor: update.duration("monitor"),
        max_failure_ratio: Ratio(update.ratio("max_failure_ratio")),
        order: update.text("order"),
        ..UpdateConfig::default()
    }))
}
