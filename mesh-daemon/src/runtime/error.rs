//! What can go wrong with containers.

use std::io;
use std::path::{Path, PathBuf};

use super::ContainerId;
use super::images::ImageError;

/// Why a container is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// Its image.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// There is none of this id.
    #[error("there is no container {id}")]
    Unknown {
        /// As asked for.
        id: ContainerId,
    },
    /// It is not in the state that the act needs.
    #[error("container {id} {why}")]
    State {
        /// Which.
        id: ContainerId,
        /// `is not running`, ...
        why: &'static str,
    },
    /// The spec asks for what cannot be.
    #[error("{field}: {why}")]
    Spec {
        /// The field, as Docker's API calls it.
        field: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A file or directory.
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
    /// A program that containers need cannot be started.
    #[error("start {}: is it installed?", program.display())]
    Program {
        /// Which.
        program: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The OCI runtime refuses.
    #[error("{act} of container {id}: {said}")]
    Refused {
        /// `start`, `kill`, ...
        act: &'static str,
        /// Which.
        id: ContainerId,
        /// Its words.
        said: String,
    },
    /// It took longer than it may.
    #[error("{act} of container {id} took longer than {seconds} s")]
    Timeout {
        /// `start`, `kill`, ...
        act: &'static str,
        /// Which.
        id: ContainerId,
        /// The limit.
        seconds: u64,
    },
    /// JSON of ours, or an OCI runtime's, that cannot be read.
    #[error("{what} cannot be read")]
    Json {
        /// Which.
        what: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The engine refuses or cannot be reached.
    #[error("{act}")]
    Engine {
        /// What was asked of it.
        act: String,
        /// Why it failed.
        #[source]
        source: Box<bollard::errors::Error>,
    },
    /// What this runtime cannot do.
    #[error("{what} is not supported by the {runtime} runtime")]
    Unsupported {
        /// What.
        what: &'static str,
        /// Which runtime.
        runtime: &'static str,
    },
    /// A thread of ours died.
    #[error("a thread that worked on containers ended early")]
    Thread,
}

impl RuntimeError {
    /// An error of the file system.
    pub(super) fn file(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { what, path: path.to_owned(), source }
    }

    /// A field of the spec that is wrong.
    pub(super) fn spec(field: &'static str, why: impl Into<String>) -> Self {
        Self::Spec { field, why: why.into() }
    }
}
