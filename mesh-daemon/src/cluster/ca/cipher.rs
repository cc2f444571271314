//! Seals what managers keep on disk: entries of the log, snapshots, votes.
//!
//! AES-256-GCM. Each [`Cipher`] draws a salt of its own and seals with a key derived from the data key and
//! that salt, so that its nonce can be a plain counter: there is no number of messages after which random
//! nonces of one key would meet. Never touches a file: where data keys lie is `keep`'s part.
//!
//! A sealed value is `1 | key id (4) | salt (16) | counter (8) | ciphertext | tag (16)`.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use arc_swap::ArcSwap;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::{digest, hkdf, rand};
use thiserror::Error;

const FORMAT: u8 = 1;
const SALT: usize = 16;
const HEAD: usize = 1 + 4 + SALT + 8;
const TAG: usize = 16;
/// How many data keys a cipher opens with: the current one, and those that a rotation has not yet
/// replaced everywhere.
pub const MAX_DATA_KEYS: usize = 4;
/// Derived keys that are kept at hand for opening. A log that many starts of the daemon wrote has more
/// salts; they are derived again, which costs microseconds.
const MAX_DERIVED: usize = 16;

/// Why something was not sealed or opened.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum CipherError {
    /// The system's source of randomness failed.
    #[error("the system has no randomness to give")]
    Randomness,
    /// The bytes are too few for a sealed value, or begin with another format's number.
    #[error("not a sealed value: {0} bytes that do not begin as one")]
    Format(usize),
    /// None of the keys at hand sealed this.
    #[error("sealed with key {0:08x}, which is not among the keys of this node")]
    UnknownKey(u32),
    /// The bytes were changed, or belong to another place.
    #[error("sealed value does not open: it was damaged, or moved from another place")]
    Damaged,
    /// More keys than [`MAX_DATA_KEYS`].
    #[error("more than {MAX_DATA_KEYS} data keys: what the oldest sealed must be sealed anew first")]
    TooManyKeys,
    /// A cipher needs one key at least.
    #[error("no data key")]
    NoKey,
}

/// The key under which a manager's data lies on disk. Its bytes are shown to nobody by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct DataKey([u8; 32]);

impl DataKey {
    /// A new random key.
    ///
    /// # Errors
    /// If the system has no randomness to give.
    pub fn generate() -> Result<Self, CipherError> {
        let mut bytes = [0; 32];
        rand::fill(&mut bytes).map_err(|_| CipherError::Randomness)?;
        Ok(Self(bytes))
    }

    /// The key of these bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// What names the key in sealed values and in messages. Says nothing about the key.
    pub fn id(&self) -> u32 {
        let mut named = b"mesh data key".to_vec();
        named.extend_from_slice(&self.0);
        let hash = digest::digest(&digest::SHA256, &named);
        hash.as_ref().iter().take(4).fold(0, |id, byte| id << 8 | u32::from(*byte))
    }

    fn derive(&self, salt: &[u8; SALT]) -> Result<LessSafeKey, CipherError> {
        let secret = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(&self.0);
        let mut bytes = [0; 32];
        secret
            .expand(&[b"mesh sealed value"], &AES_256_GCM)
            .and_then(|okm| okm.fill(&mut bytes))
            .and_then(|()| UnboundKey::new(&AES_256_GCM, &bytes))
            .map(LessSafeKey::new)
            .map_err(|_| CipherError::Damaged)
    }
}

impl std::fmt::Debug for DataKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DataKey({:08x})", self.id())
    }
}

/// Seals with the newest data key, opens with any of those at hand.
#[derive(Debug)]
pub struct Cipher {
    ring: ArcSwap<Ring>,
    opened: Mutex<VecDeque<Derived>>,
}

/// The data keys, newest first, and what seals now.
#[derive(Debug)]
struct Ring {
    keys: Vec<DataKey>,
    salt: [u8; SALT],
    sealing: LessSafeKey,
    counter: AtomicU64,
}

#[derive(Debug, Clone)]
struct Derived {
    key: u32,
    salt: [u8; SALT],
    opening: std::sync::Arc<LessSafeKey>,
}

impl Cipher {
    /// Seals with the first of the keys, and opens with all of them.
    ///
    /// # Errors
    /// If there are no keys or too many, or the system has no randomness to give.
    pub fn new(keys: Vec<DataKey>) -> Result<Self, CipherError> {
        Ok(Self { ring: ArcSwap::from_pointee(Ring::new(keys)?), opened: Mutex::default() })
    }

