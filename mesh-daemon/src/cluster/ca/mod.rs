//! Whom a cluster trusts, and how its managers keep secrets.
//!
//! No sockets, no clock, no store: [`Root`] signs, the functions on [`crate::model::cluster::RootCa`] say how a
//! cluster's trust changes ([`found`], [`begin_rotation`], [`finish_rotation`], [`rotate_token`]), [`Peer`] is whom a
//! certificate names, [`NodeFiles`] what a node keeps on disk, [`Cipher`] what seals the rest.

mod base36;
mod cipher;
mod keep;
mod peer;
mod renew;
mod root;
mod token;
mod trusted;
mod unlock;
mod wanted;

pub use cipher::{Cipher, CipherError, DataKey, MAX_DATA_KEYS};
pub use keep::{KeepError, Keys, LockedKeys, NodeFiles, Stored};
pub use peer::{KeyId, Peer, PeerError};
pub use renew::{renew_at, retry_after};
pub use root::{Root, RootError, Subject, root_digest};
pub use token::{InvalidToken, JoinToken, RootDigest};
pub use trusted::{
    TrustError, begin_rotation, finish_rotation, found, has_renewed, is_current, issue, issuer_of, role_of_token,
    roots, rotate_token,
};
pub use unlock::{UnlockError, UnlockKey};
pub use wanted::{Unwanted, follow};

#[cfg(test)]
mod tests;
