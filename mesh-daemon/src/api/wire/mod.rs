//! Docker's JSON: what clients send and read, and the only place with Docker's spelling.
//!
//! Members are named as in the Engine API's reference, which describes them. Every type keeps the
//! members it does not know in `rest`, so that what a client sends comes back whole. As in Go, `null`
//! and a missing member are the type's zero; a member with `?` is left out when it is zero.

mod container;
mod event;
mod network;
mod node;
mod secret;
mod service;
mod spec;
mod swarm;
mod system;
mod task;
#[cfg(test)]
mod tests;

pub use container::*;
pub use event::*;
pub use network::*;
pub use node::*;
pub use secret::*;
pub use service::*;
pub use spec::*;
pub use swarm::*;
pub use system::*;
pub use task::*;

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
        $(wire!(@take [$(#[$meta])*] $name [] $($body)*);)*
    };
    (@take [$($meta:tt)*] $name:ident [$($done:tt)*] $field:ident $json:literal ?: $kind:ty, $($rest:tt)*) => {
        wire!(@take [$($meta)*] $name [
            $($done)*
            #[serde(rename = $json, deserialize_with = "super::null_is_zero", skip_serializing_if = "super::is_zero")]
            pub $field: $kind,
        ] $($rest)*);
    };
    (@take [$($meta:tt)*] $name:ident [$($done:tt)*] $field:ident $json:literal : $kind:ty, $($rest:tt)*) => {
        wire!(@take [$($meta)*] $name [
            $($done)*
            #[serde(rename = $json, deserialize_with = "super::null_is_zero")]
            pub $field: $kind,
        ] $($rest)*);
    };
    (@take [$($meta:tt)*] $name:ident [$($done:tt)*]) => {
        $($meta)*
        #[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(default)]
        pub struct $name {
            $($done)*
            #[serde(flatten)]
            pub rest: super::Rest,
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
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    /// Text of bytes.
    pub fn encode(bytes: &[u8]) -> String {
        let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
        for chunk in bytes.chunks(3) {
            let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
            let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
            for at in 0..4 {
                let six = (bits >> (18 - 6 * at)) & 63;
                text.push(if at <= chunk.len() { char::from(ALPHABET[six as usize]) } else { '=' });
            }
        }
        text
    }

    /// Bytes of text in the standard or the URL alphabet, with or without padding; None if it is neither.
    pub fn decode(text: &str) -> Option<Vec<u8>> {
        let text = text.trim_end_matches('=');
        let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
        for chunk in text.as_bytes().chunks(4) {
            let mut bits = 0u32;
            for at in 0..4 {
                let six = chunk.get(at).map_or(Some(0), |letter| six(*letter))?;
                bits = bits << 6 | six;
            }
            match chunk.len() {
                1 => return None,
                have => bytes.extend(&bits.to_be_bytes()[1..have]),
            }
        }
        Some(bytes)
    }

    fn six(letter: u8) -> Option<u32> {
        let at = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        Some(u32::from(at))
    }
}
