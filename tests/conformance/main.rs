//! How near a cluster is to Docker Swarm, by the docker CLI: one script of commands on a mesh node and on a Swarm of
//! Debian's dockerd beside it.
//!
//! It prints each difference, and what share is the same; a difference without a reason fails. What continuous
//! integration runs is the layer cli, which plays recordings of the real Swarm on one in memory.

#![expect(clippy::print_stdout, reason = "it talks to the person who started it")]

mod beside;
mod report;

use std::process::ExitCode;

use anyhow::Result;

fn main() -> Result<ExitCode> {
    harness::require_root()?;
    Ok(beside::play()?.print())
}
