//! Containers of this node, where no engine has them: those of its tasks. They are looked at, stopped and
//! removed here; made only by services.

mod attach;
mod control;
mod describe;
mod exec;
mod inspect;
mod output;
mod stats;
mod top;

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State as AxumState};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use super::error::Error;
use super::filters::Filters;
use super::query::Params;
use super::{Shared, refusal, wire};
use crate::runtime::{State, Status};

pub(super) use attach::attach;
pub(super) use control::{kill, remove, stop, wait};
pub(super) use exec::{
    Execs, create as create_exec, inspect as inspect_exec, resize as resize_exec, start as start_exec,
};
pub(super) use inspect::inspect;
pub(super) use output::logs;
pub(super) use stats::stats;
pub(super) use top::top;

type Api = AxumState<Arc<Shared>>;

/// A list of what there is none of.
pub(super) async fn no_list() -> Json<Value> {
    Json(json!([]))
}

pub(super) async fn no_volumes() -> Json<Value> {
    Json(json!({"Volumes": [], "Warnings": null}))
}

pub(super) async fn no_volume(Path(name): Path<String>) -> Error {
    absent(format!("get {name}: no such volume"))
}

/// `/plugins/NAME/json`: names have slashes.
pub(super) async fn no_plugin(Path(rest): Path<String>) -> Error {
    let name = rest.rsplit_once('/').map_or(rest.as_str(), |(name, _)| name);
    absent(format!("plugin \"{name}\" not found"))
}

fn absent(message: String) -> Error {
    Error::Refused { status: StatusCode::NOT_FOUND, message }
}

/// The answer from which on a connection is the container's.
fn hijack() -> Response {
    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("tcp"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/vnd.docker.raw-stream"));
    response
}

/// What services do here, and nobody by hand.
pub(super) fn unserved(what: &str) -> Error {
    Error::Refused { status: StatusCode::NOT_IMPLEMENTED, message: format!("this node does not {what}") }
}

pub(super) async fn no_create() -> Error {
    unserved("run containers by hand: use a service, as in docker service create")
}

/// `/containers/ID/ACT`, of an act that is not served.
pub(super) async fn no_act(AxumState(api): Api, Path((name, act)): Path<(String, String)>) -> Result<(), Error> {
    let container = find(&api, &name).await?;
    Err(unserved(&format!("{act} containers by hand: {} is a service's", container.name)))
}

/// `GET` and `PUT` of what is in a container, or was changed there.
pub(super) async fn no_files(AxumState(api): Api, Path((name, _)): Path<(String, String)>) -> Result<(), Error> {
    let container = find(&api, &name).await?;
    Err(unserved(&format!(
        "copy files of containers: {} is a service's; mount a volume or a config, or use docker exec",
        container.name
    )))
}

/// The container that an id, a name or the beginning of an id means.
async fn find(api: &Shared, name: &str) -> Result<Status, Error> {
    let all = api.runtime().list().await.map_err(|error| refusal(&error))?;
    let plain = name.strip_prefix('/').unwrap_or(name);
    if let Some(one) = all.iter().find(|one| one.id.0 == plain || one.name == plain) {
        return Ok(one.clone());
    }
    let mut begins = all.into_iter().filter(|one| !plain.is_empty() && one.id.0.starts_with(plain));
    match (begins.next(), begins.count()) {
        (Some(one), 0) => Ok(one),
        (Some(_), more) => Err(Error::Ambiguous { what: "container", name: name.to_owned(), matches: more + 1 }),
        (None, _) => Err(Error::NoContainer(name.to_owned())),
    }
}

/// As [`find`], of one that runs.
async fn find_running(api: &Shared, name: &str) -> Result<Status, Error> {
    let one = find(api, name).await?;
    match one.state {
        State::Running { .. } => Ok(one),
        State::Created | State::Exited(_) => {
            let message = format!("container {} is not running", one.id);
            Err(Error::Refused { status: StatusCode::CONFLICT, message })
        }
    }
}

/// All of them, the newest first.
pub(super) async fn all(api: &Shared) -> Result<Vec<wire::ContainerSummary>, Error> {
    let mut found = api.runtime().list().await.map_err(|error| refusal(&error))?;
    found.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
    let now = api.cluster.now();
    Ok(found.iter().map(|one| describe::summary(one, now)).collect())
}

pub(super) async fn list(AxumState(api): Api, params: Params) -> Result<Json<Vec<wire::ContainerSummary>>, Error> {
    let known = ["ancestor", "exited", "health", "id", "is-task", "label", "name", "status"];
    let filters = params.filters(&known)?;
    let is_task = filters.truth("is-task")?;
    let limit = params.get("limit").and_then(|limit| limit.parse::<usize>().ok()).filter(|limit| *limit > 0);
    // Filters on how a container ended ask for those that did.
    let all = params.flag("all") || limit.is_some() || filters.has("status") || filters.has("exited");
    let mut found = api.runtime().list().await.map_err(|error| refusal(&error))?;
    found.retain(|one| {
        (all || matches!(one.state, State::Running { .. }))
            && is_task.is_none_or(|is_task| is_task == one.task.is_some())
            && fits(one, &filters)
    });
    // The newest stand first.
    found.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
    found.truncate(limit.unwrap_or(usize::MAX));
    let now = api.cluster.now();
    Ok(Json(found.iter().map(|one| describe::summary(one, now)).collect()))
}

fn fits(one: &Status, filters: &Filters) -> bool {
    let exited = |wanted: &str| matches!(&one.state, State::Exited(exit) if exit.code.to_string() == wanted);
    filters.prefix("id", &one.id.0)
        && filters.any("name", |wanted| describe::is_named(&one.name, wanted))
        && filters.any("status", |wanted| wanted == describe::state(&one.state))
        && filters.any("health", |wanted| wanted == describe::health(&one.health))
        && filters.any("ancestor", |wanted| {
            one.image == wanted || one.image.split(':').next() == Some(wanted) || one.image_id == wanted
        })
        && (!filters.has("exited") || filters.any("exited", exited))
        && filters.labels("label", &one.labels)
}
