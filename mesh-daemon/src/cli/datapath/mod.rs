//! `meshctl datapath`: what the packet path does, has done and would do.

mod capture;
mod explain;
mod pcapng;
mod status;
mod trace;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Subcommand;

use crate::datapath::maps::Maps;
use crate::datapath::seeing::filter::Filter;
use crate::datapath::seeing::watch::{Batch, Listener};
use crate::datapath::{Pins, pins};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Where meshd pinned its maps.
    #[arg(long, env = "MESH_PIN_DIR", default_value = pins::DEFAULT_DIR, global = true)]
    pin_dir: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Programs, maps and their fill, drops with their reasons, services with their rates.
    Status(status::Args),
    /// Follow packets that are dropped or refused, decoded.
    Trace(trace::Args),
    /// Say what would become of a packet, step by step; sends none.
    Explain(explain::Args),
    /// Write frames as the programs see them, coming and leaving, to a pcapng file.
    Capture(capture::Args),
}

pub(super) fn run(args: Args) -> Result<()> {
    let pins = Pins::new(args.pin_dir);
    match args.command {
        Command::Status(args) => status::run(&args, &pins),
        Command::Trace(args) => trace::run(&args, &pins),
        Command::Explain(args) => explain::run(args, &pins),
        Command::Capture(args) => capture::run(&args, &pins),
    }
}

/// The name of an interface of this network namespace, else its number.
fn interface_name(ifindex: u32) -> String {
    let name = nix::net::if_::if_indextoname(ifindex).ok().and_then(|name| name.into_string().ok());
    name.unwrap_or_else(|| format!("interface {ifindex}"))
}

/// The number of an interface of this name.
fn interface_number(name: &str) -> Option<u32> {
    nix::net::if_::if_nametoindex(name).ok()
}

/// The port by which VXLAN is known here.
fn vxlan_port(pins: &Pins) -> Result<u16> {
    let config = Maps::open(pins)?.config()?;
    Ok(u16::from_be_bytes(config.vxlan_port))
}

/// How long and how much somebody watches.
#[derive(clap::Args)]
struct Bounds {
    /// Only packets of which this holds; all of them, if given several times. Keys: host, port, proto,
    /// vni, reason, interface.
    #[arg(long = "filter", value_name = "KEY=VALUE", value_parser = Filter::parse)]
    filters: Vec<Filter>,
    /// End after so many packets.
    #[arg(short, long, value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after so many seconds.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    seconds: Option<u64>,
}

/// How often the buffers are looked at: 4 MiB a CPU hold what comes in between at 80 MB/s.
const PERIOD: Duration = Duration::from_millis(50);

/// Takes what is told until `see` says that it is enough, time is over, or somebody interrupts.
fn follow(listener: &mut Listener, seconds: Option<u64>, mut see: impl FnMut(Batch) -> Result<bool>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(async {
        let end = async {
            match seconds {
                Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
                None => std::future::pending().await,
            }
        };
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::pin!(end);
        let mut ticks = tokio::time::interval(PERIOD);
        loop {
            let over = tokio::select! {
                _ = tokio::signal::ctrl_c() => true,
                _ = terminate.recv() => true,
                () = &mut end => true,
                _ = ticks.tick() => false,
            };
            if !see(listener.take())? || over {
                return Ok(());
            }
        }
    })
}
