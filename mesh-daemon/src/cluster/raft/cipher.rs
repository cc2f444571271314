//! Encrypts what lies on disk, under the keys that `ca` keeps.
//!
//! A record is bound to its place, so that one cannot be put where another belongs; and a bit that
//! turned is found, not read.

use std::fmt;
use std::sync::Arc;

use crate::cluster::ca::{self, DataKey};

/// What encrypts. Who makes it keeps the keys; with autolock, under another key.
#[derive(Clone)]
pub struct Cipher(Arc<ca::Cipher>);

/// The length of a key.
pub const KEY_BYTES: usize = 32;

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cipher") // the key is secret
    }
}

/// A record is not what was written under this key at this place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a record cannot be decrypted: it is damaged, or the key is another")]
pub struct Damaged;

/// A record cannot be encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a record cannot be encrypted")]
pub struct SealFailed;

/// The keys of a manager, which may be rotated while this is used.
impl From<Arc<ca::Cipher>> for Cipher {
    fn from(cipher: Arc<ca::Cipher>) -> Self {
        Self(cipher)
    }
}

impl Cipher {
    /// Encrypts under this key.
    ///
    /// # Errors
    ///
    /// If the system has no randomness to give.
    pub fn new(key: &[u8; KEY_BYTES]) -> Result<Self, SealFailed> {
        let cipher = ca::Cipher::new(vec![DataKey::from_bytes(*key)]).map_err(|_| SealFailed)?;
        Ok(Self(Arc::new(cipher)))
    }

    /// Encrypts a record that belongs to `place`.
    pub(super) fn seal(&self, place: &[u8], plain: &[u8]) -> Result<Vec<u8>, SealFailed> {
        self.0.seal(place, plain).map_err(|_| SealFailed)
    }

    /// Decrypts the record of `place`.
    pub(super) fn open(&self, place: &[u8], sealed: &[u8]) -> Result<Vec<u8>, Damaged> {
        self.0.open(place, sealed).map_err(|_| Damaged)
    }
}
