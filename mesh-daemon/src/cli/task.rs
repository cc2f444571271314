//! Lists of tasks: `service ps`, `stack ps`, `node ps`.

use std::collections::BTreeMap;

use anyhow::Result;
use jiff::Timestamp;

use super::client::{Client, escape};
use super::listing::{Listing, json, lines};
use super::table::Output;
use super::words::{ago, capital, image, short};
use crate::api::wire;

/// How long an error is shown.
const MAX_ERROR: usize = 30;

/// How a list of tasks is asked for.
#[derive(clap::Args)]
pub(super) struct PsStyle {
    /// Whole ids, images and errors.
    #[arg(long)]
    no_trunc: bool,
    /// Ids of nodes instead of names.
    #[arg(long)]
    no_resolve: bool,
    /// Only ids.
    #[arg(short, long)]
    quiet: bool,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    /// Only what fits KEY=VALUE; may be given more than once.
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(super) filter: Vec<String>,
}

/// Prints tasks: by service and slot, the newest of a slot first, those before it below.
pub(super) fn print(client: &Client, mut tasks: Vec<wire::Task>, style: &PsStyle) -> Result<()> {
    if style.output == Output::Json {
        return json(&tasks);
    }
    let mut names = Names { client, services: BTreeMap::new(), nodes: BTreeMap::new(), raw: style.no_resolve };
    let mut keyed: Vec<_> = tasks.drain(..).map(|task| (names.task(&task), task)).collect();
    keyed.sort_by(|(a, one), (b, other)| {
        let place = |task: &wire::Task| (task.slot, if task.slot == 0 { task.node_id.clone() } else { String::new() });
        let service = |name: &str| name.rsplit_once('.').map_or(name, |(service, _)| service).to_owned();
        (service(a), place(one)).cmp(&(service(b), place(other))).then_with(|| other.created_at.cmp(&one.created_at))
    });
    if style.quiet {
        let id = |task: &wire::Task| if style.no_trunc { task.id.clone() } else { short(&task.id) };
        return lines(keyed.iter().map(|(_, task)| id(task)));
    }
    let mut list = Listing::new(["ID", "NAME", "IMAGE", "NODE", "DESIRED STATE", "CURRENT STATE", "ERROR", "PORTS"]);
    let mut before = String::new();
    let now = Timestamp::now();
    for (name, task) in keyed {
        let shown = if name == before { format!(" \\_ {name}") } else { name.clone() };
        before = name;
        list.push(row(&task, shown, names.node(&task.node_id), style.no_trunc, now));
    }
    list.print()
}

fn row(task: &wire::Task, name: String, node: String, whole: bool, now: Timestamp) -> [String; 8] {
    let container = task.spec.container_spec.clone().unwrap_or_default();
    let mut error = task.status.err.clone();
    if !whole && error.chars().count() > MAX_ERROR {
        error = error.chars().take(MAX_ERROR - 1).collect::<String>() + "…";
    }
    let ports = task.status.port_status.ports.iter();
    let ports: Vec<_> =
        ports.map(|port| format!("*:{}->{}/{}", port.published_port, port.target_port, port.protocol)).collect();
    let state = format!("{} {}", capital(&task.status.state), lower(&ago(&task.status.timestamp, now)));
    [
        if whole { task.id.clone() } else { short(&task.id) },
        name,
        if whole { container.image.clone() } else { image(&container.image).to_owned() },
        node,
        capital(&task.desired_state),
        state,
        if error.is_empty() { error } else { format!("\"{error}\"") },
        ports.join(","),
    ]
}

fn lower(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_lowercase().chain(letters).collect())
}

/// Names of services and nodes, each asked for once.
struct Names<'a> {
    client: &'a Client,
    services: BTreeMap<String, String>,
    nodes: BTreeMap<String, String>,
    raw: bool,
}

impl Names<'_> {
    fn task(&mut self, task: &wire::Task) -> String {
        if !task.name.is_empty() {
            return task.name.clone();
        }
        let service = self.services.entry(task.service_id.clone()).or_insert_with(|| {
            let found: Result<wire::Service> = self.client.get(&format!("/services/{}", escape(&task.service_id)));
            found.map_or_else(|_| task.service_id.clone(), |service| service.spec.name)
        });
        if task.slot > 0 { format!("{service}.{}", task.slot) } else { format!("{service}.{}", task.node_id) }
    }

    fn node(&mut self, id: &str) -> String {
        if self.raw || id.is_empty() {
            return id.to_owned();
        }
        let name = self.nodes.entry(id.to_owned()).or_insert_with(|| {
            let found: Result<wire::Node> = self.client.get(&format!("/nodes/{}", escape(id)));
            found.map_or_else(|_| id.to_owned(), |node| node.description.hostname)
        });
        name.clone()
    }
}
