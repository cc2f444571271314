//! `meshctl top`: services, how many of their tasks run and where, and how fast they are used at each node.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;

use super::client::{Client, filters};
use super::listing::{Listing, json as print};
use super::service;
use super::table::{Output, to_stdout};
use crate::api::wire;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Milliseconds over which rates are measured.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(100..=60_000))]
    interval_ms: u64,
    /// Once, and not until it is stopped; so it is where nobody looks.
    #[arg(long)]
    once: bool,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// To the upper left corner, and nothing behind it.
const CLEAR: &str = "\x1b[H\x1b[J";

pub(super) fn run(client: &Client, args: &Args) -> Result<()> {
    let live = !args.once && args.output == Output::Table && std::io::stdout().is_terminal();
    let mut before = Counted::look(client)?;
    loop {
        std::thread::sleep(Duration::from_millis(args.interval_ms));
        let now = Counted::look(client)?;
        let rows = rows(client, &now.since(&before))?;
        before = now;
        match args.output {
            Output::Json => print(&rows.iter().map(Row::json).collect::<Vec<_>>())?,
            Output::Table => {
                if live {
                    to_stdout(|out| Ok(write!(out, "{CLEAR}")?))?;
                }
                table(&rows).print()?;
            }
        }
        if !live {
            return Ok(());
        }
    }
}

/// What happens in a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Rate {
    flows: u64,
    packets: u64,
    bytes: u64,
}

/// By node and service, in a second.
type Rates = BTreeMap<(String, String), Rate>;

/// What all nodes counted so far.
struct Counted {
    at: Instant,
    nodes: Vec<wire::NodeUsage>,
}

impl Counted {
    fn look(client: &Client) -> Result<Self> {
        Ok(Self { nodes: client.get("/mesh/usage")?, at: Instant::now() })
    }

    /// What was more than before, in a second; of a node that was not heard of before, nothing is known.
    fn since(&self, before: &Self) -> Rates {
        let seconds = (self.at - before.at).as_secs_f64().max(0.001);
        let then: BTreeMap<_, _> = before.nodes.iter().flat_map(counts).collect();
        let per_second = |now: u64, then: u64| {
            #[expect(
                clippy::cast_precision_loss,
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a rate, for people"
            )]
            let rate = (now.saturating_sub(then) as f64 / seconds).round() as u64;
            rate
        };
        let rate = |(key, now): ((String, String), &wire::ServiceUsage)| {
            let then = then.get(&key)?;
            let rate = Rate {
                flows: per_second(now.flows, then.flows),
                packets: per_second(now.packets, then.packets),
                bytes: per_second(now.bytes, then.bytes),
            };
            Some((key, rate))
        };
        self.nodes.iter().flat_map(counts).filter_map(rate).collect()
    }
}

fn counts(node: &wire::NodeUsage) -> impl Iterator<Item = ((String, String), &wire::ServiceUsage)> {
    node.services.iter().map(|counts| ((node.node_id.clone(), counts.service_id.clone()), counts))
}

/// A service.
struct Row {
    name: String,
    mode: &'static str,
    replicas: String,
    /// By name, which two may have.
    nodes: Vec<(String, At)>,
}

/// A service at a node.
#[derive(Clone, Copy, Default)]
struct At {
    tasks: u64,
    /// Packets are counted where they are dialled, flows where their task is; None: the node did not say.
    rate: Option<Rate>,
}

impl Row {
    fn total(&self) -> Rate {
        let rates = self.nodes.iter().filter_map(|(_, at)| at.rate);
        rates.fold(Rate::default(), |a, b| Rate {
            flows: a.flows + b.flows,
            packets: a.packets + b.packets,
            bytes: a.bytes + b.bytes,
        })
    }

