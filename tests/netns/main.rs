//! Tests on network namespaces: real links, real sockets, real programs.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod bed;
mod names;
mod path;
mod registry;
mod runtime;
#[cfg(test)]
mod swarm;
