//! What a client is told when something cannot be done: a status and Docker's words for it.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::version::Version;
use super::wire::ErrorBody;
use crate::runtime::RuntimeError;
use crate::runtime::images::ImageError;
use crate::store::{self, Kind, ProposeError, Rejection};

/// Why a request was refused. Texts and statuses are those of Docker, since scripts match on them.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// No endpoint has this path and method.
    #[error("page not found")]
    NoPage,
    /// The client speaks a version that is not served yet.
    #[error("client version {version} is too new. Maximum supported API version is {max}")]
    VersionTooNew {
        /// What it asked for.
        version: Version,
        /// What is served.
        max: Version,
    },
    /// The client speaks a version that is no longer served.
    #[error(
        "client version {version} is too old. Minimum supported API version is {min}, please upgrade your client to a newer version"
    )]
    VersionTooOld {
        /// What it asked for.
        version: Version,
        /// What is served.
        min: Version,
    },
    /// An object that does not exist.
    #[error("{what} {name} not found")]
    NotFound {
        /// Its noun.
        what: &'static str,
        /// As the client wrote it.
        name: String,
    },
    /// A prefix that several objects share.
    #[error("{what} {name} is ambiguous ({matches} matches found)")]
    Ambiguous {
        /// Its noun.
        what: &'static str,
        /// As the client wrote it.
        name: String,
        /// How many it may mean.
        matches: usize,
    },
    /// A container that this node does not have.
    #[error("No such container: {0}")]
    NoContainer(String),
    /// The node is in no swarm.
    #[error(
        "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again."
    )]
    NotInSwarm,
    /// The node is a worker.
    #[error(
        "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state. Please run this command on a manager node or promote the current node to a manager."
    )]
    Worker,
    /// The node's state is locked.
    #[error(
        "Swarm is encrypted and needs to be unlocked before it can be used. Please use \"docker swarm unlock\" to unlock it."
    )]
    Locked,
    /// No manager leads.
    #[error(
        "rpc error: code = Unknown desc = The swarm does not have a leader. It's possible that too few managers are online. Make sure more than half of the managers are online.{}",
        unanswering(.missing)
    )]
    NoLeader {
        /// The managers that do not answer, by name.
        missing: Vec<String>,
    },
    /// What Swarm's managers answer by gRPC.
    #[error("rpc error: code = {} desc = {desc}", .code.name())]
    Rpc {
        /// The kind.
        code: Code,
        /// What is wrong.
        desc: String,
    },
    /// A refusal of the engine itself.
    #[error("{message}")]
    Refused {
        /// The status of the answer.
        status: StatusCode,
        /// What is wrong.
        message: String,
    },
}

fn unanswering(names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!(" Managers that do not answer: {}.", names.join(", ")) }
}

/// The gRPC codes that Swarm's managers use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// Anything without a better word; among it, an update of an old version.
    Unknown,
    /// The request is wrong in itself.
    InvalidArgument,
    /// The state of something forbids it.
    FailedPrecondition,
    /// A name is taken.
    AlreadyExists,
    /// Not done by Swarm.
    Unimplemented,
    /// A bound of this daemon.
    ResourceExhausted,
}

impl Code {
    fn name(self) -> &'static str {
        match self {
            Self::Unknown => "Unknown",
            Self::InvalidArgument => "InvalidArgument",
            Self::FailedPrecondition => "FailedPrecondition",
            Self::AlreadyExists => "AlreadyExists",
            Self::Unimplemented => "Unimplemented",
            Self::ResourceExhausted => "ResourceExhausted",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::Unknown | Self::ResourceExhausted => StatusCode::INTERNAL_SERVER_ERROR,
            Self::InvalidArgument | Self::FailedPrecondition => StatusCode::BAD_REQUEST,
            Self::AlreadyExists => StatusCode::CONFLICT,
            Self::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        }
    }
}

impl Error {
    /// A wrong request, in Swarm's words.
    pub fn invalid(desc: impl Into<String>) -> Self {
        Self::Rpc { code: Code::InvalidArgument, desc: desc.into() }
    }

    /// A state that forbids the request, in Swarm's words.
    pub fn precondition(desc: impl Into<String>) -> Self {
        Self::Rpc { code: Code::FailedPrecondition, desc: desc.into() }
    }

    /// A wrong request, in the engine's words.
    pub fn bad(message: impl Into<String>) -> Self {
        Self::Refused { status: StatusCode::BAD_REQUEST, message: message.into() }
    }

