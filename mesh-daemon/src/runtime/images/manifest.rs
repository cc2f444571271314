//! What an image consists of: manifest, configuration, layers.

use std::collections::BTreeMap;

use oci_spec::image::{Descriptor, ImageIndex, ImageManifest, MediaType};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::ImageError;
use super::content::Content;
use super::digest::Digest;

/// More would not fit the options of one overlay mount, which are one page.
pub const LAYERS: usize = 110;

/// This machine, as the image specification names it.
pub(super) const ARCHITECTURE: &str = match () {
    () if cfg!(target_arch = "x86_64") => "amd64",
    () if cfg!(target_arch = "aarch64") => "arm64",
    () => std::env::consts::ARCH,
};

/// An image that is on this node, whole.
#[derive(Clone, Debug)]
pub struct Image {
    /// Names the image: the digest of its manifest.
    pub manifest: Digest,
    /// What Docker calls the image's id.
    pub id: Digest,
    /// How it wants to run.
    pub config: ImageConfig,
    /// When it was made, as the image says it.
    pub created: Option<String>,
    /// From the lowest to the highest.
    pub layers: Vec<Layer>,
}

/// One layer of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Its blob.
    pub blob: Digest,
    /// How it is packed.
    pub packing: Packing,
    /// Its content, unpacked.
    pub diff: Digest,
    /// Its content and everything below it (image-spec, config.md, "chain id").
    pub chain: Digest,
}

/// How a layer is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// Not at all.
    Tar,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
}

/// How an image wants to run. Docker writes `null` for what is not there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ImageConfig {
    /// `user[:group]`.
    pub user: Option<String>,
    /// `NAME=value`.
    pub env: Option<Vec<String>>,
    /// The program and its first arguments.
    pub entrypoint: Option<Vec<String>>,
    /// Arguments, or the program if there is no entrypoint.
    pub cmd: Option<Vec<String>>,
    /// The working directory.
    pub working_dir: Option<String>,
    /// Labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// The signal that asks it to stop.
    pub stop_signal: Option<String>,
    /// Where it wants volumes.
    pub volumes: Option<BTreeMap<String, serde_json::Value>>,
    /// Ports it listens on.
    pub exposed_ports: Option<BTreeMap<String, serde_json::Value>>,
    /// Docker's addition to the specification.
    pub healthcheck: Option<ImageHealthcheck>,
}

/// A health check of an image; durations in nanoseconds, 0 is the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ImageHealthcheck {
    /// As in the service.
    pub test: Option<Vec<String>>,
    /// Between probes.
    pub interval: u64,
    /// Of a probe.
    pub timeout: u64,
    /// In which failures do not count.
    pub start_period: u64,
    /// Between probes in it.
    pub start_interval: u64,
    /// Failures until unhealthy.
    pub retries: u32,
}

#[derive(Deserialize)]
struct ConfigFile {
    architecture: Option<String>,
    created: Option<String>,
    config: Option<ImageConfig>,
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Vec<Digest>,
}

/// What a document is, by its own words.
pub(super) enum Document {
    /// Of one platform.
    Manifest(Box<ImageManifest>),
    /// Of several.
    Index(Box<ImageIndex>),
}

impl Document {
    /// Reads a manifest or an index; `media` is what the sender calls it.
    pub(super) fn parse(what: &str, bytes: &[u8]) -> Result<Self, ImageError> {
        #[derive(Deserialize)]
        struct Probe {
            manifests: Option<serde::de::IgnoredAny>,
        }
        let malformed = |source: serde_json::Error| malformed(what, source);
        let probe: Probe = serde_json::from_slice(bytes).map_err(malformed)?;
        Ok(match probe.manifests {
            Some(_) => Self::Index(serde_json::from_slice(bytes).map_err(malformed)?),
            None => Self::Manifest(serde_json::from_slice(bytes).map_err(malformed)?),
        })
    }
}

/// The entry of an index for this machine.
pub(super) fn choose<'a>(reference: &str, index: &'a ImageIndex) -> Result<&'a Descriptor, ImageError> {
    let entries = index.manifests();
    let fits = |entry: &&Descriptor| {
        entry.platform().as_ref().is_some_and(|platform| {
            platform.os().to_string() == "linux" && platform.architecture().to_string() == ARCHITECTURE
        })
    };
    // An index of one entry need not say of what platform it is.
    let only = |entry: &&Descriptor| entries.len() == 1 && entry.platform().is_none();
    entries.iter().find(fits).or_else(|| entries.iter().find(only)).ok_or_else(|| {
        let platforms = entries.iter().filter_map(|entry| entry.platform().as_ref());
        let named: Vec<_> = platforms.map(|of| format!("{}/{}", of.os(), of.architecture())).collect();
        ImageError::Platform { reference: reference.to_owned(), architecture: ARCHITECTURE, found: named.join(", ") }
    })
}

