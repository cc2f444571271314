//! Which names stand for which images.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use oci_client::Reference;
use serde::{Deserialize, Serialize};

use super::ImageError;
use super::digest::Digest;
use super::manifest::malformed;

/// How many names a node keeps.
const REFERENCES: usize = 10_000;

/// The image behind a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Named {
    /// Of this platform.
    pub(super) manifest: Digest,
    /// Of all platforms, if the registry has several: what a service names by digest.
    pub(super) index: Option<Digest>,
    /// When a container was last made of it, or it came.
    pub(super) used: Timestamp,
}

/// The file of names; every change is on disk before it is told.
#[derive(Debug)]
pub(super) struct References {
    file: PathBuf,
    named: BTreeMap<String, Named>,
}

impl References {
    pub(super) fn open(file: PathBuf) -> Result<Self, ImageError> {
        let named = match fs::read(&file) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map_err(|source| malformed(&file.display().to_string(), source))?
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(ImageError::file("read", &file)(error)),
        };
        Ok(Self { file, named })
    }

    /// The image that a reference means. One with a digest means that image under whatever name it came.
    pub(super) fn find(&self, reference: &Reference) -> Option<(&str, &Named)> {
        let entry = match reference.digest() {
            None => self.named.get_key_value(&reference.whole()),
            Some(digest) => self.named.iter().find(|(_, named)| {
                let is = |of: &Digest| of.to_string() == digest;
                is(&named.manifest) || named.index.as_ref().is_some_and(is)
            }),
        };
        entry.map(|(name, named)| (name.as_str(), named))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Named)> {
        self.named.iter().map(|(name, named)| (name.as_str(), named))
    }

    pub(super) fn put(&mut self, name: String, named: Named) -> Result<(), ImageError> {
        let found = self.named.len() as u64 + 1;
        if self.named.len() >= REFERENCES && !self.named.contains_key(&name) {
            return Err(ImageError::Limit { what: "the number of images", found, limit: REFERENCES as u64 });
        }
        let before = self.named.insert(name.clone(), named);
        self.save().inspect_err(|_| {
            match before {
                Some(before) => self.named.insert(name, before),
                None => self.named.remove(&name),
            };
        })
    }

    pub(super) fn remove(&mut self, name: &str) -> Result<(), ImageError> {
        let Some(before) = self.named.remove(name) else { return Ok(()) };
        self.save().inspect_err(|_| {
            self.named.insert(name.to_owned(), before);
        })
    }

    fn save(&self) -> Result<(), ImageError> {
        let bytes = serde_json::to_vec(&self.named).map_err(|source| malformed("the list of images", source))?;
        replace(&self.file, &bytes)
    }
}

/// Writes a file so that at any moment all of the old or all of the new is there.
pub(super) fn replace(file: &Path, bytes: &[u8]) -> Result<(), ImageError> {
    let next = file.with_extension("next");
    let write = || {
        let mut writer = fs::File::create(&next)?;
        std::io::Write::write_all(&mut writer, bytes)?;
        writer.sync_all()?;
        fs::rename(&next, file)
    };
    write().map_err(ImageError::file("write", file))
}

/// Reads a reference; one without a registry is Docker's, as everywhere.
pub(super) fn parse(text: &str) -> Result<Reference, ImageError> {
    text.parse().map_err(|source| ImageError::Reference { reference: text.chars().take(300).collect(), source })
}
