//! Unpacked layers, shared by all containers whose image has them.
//!
//! A layer is a directory named after its content and all below it, and a file beside it that says
//! how large it is. That file is written last: a directory without one is what a crash left.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use super::ImageError;
use super::content::Content;
use super::digest::Digest;
use super::manifest::{Layer, malformed};
use super::references::replace;
use super::unpack::{Packed, unpack};

/// 128 bits of a digest: many names must fit the options of a mount.
const NAME_DIGITS: usize = 32;
const UNFINISHED: &str = "new-";

/// The directory of unpacked layers.
#[derive(Debug)]
pub(super) struct Layers {
    root: PathBuf,
    next: AtomicU64,
}

#[derive(Serialize, Deserialize)]
struct Mark {
    chain: Digest,
    bytes: u64,
}

impl Layers {
    pub(super) fn open(root: PathBuf) -> Result<Self, ImageError> {
        fs::create_dir_all(&root).map_err(ImageError::file("make", &root))?;
        let layers = Self { root, next: AtomicU64::default() };
        for entry in layers.entries()? {
            let path = entry.path();
            if path.is_dir() && !path.with_extension("json").exists() {
                fs::remove_dir_all(&path).map_err(ImageError::file("remove", &path))?;
            }
        }
        Ok(layers)
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The name of a layer's directory below the root.
    pub(super) fn name(layer: &Layer) -> &str {
        &layer.chain.hex()[..NAME_DIGITS]
    }

    pub(super) fn has(&self, layer: &Layer) -> bool {
        self.mark(layer).exists()
    }

    /// Unpacks a layer; the caller sees to it that nobody else does at the same time.
    pub(super) fn unpack(&self, content: &Content, layer: &Layer, limit: u64) -> Result<(), ImageError> {
        let new = self.root.join(format!("{UNFINISHED}{}", self.next.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir(&new).map_err(ImageError::file("make", &new))?;
        let packed = Packed {
            blob: layer.blob.clone(),
            packing: layer.packing,
            diff: layer.diff.clone(),
            file: content.path(&layer.blob),
        };
        let done = unpack(&packed, &new, limit).and_then(|bytes| {
            let place = self.root.join(Self::name(layer));
            if place.exists() {
                fs::remove_dir_all(&place).map_err(ImageError::file("remove", &place))?;
            }
            fs::rename(&new, &place).map_err(ImageError::file("put in place", &place))?;
            let directory = fs::File::open(&place).map_err(ImageError::file("open", &place))?;
            rustix::fs::syncfs(&directory).map_err(|errno| ImageError::file("write", &place)(errno.into()))?;
            let mark = Mark { chain: layer.chain.clone(), bytes };
            let mark = serde_json::to_vec(&mark).map_err(|source| malformed("the mark of a layer", source))?;
            replace(&self.mark(layer), &mark)
        });
        if done.is_err() {
            // The error to tell is the first; what stays is removed at the next start.
            let _ = fs::remove_dir_all(&new);
        }
        done
    }

    /// Every unpacked layer, as the digest of its chain, and its bytes.
    pub(super) fn list(&self) -> Result<Vec<(Digest, u64)>, ImageError> {
        let marks = self.entries()?.into_iter().map(|entry| entry.path());
        let marks = marks.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
        let read = |path: PathBuf| {
            let bytes = fs::read(&path).map_err(ImageError::file("read", &path))?;
            let mark: Mark =
                serde_json::from_slice(&bytes).map_err(|source| malformed(&path.display().to_string(), source))?;
            Ok((mark.chain, mark.bytes))
        };
        marks.map(read).collect()
    }

    pub(super) fn remove(&self, chain: &Digest) -> Result<(), ImageError> {
        let directory = self.root.join(&chain.hex()[..NAME_DIGITS]);
        let mark = directory.with_extension("json");
        fs::remove_file(&mark).map_err(ImageError::file("remove", &mark))?;
        fs::remove_dir_all(&directory).map_err(ImageError::file("remove", &directory))
    }

    fn mark(&self, layer: &Layer) -> PathBuf {
        self.root.join(Self::name(layer)).with_extension("json")
    }

    fn entries(&self) -> Result<Vec<fs::DirEntry>, ImageError> {
        let entries = fs::read_dir(&self.root).map_err(ImageError::file("list", &self.root))?;
        entries.collect::<Result<_, _>>().map_err(ImageError::file("list", &self.root))
    }
}
