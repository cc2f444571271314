//! `/secrets` and `/configs`: bytes that tasks get as files.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;

use super::error::Error;
use super::query::Params;
use super::{Shared, body, convert, lookup, wire};
use crate::model::id::{ConfigId, SecretId};
use crate::model::meta::Annotations;
use crate::model::payload::{CONFIG_BYTES, Config, PayloadSpec, SECRET_BYTES, Secret};
use crate::model::service::Service;
use crate::store::{Key, Tables};

type Api = State<Arc<Shared>>;

const FILTERS: &[&str] = &["names", "name", "id", "label"];

/// The longest name.
const MAX_NAME: usize = 64;

pub(super) async fn secrets(State(api): Api, params: Params) -> Result<Json<Vec<wire::Secret>>, Error> {
    let filters = params.filters(FILTERS)?;
    let view = api.view().await?;
    let fits = |secret: &Secret| {
        let Annotations { name, labels } = &secret.spec.annotations;
        !secret.internal
            && filters.prefix("id", &secret.id.to_string())
            && filters.prefix("name", name)
            && filters.any("names", |wanted| wanted == name)
            && filters.labels("label", labels)
    };
    Ok(Json(view.secrets().iter().filter(|secret| fits(secret)).map(|secret| convert::secret(secret)).collect()))
}

pub(super) async fn configs(State(api): Api, params: Params) -> Result<Json<Vec<wire::Config>>, Error> {
    let filters = params.filters(FILTERS)?;
    let view = api.view().await?;
    let fits = |config: &Config| {
        let Annotations { name, labels } = &config.spec.annotations;
        filters.prefix("id", &config.id.to_string())
            && filters.prefix("name", name)
            && filters.any("names", |wanted| wanted == name)
            && filters.labels("label", labels)
    };
    Ok(Json(view.configs().iter().filter(|config| fits(config)).map(|config| convert::config(config)).collect()))
}

pub(super) async fn secret(State(api): Api, Path(name): Path<String>) -> Result<Json<wire::Secret>, Error> {
    let view = api.view().await?;
    Ok(Json(convert::secret(&*lookup::find::<Secret>(&view, &name)?)))
}

pub(super) async fn config(State(api): Api, Path(name): Path<String>) -> Result<Json<wire::Config>, Error> {
    let view = api.view().await?;
    Ok(Json(convert::config(&*lookup::find::<Config>(&view, &name)?)))
}

pub(super) async fn create_secret(State(api): Api, body: Body) -> Result<(StatusCode, Json<wire::Created>), Error> {
    let spec: wire::SecretSpec = body::parse(&body::read(body).await?)?;
    api.store()?;
    let spec = convert::payload_of_secret(&spec)?;
    check_name("secret", &spec.annotations.name)?;
    if spec.driver.is_some() {
        if !spec.data.0.is_empty() {
            return Err(Error::invalid("secret data must be empty when using an external driver"));
        }
        return Err(Error::invalid("secret drivers are not supported: give the secret its data"));
    }
    check_size("secret", &spec, SECRET_BYTES)?;
    let id = SecretId::from_u128(api.cluster.random());
    api.update(|tx| Ok(tx.create(Secret::new(id, spec.clone()))?)).await?;
    Ok(created(id.to_string()))
}

pub(super) async fn create_config(State(api): Api, body: Body) -> Result<(StatusCode, Json<wire::Created>), Error> {
    let spec: wire::ConfigSpec = body::parse(&body::read(body).await?)?;
    api.store()?;
    let spec = convert::payload_of_config(&spec)?;
    check_name("config", &spec.annotations.name)?;
    check_size("config", &spec, CONFIG_BYTES)?;
    let id = ConfigId::from_u128(api.cluster.random());
    api.update(|tx| Ok(tx.create(Config::new(id, spec.clone()))?)).await?;
    Ok(created(id.to_string()))
}

fn created(id: String) -> (StatusCode, Json<wire::Created>) {
    (StatusCode::CREATED, Json(wire::Created { id, ..wire::Created::default() }))
}

