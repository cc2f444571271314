//! Who nodes fetch a service's image as: given with a request, kept with the spec, never shown.

use axum::http::HeaderMap;

use crate::api::error::Error;
use crate::api::images::registry_auth;
use crate::api::query::Params;
use crate::model::payload::Payload;
use crate::model::service::Service;
use crate::runtime::images::Credentials;

/// What a request says; None if it says nothing.
pub(super) fn given(headers: &HeaderMap) -> Result<Option<Payload>, Error> {
    let Some(json) = registry_auth(headers)? else { return Ok(None) };
    let who = Credentials::of_docker(&json).map_err(|error| Error::bad(error.to_string()))?;
    Ok((who != Credentials::Anonymous).then_some(Payload(json)))
}

/// What becomes of it when a service changes.
pub(super) enum Change {
    /// It is given anew.
    New(Payload),
    /// It stays.
    Keep,
    /// It is that of the spec before.
    Previous,
}

impl Change {
    pub(super) fn new(headers: &HeaderMap, params: &Params) -> Result<Self, Error> {
        if let Some(new) = given(headers)? {
            return Ok(Self::New(new));
        }
        match params.get("registryAuthFrom").unwrap_or_default() {
            "" | "spec" => Ok(Self::Keep),
            "previous-spec" => Ok(Self::Previous),
            other => Err(Error::bad(format!("unsupported registryAuthFrom value: {other}"))),
        }
    }

    /// Of this service.
    pub(super) fn of(&self, service: &Service) -> Option<Payload> {
        match self {
            Self::New(new) => Some(new.clone()),
            Self::Keep => service.spec.task.registry_auth.clone(),
            Self::Previous => service.previous_spec.as_ref().and_then(|previous| previous.task.registry_auth.clone()),
        }
    }
}
