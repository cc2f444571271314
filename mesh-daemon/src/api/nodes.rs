//! `/nodes`: the machines of the swarm.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;

use super::error::Error;
use super::query::Params;
use super::shown::Json;
use super::{Shared, body, convert, lookup, wire};
use crate::model::cluster::Cluster;
use crate::model::id::NodeId;
use crate::model::node::{Node, NodeState, Role};
use crate::store::Tx;

type Api = State<Arc<Shared>>;

const FILTERS: &[&str] = &["id", "name", "role", "membership", "label", "node.label"];

pub(super) async fn list(State(api): Api, params: Params) -> Result<Json, Error> {
    let filters = params.filters(FILTERS)?;
    for role in filters.values("role") {
        if !["worker", "manager"].contains(&role.as_str()) {
            return Err(Error::bad(format!("Invalid role filter: '{role}'")));
        }
    }
    for membership in filters.values("membership") {
        if !["accepted", "pending"].contains(&membership.as_str()) {
            return Err(Error::bad(format!("Invalid membership filter: '{membership}'")));
        }
    }
    let view = api.view().await?;
    let fits = |node: &Node| {
        let role = if node.role == Role::Manager { "manager" } else { "worker" };
        let engine = node.description.as_ref().map(|description| &description.engine.labels);
        filters.prefix("id", &node.id.to_string())
            && filters.prefix("name", node.name())
            && filters.any("role", |wanted| wanted == role)
            && filters.any("membership", |wanted| wanted == "accepted")
            && (!filters.has("label") || engine.is_some_and(|labels| filters.labels("label", labels)))
            && filters.labels("node.label", &node.spec.annotations.labels)
    };
    Json::list(view.nodes().iter().filter(|node| fits(node)).map(|node| api.shown.node(node)))
}

pub(super) async fn inspect(State(api): Api, Path(name): Path<String>) -> Result<Json, Error> {
    let view = api.view().await?;
    Ok(Json::of(api.shown.node(&lookup::find::<Node>(&view, &name)?)?))
}

pub(super) async fn update(
    State(api): Api,
    Path(name): Path<String>,
    params: Params,
    body: Body,
) -> Result<StatusCode, Error> {
    let spec: wire::NodeSpec = body::parse(&body::read(body).await?)?;
    let version = params.version("node")?;
    let spec = convert::node_spec(&spec)?;
    api.update(|tx| {
        let mut node = Node::clone(&*lookup::find::<Node>(tx, &name)?);
        tx.expect_version::<Node>(node.id, version)?;
        if node.spec.role == Role::Manager && spec.role == Role::Worker {
            check_demotion(tx, node.id)?;
        }
        node.spec = spec.clone();
        Ok(tx.update(node)?)
    })
    .await?;
    Ok(StatusCode::OK)
}

fn check_demotion(tx: &mut Tx, id: NodeId) -> Result<(), Error> {
    let managers: Vec<_> = tx.nodes().iter().filter(|node| node.spec.role == Role::Manager).cloned().collect();
    if managers.len() == 1 && managers[0].id == id {
        return Err(Error::precondition("attempting to demote the last manager of the swarm"));
    }
    // Two that are demoted at once must not both find the other.
    for manager in managers {
        tx.require::<Node>(manager.id)?;
    }
    Ok(())
}

pub(super) async fn remove(State(api): Api, Path(name): Path<String>, params: Params) -> Result<StatusCode, Error> {
    let force = params.flag("force");
    let now = api.cluster.now();
    api.update(|tx| {
        let node = lookup::find::<Node>(tx, &name)?;
        let id = node.id;
        if node.spec.role == Role::Manager || node.role == Role::Manager {
            return Err(Error::precondition(format!(
                "node {id} is a cluster manager and is a member of the raft cluster. It must be demoted to worker before removal"
            )));
        }
        if !force && matches!(node.status.state, NodeState::Ready | NodeState::Unknown) {
            return Err(Error::precondition(format!("node {id} is not down and can't be removed")));
        }
        if let Some(cluster) = tx.cluster().map(|cluster| cluster.id) {
            tx.modify::<Cluster>(cluster, |cluster| cluster.remember_removed(&node, now))?;
        }
        Ok(tx.remove::<Node>(id)?)
    })
    .await?;
    Ok(StatusCode::OK)
}