fn check_name(what: &str, name: &str) -> Result<(), Error> {
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    let inner = bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    if bytes.len() > MAX_NAME || !(inner && edge(bytes.first()) && edge(bytes.last())) {
        return Err(Error::invalid(format!(
            "invalid name, only 64 [a-zA-Z0-9-_.] characters allowed, and the start and end character must be [a-zA-Z0-9]: {what} \"{name}\""
        )));
    }
    Ok(())
}

fn check_size(what: &str, spec: &PayloadSpec, limit: usize) -> Result<(), Error> {
    if spec.data.0.is_empty() || spec.data.0.len() >= limit {
        return Err(Error::invalid(format!("{what} data must be larger than 0 and less than {limit} bytes")));
    }
    Ok(())
}

pub(super) async fn update_secret(
    State(api): Api,
    Path(name): Path<String>,
    params: Params,
    body: Body,
) -> Result<StatusCode, Error> {
    let spec: wire::SecretSpec = body::parse(&body::read(body).await?)?;
    let version = params.version("secret")?;
    let spec = convert::payload_of_secret(&spec)?;
    api.update(|tx| {
        let mut secret = Secret::clone(&*lookup::find::<Secret>(tx, &name)?);
        tx.expect_version::<Secret>(secret.id, version)?;
        let spec = only_labels_change(&secret.spec, &spec)?;
        // A stack that is deployed again says the same again.
        if spec == secret.spec {
            return Ok(());
        }
        secret.spec = spec;
        Ok(tx.update(secret)?)
    })
    .await?;
    Ok(StatusCode::OK)
}

pub(super) async fn update_config(
    State(api): Api,
    Path(name): Path<String>,
    params: Params,
    body: Body,
) -> Result<StatusCode, Error> {
    let spec: wire::ConfigSpec = body::parse(&body::read(body).await?)?;
    let version = params.version("config")?;
    let spec = convert::payload_of_config(&spec)?;
    api.update(|tx| {
        let mut config = Config::clone(&*lookup::find::<Config>(tx, &name)?);
        tx.expect_version::<Config>(config.id, version)?;
        config.spec = only_labels_change(&config.spec, &spec)?;
        Ok(tx.update(config)?)
    })
    .await?;
    Ok(StatusCode::OK)
}

/// Tasks have the bytes already: another version of them is another object.
fn only_labels_change(before: &PayloadSpec, after: &PayloadSpec) -> Result<PayloadSpec, Error> {
    let same_data = after.data.0.is_empty() || after.data == before.data;
    if before.annotations.name != after.annotations.name || !same_data {
        return Err(Error::invalid("only updates to Labels are allowed"));
    }
    Ok(PayloadSpec { annotations: after.annotations.clone(), docker: after.docker.clone(), ..before.clone() })
}

pub(super) async fn remove_secret(State(api): Api, Path(name): Path<String>) -> Result<StatusCode, Error> {
    api.update(|tx| {
        let secret = lookup::find::<Secret>(tx, &name)?;
        check_unused(tx, "secret", &secret.spec, Key::Secret(secret.id))?;
        Ok(tx.remove::<Secret>(secret.id)?)
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn remove_config(State(api): Api, Path(name): Path<String>) -> Result<StatusCode, Error> {
    api.update(|tx| {
        let config = lookup::find::<Config>(tx, &name)?;
        check_unused(tx, "config", &config.spec, Key::Config(config.id))?;
        Ok(tx.remove::<Config>(config.id)?)
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}

fn check_unused(tables: &Tables, what: &str, spec: &PayloadSpec, key: Key) -> Result<(), Error> {
    let users = tables.services().by_key(key).map(|service: &Arc<Service>| service.spec.annotations.name.as_str());
    let users: Vec<_> = users.collect();
    let services = match users.len() {
        0 => return Ok(()),
        1 => "service",
        _ => "services",
    };
    Err(Error::invalid(format!(
        "{what} '{}' is in use by the following {services}: {}",
        spec.annotations.name,
        users.join(", ")
    )))
}
