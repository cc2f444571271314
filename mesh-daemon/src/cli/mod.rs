//! What a user types: `meshctl`, one file per noun.

mod datapath;
mod maps;
mod table;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// The command line of mesh.
#[derive(Parser)]
#[command(name = "meshctl", version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Look into the kernel's maps.
    Maps(maps::Args),
    /// See what the packet path does.
    Datapath(datapath::Args),
}

/// Ends a program: an error is one line that says what was tried and why it failed.
#[expect(clippy::print_stderr, reason = "the one place where a program speaks its last words")]
pub fn exit(program: &str, result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{program}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs meshctl.
///
/// # Errors
/// What the command could not do.
pub fn main() -> Result<()> {
    match Args::parse().command {
        Command::Maps(args) => maps::run(args),
        Command::Datapath(args) => datapath::run(args),
    }
}
