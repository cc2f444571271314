//! Content by digest: each blob is one file, whole and checked, or not there at all.

use std::fs::{self, File};
use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest as _, Sha256};

use super::ImageError;
use super::digest::Digest;

/// Manifests, indexes and configurations are read into memory up to this.
pub(super) const DOCUMENT_BYTES: u64 = 4 << 20;

const CHUNK: usize = 128 << 10;

/// The blobs of a node.
#[derive(Debug)]
pub(super) struct Content {
    blobs: PathBuf,
    ingest: PathBuf,
    next: AtomicU64,
}

impl Content {
    /// Opens the store below a directory; what an interrupted daemon was writing is removed.
    pub(super) fn open(root: &Path) -> Result<Self, ImageError> {
        let content =
            Self { blobs: root.join("blobs/sha256"), ingest: root.join("ingest"), next: AtomicU64::default() };
        if content.ingest.exists() {
            fs::remove_dir_all(&content.ingest).map_err(ImageError::file("empty", &content.ingest))?;
        }
        for dir in [&content.blobs, &content.ingest] {
            fs::create_dir_all(dir).map_err(ImageError::file("make", dir))?;
        }
        Ok(content)
    }

    pub(super) fn path(&self, digest: &Digest) -> PathBuf {
        self.blobs.join(digest.hex())
    }

    pub(super) fn has(&self, digest: &Digest) -> bool {
        self.path(digest).is_file()
    }

    /// Begins to write a blob of an announced length, if one was announced.
    pub(super) fn begin(&self, length: Option<u64>) -> Result<Ingest<'_>, ImageError> {
        let path = self.ingest.join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        let file = File::create_new(&path).map_err(ImageError::file("make", &path))?;
        Ok(Ingest { content: self, file, path, hash: Sha256::new(), written: 0, length })
    }

    /// Takes a whole blob from a reader; returns its digest.
    pub(super) fn take(&self, from: &mut impl Read, expected: Option<&Digest>) -> Result<Digest, ImageError> {
        let mut ingest = self.begin(None)?;
        let mut chunk = vec![0; CHUNK];
        loop {
            match from.read(&mut chunk).map_err(ImageError::file("read what goes to", &ingest.path))? {
                0 => return ingest.commit(expected),
                read => ingest.write(&chunk[..read])?,
            }
        }
    }

    /// A document, checked again.
    pub(super) fn document(&self, digest: &Digest) -> Result<Vec<u8>, ImageError> {
        let path = self.path(digest);
        let file = File::open(&path).map_err(ImageError::file("open", &path))?;
        let mut bytes = Vec::new();
        file.take(DOCUMENT_BYTES + 1).read_to_end(&mut bytes).map_err(ImageError::file("read", &path))?;
        let found = bytes.len() as u64;
        if found > DOCUMENT_BYTES {
            return Err(ImageError::Limit { what: "the length of a manifest", found, limit: DOCUMENT_BYTES });
        }
        match Digest::of(&bytes) {
            same if same == *digest => Ok(bytes),
            found => Err(ImageError::Mismatch { what: path.display().to_string(), expected: digest.clone(), found }),
        }
    }

    /// Every blob and its length.
    pub(super) fn list(&self) -> Result<Vec<(Digest, u64)>, ImageError> {
        let entries = fs::read_dir(&self.blobs).map_err(ImageError::file("list", &self.blobs))?;
        let blob = |entry: fs::DirEntry| {
            let digest = format!("sha256:{}", entry.file_name().to_str()?).parse().ok()?;
            Some((digest, entry.metadata().ok()?.len()))
        };
        Ok(entries.flatten().filter_map(blob).collect())
    }

    pub(super) fn remove(&self, digest: &Digest) -> Result<(), ImageError> {
        let path = self.path(digest);
        fs::remove_file(&path).map_err(ImageError::file("remove", &path))
    }
}

/// A blob that is being written; dropped without [`Ingest::commit`], it is gone.
#[derive(Debug)]
pub(super) struct Ingest<'a> {
    content: &'a Content,
    file: File,
    path: PathBuf,
    hash: Sha256,
    written: u64,
    length: Option<u64>,
}

impl Ingest<'_> {
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), ImageError> {
        self.file.write_all(bytes).map_err(ImageError::file("write", &self.path))?;
        self.hash.update(bytes);
        self.written += bytes.len() as u64;
        Ok(())
    }

    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Puts the blob in its place, if its digest and length are as announced.
    pub(super) fn commit(self, expected: Option<&Digest>) -> Result<Digest, ImageError> {
        let found = Digest::from_hash(self.hash.clone());
        if let Some(expected) = self.length.filter(|length| *length != self.written) {
            return Err(ImageError::Length { digest: found, expected, found: self.written });
        }
        if let Some(expected) = expected.filter(|expected| **expected != found) {
            return Err(ImageError::Mismatch { what: "a blob".to_owned(), expected: expected.clone(), found });
        }
        self.file.sync_all().map_err(ImageError::file("write", &self.path))?;
        let place = self.content.path(&found);
        fs::rename(&self.path, &place).map_err(ImageError::file("put in place", &place))?;
        Ok(found)
    }
}

impl Drop for Ingest<'_> {
    fn drop(&mut self) {
        // Gone already if it was put in place; what stays is removed at the next start.
        let _ = fs::remove_file(&self.path);
    }
}
