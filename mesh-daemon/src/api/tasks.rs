//! `/tasks`: what runs, ran, and will run.

use std::sync::Arc;

use axum::extract::{Path, State};

use super::error::Error;
use super::filters::Filters;
use super::query::Params;
use super::shown::Json;
use super::{Shared, lookup};
use crate::model::node::Node;
use crate::model::service::Service;
use crate::model::state::TaskState;
use crate::model::task::Task;
use crate::store::{Key, Tables};

type Api = State<Arc<Shared>>;

const FILTERS: &[&str] = &["id", "name", "label", "service", "node", "desired-state", "runtime", "_up-to-date"];

pub(super) async fn list(State(api): Api, params: Params) -> Result<Json, Error> {
    let filters = params.filters(FILTERS)?;
    let states = ["running", "shutdown", "accepted", "ready", "complete", "remove"];
    for state in filters.values("desired-state") {
        if !states.contains(&state.as_str()) && !TaskState::ALL.iter().any(|known| known.as_str() == state) {
            return Err(Error::bad(format!("Invalid desired-state filter: '{state}'")));
        }
    }
    let up_to_date = filters.truth("_up-to-date")?;
    let view = api.view().await?;
    // Names of services and nodes are taken as their ids; what is neither fits nothing.
    let services: Vec<_> =
        filters.values("service").iter().map(|name| lookup::find::<Service>(&view, name).ok()).collect();
    let nodes: Vec<_> = filters.values("node").iter().map(|name| lookup::find::<Node>(&view, name).ok()).collect();
    let fits = |task: &Task| {
        filters.prefix("id", &task.id.to_string())
            && filters.prefix("name", &task.name())
            && (filters.labels("label", &task.annotations.labels) || has_labels(&view, &filters, task))
            && (!filters.has("node") || nodes.iter().flatten().any(|node| task.node_id == Some(node.id)))
            && filters.any("desired-state", |state| task.desired_state.as_str() == state)
            && (up_to_date != Some(true) || is_up_to_date(&view, task))
    };
    let found: Vec<_> = if filters.has("service") {
        let of = |service: &Arc<Service>| view.tasks().by_key(Key::Service(service.id));
        services.iter().flatten().flat_map(of).filter(|task| fits(task)).collect()
    } else {
        view.tasks().iter().filter(|task| fits(task)).collect()
    };
    Json::list(found.into_iter().map(|task| api.shown.task(&view, task)))
}

pub(super) async fn inspect(State(api): Api, Path(name): Path<String>) -> Result<Json, Error> {
    let view = api.view().await?;
    Ok(Json::of(api.shown.task(&view, &lookup::find::<Task>(&view, &name)?)?))
}

/// A task is found by the labels of its service too: those of now, or if that is gone, those of then.
fn has_labels(tables: &Tables, filters: &Filters, task: &Task) -> bool {
    let service = task.service_id.and_then(|id| tables.services().get(id));
    filters.labels("label", service.map_or(&task.service_labels, |service| &service.spec.annotations.labels))
}

/// Whether a task was made from what its service asks for now.
fn is_up_to_date(tables: &Tables, task: &Task) -> bool {
    let service = task.service_id.and_then(|id| tables.services().get(id));
    service.is_some_and(|service| {
        // A change of the number of replicas, say, leaves tasks as they should be.
        task.spec_version == service.spec_version || task.spec == service.spec.task
    })
}
