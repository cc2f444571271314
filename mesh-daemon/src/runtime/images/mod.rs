//! Images: from registries and files to directories that containers share.
//!
//! Content lies by its digest, each blob whole and checked or not at all; names lead to manifests,
//! manifests to configurations and layers. Layers are unpacked once, each into a directory of its
//! own, and stacked by overlayfs. Never runs anything.

mod content;
mod credentials;
mod digest;
mod entry;
mod error;
mod import;
mod layers;
mod manifest;
mod pull;
mod references;
mod store;
#[cfg(test)]
mod tests;
mod unpack;

pub use credentials::{Credentials, CredentialsError};
pub use digest::Digest;
pub use error::ImageError;
pub use manifest::{Image, ImageConfig, ImageHealthcheck, LAYERS};
pub use pull::Described;
pub use store::{Hold, ImageOptions, ImageStore, ImageSummary, Used};
