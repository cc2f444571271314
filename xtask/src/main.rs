//! The chores of mesh, one file each: `cargo xtask <chore>`. What continuous integration runs is
//! `cargo xtask ci`, so that what passes here passes there.
//!
//! A chore is a `clap` argument struct with `run`; its file is the only place that knows how it is
//! done, and the list below the only place that knows which there are.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "chores talk to the person who started them")]

mod bench;
mod bpffs;
mod build_ebpf;
mod ci;
mod command;
mod conformance;
mod demo;
mod reference;
mod setup;
mod test;
mod tidy;
mod workspace;

use clap::Parser;
use std::process::ExitCode;

/// The chores of mesh.
#[derive(Parser)]
#[command(name = "cargo xtask", max_term_width = 100)]
enum Chore {
    /// Install what building and testing need, and nothing that is already there.
    Setup(setup::Setup),
    /// Build the kernel programs alone and check that no panic is reachable in them.
    BuildEbpf(build_ebpf::BuildEbpf),
    /// Show a cluster's packet path at work: three nodes, a client, a service.
    Demo(demo::Demo),
    /// Run the tests: all layers, or the ones named.
    Test(test::Test),
    /// Compare the docker CLI's words on real nodes with those before Docker Swarm.
    Conformance(conformance::Conformance),
    /// Measure the packet path beside references, and write docs/bench.
    Bench(bench::Bench),
    /// Everything continuous integration runs: the static checks, then all tests.
    Ci(ci::Ci),
    /// Check the rules of the house that neither rustc nor clippy knows.
    Tidy(tidy::Tidy),
    /// Write docs/reference from the code, or check that it is up to date.
    Gen(reference::Gen),
}

impl Chore {
    fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Setup(chore) => chore.run(),
            Self::BuildEbpf(chore) => chore.run(),
            Self::Demo(chore) => chore.run(),
            Self::Test(chore) => chore.run(),
            Self::Conformance(chore) => chore.run(),
            Self::Bench(chore) => chore.run(),
            Self::Ci(chore) => chore.run(),
            Self::Tidy(chore) => chore.run(),
            Self::Gen(chore) => chore.run(),
        }
    }
}

fn main() -> ExitCode {
    match Chore::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
