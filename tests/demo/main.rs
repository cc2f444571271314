//! The demo: nodes and a client on one machine, each in a network namespace of its own, real daemons, real
//! packets. It tells what it does, shows what comes of it, and fails if something else comes of it than it
//! says.
//!
//! `demo` plays the life of a swarm, by the docker CLI; `demo path` the packet path alone; `demo keep` leaves a
//! swarm to play with until it is interrupted.

#![expect(clippy::print_stdout, reason = "a demo talks to the person who started it")]

mod path;
mod tutorial;

use anyhow::{Result, bail};

fn main() -> Result<()> {
    harness::require_root()?;
    match std::env::args().nth(1).as_deref() {
        None => tutorial::play(tutorial::End::Clean),
        Some("keep") => tutorial::play(tutorial::End::Keep),
        Some("path") => path::play(),
        Some(other) => bail!("there is no demo {other:?}: path, keep, or nothing"),
    }
}

fn heading(text: &str) {
    println!("\n== {text}");
}