    fn json(&self) -> serde_json::Value {
        let of =
            |rate: Rate| json!({ "flows_per_s": rate.flows, "packets_per_s": rate.packets, "bytes_per_s": rate.bytes });
        let nodes = self.nodes.iter().map(|(name, at)| {
            let mut node = of(at.rate.unwrap_or_default());
            node["node"] = name.as_str().into();
            node["tasks"] = at.tasks.into();
            node
        });
        let mut row = of(self.total());
        row["service"] = self.name.as_str().into();
        row["mode"] = self.mode.into();
        row["replicas"] = self.replicas.as_str().into();
        row["nodes"] = nodes.collect();
        row
    }
}

fn rows(client: &Client, rates: &Rates) -> Result<Vec<Row>> {
    let services: Vec<wire::Service> = client.get("/services?status=true")?;
    let nodes: Vec<wire::Node> = client.get("/nodes")?;
    let tasks: Vec<wire::Task> = client.get(&format!("/tasks{}", filters(&[("desired-state", "running")])))?;
    let mut running: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for task in tasks.iter().filter(|task| task.status.state == "running") {
        *running.entry((task.service_id.as_str(), task.node_id.as_str())).or_default() += 1;
    }
    let row = |service: &wire::Service| {
        let (mode, replicas) = service::count(service);
        let name = service.spec.name.clone();
        let at = |node: &wire::Node| {
            let tasks = running.get(&(service.id.as_str(), node.id.as_str())).copied().unwrap_or_default();
            let rate = rates.get(&(node.id.clone(), service.id.clone())).copied();
            let at = At { tasks, rate };
            let is_used = at.tasks > 0 || rate.is_some_and(|rate| rate != Rate::default());
            is_used.then(|| (node.description.hostname.clone(), at))
        };
        let mut nodes: Vec<_> = nodes.iter().filter_map(at).collect();
        nodes.sort_by(|(a, _), (b, _)| a.cmp(b));
        Row { name, mode, replicas, nodes }
    };
    let mut rows: Vec<_> = services.iter().map(row).collect();
    rows.sort_by(|a, b| b.total().packets.cmp(&a.total().packets).then_with(|| a.name.cmp(&b.name)));
    Ok(rows)
}

fn table(rows: &[Row]) -> Listing {
    let mut list = Listing::new(["SERVICE", "MODE", "REPLICAS", "NODE", "TASKS", "FLOWS/S", "PACKETS/S", "BYTES/S"]);
    for row in rows {
        let total = row.total();
        let tasks: u64 = row.nodes.iter().map(|(_, at)| at.tasks).sum();
        list.push([
            row.name.clone(),
            row.mode.to_owned(),
            row.replicas.clone(),
            "all".to_owned(),
            tasks.to_string(),
            total.flows.to_string(),
            total.packets.to_string(),
            total.bytes.to_string(),
        ]);
        for (node, at) in &row.nodes {
            let shown = |number: fn(Rate) -> u64| at.rate.map_or("-".to_owned(), |rate| number(rate).to_string());
            list.push([
                String::new(),
                String::new(),
                String::new(),
                node.clone(),
                at.tasks.to_string(),
                shown(|rate| rate.flows),
                shown(|rate| rate.packets),
                shown(|rate| rate.bytes),
            ]);
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_nodes_that_were_heard_twice() {
        let usage = |node: &str, packets| wire::NodeUsage {
            node_id: node.to_owned(),
            services: vec![wire::ServiceUsage {
                service_id: "web".to_owned(),
                packets,
                ..wire::ServiceUsage::default()
            }],
            ..wire::NodeUsage::default()
        };
        let at = Instant::now();
        let before = Counted { at, nodes: vec![usage("a", 100), usage("b", 500)] };
        let now =
            Counted { at: at + Duration::from_secs(2), nodes: vec![usage("a", 300), usage("b", 10), usage("c", 900)] };
        let rates: Vec<_> = now.since(&before).into_iter().map(|((node, _), rate)| (node, rate.packets)).collect();
        // Of b the maps began anew.
        assert_eq!(rates, [("a".to_owned(), 100), ("b".to_owned(), 0)]);
    }
}
