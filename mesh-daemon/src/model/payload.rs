//! Secrets and configs: bytes that tasks get as files.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::id::{ConfigId, SecretId};
use super::meta::{Annotations, Meta};

/// A secret has fewer bytes than this.
pub const SECRET_BYTES: usize = 500 * 1024;
/// A config has fewer bytes than this.
pub const CONFIG_BYTES: usize = 1000 * 1024;

/// Bytes that are written as base 64, and never printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Payload(pub Vec<u8>);

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        STANDARD.decode(text.as_ref()).map(Self).map_err(de::Error::custom)
    }
}

/// Fills in a template when the file is made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Templating {
    /// Its language: `golang`.
    pub name: String,
    /// Options to it.
    pub options: std::collections::BTreeMap<String, String>,
}

/// What a user gives as a secret or a config.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PayloadSpec {
    /// Name and labels: only the labels may change.
    pub annotations: Annotations,
    /// The bytes.
    pub data: Payload,
    /// Whether the bytes are a template.
    pub templating: Option<Templating>,
    /// Who gives the bytes instead, and its options: an external driver.
    pub driver: Option<Templating>,
    /// What the client of the Docker API sent beside the bytes, so that what we do not know comes back
    /// to it. `api` alone reads it.
    pub docker: Option<serde_json::Value>,
}

/// A secret: encrypted wherever it rests, sent only to nodes that run a task with it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Secret {
    /// Its id.
    pub id: SecretId,
    /// Version and times.
    #[serde(default)]
    pub meta: Meta,
    /// What the user gave.
    pub spec: PayloadSpec,
    /// Whether the cluster made it for itself and hides it.
    #[serde(default)]
    pub internal: bool,
}

impl Secret {
    /// A new secret.
    #[must_use]
    pub fn new(id: SecretId, spec: PayloadSpec) -> Self {
        Self { id, meta: Meta::default(), spec, internal: false }
    }
}

/// A config: as a secret, but shown to whoever may ask.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// Its id.
    pub id: ConfigId,
    /// Version and times.
    #[serde(default)]
    pub meta: Meta,
    /// What the user gave.
    pub spec: PayloadSpec,
}

impl Config {
    /// A new config.
    #[must_use]
    pub fn new(id: ConfigId, spec: PayloadSpec) -> Self {
        Self { id, meta: Meta::default(), spec }
    }
}
