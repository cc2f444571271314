//! `/networks`: overlay networks of the swarm, in the engine's shape.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use serde_json::json;

use super::error::{Code, Error};
use super::query::Params;
use super::version::{NETWORKS_SAY_IPV4, Version};
use super::{Shared, Standing, body, convert, engine, lookup, wire};
use crate::model::id::NetworkId;
use crate::model::network::Network;
use crate::model::service::Service;
use crate::store::{Key, Tables, Tx};

type Api = State<Arc<Shared>>;

const FILTERS: &[&str] = &["dangling", "driver", "id", "label", "name", "scope", "type"];

/// Networks that come with an engine.
const BUILT_IN: &[&str] = &["bridge", "host", "none"];

pub(super) async fn list(
    State(api): Api,
    Extension(version): Extension<Version>,
    params: Params,
) -> Result<Json<Vec<wire::Network>>, Error> {
    let filters = params.filters(FILTERS)?;
    let dangling = filters.truth("dangling")?;
    let swarms = match api.store() {
        Ok(_) => api.view().await?.networks().iter().map(|network| convert::network(network)).collect(),
        // Outside a swarm a node has networks of its own only.
        Err(_) => Vec::new(),
    };
    let mut networks: Vec<wire::Network> = swarms;
    networks.extend(engine::networks(&api).await);
    networks.retain(|network| {
        let kind = if BUILT_IN.contains(&network.name.as_str()) { "builtin" } else { "custom" };
        filters.prefix("id", &network.id)
            && filters.any("name", |wanted| network.name.contains(wanted))
            && filters.any("driver", |driver| network.driver == driver)
            && filters.any("scope", |scope| network.scope == scope)
            && filters.any("type", |wanted| wanted == kind)
            && filters.labels("label", network.labels.as_ref().unwrap_or(&wire::Labels::new()))
            && dangling.is_none_or(|wanted| wanted == network.containers.as_ref().is_none_or(serde_json::Map::is_empty))
    });
    networks.iter_mut().for_each(|network| for_version(network, version));
    Ok(Json(networks))
}

/// As clients of this version know networks.
fn for_version(network: &mut wire::Network, version: Version) {
    network.enable_ipv4 &= version >= NETWORKS_SAY_IPV4;
}

pub(super) async fn inspect(
    State(api): Api,
    Path(name): Path<String>,
    Extension(version): Extension<Version>,
    params: Params,
) -> Result<Json<wire::Network>, Error> {
    let mut network = find(&api, name, &params).await?;
    for_version(&mut network, version);
    Ok(Json(network))
}

async fn find(api: &Shared, name: String, params: &Params) -> Result<wire::Network, Error> {
    if params.get("scope") != Some("local") && api.store().is_ok() {
        let view = api.view().await?;
        match lookup::find::<Network>(&view, &name) {
            Ok(network) if params.flag("verbose") => return Ok(verbose(&view, &network)),
            Ok(network) => return Ok(convert::network(&network)),
            Err(error @ Error::Ambiguous { .. }) => return Err(error),
            Err(_) => {}
        }
    }
    let local = engine::networks(api).await;
    let named = local.iter().find(|network| network.name == name || network.id == name);
    let found = named.or_else(|| local.iter().find(|network| !name.is_empty() && network.id.starts_with(&name)));
    found.cloned().ok_or_else(|| Error::not_found("network", name))
}

