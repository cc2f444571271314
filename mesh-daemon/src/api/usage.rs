//! `/mesh/usage`: how much services are used at each node, for `meshctl top`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use super::error::Error;
use super::{Shared, wire};

pub(super) async fn list(State(api): State<Arc<Shared>>) -> Result<Json<Vec<wire::NodeUsage>>, Error> {
    // A node that is no manager says so in the words of all other requests.
    api.store()?;
    Ok(Json(api.cluster.usage().await?))
}
