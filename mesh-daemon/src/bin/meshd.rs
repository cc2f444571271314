//! meshd: the node daemon of mesh.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use mesh_daemon::cli;
use mesh_daemon::datapath::attach::TcMode;
use mesh_daemon::datapath::{Pins, pins, reconcile, standalone};
use tracing_subscriber::EnvFilter;

/// The node daemon of mesh.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Where maps and links are pinned; several nodes on one host each need their own.
    #[arg(long, env = "MESH_PIN_DIR", default_value = pins::DEFAULT_DIR, global = true)]
    pin_dir: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the packet path alone, without a cluster.
    Datapath {
        /// The desired state, a TOML file; read again when it changes.
        #[arg(long, required_unless_present = "remove")]
        desired: Option<PathBuf>,
        /// How TC programs are attached.
        #[arg(long, value_enum, default_value_t)]
        tc: TcMode,
        /// Where to say what is in force, as JSON: the version, what is missing, and how drains are doing.
        #[arg(long, conflicts_with = "remove")]
        status: Option<PathBuf>,
        /// Detach everything, remove every pin, and exit.
        #[arg(long, conflicts_with = "desired")]
        remove: bool,
    },
}

fn main() -> ExitCode {
    let args = Args::parse();
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info")))
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    cli::exit("meshd", start(args))
}

fn start(args: Args) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(run(args))
}

async fn run(args: Args) -> Result<()> {
    let pins = Pins::new(args.pin_dir);
    match args.command {
        Command::Datapath { desired: Some(file), tc, status, remove: _ } => {
            Ok(standalone::run(file, pins, tc, seconds, status).await?)
        }
        Command::Datapath { desired: None, .. } => Ok(reconcile::remove(&pins).await?),
    }
}

/// The time, in seconds since 1970.
#[expect(clippy::disallowed_methods, reason = "the one clock of the process, which it hands to its parts")]
fn seconds() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
