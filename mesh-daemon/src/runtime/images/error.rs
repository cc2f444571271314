//! What can go wrong with images.

use std::io;
use std::path::{Path, PathBuf};

use super::digest::Digest;

/// Why an image is not there, or not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A reference that cannot be read.
    #[error("\"{reference}\" is not the name of an image")]
    Reference {
        /// As it was given.
        reference: String,
        /// Why.
        #[source]
        source: oci_client::ParseError,
    },
    /// A digest of another form than `sha256:` and 64 digits.
    #[error("\"{text}\" is not a digest: sha256: and 64 digits of 0-9 and a-f are")]
    NotADigest {
        /// As it was given, cut.
        text: String,
    },
    /// Neither here nor to be pulled.
    #[error("image \"{reference}\" is not on this node")]
    Unknown {
        /// Its name.
        reference: String,
    },
    /// A container needs it.
    #[error("image \"{reference}\" is used by container {container}")]
    InUse {
        /// Its name.
        reference: String,
        /// One that needs it.
        container: String,
    },
    /// Others are at work on images.
    #[error("image \"{reference}\" is not removed while images are pulled or containers made: try again")]
    Busy {
        /// Its name.
        reference: String,
    },
    /// The disk is full.
    #[error("no space is left for {}: free some, or lower the limit of images", path.display())]
    Full {
        /// What was written.
        path: PathBuf,
    },
    /// A file that cannot be read or written.
    #[error("{what} {}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Content that is not what its name promises.
    #[error("{what}: expected {expected}, found {found}")]
    Mismatch {
        /// Of what.
        what: String,
        /// By its name.
        expected: Digest,
        /// By its bytes.
        found: Digest,
    },
    /// Content longer or shorter than announced.
    #[error("{digest} has {found} bytes, {expected} were announced")]
    Length {
        /// Which content.
        digest: Digest,
        /// Announced.
        expected: u64,
        /// Found.
        found: u64,
    },
    /// JSON that does not have the form it should have.
    #[error("{what} is not what the image specification says it is")]
    Malformed {
        /// Which document.
        what: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A document or number beyond a limit of ours.
    #[error("{what} {found} is more than {limit}")]
    Limit {
        /// What is too much.
        what: &'static str,
        /// How much there is.
        found: u64,
        /// How much there may be.
        limit: u64,
    },
    /// Something that the image specification allows and we do not know.
    #[error("{what} is not supported: {found}")]
    Unsupported {
        /// What.
        what: &'static str,
        /// Its name.
        found: String,
    },
    /// No variant for this machine.
    #[error("image \"{reference}\" has no variant for linux/{architecture} (it has: {found})")]
    Platform {
        /// Its name.
        reference: String,
        /// Of this machine.
        architecture: &'static str,
        /// What there is.
        found: String,
    },
    /// An archive without what makes it one.
    #[error("{} is not an image: neither an OCI image layout nor the output of `docker save`: {why}", path.display())]
    NotAnImage {
        /// The file or directory.
        path: PathBuf,
        /// What is missing.
        why: String,
    },
    /// A layer with an entry that leads out of it, or that no layer may have.
    #[error("layer {layer} has an entry \"{entry}\": {why}")]
    Entry {
        /// The layer.
        layer: Digest,
        /// The name in the layer, cut.
        entry: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A layer that cannot be made into files.
    #[error("unpack \"{entry}\" of layer {layer}")]
    Unpack {
        /// The layer.
        layer: Digest,
        /// The entry.
        entry: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The registry refuses us.
    #[error("registry {registry} refuses access to \"{reference}\"{}", if *.anonymous { " without credentials" } else { " with the credentials given" })]
    Unauthorised {
        /// Its address.
        registry: String,
        /// The image.
        reference: String,
        /// Whether there were no credentials.
        anonymous: bool,
    },
    /// The registry does not have it.
    #[error("registry {registry} has no image \"{reference}\"")]
    NotFound {
        /// Its address.
        registry: String,
        /// The image.
        reference: String,
    },
    /// The registry cannot be asked, or answers nonsense.
    #[error("pull \"{reference}\" from registry {registry}")]
    Registry {
        /// Its address.
        registry: String,
        /// The image.
        reference: String,
        /// Why it failed.
        #[source]
        source: Box<oci_client::errors::OciDistributionError>,
    },
    /// A thread of ours died.
    #[error("a thread that worked on images ended early")]
    Thread,
}

impl ImageError {
    /// An error of the file system; a full disk is named as such.
    pub(super) fn file(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { path: path.to_owned() },
            _ => Self::File { what, path: path.to_owned(), source },
        }
    }
}
