//! The wire between nodes: gRPC over mutual TLS 1.3.

mod client;
mod convert;
mod face;
mod limits;
mod refusal;
mod relays;
mod server;
#[cfg(test)]
mod tests;
mod tls;

pub use client::{Checked, Link, Peers};
pub use face::{
    Asked, Control, Dispatcher, Downward, Granted, Health, Hello, Http, Proof, Raft, Reach, Relay, Request, Response,
    Standing, Stream, Trust, Upward,
};
pub use limits::{MAX_MESSAGE, MAX_PIECE, MAX_RAFT_MESSAGE, MAX_TRUST_MESSAGE};
pub use refusal::{Code, Refusal};
pub use relays::{Invited, Relays};
pub(in crate::cluster) use server::neighbourhood;
pub use server::{Gate, Server, Services};
pub use tls::{Credentials, TlsError};
/// For implementations of the traits here, whose methods wait.
pub use tonic::async_trait;

/// What crosses the wire; see `proto/mesh.proto`.
mod proto {
    #![expect(unreachable_pub, reason = "generated code makes everything public")]
    #![expect(clippy::allow_attributes_without_reason, reason = "generated code has its own exceptions")]
    tonic::include_proto!("mesh.v1");
}
