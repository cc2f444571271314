//! Which path is answered by whom.

use std::cell::Cell;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Request, Response, Uri};
use axum::response::IntoResponse as _;
use axum::routing::{delete, get, post};
use tower::ServiceExt as _;

use super::elsewhere::{self, Place};
use super::error::Error;
use super::version::{self, Version};
use super::{
    Api, Shared, Standing, backup, containers, doctor, engine, events, images, logs, networks, nodes, payloads,
    services, swarm, system, tasks,
};

tokio::task_local! {
    /// Whether the answer in the making is from a replica that may lag.
    static STALE: Cell<bool>;
}

/// Marks the answer in the making as one that may be old.
pub(super) fn mark_stale() {
    // Outside a request there is no answer to mark.
    let _ = STALE.try_with(|stale| stale.set(true));
}

/// Every endpoint. Versions are cut off before: layers of a router run after it has routed.
pub(super) fn routes(shared: Arc<Shared>) -> Router {
    Router::new()
        .merge(of_the_swarm())
        .merge(of_the_node())
        .fallback(async || Error::NoPage)
        .method_not_allowed_fallback(async || Error::NoPage)
        .with_state(shared)
}

fn of_the_swarm() -> Router<Arc<Shared>> {
    Router::new()
        .route("/swarm", get(swarm::inspect))
        .route("/swarm/init", post(swarm::init))
        .route("/swarm/join", post(swarm::join))
        .route("/swarm/leave", post(swarm::leave))
        .route("/swarm/update", post(swarm::update))
        .route("/swarm/unlockkey", get(swarm::unlock_key))
        .route("/swarm/unlock", post(swarm::unlock))
        .route("/doctor", get(doctor::examine))
        .route("/swarm/backup", get(backup::save))
        .route("/swarm/restore", post(backup::restore))
        .route("/nodes", get(nodes::list))
        .route("/nodes/{id}", get(nodes::inspect).delete(nodes::remove))
        .route("/nodes/{id}/update", post(nodes::update))
        .route("/services", get(services::list))
        .route("/services/create", post(services::create))
        .route("/services/{id}", get(services::inspect).delete(services::remove))
        .route("/services/{id}/update", post(services::update))
        .route("/services/{id}/logs", get(logs::of_service))
        .route("/tasks", get(tasks::list))
        .route("/tasks/{id}", get(tasks::inspect))
        .route("/tasks/{id}/logs", get(logs::of_task))
        .route("/secrets", get(payloads::secrets))
        .route("/secrets/create", post(payloads::create_secret))
        .route("/secrets/{id}", get(payloads::secret).delete(payloads::remove_secret))
        .route("/secrets/{id}/update", post(payloads::update_secret))
        .route("/configs", get(payloads::configs))
        .route("/configs/create", post(payloads::create_config))
        .route("/configs/{id}", get(payloads::config).delete(payloads::remove_config))
        .route("/configs/{id}/update", post(payloads::update_config))
        .route("/networks", get(networks::list))
        .route("/networks/create", post(networks::create))
        .route("/networks/prune", post(networks::prune))
        .route("/networks/{id}", get(networks::inspect).delete(networks::remove))
}

fn of_the_node() -> Router<Arc<Shared>> {
    Router::new()
        .route("/_ping", get(system::ping))
        .route("/version", get(system::version))
        .route("/info", get(system::info))
        .route("/events", get(events::stream))
        .route("/system/df", get(system::disk_usage))
        .route("/distribution/{*rest}", get(system::distribution))
        .route("/containers/json", get(containers::list))
        .route("/containers/create", post(containers::no_create))
        .route("/containers/{id}", delete(containers::remove))
        .route("/containers/{id}/json", get(containers::inspect))
        .route("/containers/{id}/logs", get(containers::logs))
        .route("/containers/{id}/stop", post(containers::stop))
        .route("/containers/{id}/kill", post(containers::kill))
        .route("/containers/{id}/wait", post(containers::wait))
        .route("/containers/{id}/attach", post(containers::attach))
        .route("/containers/{id}/top", get(containers::top))
        .route("/containers/{id}/stats", get(containers::stats))
        .route("/containers/{id}/exec", post(containers::create_exec))
        .route("/containers/{id}/{act}", post(containers::no_act).get(containers::no_files).put(containers::no_files))
        .route("/exec/{id}/start", post(containers::start_exec))
        .route("/exec/{id}/resize", post(containers::resize_exec))
        .route("/exec/{id}/json", get(containers::inspect_exec))
        .route("/images/json", get(images::list))
        .route("/images/load", post(images::load))
        .route("/images/create", post(images::pull))
        .route("/images/{*rest}", get(images::inspect).delete(images::remove).post(images::act))
        // `docker inspect NAME` asks for each kind of thing; these there are none of without an engine.
        .route("/volumes", get(containers::no_volumes))
        .route("/volumes/{name}", get(containers::no_volume))
        .route("/plugins", get(containers::no_list))
        .route("/plugins/{*rest}", get(containers::no_plugin))
}

