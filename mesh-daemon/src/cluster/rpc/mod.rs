//! The wire between nodes: gRPC over mutual TLS 1.3.
//!
//! What a manager does for its peers is one trait a service: [`Trust`], [`Raft`], [`Dispatcher`],
//! [`Relay`], [`Health`]. Who implements one knows no gRPC and no TLS; a method gets the [`Peer`] that calls, and is
//! called only by those who may: all but the joining part of `Trust` need a certificate, `Raft` a
//! manager's. [`Server`] is the port of a manager. [`Peers`] gives a [`Link`] to one by address, on which all calls
//! are methods. Both show and check what [`Credentials`] hold at the time.
//!
//! A failure is a [`Refusal`], with gRPC's code and a text that users of Docker know. Streams end with an error if
//! they are incomplete. Dropping a stream or a call ends it on the other side as well.
//!
//! The bounds: [`MAX_MESSAGE`], [`MAX_RAFT_MESSAGE`], [`MAX_TRUST_MESSAGE`] and the rest of `limits`; at each the caller
//! gets a refusal that says so, or the connection is closed and a line of the log says why.
//!
//! [`Peer`]: crate::cluster::ca::Peer

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
    Asked, Dispatcher, Downward, Granted, Health, Hello, Proof, Raft, Reach, Relay, Standing, Stream, Trust, Upward,
};
pub use limits::{MAX_MESSAGE, MAX_RAFT_MESSAGE, MAX_TRUST_MESSAGE};
pub use refusal::{Code, Refusal};
pub use relays::{Invited, Relays};
pub(in crate::cluster) use server::neighbourhood;
pub use server::{Gate, Server, Services};
pub use tls::{Credentials, TlsError};
/// For implementations of the traits here, whose methods wait.
pub use tonic::async_trait;

/// What crosses the wire; see `proto/mesh.proto`.
mod proto {
    #![expect(unreachable_pub, clippy::too_many_lines, reason = "generated code is as it is")]
    #![expect(clippy::allow_attributes_without_reason, reason = "generated code has its own exceptions")]
    tonic::include_proto!("mesh.v1");
}
