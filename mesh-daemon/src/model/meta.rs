//! What every object has: a version, times, a name and labels.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Counts the changes of the cluster's state. An object carries the number of the change that
/// wrote it last; whoever writes it must have seen that one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(pub u64);

/// When an object was made and changed. The store writes it, nobody else does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// The change that wrote the object last.
    pub version: Version,
    /// When the object was made.
    pub created_at: Timestamp,
    /// When it was written last.
    pub updated_at: Timestamp,
}

/// Labels: what users hang on objects.
pub type Labels = BTreeMap<String, String>;

/// The name and the labels that a user gives an object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Annotations {
    /// Unique among objects of its kind, whatever the case of its letters.
    pub name: String,
    /// For users and their tools; some of ours are read too, see docs/design/control-plane.md.
    pub labels: Labels,
}

impl Annotations {
    /// A name without labels.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), labels: Labels::new() }
    }
}
