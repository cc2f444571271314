//! Secrets and configs, from and to the client.

use super::{recall, remember, time, version};
use crate::api::error::Error;
use crate::api::wire;
use crate::model::meta::Annotations;
use crate::model::payload::{Config, Payload, PayloadSpec, Secret, Templating};

/// Reads a secret.
pub(in crate::api) fn payload_of_secret(spec: &wire::SecretSpec) -> Result<PayloadSpec, Error> {
    let mut words = spec.clone();
    // The bytes are the model's, which keeps them secret.
    words.data.clear();
    Ok(PayloadSpec {
        annotations: Annotations { name: spec.name.clone(), labels: spec.labels.clone() },
        data: data(&spec.data)?,
        templating: spec.templating.as_ref().map(driver),
        driver: spec.driver.as_ref().map(driver),
        docker: remember(&words)?,
    })
}

/// Reads a config.
pub(in crate::api) fn payload_of_config(spec: &wire::ConfigSpec) -> Result<PayloadSpec, Error> {
    let mut words = spec.clone();
    words.data.clear();
    Ok(PayloadSpec {
        annotations: Annotations { name: spec.name.clone(), labels: spec.labels.clone() },
        data: data(&spec.data)?,
        templating: spec.templating.as_ref().map(driver),
        driver: None,
        docker: remember(&words)?,
    })
}

fn data(text: &str) -> Result<Payload, Error> {
    wire::base64::decode(text).map(Payload).ok_or_else(|| Error::bad("invalid JSON: Data is not base64"))
}

fn driver(driver: &wire::Driver) -> Templating {
    Templating { name: driver.name.clone(), options: driver.options.clone() }
}

/// A secret, without its bytes: nobody gets them but the tasks.
pub(in crate::api) fn secret(secret: &Secret) -> wire::Secret {
    wire::Secret {
        id: secret.id.to_string(),
        version: version(secret.meta.version),
        created_at: time(secret.meta.created_at),
        updated_at: time(secret.meta.updated_at),
        spec: secret_spec(&secret.spec),
        ..wire::Secret::default()
    }
}

fn secret_spec(spec: &PayloadSpec) -> wire::SecretSpec {
    let sent: wire::SecretSpec = recall(spec.docker.as_ref()).unwrap_or_default();
    wire::SecretSpec {
        name: spec.annotations.name.clone(),
        labels: spec.annotations.labels.clone(),
        data: String::new(),
        ..sent
    }
}

/// A config with its bytes.
pub(in crate::api) fn config(config: &Config) -> wire::Config {
    wire::Config {
        id: config.id.to_string(),
        version: version(config.meta.version),
        created_at: time(config.meta.created_at),
        updated_at: time(config.meta.updated_at),
        spec: config_spec(&config.spec),
        ..wire::Config::default()
    }
}

fn config_spec(spec: &PayloadSpec) -> wire::ConfigSpec {
    let sent: wire::ConfigSpec = recall(spec.docker.as_ref()).unwrap_or_default();
    wire::ConfigSpec {
        name: spec.annotations.name.clone(),
        labels: spec.annotations.labels.clone(),
        data: wire::base64::encode(&spec.data.0),
        ..sent
    }
}
