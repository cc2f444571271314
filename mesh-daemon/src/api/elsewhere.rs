//! Containers of tasks on other nodes: a manager passes what it is asked of them on to their node, so that
//! `docker logs`, `exec`, `attach`, `stats`, `top`, `stop` and `kill` work at any manager for every task.
//!
//! A container is meant by its id, or the first twelve letters of it at least; by its name; or as
//! `SERVICE.SLOT`, which is the task that runs there now. Docker knows the first two. The id of a task alone
//! means the task: `docker inspect` looks for a container first.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use axum::response::IntoResponse as _;

use super::error::Error;
use super::version::Version;
use super::{Shared, body, pass, wire};
use crate::model::id::{NodeId, TaskId};
use crate::model::service::Service;
use crate::model::state::TaskState;
use crate::model::task::Task;
use crate::store::{Key, Object as _, Store, View};

/// Programs started by exec on other nodes that are remembered.
const MAX_EXECS: usize = 1024;

/// The least of an id that is looked for in the whole cluster: what docker prints.
const SHORT: usize = 12;

/// Where programs run that were asked for here.
#[derive(Default)]
pub(super) struct Execs(Mutex<VecDeque<(String, NodeId)>>);

impl Execs {
    fn add(&self, id: String, node: NodeId) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MAX_EXECS {
            // Its node still knows it.
            all.pop_front();
        }
        all.push_back((id, node));
    }

    fn node(&self, id: &str) -> Option<NodeId> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().find(|(known, _)| known == id).map(|(_, node)| *node)
    }
}

/// Which path of which node a request is for.
pub(super) enum Place {
    /// This node, by this path.
    Here(String),
    /// Another node, by this path.
    There(NodeId, String),
}

/// Whether a manager may ask this of a node in another's name.
pub(super) fn is_of_containers(path: &str) -> bool {
    of_container(path).is_some() || of_exec(path).is_some()
}

/// The container that a path names, and the rest of the path.
fn of_container(path: &str) -> Option<(&str, &str)> {
    let path = path.strip_prefix("/containers/")?;
    let (name, rest) = path.find('/').map_or((path, ""), |at| path.split_at(at));
    (!matches!(name, "" | "json" | "create" | "prune")).then_some((name, rest))
}

fn of_exec(path: &str) -> Option<&str> {
    path.strip_prefix("/exec/")?.split('/').next()
}

/// Where a request is answered, if the store says so.
pub(super) fn place(api: &Shared, path: &str) -> Option<Place> {
    if let Some(exec) = of_exec(path) {
        return api.far_execs.node(exec).map(|node| Place::There(node, path.to_owned()));
    }
    let (name, rest) = of_container(path)?;
    let view = api.cluster.stores().borrow().as_ref().map(Store::view)?;
    let task = find(&view, name)?;
    let (node, container) = (task.node_id?, &task.status.container.as_ref()?.container_id);
    let path = format!("/containers/{container}{rest}");
    Some(if api.cluster.local().node_id == Some(node) { Place::Here(path) } else { Place::There(node, path) })
}

/// The task that a name of a container means.
fn find(view: &View, name: &str) -> Option<Arc<Task>> {
    let tasks = view.tasks();
    if let Some((service, last)) = name.rsplit_once('.') {
        let task = last.parse::<TaskId>().ok().and_then(|id| tasks.get(id)).map(Arc::clone);
        return task.or_else(|| in_slot(view, service, last));
    }
    if name.len() < SHORT || !name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut begin_so =
        tasks.iter().filter(|task| task.status.container.as_ref().is_some_and(|of| of.container_id.starts_with(name)));
    // One that several begin with is left to the node that was asked: it says so, or knows one of its own.
    let first = begin_so.next()?;
    begin_so.next().is_none().then(|| Arc::clone(first))
}

fn in_slot(view: &View, service: &str, slot: &str) -> Option<Arc<Task>> {
    let service = Service::table(view).by_name(service).next()?;
    let slot: u64 = slot.parse().ok()?;
    let tasks = view.tasks().by_key(Key::Service(service.id));
    let mut running = tasks.filter(|task| task.slot == slot && task.status.state == TaskState::Running);
    running.next().map(Arc::clone)
}

/// Has another node answer.
pub(super) async fn ask(
    api: &Shared,
    node: NodeId,
    path: &str,
    mut request: Request<Body>,
) -> Result<Response<Body>, Error> {
    let version = request.extensions().get::<Version>().copied();
    let prefix = version.map(|version| format!("/v{version}")).unwrap_or_default();
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    *request.uri_mut() = format!("{prefix}{path}{query}").parse::<Uri>().map_err(|_| Error::NoPage)?;
    request.headers_mut().insert(header::HOST, HeaderValue::from_static("docker"));
    let makes_exec = request.method() == Method::POST && path.starts_with("/containers/") && path.ends_with("/exec");
    let connection = api.cluster.reach(node).await?;
    let failed = |error| Error::unavailable(format!("node {node} does not answer: {error}"));
    let answer = pass::on(api, connection, request, failed).await?;
    if !makes_exec || answer.status() != StatusCode::CREATED {
        return Ok(answer);
    }
    let made: Bytes = body::read(answer.into_body()).await?;
    let created: wire::ExecCreated = body::parse(&made)?;
    api.far_execs.add(created.id.clone(), node);
    Ok((StatusCode::CREATED, axum::Json(created)).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_containers_and_their_programs_are_asked_for_in_anothers_name() {
        for path in ["/containers/a/json", "/containers/a", "/containers/a/exec", "/exec/b/start", "/exec/b/json"] {
            assert!(is_of_containers(path), "{path}");
        }
        for path in ["/containers/json", "/containers/create", "/containers/", "/swarm", "/images/json", "/info", "/"] {
            assert!(!is_of_containers(path), "{path}");
        }
    }

    #[test]
    fn the_oldest_programs_are_forgotten_first() {
        let execs = Execs::default();
        for number in 0..=MAX_EXECS {
            execs.add(number.to_string(), NodeId::from_u128(7));
        }
        assert_eq!((execs.node("0"), execs.node("1")), (None, Some(NodeId::from_u128(7))));
    }
}
