//! What a node has, what a task wants of it, and where tasks may go.

use serde::{Deserialize, Serialize};

/// An amount of what nodes have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Billionths of a processor.
    pub nano_cpus: i64,
    /// Bytes of memory.
    pub memory_bytes: i64,
    /// Anything else that is counted or named.
    pub generic: Vec<GenericResource>,
}

/// Something that nodes declare and tasks reserve.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GenericResource {
    /// So many of a kind, alike.
    Discrete {
        /// What is counted.
        kind: String,
        /// How many.
        value: i64,
    },
    /// One of a kind, by name.
    Named {
        /// What it is.
        kind: String,
        /// Which one.
        value: String,
    },
}

/// Why a text is no generic resource.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no generic resource: KIND=NUMBER or KIND=NAME is one")]
pub struct NotAResource(String);

impl std::str::FromStr for GenericResource {
    type Err = NotAResource;

    /// `gpu=2`: two alike; `gpu=uuid1`: one by its name.
    fn from_str(text: &str) -> Result<Self, NotAResource> {
        let wrong = || NotAResource(text.to_owned());
        let (kind, value) = text.split_once('=').ok_or_else(wrong)?;
        let is_kind =
            !kind.is_empty() && kind.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        if !is_kind || value.is_empty() {
            return Err(wrong());
        }
        let kind = kind.to_owned();
        match value.parse::<i64>() {
            Ok(value) if value > 0 => Ok(Self::Discrete { kind, value }),
            Ok(_) => Err(wrong()),
            Err(_) => Ok(Self::Named { kind, value: value.to_owned() }),
        }
    }
}

/// What a task may use at most. 0 is no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Billionths of a processor.
    pub nano_cpus: i64,
    /// Bytes of memory.
    pub memory_bytes: i64,
    /// Processes and threads.
    pub pids: i64,
}

/// What a task reserves, and its limits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ResourceRequirements {
    /// At most.
    pub limits: Limits,
    /// The scheduler sets so much aside.
    pub reservations: Resources,
    /// Bytes of swap beside the memory. None: the runtime's default; -1: no limit.
    pub swap_bytes: Option<i64>,
    /// How eagerly the kernel swaps, 0 to 100. None: the node's.
    pub swappiness: Option<i64>,
}

/// Where tasks may go, and where they go first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Placement {
    /// Each as `node.labels.zone==a`; all must hold.
    pub constraints: Vec<String>,
    /// In order: tasks are spread over the values of the first, within each over those of the next.
    pub preferences: Vec<Preference>,
    /// At most so many tasks of the service on a node. 0: no limit.
    pub max_replicas: u64,
    /// Any of these; empty: any at all.
    pub platforms: Vec<Platform>,
}

/// A wish of placement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preference {
    /// Evenly over the values of this label, as `node.labels.zone`.
    Spread(String),
}

/// A processor and an operating system. An empty word fits any.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Platform {
    /// As `uname -m` or Go says it: `x86_64`, `amd64`, ...
    pub architecture: String,
    /// `linux`.
    pub os: String,
}
