//! What a service must not share with another, and what it names must be there.

use crate::api::error::Error;
use crate::model::id::ServiceId;
use crate::model::service::{Port, PublishMode, Service, ServiceSpec};
use crate::store::Tables;

/// Checks a spec against the other objects; `id` is the service it is for, if that exists already.
pub(super) fn check(tables: &Tables, id: Option<ServiceId>, spec: &ServiceSpec) -> Result<(), Error> {
    let published = spec.endpoint.ports.iter().filter(|port| port.published_port != 0);
    for port in published {
        for service in tables.services().iter().filter(|service| Some(service.id) != id) {
            port_is_free(port, service)?;
        }
    }
    files_exist(tables, spec)
}

/// Two services publish one port only if both do so on single nodes: then the scheduler keeps them apart.
fn port_is_free(port: &Port, service: &Service) -> Result<(), Error> {
    let given = service.endpoint.iter().flat_map(|endpoint| &endpoint.ports);
    for other in service.spec.endpoint.ports.iter().chain(given) {
        if (other.protocol, other.published_port) != (port.protocol, port.published_port) {
            continue;
        }
        let how = match (port.publish_mode, other.publish_mode) {
            (PublishMode::Host, PublishMode::Host) => continue,
            (_, PublishMode::Ingress) => "an ingress port",
            (PublishMode::Ingress, PublishMode::Host) => "a host-published port",
        };
        return Err(Error::invalid(format!(
            "port '{}' is already in use by service '{}' ({}) as {how}",
            port.published_port, service.spec.annotations.name, service.id
        )));
    }
    Ok(())
}

fn files_exist(tables: &Tables, spec: &ServiceSpec) -> Result<(), Error> {
    let container = &spec.task.container;
    let secrets = container.secrets.iter().filter(|secret| tables.secrets().get(secret.secret_id).is_none());
    say_missing("secret", secrets.map(|secret| secret.secret_name.as_str()).collect())?;
    let configs = container.configs.iter().filter(|config| tables.configs().get(config.config_id).is_none());
    say_missing("config", configs.map(|config| config.config_name.as_str()).collect())
}

fn say_missing(what: &str, names: Vec<&str>) -> Result<(), Error> {
    match names.as_slice() {
        [] => Ok(()),
        [name] => Err(Error::invalid(format!("{what} not found: {name}"))),
        names => Err(Error::invalid(format!("{what}s not found: {}", names.join(", ")))),
    }
}
