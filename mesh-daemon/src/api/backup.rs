//! `/swarm/backup` and `/swarm/restore`: all that the swarm agreed on, as a file. They are mesh's own.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse as _, Response};

use super::error::Error;
use super::query::Params;
use super::swarm::{already_member, check_address, listen_addr};
use super::{Restore, Shared, Standing, body};
use crate::cluster::backup;

/// The largest backup that is taken: five thousand nodes with fifty thousand tasks are about 110 MB.
const MAX_BYTES: usize = 1 << 30;
/// What opens a sealed backup, beside it.
const UNLOCK_KEY: &str = "mesh-unlock-key";

type Api = State<Arc<Shared>>;

/// Everything that was acknowledged to anyone; without a quorum what this manager has.
pub(super) async fn save(State(api): Api) -> Result<Response, Error> {
    let view = api.view().await?;
    let written = tokio::task::spawn_blocking(move || backup::write(&view)).await;
    let written = written.map_err(|_| Error::internal("this node stops"))?;
    let file = written.map_err(|error| Error::internal(error.to_string()))?;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], file).into_response())
}

pub(super) async fn restore(
    State(api): Api,
    params: Params,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<String>, Error> {
    if api.cluster.local().standing != Standing::Outside {
        return Err(already_member());
    }
    let given = |name: &str| params.get(name).unwrap_or_default().to_owned();
    check_address("advertise", &given("advertiseAddr"))?;
    check_address("data path", &given("dataPathAddr"))?;
    let unlock_key = headers.get(UNLOCK_KEY).and_then(|key| key.to_str().ok()).map(str::to_owned);
    let backup = body::read_up_to(body, MAX_BYTES).await?;
    let node = api.cluster.restore(Restore {
        backup,
        unlock_key,
        listen_addr: listen_addr(given("listenAddr")),
        advertise_addr: given("advertiseAddr"),
        data_path_addr: given("dataPathAddr"),
    });
    Ok(Json(node.await?.to_string()))
}
