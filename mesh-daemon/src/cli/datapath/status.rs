//! `meshctl datapath status`.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::Duration;

use anyhow::Result;
use mesh_common::addr::Mac;
use mesh_common::flow::{CHOICE, Flow, WAYS, is_over};
use mesh_common::tally::Tally;
use mesh_common::{ABI_VERSION, limits};
use serde_json::{Map, Value, json};

use super::super::table::{self, Output, Row};
use super::interface_name;
use crate::datapath::Pins;
use crate::datapath::desired::mac;
use crate::datapath::maps::Maps;
use crate::datapath::seeing::frame::ip;
use crate::datapath::seeing::programs;
use crate::datapath::seeing::tallies::Counted;
use crate::datapath::tables::Tables;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Milliseconds over which rates are measured.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(10..=60_000))]
    interval_ms: u64,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(args: &Args, pins: &Pins) -> Result<()> {
    let maps = Maps::open(pins)?;
    let tables = maps.tables()?;
    let before = maps.tallies()?;
    std::thread::sleep(Duration::from_millis(args.interval_ms));
    let after = maps.tallies()?;
    let flows = maps.flows()?;
    let live = live_flows(&flows);
    let sections: Vec<(&str, Vec<Row>)> = vec![
        ("node", node(&tables)),
        ("programs", attachments(pins)?),
        ("maps", fill(&tables, flows.len())),
        ("drops", drops(&maps)?),
        ("services", services(&tables, &before, &after, &live, args.interval_ms)),
    ];
    table::to_stdout(|out| match args.output {
        Output::Json => {
            let document: Map<_, _> = sections.into_iter().map(|(name, rows)| (name.to_owned(), json!(rows))).collect();
            writeln!(out, "{:#}", Value::Object(document))?;
            Ok(())
        }
        Output::Table => {
            for (index, (name, rows)) in sections.iter().enumerate() {
                let gap = if index == 0 { "" } else { "\n" };
                writeln!(out, "{gap}{name}{}", if rows.is_empty() { ": none" } else { "" })?;
                table::write(out, rows)?;
            }
            Ok(())
        }
    })
}

fn row<const N: usize>(cells: [(&str, Value); N]) -> Row {
    cells.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn node(tables: &Tables) -> Vec<Row> {
    let config = tables.config.get(&0);
    let of = |config: &mesh_common::node::NodeConfig| {
        row([
            ("vtep", json!(ip(config.vtep))),
            ("vxlan_port", json!(u16::from_be_bytes(config.vxlan_port))),
            ("ingress_vni", json!(config.ingress_vni)),
            ("abi", json!(ABI_VERSION)),
            ("version", json!(env!("CARGO_PKG_VERSION"))),
        ])
    };
    config.map(of).into_iter().collect()
}

fn attachments(pins: &Pins) -> Result<Vec<Row>> {
    let row_of = |one: programs::Attached| {
        row([
            ("program", json!(one.program)),
            ("interface", json!(interface_name(one.ifindex))),
            ("id", json!(one.id)),
            ("tag", json!(one.tag.map_or("-".to_owned(), |tag| format!("{tag:016x}")))),
        ])
    };
    Ok(programs::attached(pins)?.into_iter().map(row_of).collect())
}

fn fill(tables: &Tables, flows: usize) -> Vec<Row> {
    let of_flows = ("FLOWS", flows, limits::FLOW_SETS * WAYS as u32);
    let rows = tables.fill().into_iter().chain([of_flows]).map(|(name, used, limit)| {
        row([
            ("map", json!(name)),
            ("used", json!(used)),
            ("limit", json!(limit)),
            ("percent", json!(format!("{:.1}", 100.0 * used as f64 / f64::from(limit)))),
        ])
    });
    rows.collect()
}

fn drops(maps: &Maps) -> Result<Vec<Row>> {
    let drops = maps.drops()?.into_iter().filter(|(_, count)| *count != 0);
    let row_of = |(reason, count): (mesh_common::drop::DropReason, u64)| {
        row([("reason", json!(reason.name())), ("count", json!(count)), ("meaning", json!(reason.describe().trim()))])
    };
    Ok(drops.map(row_of).collect())
}

/// Flows that have not ended, by the number of their backend.
fn live_flows(flows: &[(u32, Flow)]) -> BTreeMap<u32, u64> {
    let mut live = BTreeMap::new();
    let of_tasks = flows.iter().map(|(_, flow)| flow).filter(|flow| flow.ifindex & CHOICE == 0);
    for flow in of_tasks.filter(|flow| !is_over(flow.state)) {
        *live.entry(flow.backend).or_default() += 1;
    }
    live
}

/// A row for each service and one for each of its tasks here.
fn services(
    tables: &Tables,
    before: &[Counted],
    after: &[Counted],
    live: &BTreeMap<u32, u64>,
    interval_ms: u64,
) -> Vec<Row> {
    let old: BTreeMap<u32, Tally> = before.iter().map(|row| (row.number, row.tally)).collect();
    let mut rows = Vec::new();
    let mut labelled: Vec<_> = after.iter().filter(|row| row.number != 0 || row.tally != Tally::ZERO).collect();
    labelled.sort_by_key(|row| (row.label.service, row.label.vni, row.label.task));
    for Counted { number, label, tally } in labelled {
        let then = old.get(number).copied().unwrap_or(Tally::ZERO);
        let rate = |now: u64, then: u64| now.saturating_sub(then) * 1000 / interval_ms;
        let whole = label.task == Mac::ZERO;
        let flows: u64 = tables
            .backends
            .iter()
            .filter(|(_, backend)| belongs(tables, backend.tally, *number, whole))
            .filter_map(|(number, _)| live.get(number))
            .sum();
        let name = if *number == 0 { "(the rest)" } else { label.service.as_str() };
        rows.push(row([
            ("service", json!(name)),
            ("network", json!(label.vni)),
            ("task", json!(if whole { "-".to_owned() } else { task(tables, *number, label.task) })),
            ("packets", json!(tally.packets)),
            ("bytes", json!(tally.bytes)),
            ("replies", json!(tally.replies)),
            ("reply_bytes", json!(tally.reply_bytes)),
            ("new_flows", json!(tally.flows)),
            ("live_flows", json!(flows)),
            ("packets_per_s", json!(rate(tally.packets, then.packets))),
            ("bytes_per_s", json!(rate(tally.bytes, then.bytes))),
            ("flows_per_s", json!(rate(tally.flows, then.flows))),
        ]));
    }
    rows
}

/// Is the backend with this tally the task, or one of the service, that `number` counts?
fn belongs(tables: &Tables, tally: u16, number: u32, whole: bool) -> bool {
    let own = u32::from(tally);
    if own == 0 {
        return false;
    }
    if !whole {
        return own == number;
    }
    match (tables.labels.get(&own), tables.labels.get(&number)) {
        (Some(task), Some(service)) => (task.service, task.vni) == (service.service, service.vni),
        _ => false,
    }
}

/// The address of a task, by its tally; else its link-layer address.
fn task(tables: &Tables, number: u32, address: Mac) -> String {
    let backend = tables.backends.values().find(|backend| u32::from(backend.tally) == number);
    let addr = backend
        .map(|backend| if backend.addr4 == [0; 4] { ip(backend.addr6) } else { std::net::IpAddr::from(backend.addr4) });
    addr.map_or_else(|| mac::format(address), |addr| addr.to_string())
}
