//! Whom a cluster trusts, and how its managers keep secrets.

mod cipher;

pub use cipher::{Cipher, CipherError, DataKey, MAX_DATA_KEYS};

#[cfg(test)]
mod tests;
