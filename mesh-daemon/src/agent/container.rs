//! The container that a task is: everything filled in.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use super::template::{Facts, fill};
use crate::model::assignment::Assigned;
use crate::model::cidr::Cidr;
use crate::model::container::ContainerSpec;
use crate::model::meta::Labels;
use crate::model::payload::Payload;
use crate::model::resources::GenericResource;
use crate::runtime::images::Credentials;
use crate::runtime::{Container, FileContent};

/// Where a task asks for names, in its own namespace. Docker's address.
pub(super) const RESOLVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// Why a task cannot be a container.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unfit {
    #[error("secret {0} is not here")]
    Secret(String),
    #[error("config {0} is not here")]
    Config(String),
    #[error("template: {0}")]
    Template(String),
}

/// `own` are its addresses in the node's own network, if it is in that.
pub(super) fn container(
    assigned: &Assigned,
    facts: &Facts,
    own: &[Cidr],
    netns: Option<PathBuf>,
) -> Result<Container, Unfit> {
    let task = &assigned.task;
    let mut spec = task.spec.container.clone();
    let filled = |text: &str| fill(text, facts).map_err(Unfit::Template);
    spec.hostname = filled(&spec.hostname)?;
    for env in &mut spec.env {
        *env = filled(env)?;
    }
    spec.env.extend(given(&task.generic_resources));
    for mount in &mut spec.mounts {
        mount.source = filled(&mount.source)?;
    }
    let secrets = spec
        .secrets
        .iter()
        .map(|reference| {
            let secret = assigned.secrets.iter().find(|secret| secret.id == reference.secret_id);
            let secret = secret.ok_or_else(|| Unfit::Secret(reference.secret_name.clone()))?;
            let data = payload(&secret.spec.data, secret.spec.templating.is_some(), facts)?;
            Ok(FileContent { target: reference.file.clone(), data })
        })
        .collect::<Result<_, _>>()?;
    let configs = spec
        .configs
        .iter()
        .filter_map(|reference| Some((reference, reference.file.clone()?)))
        .map(|(reference, target)| {
            let config = assigned.configs.iter().find(|config| config.id == reference.config_id);
            let config = config.ok_or_else(|| Unfit::Config(reference.config_name.clone()))?;
            let data = payload(&config.spec.data, config.spec.templating.is_some(), facts)?;
            Ok(FileContent { target, data })
        })
        .collect::<Result<_, _>>()?;
    let addresses: Vec<IpAddr> =
        task.networks.iter().flat_map(|network| &network.addresses).chain(own).map(|cidr| cidr.address).collect();
    // In a network our resolver is asked, which asks those of the spec in turn.
    let nameservers = if addresses.is_empty() { own_nameservers(&spec) } else { vec![RESOLVER.into()] };
    Ok(Container {
        task: task.id,
        name: task.name(),
        labels: labels(assigned),
        resources: task.spec.resources.clone(),
        log: task.spec.log_driver.clone(),
        spec,
        secrets,
        configs,
        netns,
        addresses,
        nameservers,
        credentials: credentials(assigned),
    })
}

fn payload(data: &Payload, is_template: bool, facts: &Facts) -> Result<Payload, Unfit> {
    if !is_template {
        return Ok(data.clone());
    }
    let text = std::str::from_utf8(&data.0).map_err(|error| Unfit::Template(error.to_string()))?;
    Ok(Payload(fill(text, facts).map_err(Unfit::Template)?.into_bytes()))
}

/// The generic resources that a task got, as Docker tells it: of each kind the number or the names.
fn given(resources: &[GenericResource]) -> Vec<String> {
    let mut kinds: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for resource in resources {
        let (kind, value) = match resource {
            GenericResource::Discrete { kind, value } => (kind, value.to_string()),
            GenericResource::Named { kind, value } => (kind, value.clone()),
        };
        kinds.entry(kind).or_default().push(value);
    }
    let variable =
        |(kind, values): (&str, Vec<String>)| format!("DOCKER_RESOURCE_{}={}", kind.to_uppercase(), values.join(","));
    kinds.into_iter().map(variable).collect()
}

/// The servers that a task's user wants to be asked for names that are not the cluster's.
pub(super) fn own_nameservers(spec: &ContainerSpec) -> Vec<IpAddr> {
    spec.dns.nameservers.iter().filter_map(|server| server.parse().ok()).collect()
}

/// Who the task's image is fetched as. What is kept was read when it came.
fn credentials(assigned: &Assigned) -> Credentials {
    let auth = assigned.task.spec.registry_auth.as_ref();
    auth.and_then(|auth| Credentials::of_docker(&auth.0).ok()).unwrap_or_default()
}

/// The labels by which people and tools know a task's container: Docker's.
fn labels(assigned: &Assigned) -> Labels {
    let task = &assigned.task;
    let mut labels = task.spec.container.labels.clone();
    let mut put = |name: &str, value: String| drop(labels.insert(format!("com.docker.swarm.{name}"), value));
    put("task", String::new());
    put("task.id", task.id.to_string());
    put("task.name", task.name());
    if let Some(node) = task.node_id {
        put("node.id", node.to_string());
    }
    if let Some(service) = task.service_id {
        put("service.id", service.to_string());
        put("service.name", task.service_name.clone());
    }
    labels
}
