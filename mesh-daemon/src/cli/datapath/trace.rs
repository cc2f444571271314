//! `meshctl datapath trace`.

use std::io::Write as _;

use anyhow::Result;
use jiff::Timestamp;
use mesh_common::watch::{Watch, hook, wants, watcher};
use serde_json::json;

use super::super::table::{self, Output};
use super::{Bounds, follow, interface_name, vxlan_port};
use crate::datapath::seeing::frame::Frame;
use crate::datapath::seeing::watch::{Listener, Told, verdict_name};
use crate::datapath::{Pins, attach};

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    bounds: Bounds,
    /// Tell of packets that are not dropped too: of one in so many.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    verdicts: Option<u32>,
    /// Events that each CPU sends at most in a window of 256 jiffies (0.3 to 2.6 s); the rest is counted.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// How to print: lines, or a JSON document a line.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// Bytes of a frame that say where it goes: a tunnel over IPv6 and the inner headers.
const HEADERS: u32 = 192;
/// Pages of each CPU's buffer.
const PAGES: usize = 64;

pub(super) fn run(args: &Args, pins: &Pins) -> Result<()> {
    let verdicts = if args.verdicts.is_some() { wants::VERDICTS } else { 0 };
    let wish =
        Watch { on: wants::DROPS | verdicts, every: args.verdicts.unwrap_or(1), limit: args.limit, bytes: HEADERS };
    let vxlan_port = vxlan_port(pins)?;
    let mut listener = Listener::start(pins, watcher::TRACE, wish, PAGES)?;
    let (mut seen, mut lost) = (0, 0);
    let mut clock = Clock::default();
    table::to_stdout(|out| {
        follow(&mut listener, args.bounds.seconds, |batch| {
            for told in &batch.told {
                let frame = told.frame(vxlan_port);
                let interface = interface_name(told.event.ifindex);
                if !args.bounds.filters.iter().all(|filter| filter.holds(told, &frame, &interface)) {
                    continue;
                }
                if args.bounds.count.is_some_and(|count| seen >= count) {
                    break;
                }
                seen += 1;
                let time = clock.time_of(told.event.time);
                match args.output {
                    Output::Table => writeln!(out, "{}", text(told, &frame, &interface, time))?,
                    Output::Json => writeln!(out, "{}", document(told, &frame, &interface, time))?,
                }
            }
            lost += batch.lost;
            if batch.lost != 0 {
                match args.output {
                    Output::Table => {
                        writeln!(out, "{} more events were lost or above the limit, {lost} in all", batch.lost)?
                    }
                    Output::Json => writeln!(out, "{}", json!({ "lost": batch.lost }))?,
                }
            }
            out.flush()?;
            Ok(args.bounds.count.is_none_or(|count| seen < count))
        })
    })
}

fn text(told: &Told, frame: &Frame, interface: &str, time: Timestamp) -> String {
    let event = &told.event;
    let what = match (told.reason(), event.to) {
        (Some(reason), _) => format!("{} {}", verdict_name(event.verdict), reason.name()),
        (None, 0) => verdict_name(event.verdict).to_owned(),
        (None, to) => format!("{} to {}", verdict_name(event.verdict), interface_name(to)),
    };
    // A tunnel that is off is known by its network alone.
    let vni = if frame.vni.is_none() && event.vni != 0 { format!("vni {}: ", event.vni) } else { String::new() };
    format!("{time:.6} {interface} {} {what} {vni}{frame} ({} bytes)", program(event.hook), event.len)
}

fn document(told: &Told, frame: &Frame, interface: &str, time: Timestamp) -> serde_json::Value {
    let event = &told.event;
    let vni = frame.vni.or(Some(event.vni).filter(|vni| *vni != 0));
    let packet = frame.packet.as_ref();
    json!({
        "time": time.to_string(),
        "interface": interface,
        "program": program(event.hook),
        "verdict": verdict_name(event.verdict),
        "reason": told.reason().map(|reason| reason.name()),
        "to": Some(event.to).filter(|to| *to != 0).map(interface_name),
        "vni": vni,
        "tunnel_from": frame.tunnel.map(|(from, _)| from),
        "tunnel_to": frame.tunnel.map(|(_, to)| to),
        "src": packet.map(|packet| packet.src),
        "dst": packet.map(|packet| packet.dst),
        "proto": packet.map(|packet| packet.proto),
        "src_port": packet.and_then(|packet| packet.ports).map(|(src, _)| src),
        "dst_port": packet.and_then(|packet| packet.ports).map(|(_, dst)| dst),
        "length": event.len,
    })
}

pub(super) fn program(number: u8) -> &'static str {
    match number {
        hook::UNDERLAY => attach::UNDERLAY,
        hook::UNDERLAY_BULK => attach::UNDERLAY_BULK,
        hook::CONTAINER => attach::CONTAINER,
        hook::OUTWARD => attach::OUTWARD,
        hook::HOST_LEND => attach::HOST_LEND,
        hook::HOST => attach::HOST,
        _ => "?",
    }
}

/// Turns the kernel's time since the system started into time of day: what came last came just now.
#[derive(Default)]
pub(super) struct Clock {
    started: Option<Timestamp>,
}

impl Clock {
    pub(super) fn time_of(&mut self, nanoseconds: u64) -> Timestamp {
        let since = jiff::SignedDuration::from_nanos(i64::try_from(nanoseconds).unwrap_or(i64::MAX));
        let now = Timestamp::now();
        let started = *self.started.get_or_insert_with(|| now.checked_sub(since).unwrap_or(now));
        started.checked_add(since).unwrap_or(now)
    }
}
