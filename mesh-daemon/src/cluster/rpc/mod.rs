//! The wire between nodes: gRPC over mutual TLS 1.3.

mod face;
mod refusal;

pub use face::{
    Asked, Control, Dispatcher, Downward, Granted, Health, Hello, Http, Proof, Raft, Reach, Relay, Request, Response,
    Standing, Stream, Trust, Upward,
};
pub use refusal::{Code, Refusal};
/// For implementations of the traits here, whose methods wait.
pub use tonic::async_trait;

/// What crosses the wire; see `proto/mesh.proto`.
mod proto {
    #![expect(unreachable_pub, reason = "generated code makes everything public")]
    tonic::include_proto!("mesh.v1");
}