/// What the entries of an index run on; what is no image (a signature) says `unknown`.
pub(super) fn platforms(index: &ImageIndex) -> Vec<(String, String)> {
    let all = index.manifests().iter().filter_map(|entry| entry.platform().as_ref());
    let named = all.map(|of| (of.os().to_string(), of.architecture().to_string()));
    named.filter(|(os, _)| os != "unknown").collect()
}

/// What an image runs on, by its configuration.
pub(super) fn platform(what: &str, config: &[u8]) -> Result<(String, String), ImageError> {
    #[derive(Deserialize)]
    #[serde(default)]
    struct Platform {
        os: String,
        architecture: String,
    }
    impl Default for Platform {
        fn default() -> Self {
            Self { os: "linux".to_owned(), architecture: String::new() }
        }
    }
    let read: Platform = serde_json::from_slice(config).map_err(|source| malformed(what, source))?;
    Ok((read.os, read.architecture))
}

/// The kind of a document, by its own words; OCI's may have none, and are what they were read as.
pub(super) fn media_type(document: &[u8], is_index: bool) -> String {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Kind {
        media_type: Option<String>,
    }
    let kind: Option<Kind> = serde_json::from_slice(document).ok();
    kind.and_then(|kind| kind.media_type).unwrap_or_else(|| {
        let what = if is_index { "index" } else { "manifest" };
        format!("application/vnd.oci.image.{what}.v1+json")
    })
}

/// The digest that a descriptor names.
pub(super) fn digest(descriptor: &Descriptor) -> Result<Digest, ImageError> {
    descriptor.digest().to_string().parse()
}

/// Reads an image whose documents are in the store.
pub(super) fn read(content: &Content, manifest: &Digest) -> Result<Image, ImageError> {
    let what = format!("manifest {manifest}");
    let Document::Manifest(parts) = Document::parse(&what, &content.document(manifest)?)? else {
        return Err(malformed(&what, "an index stands where a manifest should"));
    };
    let id = digest(parts.config())?;
    let config = content.document(&id)?;
    let what = format!("image configuration {id}");
    let config: ConfigFile = serde_json::from_slice(&config).map_err(|source| malformed(&what, source))?;
    if let Some(architecture) = config.architecture.filter(|of| of != ARCHITECTURE && !of.is_empty()) {
        return Err(ImageError::Platform {
            reference: manifest.to_string(),
            architecture: ARCHITECTURE,
            found: format!("linux/{architecture}"),
        });
    }
    let (blobs, diffs) = (parts.layers(), config.rootfs.diff_ids);
    if blobs.len() != diffs.len() {
        let why = format!("it has {} layers, and its configuration names {}", blobs.len(), diffs.len());
        return Err(malformed(&what, why));
    }
    if blobs.len() > LAYERS {
        let found = blobs.len() as u64;
        return Err(ImageError::Limit { what: "the number of layers", found, limit: LAYERS as u64 });
    }
    let chains = chains(&diffs);
    let layers = blobs.iter().zip(diffs).zip(chains).map(|((blob, diff), chain)| {
        Ok(Layer { blob: digest(blob)?, packing: packing(blob.media_type())?, diff, chain })
    });
    let layers = layers.collect::<Result<_, ImageError>>()?;
    let (config, created) = (config.config.unwrap_or_default(), config.created);
    Ok(Image { manifest: manifest.clone(), id, config, created, layers })
}

fn chains(diffs: &[Digest]) -> Vec<Digest> {
    let next = |below: &mut Option<Digest>, diff: &Digest| {
        let chain = match below.take() {
            None => diff.clone(),
            Some(below) => Digest::from_hash(Sha256::new_with_prefix(format!("{below} {diff}"))),
        };
        *below = Some(chain.clone());
        Some(chain)
    };
    diffs.iter().scan(None, next).collect()
}

fn packing(media: &MediaType) -> Result<Packing, ImageError> {
    let media = media.to_string();
    match media.as_str() {
        "application/vnd.oci.image.layer.v1.tar"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar"
        | "application/vnd.docker.image.rootfs.diff.tar" => Ok(Packing::Tar),
        "application/vnd.oci.image.layer.v1.tar+gzip"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
        | "application/vnd.docker.image.rootfs.diff.tar.gzip" => Ok(Packing::Gzip),
        "application/vnd.oci.image.layer.v1.tar+zstd"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd" => Ok(Packing::Zstd),
        _ => Err(ImageError::Unsupported { what: "a layer of this kind", found: media }),
    }
}

pub(super) fn malformed(what: &str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ImageError {
    ImageError::Malformed { what: what.to_owned(), source: source.into() }
}
