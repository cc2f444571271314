//! Docker's JSON: what clients send and read, and the only place with Docker's spelling.
//!
//! Members are named as in the Engine API's reference, which describes them. Every type keeps the
//! members it does not know in `rest`, so that what a client sends comes back whole. As in Go, `null`
//! and a missing member are the type's zero, and the case of a member's letters does not matter; a member with
//! `?` is left out when it is zero.

mod container;
mod event;
mod image;
mod network;
mod node;
mod secret;
mod service;
mod spec;
mod spelling;
mod swarm;
mod system;
mod task;
#[cfg(test)]
mod tests;
mod usage;

pub use container::*;
pub use event::*;
pub use image::*;
pub use network::*;
pub use node::*;
pub use secret::*;
pub use service::*;
pub use spec::*;
pub use swarm::*;
pub use system::*;
pub use task::*;
pub use usage::*;

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Labels, options: Go writes maps sorted by key.
pub type Labels = BTreeMap<String, String>;

/// Members that a type has no field for.
pub type Rest = serde_json::Map<String, serde_json::Value>;

/// Declares types of Docker's JSON: `field "Json": Type` is always written, `field "Json"?: Type` only
/// when it is not zero.
macro_rules! wire {
    ($($(#[$meta:meta])* $name:ident { $($body:tt)* })*) => {
        $(wire!(@take [$(#[$meta])*] $name [] [] $($body)*);)*
    };
    (@take [$($meta:tt)*] $name:ident [$($json_done:literal)*] [$($done:tt)*]
        $field:ident $json:literal ?: $kind:ty, $($rest:tt)*) => {
        wire!(@take [$($meta)*] $name [$($json_done)* $json] [
            $($done)*
            #[serde(rename = $json, deserialize_with = "super::null_is_zero", skip_serializing_if = "super::is_zero")]
            pub $field: $kind,
        ] $($rest)*);
    };
    (@take [$($meta:tt)*] $name:ident [$($json_done:literal)*] [$($done:tt)*]
        $field:ident $json:literal : $kind:ty, $($rest:tt)*) => {
        wire!(@take [$($meta)*] $name [$($json_done)* $json] [
            $($done)*
            #[serde(rename = $json, deserialize_with = "super::null_is_zero")]
            pub $field: $kind,
        ] $($rest)*);
    };
    (@take [$($meta:tt)*] $name:ident [$($json:literal)*] [$($done:tt)*]) => {
        $($meta)*
        // `remote` leaves both traits to the impls below: what is read is spelled our way first.
        #[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(default, remote = "Self")]
        pub struct $name {
            $($done)*
            #[serde(flatten)]
            pub rest: super::Rest,
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                Self::serialize(self, to)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                Self::deserialize(super::spelling::Spelled { from, members: &[$($json),*] })
            }
        }
    };
}
pub(crate) use wire;

/// Go decodes `null` as the zero value of any type.
fn null_is_zero<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// Go's `omitempty`.
fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A number with a fraction, written as Go does: `0`, not `0.0`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Ratio(pub f64);

impl Serialize for Ratio {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if self.0.fract() == 0.0 && self.0.abs() < 1e15 {
            #[expect(clippy::cast_possible_truncation, reason = "whole and small: nothing is cut")]
            return to.serialize_i64(self.0 as i64);
        }
        to.serialize_f64(self.0)
    }
}

impl<'de> Deserialize<'de> for Ratio {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        f64::deserialize(from).map(Self)
    }
}

/// Bytes as Go writes them: base64 with padding.
pub mod base64 {
    use ::base64::Engine as _;
    use ::base64::alphabet::STANDARD;
    use ::base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

    const ENGINE: GeneralPurpose = GeneralPurpose::new(
        &STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );

    /// Text of bytes.
    #[must_use]
    pub fn encode(bytes: &[u8]) -> String {
        ENGINE.encode(bytes)
    }

    /// Bytes of text in the standard or the URL alphabet, with or without padding; None if it is neither.
    #[must_use]
    pub fn decode(text: &str) -> Option<Vec<u8>> {
        ENGINE.decode(text.replace('-', "+").replace('_', "/")).ok()
    }
}