/// Answers one request.
pub(super) async fn answer(api: &Api, mut request: Request<Body>) -> Response<Body> {
    let shared = &api.shared;
    let mut response = match cut_version(&mut request) {
        Err(error) => error.into_response(),
        Ok(()) => match elsewhere::place(shared, request.uri().path()) {
            Some(Place::There(node, path)) => {
                elsewhere::ask(shared, node, &path, request).await.unwrap_or_else(Error::into_response)
            }
            Some(Place::Here(path)) => match set_path(&mut request, &path) {
                Ok(()) => here(api, request).await,
                Err(error) => error.into_response(),
            },
            None => here(api, request).await,
        },
    };
    dress(shared, &mut response);
    response
}

/// Answers a manager that was asked of a container here. It goes no further from here.
pub(super) async fn answer_manager(api: &Api, mut request: Request<Body>) -> Response<Body> {
    let mut response = match cut_version(&mut request) {
        Err(error) => error.into_response(),
        Ok(()) if elsewhere::is_of_containers(request.uri().path()) => here(api, request).await,
        Ok(()) => Error::NoPage.into_response(),
    };
    dress(&api.shared, &mut response);
    response
}

/// Answers by what this node knows and runs.
async fn here(api: &Api, request: Request<Body>) -> Response<Body> {
    let shared = &api.shared;
    if let Some(socket) = shared.cluster.engine().filter(|_| engine::is_its(request.method(), request.uri().path())) {
        return engine::pass(shared, &socket, request).await.unwrap_or_else(Error::into_response);
    }
    let answer = async {
        let response = api.router.clone().oneshot(request).await.unwrap_or_else(|never| match never {});
        (response, STALE.with(Cell::get))
    };
    let (mut response, stale) = STALE.scope(Cell::new(false), answer).await;
    if stale {
        let name = HeaderName::from_static("mesh-stale");
        response.headers_mut().insert(name, HeaderValue::from_static("no leader is known"));
    }
    response
}

/// Takes the version out of the path and leaves it beside the request.
fn cut_version(request: &mut Request<Body>) -> Result<(), Error> {
    let (version, path) = version::cut(request.uri().path())?;
    let path = path.to_owned();
    set_path(request, &path)?;
    request.extensions_mut().insert::<Version>(version);
    Ok(())
}

/// Sets the path of a request, and leaves its query.
fn set_path(request: &mut Request<Body>, path: &str) -> Result<(), Error> {
    let target = match request.uri().query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    *request.uri_mut() = target.parse::<Uri>().map_err(|_| Error::NoPage)?;
    Ok(())
}

/// What every answer carries: clients negotiate by it.
fn dress(shared: &Shared, response: &mut Response<Body>) {
    let mut put = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    };
    put("api-version", &version::MAX.to_string());
    put("docker-experimental", "false");
    put("ostype", "linux");
    put("server", concat!("mesh/", env!("CARGO_PKG_VERSION"), " (linux)"));
    put(
        "swarm",
        match shared.cluster.local().standing {
            Standing::Outside => "inactive",
            Standing::Pending => "pending",
            Standing::Locked => "locked",
            Standing::Failed(_) => "error",
            Standing::Worker => "active/worker",
            Standing::Manager => "active/manager",
        },
    );
}
