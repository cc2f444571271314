//! Who may join, who may call what, and how long: on sockets.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod calls;
mod join;
mod lifetime;
mod port;
mod rotation;
mod world;
