//! The unlock key of a locked cluster: `SWMKEY-1-<43 digits of base 64>`, as Swarm writes it.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use thiserror::Error;

use super::cipher::{Cipher, CipherError, DataKey};

const PREFIX: &str = "SWMKEY-1-";
/// Sealed keys open as sealed keys only.
const PLACE: &[u8] = b"keys of a locked manager";

/// Backups open as backups only.
const BACKUP: &[u8] = b"backup of a locked swarm";

/// Why a swarm does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum UnlockError {
    /// Not of the form of an unlock key.
    #[error("invalid key string")]
    Form,
    /// Another key locked it.
    #[error("swarm could not be unlocked: invalid key provided")]
    Key,
}

/// Seals the keys of managers while they are not running. `Debug` does not show it; `Display` is the key as
/// it is typed.
#[derive(Clone, PartialEq, Eq)]
pub struct UnlockKey(DataKey);

impl UnlockKey {
    /// The key of these bytes: as the cluster keeps it.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(DataKey::from_bytes(bytes))
    }

    /// A new key.
    ///
    /// # Errors
    /// If the system has no randomness to give.
    pub fn generate() -> Result<Self, CipherError> {
        DataKey::generate().map(Self)
    }

    /// Seals a backup of the swarm.
    ///
    /// # Errors
    /// If it is longer than 64 GiB, or the system has no randomness to give.
    pub fn seal_backup(&self, objects: &[u8]) -> Result<Vec<u8>, CipherError> {
        Cipher::new(vec![self.0.clone()])?.seal(BACKUP, objects)
    }

    /// Opens what [`UnlockKey::seal_backup`] sealed.
    ///
    /// # Errors
    /// If another key sealed it.
    pub fn open_backup(&self, sealed: &[u8]) -> Result<Vec<u8>, UnlockError> {
        let cipher = Cipher::new(vec![self.0.clone()]).map_err(|_| UnlockError::Key)?;
        cipher.open(BACKUP, sealed).map_err(|_| UnlockError::Key)
    }

    pub(super) fn seal(&self, keys: &[u8]) -> Result<Vec<u8>, CipherError> {
        Cipher::new(vec![self.0.clone()])?.seal(PLACE, keys)
    }

    pub(super) fn open(&self, sealed: &[u8]) -> Result<Vec<u8>, CipherError> {
        Cipher::new(vec![self.0.clone()])?.open(PLACE, sealed)
    }
}

impl fmt::Display for UnlockKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", STANDARD_NO_PAD.encode(self.0.bytes()))
    }
}

impl fmt::Debug for UnlockKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UnlockKey")
    }
}

impl FromStr for UnlockKey {
    type Err = UnlockError;

    fn from_str(text: &str) -> Result<Self, UnlockError> {
        let digits = text.strip_prefix(PREFIX).ok_or(UnlockError::Form)?;
        let bytes = STANDARD_NO_PAD.decode(digits).map_err(|_| UnlockError::Form)?;
        let key: [u8; 32] = bytes.try_into().map_err(|_| UnlockError::Form)?;
        Ok(Self(DataKey::from_bytes(key)))
    }
}
