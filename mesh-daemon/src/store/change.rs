//! What a transaction would have the cluster do.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::object::{AnyObject, Kind};
use crate::model::meta::Version;

/// One change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// An object, new or in the place of the one of its id.
    Put {
        /// The object.
        object: AnyObject,
        /// The version it takes the place of; None: there is none.
        seen: Option<Version>,
    },
    /// An object goes.
    Remove {
        /// Of what.
        kind: Kind,
        /// Which.
        id: Bits,
        /// The version that goes.
        seen: Version,
    },
    /// Nothing changes, but an object must still be what the writer saw.
    Require {
        /// Of what.
        kind: Kind,
        /// Which.
        id: Bits,
        /// The version that must be there.
        seen: Version,
    },
}

/// The number behind an id, whatever its kind; hexadecimal in JSON, where numbers end at 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bits(pub u128);

impl Serialize for Bits {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:x}", self.0))
    }
}

impl<'de> Deserialize<'de> for Bits {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        u128::from_str_radix(&text, 16).map(Self).map_err(serde::de::Error::custom)
    }
}

impl Change {
    /// What it is about.
    pub(super) fn target(&self) -> (Kind, u128) {
        match self {
            Self::Put { object, .. } => (object.kind(), object.id_bits()),
            Self::Remove { kind, id, .. } | Self::Require { kind, id, .. } => (*kind, id.0),
        }
    }

    /// The version that its writer saw.
    pub(super) fn seen(&self) -> Option<Version> {
        match self {
            Self::Put { seen, .. } => *seen,
            Self::Remove { seen, .. } | Self::Require { seen, .. } => Some(*seen),
        }
    }
}

/// A transaction, on its way to be agreed on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Proposal {
    /// All of them happen, or none.
    pub changes: Vec<Change>,
    /// When it was made: objects carry it as their time.
    pub at: Timestamp,
    /// Only the leader of this term may carry it out; None: any.
    pub fence: Option<u64>,
}
