//! `/containers/ID/json`: all that is known of a container. What its service asks for comes from the store, so
//! only managers tell it.

use std::net::IpAddr;

use axum::Json;
use axum::extract::{Path, State as AxumState};
use serde_json::{Map, Value, json};

use super::{Api, describe, find};
use crate::api::error::Error;
use crate::api::{convert, wire};
use crate::model::task::Task;
use crate::runtime::{Health, State, Status};
use crate::store::{Store, View};

/// Go's zero of a time.
pub(super) const NEVER: &str = "0001-01-01T00:00:00Z";

/// A host name, unless the service has another: the beginning of the id.
const HOSTNAME: usize = 12;

pub(in crate::api) async fn inspect(
    AxumState(api): Api,
    Path(name): Path<String>,
) -> Result<Json<wire::ContainerDetails>, Error> {
    let one = find(&api, &name).await?;
    let view = api.cluster.stores().borrow().as_ref().map(Store::view);
    let task = view.as_ref().and_then(|view| view.tasks().get(one.task?));
    let facts = api.cluster.runtime();
    let mut words = one.command.iter().cloned();
    let exec_ids = api.execs.of(&one.id);
    Ok(Json(wire::ContainerDetails {
        id: one.id.to_string(),
        created: convert::time(one.created),
        path: words.next().unwrap_or_default(),
        args: words.collect(),
        state: state(&one),
        image: one.image_id.clone(),
        name: format!("/{}", one.name),
        driver: facts.storage_driver,
        platform: "linux".to_owned(),
        exec_ids: (!exec_ids.is_empty()).then_some(exec_ids),
        host_config: wire::DetailsHostConfig {
            network_mode: "default".to_owned(),
            log_config: wire::LogConfig { kind: facts.log_driver, ..wire::LogConfig::default() },
            ..wire::DetailsHostConfig::default()
        },
        config: config(&one, task.map(AsRef::as_ref)),
        network_settings: networks(&one, task.map(AsRef::as_ref), view.as_ref()),
        ..wire::ContainerDetails::default()
    }))
}

fn state(one: &Status) -> wire::ContainerState {
    let health = (one.health != Health::None).then(|| wire::ContainerHealth {
        status: describe::health(&one.health).to_owned(),
        ..wire::ContainerHealth::default()
    });
    let told = wire::ContainerState {
        status: describe::state(&one.state).to_owned(),
        started_at: NEVER.to_owned(),
        finished_at: NEVER.to_owned(),
        health,
        ..wire::ContainerState::default()
    };
    match &one.state {
        State::Created => told,
        State::Running { pid, since } => {
            wire::ContainerState { running: true, pid: *pid, started_at: convert::time(*since), ..told }
        }
        State::Exited(exit) => wire::ContainerState {
            exit_code: exit.code,
            oom_killed: exit.oom_killed,
            error: exit.error.clone().unwrap_or_default(),
            finished_at: convert::time(exit.at),
            ..told
        },
    }
}

fn config(one: &Status, task: Option<&Task>) -> wire::ContainerConfig {
    let spec = task.map(|task| task.spec.container.clone()).unwrap_or_default();
    let id: String = one.id.0.chars().take(HOSTNAME).collect();
    wire::ContainerConfig {
        hostname: if spec.hostname.is_empty() { id } else { spec.hostname },
        user: spec.user,
        exposed_ports: one.ports.iter().map(|port| (port.clone(), json!({}))).collect(),
        tty: one.tty,
        open_stdin: spec.open_stdin,
        env: spec.env,
        cmd: one.command.clone(),
        image: one.image.clone(),
        working_dir: spec.dir,
        labels: one.labels.clone(),
        ..wire::ContainerConfig::default()
    }
}

fn networks(one: &Status, task: Option<&Task>, view: Option<&View>) -> wire::DetailsNetworks {
    let mut networks = Map::new();
    for attached in task.iter().flat_map(|task| &task.networks) {
        let mut network =
            wire::ContainerNetwork { network_id: attached.network_id.to_string(), ..wire::ContainerNetwork::default() };
        for cidr in &attached.addresses {
            match cidr.address {
                IpAddr::V4(v4) => (network.ip_address, network.ip_prefix_len) = (v4.to_string(), cidr.prefix),
                IpAddr::V6(v6) => {
                    (network.global_ipv6_address, network.global_ipv6_prefix_len) = (v6.to_string(), cidr.prefix);
                }
            }
        }
        let id = attached.network_id;
        let name = view.and_then(|view| view.networks().get(id)).map(|network| network.spec.annotations.name.clone());
        networks.insert(name.unwrap_or_else(|| id.to_string()), serde_json::to_value(network).unwrap_or_default());
    }
    let ports = one.ports.iter().map(|port| (port.clone(), Value::Null)).collect();
    wire::DetailsNetworks { ports, networks, ..wire::DetailsNetworks::default() }
}
