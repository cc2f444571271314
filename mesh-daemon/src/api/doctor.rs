//! `/doctor`: is everything as it should be, on all nodes that can be asked? It is mesh's own.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use super::Shared;
use super::error::Error;
use crate::doctor::Finding;

pub(super) async fn examine(State(api): State<Arc<Shared>>) -> Result<Json<Vec<Finding>>, Error> {
    Ok(Json(api.cluster.doctor().await?))
}
