//! Encrypts what lies on disk: AES-256-GCM, a nonce of chance a record.
//!
//! A record is bound to its place, so that one cannot be put where another belongs; and a bit that
//! turned is found, not read.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};

/// A key for what lies on disk. Who makes it keeps it; with autolock, under another key.
#[derive(Clone)]
pub struct Cipher {
    key: std::sync::Arc<RandomizedNonceKey>,
}

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

impl Cipher {
    /// Encrypts under this key.
    ///
    /// # Errors
    ///
    /// If the library refuses the key.
    pub fn new(key: &[u8; KEY_BYTES]) -> Result<Self, SealFailed> {
        let key = RandomizedNonceKey::new(&AES_256_GCM, key).map_err(|_| SealFailed)?;
        Ok(Self { key: std::sync::Arc::new(key) })
    }

    /// Encrypts a record that belongs to `place`: the nonce, then the bytes, then the tag.
    pub(super) fn seal(&self, place: &[u8], plain: &[u8]) -> Result<Vec<u8>, SealFailed> {
        let mut body = plain.to_vec();
        let nonce = self.key.seal_in_place_append_tag(Aad::from(place), &mut body).map_err(|_| SealFailed)?;
        let mut sealed = nonce.as_ref().to_vec();
        sealed.append(&mut body);
        Ok(sealed)
    }

    /// Decrypts the record of `place`.
    pub(super) fn open(&self, place: &[u8], sealed: &[u8]) -> Result<Vec<u8>, Damaged> {
        let (nonce, body) = sealed.split_at_checked(NONCE_LEN).ok_or(Damaged)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| Damaged)?;
        let mut body = body.to_vec();
        let plain = self.key.open_in_place(nonce, Aad::from(place), &mut body).map_err(|_| Damaged)?.len();
        body.truncate(plain);
        Ok(body)
    }
}
