//! `/services`: what users want to run.

mod auth;
mod check;
mod conflicts;
mod count;
mod defaults;
mod names;

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};

use super::error::{Code, Error};
use super::query::Params;
use super::{Shared, body, convert, lookup, shown, wire};
use crate::model::id::ServiceId;
use crate::model::meta::Version;
use crate::model::network::Network;
use crate::model::service::{JobStatus, Service, ServiceMode, ServiceSpec, UpdateState, UpdateStatus};
use crate::store::{Tables, Tx};

type Api = State<Arc<Shared>>;

const FILTERS: &[&str] = &["id", "name", "label", "mode", "runtime"];

pub(super) async fn list(State(api): Api, params: Params) -> Result<shown::Json, Error> {
    let filters = params.filters(FILTERS)?;
    let status = params.flag("status");
    let view = api.view().await?;
    let fits = |service: &Service| {
        let mode = match service.spec.mode {
            ServiceMode::Replicated { .. } => "replicated",
            ServiceMode::Global => "global",
            ServiceMode::ReplicatedJob { .. } => "replicated-job",
            ServiceMode::GlobalJob => "global-job",
        };
        filters.prefix("id", &service.id.to_string())
            && filters.prefix("name", &service.spec.annotations.name)
            && filters.labels("label", &service.spec.annotations.labels)
            && filters.any("mode", |wanted| wanted == mode)
            && filters.any("runtime", |wanted| wanted == "container")
    };
    let show = |service: &Arc<Service>| api.shown.service(service, status.then(|| count::tasks(&view, service)));
    shown::Json::list(view.services().iter().filter(|service| fits(service)).map(show))
}

pub(super) async fn inspect(State(api): Api, Path(name): Path<String>, params: Params) -> Result<Response, Error> {
    let view = api.view().await?;
    let service = lookup::find::<Service>(&view, &name)?;
    if !params.flag("insertDefaults") {
        return Ok(shown::Json::of(api.shown.service(&service, None)?).into_response());
    }
    let mut service = convert::service(&service);
    defaults::insert(&mut service.spec);
    Ok(Json(service).into_response())
}

pub(super) async fn create(
    State(api): Api,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<wire::Created>), Error> {
    let auth = auth::given(&headers)?;
    let spec: wire::ServiceSpec = body::parse(&body::read(body).await?)?;
    // Why the node cannot be asked comes before what is wrong with the question.
    api.store()?;
    let mut spec = spec.into_kept();
    let is_named = !spec.name.is_empty();
    if !is_named {
        spec.name = names::from(api.cluster.random());
    }
    check::spec(&spec)?;
    let id = ServiceId::from_u128(api.cluster.random());
    let now = api.cluster.now();
    api.update(|tx| {
        let mut spec = resolve(tx, &spec)?;
        spec.task.registry_auth.clone_from(&auth);
        conflicts::check(tx, None, &spec)?;
        let mut service = Service::new(id, spec);
        if service.spec.mode.is_job() {
            service.job_status = Some(JobStatus { iteration: Version::default(), last_execution: Some(now) });
        }
        Ok(tx.create(service)?)
    })
    .await?;
    let created = wire::Created { id: id.to_string(), ..wire::Created::default() };
    Ok((StatusCode::CREATED, Json(created)))
}

/// Reads a spec; its networks are named by id from then on.
fn resolve(tables: &Tables, spec: &wire::ServiceSpec) -> Result<ServiceSpec, Error> {
    let mut spec = spec.clone();
    let networks = spec.task_template.networks.iter_mut().chain(&mut spec.networks);
    for attachment in networks {
        let network = lookup::find::<Network>(tables, &attachment.target)?;
        if network.spec.ingress {
            return Err(Error::invalid(format!(
                "Service cannot be explicitly attached to the ingress network \"{}\"",
                network.spec.annotations.name
            )));
        }
        attachment.target = network.id.to_string();
    }
    convert::service_spec(&spec)
}

pub(super) async fn update(
    State(api): Api,
    Path(name): Path<String>,
    params: Params,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<wire::Updated>, Error> {
    let auth = auth::Change::new(&headers, &params)?;
    let spec: wire::ServiceSpec = body::parse(&body::read(body).await?)?;
    api.store()?;
    let version = params.version("service")?;
    let now = api.cluster.now();
    match params.get("rollback") {
        None => {
            let spec = spec.into_kept();
            check::spec(&spec)?;
            api.update(|tx| replace(tx, &name, version, &spec, &auth, now)).await?;
        }
        Some("previous") => api.update(|tx| roll_back(tx, &name, version, now)).await?,
        Some(other) => return Err(Error::bad(format!("unrecognized rollback option {other}"))),
    }
    Ok(Json(wire::Updated::default()))
}

fn replace(
    tx: &mut Tx,
    name: &str,
    version: Version,
    spec: &wire::ServiceSpec,
    auth: &auth::Change,
    now: jiff::Timestamp,
) -> Result<(), Error> {
    let mut service = Service::clone(&*lookup::find::<Service>(tx, name)?);
    tx.expect_version::<Service>(service.id, version)?;
    let mut spec = resolve(tx, spec)?;
    spec.task.registry_auth = auth.of(&service);
    let refuse = |desc: &str| Err(Error::Rpc { code: Code::Unimplemented, desc: desc.to_owned() });
    if service.spec.annotations.name != spec.annotations.name {
        return refuse("renaming services is not supported");
    }
    if std::mem::discriminant(&service.spec.mode) != std::mem::discriminant(&spec.mode) {
        return refuse("service mode change is not allowed");
    }
    conflicts::check(tx, Some(service.id), &spec)?;
    let before = std::mem::replace(&mut service.spec, spec);
    start_job_anew(&mut service, now);
    service.previous_spec_version = Some(service.spec_version);
    service.previous_spec = Some(Box::new(before));
    service.update_status = None;
    Ok(tx.update(service)?)
}

/// Every change of a job runs it again.
fn start_job_anew(service: &mut Service, now: jiff::Timestamp) {
    if let Some(job) = &mut service.job_status {
        *job = JobStatus { iteration: service.meta.version, last_execution: Some(now) };
    }
}

fn roll_back(tx: &mut Tx, name: &str, version: Version, now: jiff::Timestamp) -> Result<(), Error> {
    let mut service = Service::clone(&*lookup::find::<Service>(tx, name)?);
    tx.expect_version::<Service>(service.id, version)?;
    let Some(previous) = service.previous_spec.take() else {
        return Err(Error::precondition(format!("service {} does not have a previous spec", service.id)));
    };
    conflicts::check(tx, Some(service.id), &previous)?;
    let before = std::mem::replace(&mut service.spec, *previous);
    start_job_anew(&mut service, now);
    service.previous_spec_version = Some(service.spec_version);
    service.previous_spec = Some(Box::new(before));
    service.update_status = Some(UpdateStatus {
        state: UpdateState::RollbackStarted,
        started_at: Some(now),
        completed_at: None,
        message: "manually requested rollback".to_owned(),
    });
    Ok(tx.update(service)?)
}

pub(super) async fn remove(State(api): Api, Path(name): Path<String>) -> Result<StatusCode, Error> {
    api.update(|tx| {
        let service = lookup::find::<Service>(tx, &name)?;
        Ok(tx.remove::<Service>(service.id)?)
    })
    .await?;
    Ok(StatusCode::OK)
}
