//! What a node keeps on disk of its trust: its certificate and key, the roots, and of a manager the keys of
//! its data.
//!
//! Two files, both for their owner only, replaced as a whole or not at all, and ended by a checksum. A file
//! that was damaged is named and left as it is: nothing here is ever made anew behind a user's back.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
use pem::Pem;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _};
use thiserror::Error;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::cipher::{CipherError, DataKey, MAX_DATA_KEYS};
use super::peer::{Peer, PeerError};
use super::root::{certificates, normal};
use super::unlock::{UnlockError, UnlockKey};

const NODE_FILE: &str = "node.pem";
const ROOTS_FILE: &str = "roots.pem";
const PRIVATE_KEY: &str = "PRIVATE KEY";
const DATA_KEY: &str = "MESH DATA KEY";
const SEALED_KEYS: &str = "MESH SEALED KEYS";
const CERTIFICATE: &str = "CERTIFICATE";
const CHECKSUM: &str = "# sha256:";

/// Why a file of a node's trust was not read or written.
#[derive(Debug, Error)]
pub enum KeepError {
    /// The file is there and cannot be read.
    #[error("read {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file cannot be replaced; the old one is still there.
    #[error("write {path}")]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What is there is not what was written.
    #[error("{path} is damaged: {what}; restore it from a backup, or leave the swarm and join again")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// Sealing failed.
    #[error("lock the keys of this node")]
    Seal(#[source] CipherError),
    /// The key for a request cannot be made.
    #[error("make a key and a signing request")]
    Request(#[source] rcgen::Error),
}

/// What a node has of its own. `Debug` shows no key.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    /// PEM: the node's certificate, then what leads to the roots.
    pub chain: String,
    /// PEM: the key of the certificate.
    pub key: String,
    /// Of a manager: the keys of its data, newest first. At most [`MAX_DATA_KEYS`].
    pub data_keys: Vec<DataKey>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("chain", &self.chain).field("data_keys", &self.data_keys).finish_non_exhaustive()
    }
}

impl Keys {
    /// A new key and the request to have it signed, both PEM: (key, request).
    ///
    /// # Errors
    /// If the system has no randomness to give.
    pub fn request() -> Result<(String, String), KeepError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(KeepError::Request)?;
        let csr = CertificateParams::default()
            .serialize_request(&key)
            .and_then(|request| request.pem())
            .map_err(KeepError::Request)?;
        Ok((key.serialize_pem(), csr))
    }

    /// Who the certificate says this node is.
    ///
    /// # Errors
    /// If the first of the chain is not a certificate of a node.
    pub fn own(&self) -> Result<Peer, PeerError> {
        let leaf = pem::parse(&self.chain).map_err(|_| PeerError::Certificate)?;
        Peer::from_certificate(leaf.contents())
    }

    /// Puts a new data key in front. The older ones stay, for what they sealed.
    ///
    /// # Errors
    /// If there are [`MAX_DATA_KEYS`] already: what the oldest sealed must be sealed anew and the key forgotten first.
    pub fn renew_data_key(&mut self) -> Result<(), CipherError> {
        if self.data_keys.len() >= MAX_DATA_KEYS {
            return Err(CipherError::TooManyKeys);
        }
        self.data_keys.insert(0, DataKey::generate()?);
        Ok(())
    }

    /// Whether the key is that of the first certificate.
    pub(in crate::cluster) fn belong_together(&self) -> bool {
        let Ok(key) = KeyPair::from_pkcs8_pem_and_sign_algo(&self.key, &PKCS_ECDSA_P256_SHA256) else {
            return false;
        };
        let Some(chain) = certificates(&self.chain) else {
            return false;
        };
        chain.first().is_some_and(|leaf| {
            X509Certificate::from_der(leaf.contents())
                .is_ok_and(|(_, leaf)| *leaf.public_key().subject_public_key.data == *key.der_bytes())
        })
    }

    /// The part that a lock seals, as PEM.
    fn secrets(&self) -> Result<String, &'static str> {
        let mut blocks = vec![pem::parse(&self.key).map_err(|_| "the key is not PEM")?];
        for key in &self.data_keys {
            blocks.push(Pem::new(DATA_KEY, [&key.bytes()[..], &key.id().to_be_bytes()[..]].concat()));
        }
        Ok(normal(&blocks))
    }

    fn from_blocks(chain: Vec<Pem>, secrets: &[Pem]) -> Result<Self, &'static str> {
        let key = secrets.iter().find(|block| block.tag() == PRIVATE_KEY).ok_or("it has no private key")?;
        let data_keys: Option<Vec<_>> =
            secrets.iter().filter(|block| block.tag() == DATA_KEY).map(|block| data_key(block.contents())).collect();
        let keys = Self {
            chain: normal(&chain),
            key: normal(std::slice::from_ref(key)),
            data_keys: data_keys.ok_or("a data key in it is damaged")?,
        };
        if !keys.belong_together() {
            return Err("its private key does not belong to its certificate");
        }
        Ok(keys)
    }
}

fn data_key(bytes: &[u8]) -> Option<DataKey> {
    let (key, id) = bytes.split_first_chunk()?;
    let key = DataKey::from_bytes(*key);
    (*id == key.id().to_be_bytes()).then_some(key)
}

/// What was found on disk.
#[derive(Debug)]
pub enum Stored {
    /// The node has never joined.
    Nothing,
    /// Ready for use.
    Open(Keys),
    /// Needs the unlock key.
    Locked(LockedKeys),
}

/// The keys of a locked manager.
#[derive(Debug)]
pub struct LockedKeys {
    chain: Vec<Pem>,
    sealed: Vec<u8>,
}