/// With the services in it.
fn verbose(tables: &Tables, network: &Network) -> wire::Network {
    let mut shown = convert::network(network);
    for service in tables.services().by_key(Key::Network(network.id)) {
        let vips = service.endpoint.iter().flat_map(|endpoint| &endpoint.vips);
        let vip = vips.filter(|vip| vip.network_id == network.id).map(|vip| vip.address.address.to_string()).next();
        let tasks = tables.tasks().by_key(Key::Service(service.id)).filter_map(|task| {
            let attachment = task.networks.iter().find(|attachment| attachment.network_id == network.id)?;
            let node = task.node_id.and_then(|id| tables.nodes().get(id));
            Some(json!({
                "Name": task.name(),
                "EndpointID": task.id.to_string(),
                "EndpointIP": attachment.addresses.first().map(|cidr| cidr.address.to_string()).unwrap_or_default(),
                "Info": {"Host IP": node.map(|node| node.status.addr.clone()).unwrap_or_default()},
            }))
        });
        let of_service = json!({
            "VIP": vip.unwrap_or_default(),
            "Ports": [],
            "LocalLBIndex": 0,
            "Tasks": tasks.collect::<Vec<_>>(),
        });
        shown.services.insert(service.spec.annotations.name.clone(), of_service);
    }
    shown
}

pub(super) async fn create(State(api): Api, body: Body) -> Result<(StatusCode, Json<wire::NetworkCreated>), Error> {
    let mut request: wire::NetworkCreateRequest = body::parse(&body::read(body).await?)?;
    if request.name.is_empty() {
        return Err(Error::bad("network name cannot be empty"));
    }
    if BUILT_IN.contains(&request.name.as_str()) {
        let message = format!("operation is not permitted on predefined {} network ", request.name);
        return Err(Error::Refused { status: StatusCode::FORBIDDEN, message });
    }
    if request.driver != "overlay" && !request.driver.is_empty() {
        return Err(Error::bad(format!(
            "could not find plugin {} in v1 plugin registry: networks of this node have driver overlay",
            request.driver
        )));
    }
    request.driver = "overlay".to_owned();
    // The real one answers this with 500, and clients print the text alone.
    if api.store().is_err() && api.cluster.local().standing == Standing::Outside {
        return Err(Error::internal(Error::NotInSwarm.to_string()));
    }
    let spec = convert::network_spec(&request)?;
    // Never in the clear where somebody counts on it.
    if spec.options.contains_key("encrypted") {
        return Err(Error::bad("overlay networks cannot be encrypted by this version: leave out --opt encrypted"));
    }
    let id = NetworkId::from_u128(api.cluster.random());
    api.update(|tx| {
        if spec.ingress && tx.networks().iter().any(|network| network.spec.ingress) {
            return Err(Error::Rpc {
                code: Code::AlreadyExists,
                desc: "ingress network is already present".to_owned(),
            });
        }
        Ok(tx.create(Network::new(id, spec.clone()))?)
    })
    .await?;
    let created = wire::NetworkCreated { id: id.to_string(), ..wire::NetworkCreated::default() };
    Ok((StatusCode::CREATED, Json(created)))
}

pub(super) async fn remove(State(api): Api, Path(name): Path<String>) -> Result<StatusCode, Error> {
    if api.store().is_err() {
        return Err(Error::not_found("network", name));
    }
    api.update(|tx| {
        let network = lookup::find::<Network>(tx, &name)?;
        remove_unused(tx, &network)
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Tasks that shut down may still be in it, as in Swarm; services may not.
fn remove_unused(tx: &mut Tx, network: &Network) -> Result<(), Error> {
    let id = network.id;
    if let Some(service) = tx.services().by_key(Key::Network(id)).next() {
        return Err(Error::precondition(format!("network {id} is in use by service {}", service.id)));
    }
    let publishes = |service: &Service| {
        service.spec.endpoint.ports.iter().any(|port| port.publish_mode == crate::model::service::PublishMode::Ingress)
    };
    if network.spec.ingress
        && let Some(service) = tx.services().iter().find(|service| publishes(service))
    {
        return Err(Error::precondition(format!(
            "ingress network cannot be removed because service {} depends on it",
            service.id
        )));
    }
    Ok(tx.remove::<Network>(id)?)
}

/// Networks of the swarm are kept until someone removes them by name.
pub(super) async fn prune() -> Json<serde_json::Value> {
    Json(json!({"NetworksDeleted": null}))
}