    /// Something that cannot be served now.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::Refused { status: StatusCode::SERVICE_UNAVAILABLE, message: message.into() }
    }

    /// Something that failed here.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::Refused { status: StatusCode::INTERNAL_SERVER_ERROR, message: message.into() }
    }

    /// An object that does not exist.
    pub fn not_found(what: &'static str, name: impl Into<String>) -> Self {
        Self::NotFound { what, name: name.into() }
    }

    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NoPage | Self::NotFound { .. } | Self::NoContainer(_) => StatusCode::NOT_FOUND,
            Self::VersionTooNew { .. } | Self::VersionTooOld { .. } | Self::Ambiguous { .. } => StatusCode::BAD_REQUEST,
            Self::NotInSwarm | Self::Worker | Self::Locked => StatusCode::SERVICE_UNAVAILABLE,
            Self::NoLeader { .. } => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Rpc { code, .. } => code.status(),
            Self::Refused { status, .. } => *status,
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let body = ErrorBody { message: self.to_string(), ..ErrorBody::default() };
        (self.status(), Json(body)).into_response()
    }
}

/// What a runtime refuses, with its reasons, in a status that clients know.
pub(super) fn refusal(error: &RuntimeError) -> Error {
    let status = match error {
        RuntimeError::Unknown { id } => return Error::NoContainer(id.to_string()),
        RuntimeError::State { .. } => StatusCode::CONFLICT,
        RuntimeError::Spec { .. } => StatusCode::BAD_REQUEST,
        RuntimeError::Unsupported { .. } => StatusCode::NOT_IMPLEMENTED,
        RuntimeError::Image(error) => status_of_image(error),
        RuntimeError::File { .. }
        | RuntimeError::Program { .. }
        | RuntimeError::Refused { .. }
        | RuntimeError::Timeout { .. }
        | RuntimeError::Json { .. }
        | RuntimeError::Engine { .. }
        | RuntimeError::Thread => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let mut message = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        message.push_str(&format!(": {error}"));
        source = error.source();
    }
    Error::Refused { status, message }
}

fn status_of_image(error: &ImageError) -> StatusCode {
    match error {
        ImageError::Unknown { .. } | ImageError::NotFound { .. } => StatusCode::NOT_FOUND,
        ImageError::InUse { .. } | ImageError::Busy { .. } => StatusCode::CONFLICT,
        ImageError::Unauthorised { .. } => StatusCode::FORBIDDEN,
        ImageError::Reference { .. }
        | ImageError::NotADigest { .. }
        | ImageError::Mismatch { .. }
        | ImageError::Length { .. }
        | ImageError::Malformed { .. }
        | ImageError::Limit { .. }
        | ImageError::Unsupported { .. }
        | ImageError::Platform { .. }
        | ImageError::NotAnImage { .. }
        | ImageError::Entry { .. } => StatusCode::BAD_REQUEST,
        ImageError::Full { .. }
        | ImageError::File { .. }
        | ImageError::Unpack { .. }
        | ImageError::Registry { .. }
        | ImageError::Thread => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        let rpc = |code, desc: String| Self::Rpc { code, desc };
        match error {
            store::Error::NotFound { kind, id } => Self::not_found(kind.as_str(), id),
            store::Error::OutOfSequence | store::Error::Rejected(Rejection::OutOfSequence { .. }) => {
                rpc(Code::Unknown, "update out of sequence".to_owned())
            }
            // A service's name is in words of its own.
            store::Error::Rejected(Rejection::NameTaken { kind: Kind::Service, name }) => rpc(
                Code::AlreadyExists,
                format!("name conflicts with an existing object: service {name} already exists"),
            ),
            store::Error::Rejected(Rejection::NameTaken { kind: Kind::Network, name }) => Self::Refused {
                status: StatusCode::CONFLICT,
                message: format!("network with name {name} already exists"),
            },
            store::Error::Rejected(rejection @ (Rejection::NameTaken { .. } | Rejection::Exists { .. })) => {
                rpc(Code::AlreadyExists, rejection.to_string())
            }
            store::Error::Rejected(rejection @ (Rejection::TaskWentBack { .. } | Rejection::TermEnded { .. })) => {
                rpc(Code::FailedPrecondition, rejection.to_string())
            }
            store::Error::Propose(ProposeError::NoQuorum { missing, .. }) => Self::NoLeader { missing },
            store::Error::Propose(ProposeError::Late { .. }) => Self::NoLeader { missing: Vec::new() },
            store::Error::TooManyChanges | store::Error::TooManyBytes { .. } => {
                rpc(Code::ResourceExhausted, error.to_string())
            }
            store::Error::Encode { .. } | store::Error::Refused(_) | store::Error::Propose(_) => {
                rpc(Code::Unknown, error.to_string())
            }
        }
    }
}
