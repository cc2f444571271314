//! Between Docker's JSON and the model: a spec comes in checked and typed, objects go out as Docker
//! writes them.
//!
//! A model spec carries what the client sent in its member `docker`; that is what goes out again, so
//! that members which the model does not know are not lost.

mod cluster;
mod container;
mod network;
mod node;
mod payload;
mod service;
mod spec;
mod task;

pub(super) use cluster::{Tokens, cluster, cluster_spec};
pub(super) use network::{network, network_spec};
pub(super) use node::{availability, node, node_spec};
pub(super) use payload::{config, payload_of_config, payload_of_secret, secret};
pub(super) use service::service;
pub(super) use spec::service_spec;
pub(super) use task::task;

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::Error;
use super::wire;
use crate::model::meta::Version;

/// Nanoseconds of a request; `what` is named if there are less than none.
fn duration(what: &str, nanos: i64) -> Result<Duration, Error> {
    u64::try_from(nanos).map(Duration::from_nanos).map_err(|_| Error::invalid(format!("{what} cannot be negative")))
}

/// As Docker writes durations.
fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// As Docker writes times: RFC 3339 with what nanoseconds there are.
pub(super) fn time(at: Timestamp) -> String {
    at.to_string()
}

fn version(version: Version) -> wire::Version {
    wire::Version { index: version.0, ..wire::Version::default() }
}

/// What a spec remembers of its client's words.
fn remember(spec: &impl Serialize) -> Result<Option<Value>, Error> {
    serde_json::to_value(spec).map(Some).map_err(|error| Error::internal(format!("keep the spec: {error}")))
}

/// A client's words, read back. What this version cannot read is as good as forgotten.
fn recall<T: DeserializeOwned>(docker: Option<&Value>) -> Option<T> {
    T::deserialize(docker?).ok()
}
