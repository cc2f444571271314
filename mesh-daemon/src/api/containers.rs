//! Containers, images, volumes and plugins of this node, where no engine has them.

use axum::Json;
use axum::extract::{Path, RawPathParams};
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::error::Error;

/// A list of what there is none of.
pub(super) async fn no_list() -> Json<Value> {
    Json(json!([]))
}

pub(super) async fn no_container(path: RawPathParams) -> Error {
    Error::NoContainer(path.iter().next().map_or("", |(_, name)| name).to_owned())
}

/// `/images/NAME/json`: names have slashes.
pub(super) async fn no_image(Path(rest): Path<String>) -> Error {
    let name = rest.rsplit_once('/').map_or(rest.as_str(), |(name, _)| name);
    let tagged = if name.contains(':') { name.to_owned() } else { format!("{name}:latest") };
    absent(format!("no such image: {name}: No such image: {tagged}"))
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
