//! Why a call was not done, as it crosses the wire.

use std::fmt;

use tonic::Code as Grpc;

use super::client::DialError;

/// What kind of refusal it is. The numbers and names are those of gRPC, which Swarm's messages show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// The caller gave up.
    Cancelled,
    /// What was asked makes no sense, whatever the state.
    InvalidArgument,
    /// Not in time.
    DeadlineExceeded,
    /// Named something that is not there.
    NotFound,
    /// Would make something that is there.
    AlreadyExists,
    /// The caller may not.
    PermissionDenied,
    /// The caller has not said who it is.
    Unauthenticated,
    /// A limit was reached: of size, of rate, of number.
    ResourceExhausted,
    /// Not in this state: not a leader, locked, paused.
    FailedPrecondition,
    /// Somebody else was first; try again from the start.
    Aborted,
    /// Past the end.
    OutOfRange,
    /// Not known to this version.
    Unimplemented,
    /// A fault on the other side.
    Internal,
    /// Cannot be reached now; try again.
    Unavailable,
    /// What was there is lost.
    DataLoss,
    /// Not said.
    Unknown,
}

/// The names, and gRPC's own.
const CODES: &[(Code, Grpc, &str)] = &[
    (Code::Cancelled, Grpc::Cancelled, "Canceled"),
    (Code::InvalidArgument, Grpc::InvalidArgument, "InvalidArgument"),
    (Code::DeadlineExceeded, Grpc::DeadlineExceeded, "DeadlineExceeded"),
    (Code::NotFound, Grpc::NotFound, "NotFound"),
    (Code::AlreadyExists, Grpc::AlreadyExists, "AlreadyExists"),
    (Code::PermissionDenied, Grpc::PermissionDenied, "PermissionDenied"),
    (Code::Unauthenticated, Grpc::Unauthenticated, "Unauthenticated"),
    (Code::ResourceExhausted, Grpc::ResourceExhausted, "ResourceExhausted"),
    (Code::FailedPrecondition, Grpc::FailedPrecondition, "FailedPrecondition"),
    (Code::Aborted, Grpc::Aborted, "Aborted"),
    (Code::OutOfRange, Grpc::OutOfRange, "OutOfRange"),
    (Code::Unimplemented, Grpc::Unimplemented, "Unimplemented"),
    (Code::Internal, Grpc::Internal, "Internal"),
    (Code::Unavailable, Grpc::Unavailable, "Unavailable"),
    (Code::DataLoss, Grpc::DataLoss, "DataLoss"),
    (Code::Unknown, Grpc::Unknown, "Unknown"),
];

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(CODES.iter().find(|(code, ..)| code == self).map_or("Unknown", |(_, _, name)| name))
    }
}

/// Why the other side, or the way to it, did not do what was asked. Shown as Swarm shows it:
/// `rpc error: code = InvalidArgument desc = A valid join token is necessary to join this cluster`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("rpc error: code = {code} desc = {text}")]
pub struct Refusal {
    /// What kind it is.
    pub code: Code,
    /// What a person reads.
    pub text: String,
    unsent: bool,
}

impl Refusal {
    /// A refusal of this kind, with this text.
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        Self { code, text: text.into(), unsent: false }
    }

    /// Whether the call surely never reached anybody, so that it can be made again whatever it does: there was no
    /// connection to make it on.
    pub fn was_never_sent(&self) -> bool {
        self.unsent
    }
}

impl From<tonic::Status> for Refusal {
    fn from(status: tonic::Status) -> Self {
        let said = CODES.iter().find(|(_, grpc, _)| *grpc == status.code()).map_or(Code::Unknown, |(code, ..)| *code);
        // What came over the wire has no cause here: with one, this side lost the connection.
        let lost = matches!(said, Code::Cancelled | Code::Unknown) && std::error::Error::source(&status).is_some();
        let code = if lost { Code::Unavailable } else { said };
        // A status that the client's side made names only "transport error"; its causes say what happened.
        let mut text = status.message().to_owned();
        let (mut cause, mut unsent) = (std::error::Error::source(&status), false);
        while let Some(because) = cause {
            unsent |= because.is::<DialError>();
            let said = because.to_string();
            if !text.contains(&said) {
                text = format!("{text}: {said}");
            }
            cause = because.source();
        }
        Self { code, text, unsent }
    }
}

impl From<Refusal> for tonic::Status {
    fn from(refusal: Refusal) -> Self {
        let code = CODES.iter().find(|(code, ..)| *code == refusal.code).map_or(Grpc::Unknown, |(_, grpc, _)| *grpc);
        Self::new(code, refusal.text)
    }
}
