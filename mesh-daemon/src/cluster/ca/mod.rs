//! Whom a cluster trusts, and how its managers keep secrets.

mod cipher;
mod peer;

pub use cipher::{Cipher, CipherError, DataKey, MAX_DATA_KEYS};
pub use peer::{KeyId, Peer, PeerError, Role, UnknownRole};

#[cfg(test)]
mod tests;