    /// Goes over to other keys: what is sealed from now on is sealed with the first of them.
    ///
    /// # Errors
    /// As [`Cipher::new`]; then nothing has changed.
    pub fn replace_keys(&self, keys: Vec<DataKey>) -> Result<(), CipherError> {
        self.ring.store(std::sync::Arc::new(Ring::new(keys)?));
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).clear();
        Ok(())
    }

    /// Seals a value. `place` says where it will lie (a table and a number, a file): it opens with the same
    /// place only, so that nobody who writes to the disk can put one value where another belongs.
    ///
    /// # Errors
    /// If the value is longer than the cipher can take (64 GiB).
    pub fn seal(&self, place: &[u8], value: &[u8]) -> Result<Vec<u8>, CipherError> {
        let ring = self.ring.load();
        let counter = ring.counter.fetch_add(1, Ordering::Relaxed);
        let mut out = Vec::with_capacity(HEAD + value.len() + TAG);
        out.push(FORMAT);
        out.extend_from_slice(&ring.keys.first().map_or(0, DataKey::id).to_be_bytes());
        out.extend_from_slice(&ring.salt);
        out.extend_from_slice(&counter.to_be_bytes());
        let mut body = value.to_vec();
        ring.sealing
            .seal_in_place_append_tag(nonce(counter), bound(&out, place), &mut body)
            .map_err(|_| CipherError::Damaged)?;
        out.append(&mut body);
        Ok(out)
    }

    /// Opens what [`Cipher::seal`] sealed for this place.
    ///
    /// # Errors
    /// If it is no sealed value, its key is not at hand, it was changed, or it belongs to another place.
    pub fn open(&self, place: &[u8], sealed: &[u8]) -> Result<Vec<u8>, CipherError> {
        let head = Head::read(sealed).ok_or(CipherError::Format(sealed.len()))?;
        let key = self.opening(&head)?;
        let (named, body) = sealed.split_at(HEAD);
        let mut body = body.to_vec();
        let opened = key
            .open_in_place(nonce(head.counter), bound(named, place), &mut body)
            .map_err(|_| CipherError::Damaged)?
            .len();
        body.truncate(opened);
        Ok(body)
    }

    fn opening(&self, head: &Head) -> Result<std::sync::Arc<LessSafeKey>, CipherError> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = opened.iter().find(|known| known.key == head.key && known.salt == head.salt) {
            return Ok(known.opening.clone());
        }
        let ring = self.ring.load();
        let key = ring.keys.iter().find(|key| key.id() == head.key).ok_or(CipherError::UnknownKey(head.key))?;
        let opening = std::sync::Arc::new(key.derive(&head.salt)?);
        if opened.len() == MAX_DERIVED {
            opened.pop_front();
        }
        opened.push_back(Derived { key: head.key, salt: head.salt, opening: opening.clone() });
        Ok(opening)
    }
}

impl Ring {
    fn new(keys: Vec<DataKey>) -> Result<Self, CipherError> {
        if keys.len() > MAX_DATA_KEYS {
            return Err(CipherError::TooManyKeys);
        }
        let mut salt = [0; SALT];
        rand::fill(&mut salt).map_err(|_| CipherError::Randomness)?;
        let sealing = keys.first().ok_or(CipherError::NoKey)?.derive(&salt)?;
        Ok(Self { keys, salt, sealing, counter: AtomicU64::new(0) })
    }
}

struct Head {
    key: u32,
    salt: [u8; SALT],
    counter: u64,
}

impl Head {
    fn read(sealed: &[u8]) -> Option<Self> {
        let (format, rest) = sealed.split_first()?;
        let (key, rest) = rest.split_first_chunk()?;
        let (salt, rest) = rest.split_first_chunk()?;
        let (counter, rest) = rest.split_first_chunk()?;
        let whole = *format == FORMAT && rest.len() >= TAG;
        whole.then(|| Self { key: u32::from_be_bytes(*key), salt: *salt, counter: u64::from_be_bytes(*counter) })
    }
}

/// The head and the place are authenticated with the value.
fn bound(head: &[u8], place: &[u8]) -> Aad<Vec<u8>> {
    Aad::from([head, place].concat())
}

fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&counter.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}
