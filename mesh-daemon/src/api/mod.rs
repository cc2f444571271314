//! How users speak: the Docker Engine API.
//!
//! So far its types: [`wire`].

#[expect(missing_docs, reason = "the members are Docker's, and the Engine API's reference describes them")]
pub mod wire;
