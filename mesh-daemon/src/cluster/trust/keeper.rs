//! The one owner of a node's keys: on disk, in its connections, and in the cipher of its data, in step.
//!
//! What changes is written first and used then. Calls wait for the disk: from async code, by
//! `spawn_blocking`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use thiserror::Error;

use super::join::Joined;
use crate::cluster::ca::{
    Cipher, CipherError, KeepError, Keys, LockedKeys, NodeFiles, Peer, Stored, UnlockError, UnlockKey,
};
use crate::cluster::clock::Clock;
use crate::cluster::rpc::{Credentials, TlsError};

/// Why a node's keys were not read or changed.
#[derive(Debug, Error)]
pub enum KeeperError {
    /// A file was not read or written.
    #[error(transparent)]
    Files(#[from] KeepError),
    /// They do not serve for connections.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A data key was not made.
    #[error("keys of this manager's data")]
    Cipher(#[from] CipherError),
    /// Not the key that locked it.
    #[error(transparent)]
    Unlock(#[from] UnlockError),
    /// There is a certificate, but nothing to hold others against.
    #[error("this node has a certificate, but the roots it trusts are missing; leave the swarm and join again")]
    NoRoots,
    /// There is nothing to unlock.
    #[error("swarm is not locked")]
    NotLocked,
}

/// What a node starts with.
#[derive(Debug)]
pub enum Opened {
    /// It has never joined.
    Nothing,
    /// It waits for the unlock key.
    Locked(LockedNode),
    /// It knows who it is.
    Ready(Keeper),
}

/// A manager that waits for the unlock key.
#[derive(Debug)]
pub struct LockedNode {
    files: NodeFiles,
    locked: LockedKeys,
    roots: String,
    clock: Clock,
}

impl LockedNode {
    /// Who it is; that is not locked.
    pub fn own(&self) -> Option<Peer> {
        self.locked.own().ok()
    }

    /// Opens the lock.
    ///
    /// # Errors
    /// If this is not the key; then it may be tried again.
    pub fn unlock(&self, key: &UnlockKey) -> Result<Keeper, KeeperError> {
        let keys = self.locked.unlock(key)?;
        Keeper::with(self.files.clone(), keys, self.roots.clone(), Some(key.clone()), self.clock.clone())
    }
}

/// A node's keys.
#[derive(Debug)]
pub struct Keeper {
    files: NodeFiles,
    credentials: Arc<Credentials>,
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    keys: Keys,
    roots: String,
    lock: Option<UnlockKey>,
    cipher: Option<Arc<Cipher>>,
}

impl Keeper {
    /// What the node has on disk.
    ///
    /// # Errors
    /// If a file is damaged: it is named, and nothing is changed.
    pub fn open(files: NodeFiles, clock: Clock) -> Result<Opened, KeeperError> {
        let stored = files.load()?;
        let roots = files.load_roots()?;
        match (stored, roots) {
            (Stored::Nothing, _) => Ok(Opened::Nothing),
            (_, None) => Err(KeeperError::NoRoots),
            (Stored::Open(keys), Some(roots)) => Self::with(files, keys, roots, None, clock).map(Opened::Ready),
            (Stored::Locked(locked), Some(roots)) => Ok(Opened::Locked(LockedNode { files, locked, roots, clock })),
        }
    }

    /// Begins with what a node has got by joining, or by founding a cluster.
    ///
    /// # Errors
    /// If it does not serve, or cannot be written.
    pub fn adopt(files: NodeFiles, joined: Joined, clock: Clock) -> Result<Self, KeeperError> {
        let keeper = Self::with(files, joined.keys, joined.roots, None, clock)?;
        let held = keeper.held();
        keeper.files.save_roots(&held.roots)?;
        keeper.files.save(&held.keys, None)?;
        drop(held);
        Ok(keeper)
    }

    fn with(
        files: NodeFiles,
        keys: Keys,
        roots: String,
        lock: Option<UnlockKey>,
        clock: Clock,
    ) -> Result<Self, KeeperError> {
        let credentials = Arc::new(Credentials::new(&keys, &roots, clock)?);
        let cipher =
            if keys.data_keys.is_empty() { None } else { Some(Arc::new(Cipher::new(keys.data_keys.clone())?)) };
        Ok(Self { files, credentials, held: Mutex::new(Held { keys, roots, lock, cipher }) })
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What this node's connections show and check.
    pub fn credentials(&self) -> Arc<Credentials> {
        self.credentials.clone()
    }

    /// This node's certificate and what leads to the roots, PEM.
    pub fn chain(&self) -> String {
        self.held().keys.chain.clone()
    }

    /// What seals this manager's data. Its first key is made when it is first asked for.
    ///
    /// # Errors
    /// If that key cannot be made or written.
    pub fn cipher(&self) -> Result<Arc<Cipher>, KeeperError> {
        let mut held = self.held();
        if let Some(cipher) = &held.cipher {
            return Ok(cipher.clone());
        }
        let mut keys = held.keys.clone();
        keys.renew_data_key()?;
        self.files.save(&keys, held.lock.as_ref())?;
        let cipher = Arc::new(Cipher::new(keys.data_keys.clone())?);
        held.keys = keys;
        held.cipher = Some(cipher.clone());
        Ok(cipher)
    }

    /// Takes another certificate and its key into use, with the roots that came with it.
    ///
    /// # Errors
    /// If they do not serve, or cannot be written; then the old ones stay.
    pub fn renewed(&self, key: &str, chain: &str, roots: &str) -> Result<(), KeeperError> {
        let mut held = self.held();
        let keys = Keys { key: key.to_owned(), chain: chain.to_owned(), data_keys: held.keys.data_keys.clone() };
        // Roots first: they hold the old ones as long as those are needed, so that each state between serves.
        self.files.save_roots(roots)?;
        self.files.save(&keys, held.lock.as_ref())?;
        self.credentials.install(&keys, roots)?;
        held.keys = keys;
        roots.clone_into(&mut held.roots);
        Ok(())
    }

    /// Trusts these roots (PEM) from now on. What is the same already costs nothing.
    ///
    /// # Errors
    /// If they are none, or cannot be written; then the old ones stay.
    pub fn trust(&self, roots: &str) -> Result<(), KeeperError> {
        let mut held = self.held();
        if held.roots == roots {
            return Ok(());
        }
        self.files.save_roots(roots)?;
        self.credentials.install(&held.keys, roots)?;
        roots.clone_into(&mut held.roots);
        Ok(())
    }

    /// Locks this manager's keys with another unlock key, or with none. The key of its data is changed as well, for
    /// who could read the old one from disk; what the old one sealed still opens, until [`Keeper::forget_old`].
    ///
    /// # Errors
    /// If it cannot be written, or there are too many old data keys; then nothing has changed.
    pub fn lock(&self, with: Option<UnlockKey>) -> Result<(), KeeperError> {
        let mut held = self.held();
        if held.lock == with {
            return Ok(());
        }
        let mut keys = held.keys.clone();
        if with.is_some() && !keys.data_keys.is_empty() {
            keys.renew_data_key()?;
        }
        self.files.save(&keys, with.as_ref())?;
        if let Some(cipher) = &held.cipher {
            cipher.replace_keys(keys.data_keys.clone())?;
        }
        held.keys = keys;
        held.lock = with;
        Ok(())
    }

    /// Whether there are data keys beside the one that seals: something may still be sealed with them.
    pub fn has_old_keys(&self) -> bool {
        self.held().keys.data_keys.len() > 1
    }

    /// Forgets all data keys but the newest: all data has been sealed anew.
    ///
    /// # Errors
    /// If it cannot be written; then nothing has changed.
    pub fn forget_old(&self) -> Result<(), KeeperError> {
        let mut held = self.held();
        if held.keys.data_keys.len() < 2 {
            return Ok(());
        }
        let mut keys = held.keys.clone();
        keys.data_keys.truncate(1);
        self.files.save(&keys, held.lock.as_ref())?;
        if let Some(cipher) = &held.cipher {
            cipher.replace_keys(keys.data_keys.clone())?;
        }
        held.keys = keys;
        Ok(())
    }
}
