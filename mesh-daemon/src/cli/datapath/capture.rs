//! `meshctl datapath capture`.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use mesh_common::watch::{Watch, verdict, wants, watcher};

use super::pcapng::{Pcapng, Record};
use super::trace::{Clock, program};
use super::{Bounds, follow, interface_name, vxlan_port};
use crate::datapath::Pins;
use crate::datapath::seeing::watch::{Listener, Told, verdict_name};

#[derive(clap::Args)]
pub(super) struct Args {
    /// The file to write; standard output if it is `-`.
    #[arg(short, long, default_value = "-")]
    write: PathBuf,
    #[command(flatten)]
    bounds: Bounds,
    /// Capture one packet in so many.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    sample: u32,
    /// Bytes of each frame that are kept at most.
    #[arg(short, long, default_value_t = 1600, value_parser = clap::value_parser!(u32).range(64..=32_768))]
    snaplen: u32,
    /// Frames that each CPU sends at most in a window of 256 jiffies (0.3 to 2.6 s); the rest is counted.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

/// Pages of each CPU's buffer.
const PAGES: usize = 1024;

pub(super) fn run(args: &Args, pins: &Pins) -> Result<()> {
    let out: Box<dyn Write> = if args.write.as_os_str() == "-" {
        if io::stdout().is_terminal() {
            bail!("a terminal shows no pcapng: name a file with -w, or pipe into `tcpdump -r -`");
        }
        Box::new(io::stdout())
    } else {
        let file = File::create(&args.write).with_context(|| format!("make {}", args.write.display()))?;
        Box::new(BufWriter::new(file))
    };
    let vxlan_port = vxlan_port(pins)?;
    let wish = Watch { on: wants::ARRIVALS, every: args.sample, limit: args.limit, bytes: args.snaplen };
    let mut listener = Listener::start(pins, watcher::CAPTURE, wish, PAGES)?;
    let failed = || format!("write {}", args.write.display());
    let mut file = Pcapng::begin(out, args.snaplen).with_context(failed)?;
    let (mut seen, mut lost, mut clock) = (0u64, 0, Clock::default());
    file.flush().with_context(failed)?;
    follow(&mut listener, args.bounds.seconds, |batch| {
        lost += batch.lost;
        for told in &batch.told {
            let (frame, interface) = (told.frame(vxlan_port), interface_name(told.event.ifindex));
            if !args.bounds.filters.iter().all(|filter| filter.holds(told, &frame, &interface)) {
                continue;
            }
            if args.bounds.count.is_some_and(|count| seen >= count) {
                break;
            }
            seen += 1;
            write(&mut file, told, &interface, &mut clock).with_context(failed)?;
        }
        file.flush().with_context(failed)?;
        Ok(args.bounds.count.is_none_or(|count| seen < count))
    })?;
    report(seen, lost);
    Ok(())
}

fn write(file: &mut Pcapng<Box<dyn Write>>, told: &Told, interface: &str, clock: &mut Clock) -> io::Result<()> {
    let event = &told.event;
    let arrives = event.verdict == verdict::ARRIVED;
    let way = if arrives { "in" } else { "out" };
    let place = format!("{interface} {} {way}", program(event.hook));
    let comment = match (told.reason(), event.to) {
        (Some(reason), _) => format!("dropped: {}", reason.name()),
        (None, 0) => verdict_name(event.verdict).to_owned(),
        (None, to) => format!("{} to {}", verdict_name(event.verdict), interface_name(to)),
    };
    let time = u64::try_from(clock.time_of(event.time).as_nanosecond()).unwrap_or(0);
    file.write(&Record { place: &place, time, bytes: &told.bytes, len: event.len, comment: &comment })
}

#[expect(clippy::print_stderr, reason = "standard output may be the file")]
fn report(seen: u64, lost: u64) {
    eprintln!("{seen} frames captured, {lost} lost or above the limit");
}
