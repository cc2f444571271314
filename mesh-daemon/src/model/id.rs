//! The names that objects have for machines: 128 random bits, written as Docker writes them, as 25
//! digits of base 36.
//!
//! Each kind of object has a type of its own, so that a node's id is never taken for a task's.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// How many digits an id has: the fewest of base 36 that hold 128 bits.
pub const DIGITS: usize = 25;

const BASE: u128 = 36;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not an id: {DIGITS} characters of 0-9 and a-z are")]
pub struct InvalidId {
    /// What was read.
    pub text: String,
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u128);

        impl $name {
            /// A new id from a source of chance.
            pub fn random(source: &mut (impl rand::Rng + ?Sized)) -> Self {
                Self(u128::from(source.next_u64()) << 64 | u128::from(source.next_u64()))
            }

            /// The id of this number: for tests, and for ids that another number decides.
            #[must_use]
            pub const fn from_u128(bits: u128) -> Self {
                Self(bits)
            }

            /// The number behind the digits.
            #[must_use]
            pub const fn to_u128(self) -> u128 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&digits(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&digits(self.0))
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                number(text).map(Self).ok_or_else(|| InvalidId { text: text.to_owned() })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&digits(self.0))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }
    )* };
}

ids! {
    /// Names a service.
    ServiceId;
    /// Names a task.
    TaskId;
    /// Names a node.
    NodeId;
    /// Names a network.
    NetworkId;
    /// Names a secret.
    SecretId;
    /// Names a config.
    ConfigId;
    /// Names a cluster.
    ClusterId;
}

/// The digits of a number, most significant first; always [`DIGITS`] of them.
fn digits(mut number: u128) -> String {
    let mut text = ['0'; DIGITS];
    for place in text.iter_mut().rev() {
        let digit = u32::try_from(number % BASE).unwrap_or_default();
        *place = char::from_digit(digit, 36).unwrap_or('0');
        number /= BASE;
    }
    text.iter().collect()
}

fn number(text: &str) -> Option<u128> {
    if text.len() != DIGITS {
        return None;
    }
    text.bytes().try_fold(0u128, |sum, byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'z' => byte - b'a' + 10,
            _ => return None,
        };
        sum.checked_mul(BASE)?.checked_add(u128::from(digit))
    })
}
