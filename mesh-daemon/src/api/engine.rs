//! The Docker Engine that runs this node's tasks: what is its business is passed on, byte by byte, with
//! upgrades. Endpoints of the swarm never reach it.

use std::path::{Path, PathBuf};

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, Method, Request, Response, header};
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use tokio::net::UnixStream;
use tracing::debug;

use super::error::Error;
use super::{Shared, pass, wire};

/// The first words of paths that are an engine's.
const ITS: &[&str] =
    &["auth", "build", "commit", "containers", "exec", "grpc", "images", "plugins", "session", "volumes"];

/// Whether an engine answers this.
pub(super) fn is_its(method: &Method, path: &str) -> bool {
    let mut words = path.trim_start_matches('/').split('/');
    match (words.next().unwrap_or_default(), words.next()) {
        ("system", Some("df")) => *method == Method::GET,
        ("networks", Some(_)) => words.next().is_some_and(|verb| matches!(verb, "connect" | "disconnect")),
        (first, _) => ITS.contains(&first),
    }
}

/// Passes a request on and its answer back. The path has no version: the engine speaks its newest.
pub(super) async fn pass(api: &Shared, socket: &Path, mut request: Request<Body>) -> Result<Response<Body>, Error> {
    request.headers_mut().insert(header::HOST, HeaderValue::from_static("docker"));
    let stream = UnixStream::connect(socket).await.map_err(|error| unreachable(socket, &error))?;
    pass::on(api, stream, request, |error| unreachable(socket, &error)).await
}

async fn ask(api: &Shared, socket: &Path, request: Request<Body>) -> Result<Response<Body>, Error> {
    let stream = UnixStream::connect(socket).await.map_err(|error| unreachable(socket, &error))?;
    pass::ask(&api.tasks, stream, request).await.map_err(|error| unreachable(socket, &error))
}

fn unreachable(socket: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::internal(format!("the container engine at {} does not answer: {error}", socket.display()))
}

fn get(path: &str) -> Result<Request<Body>, Error> {
    let request = Request::get(path).header(header::HOST, "docker").body(Body::empty());
    request.map_err(|error| Error::internal(format!("ask the container engine for {path}: {error}")))
}

/// The engine's own networks: `bridge`, `host`, `none` and what users made of them. None, if it does not
/// answer: the swarm's are shown all the same.
pub(super) async fn networks(api: &Shared) -> Vec<wire::Network> {
    let Some(socket) = api.cluster.engine() else { return Vec::new() };
    let listed = async {
        let answer = ask(api, &socket, get("/networks")?).await?;
        let body = super::body::read(answer.into_body()).await?;
        super::body::parse::<Vec<wire::Network>>(&body)
    };
    match listed.await {
        Ok(networks) => networks.into_iter().filter(|network| network.scope == "local").collect(),
        Err(error) => {
            debug!(%error, "the engine's networks");
            Vec::new()
        }
    }
}

/// The engine's events, for the same query.
pub(super) async fn events(
    api: &Shared,
    query: Option<&str>,
) -> Option<BoxStream<'static, Result<Bytes, std::io::Error>>> {
    let socket: PathBuf = api.cluster.engine()?;
    let path = query.map_or_else(|| "/events".to_owned(), |query| format!("/events?{query}"));
    let answer = ask(api, &socket, get(&path).ok()?).await.ok()?;
    if !answer.status().is_success() {
        return None;
    }
    Some(answer.into_body().into_data_stream().map(|piece| piece.map_err(std::io::Error::other)).boxed())
}