impl LockedKeys {
    /// Who this node is: a lock does not hide its certificate.
    ///
    /// # Errors
    /// If the first of the chain is not a certificate of a node.
    pub fn own(&self) -> Result<Peer, PeerError> {
        Peer::from_certificate(self.chain.first().map_or(&[], Pem::contents))
    }

    /// Opens the lock.
    ///
    /// # Errors
    /// If another key locked it.
    pub fn unlock(&self, key: &UnlockKey) -> Result<Keys, UnlockError> {
        let secrets = key.open(&self.sealed).map_err(|_| UnlockError::Key)?;
        let secrets = pem::parse_many(secrets).map_err(|_| UnlockError::Key)?;
        Keys::from_blocks(self.chain.clone(), &secrets).map_err(|_| UnlockError::Key)
    }
}

/// The folder of a node's trust. Its calls wait for the disk.
#[derive(Debug, Clone)]
pub struct NodeFiles {
    folder: PathBuf,
}

impl NodeFiles {
    /// The files in this folder, which is made when something is written.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// What the node has.
    ///
    /// # Errors
    /// If the file is there and cannot be read, or is damaged.
    pub fn load(&self) -> Result<Stored, KeepError> {
        let path = self.folder.join(NODE_FILE);
        let Some(text) = read(&path)? else {
            return Ok(Stored::Nothing);
        };
        parse(&text).map_err(|what| KeepError::Damaged { path, what })
    }

    /// Keeps what the node has; under a lock if there is an unlock key.
    ///
    /// # Errors
    /// If it cannot be written; then what was there before still is.
    pub fn save(&self, keys: &Keys, lock: Option<&UnlockKey>) -> Result<(), KeepError> {
        let path = self.folder.join(NODE_FILE);
        let damaged = |what| KeepError::Damaged { path: path.clone(), what };
        if !keys.belong_together() {
            return Err(damaged("it was to get a private key that does not belong to its certificate"));
        }
        let secrets = keys.secrets().map_err(damaged)?;
        let secrets = match lock {
            None => secrets,
            Some(lock) => {
                let sealed = lock.seal(secrets.as_bytes()).map_err(KeepError::Seal)?;
                normal(&[Pem::new(SEALED_KEYS, sealed)])
            }
        };
        self.replace(&path, &format!("{}{secrets}", keys.chain))
    }

    /// The roots that the node trusts, PEM; None if it has never joined.
    ///
    /// # Errors
    /// If the file is there and cannot be read, or is damaged.
    pub fn load_roots(&self) -> Result<Option<String>, KeepError> {
        let path = self.folder.join(ROOTS_FILE);
        let Some(text) = read(&path)? else {
            return Ok(None);
        };
        let roots = whole(&text).and_then(|text| certificates(text).ok_or("it holds something else than certificates"));
        roots.map(|roots| Some(normal(&roots))).map_err(|what| KeepError::Damaged { path, what })
    }

    /// Keeps the roots that the node trusts.
    ///
    /// # Errors
    /// If they are no certificates, or cannot be written; then what was there before still is.
    pub fn save_roots(&self, roots: &str) -> Result<(), KeepError> {
        let path = self.folder.join(ROOTS_FILE);
        let Some(roots) = certificates(roots) else {
            return Err(KeepError::Damaged { path, what: "it was to get something else than certificates" });
        };
        self.replace(&path, &normal(&roots))
    }

    /// Forgets everything: the node has left.
    ///
    /// # Errors
    /// If a file is there and cannot be removed.
    pub fn remove(&self) -> Result<(), KeepError> {
        for name in [NODE_FILE, ROOTS_FILE] {
            let path = self.folder.join(name);
            match fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(KeepError::Write { path, source });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Writes beside the file, then puts it into its place: a crash leaves the old one or the new one.
    fn replace(&self, path: &Path, text: &str) -> Result<(), KeepError> {
        let beside = path.with_extension("new");
        let write = || {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
            match fs::remove_file(&beside) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
            file.write_all(text.as_bytes())?;
            file.write_all(format!("{CHECKSUM}{}\n", checksum(text)).as_bytes())?;
            file.sync_all()?;
            fs::rename(&beside, path)?;
            File::open(&self.folder)?.sync_all()
        };
        write().map_err(|source| KeepError::Write { path: path.to_owned(), source })
    }
}

fn read(path: &Path) -> Result<Option<String>, KeepError> {
    match fs::read(path) {
        Ok(bytes) => String::from_utf8(bytes)
            .map(Some)
            .map_err(|_| KeepError::Damaged { path: path.to_owned(), what: "it is not text" }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(KeepError::Read { path: path.to_owned(), source }),
    }
}

fn parse(text: &str) -> Result<Stored, &'static str> {
    let blocks = pem::parse_many(whole(text)?).map_err(|_| "it is not PEM")?;
    let (chain, secrets): (Vec<_>, Vec<_>) = blocks.into_iter().partition(|block| block.tag() == CERTIFICATE);
    if chain.is_empty() {
        return Err("it has no certificate");
    }
    match secrets.iter().find(|block| block.tag() == SEALED_KEYS) {
        Some(sealed) => Ok(Stored::Locked(LockedKeys { chain, sealed: sealed.contents().to_vec() })),
        None => Keys::from_blocks(chain, &secrets).map(Stored::Open),
    }
}

/// The text before the checksum, if the checksum is right.
fn whole(text: &str) -> Result<&str, &'static str> {
    let (before, sum) = text.rsplit_once(CHECKSUM).ok_or("its end is missing")?;
    let sum = sum.strip_suffix('\n').ok_or("its end is missing")?;
    if sum == checksum(before) { Ok(before) } else { Err("its checksum is wrong") }
}

fn checksum(text: &str) -> String {
    let hash = digest::digest(&digest::SHA256, text.as_bytes());
    hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
