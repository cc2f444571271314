//! What a user types: `meshctl`, one file per noun.

mod maps;
mod table;

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
}

/// Runs meshctl.
///
/// # Errors
/// What the command could not do.
pub fn main() -> Result<()> {
    match Args::parse().command {
        Command::Maps(args) => maps::run(args),
    }
}
