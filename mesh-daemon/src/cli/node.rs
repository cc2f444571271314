//! `meshctl node`: the machines of a swarm.

use anyhow::Result;
use clap::Subcommand;
use jiff::Timestamp;

use super::client::{self, Client, escape, filters};
use super::each::{self, Each};
use super::listing::{Listing, Style, line};
use super::words::{ago, bytes, capital};
use super::{pairs, task};
use crate::api::wire;

#[derive(Subcommand)]
pub(super) enum Command {
    /// List nodes.
    Ls {
        #[command(flatten)]
        style: Style,
    },
    /// List the tasks of nodes; of this one if none is named.
    Ps {
        /// By id, name, or `self`.
        nodes: Vec<String>,
        #[command(flatten)]
        style: task::PsStyle,
    },
    /// Print nodes as JSON.
    Inspect {
        /// By id, name, or `self`.
        #[arg(required = true)]
        nodes: Vec<String>,
        /// For people.
        #[arg(long)]
        pretty: bool,
    },
    /// Change a node.
    Update {
        /// By id, name, or `self`.
        node: String,
        /// Whether it takes tasks: active, pause or drain.
        #[arg(long)]
        availability: Option<String>,
        /// worker or manager.
        #[arg(long)]
        role: Option<String>,
        /// KEY=VALUE to add or change.
        #[arg(long)]
        label_add: Vec<String>,
        /// KEY to remove.
        #[arg(long)]
        label_rm: Vec<String>,
    },
    /// Make workers managers.
    Promote {
        /// By id or name.
        #[arg(required = true)]
        nodes: Vec<String>,
    },
    /// Make managers workers.
    Demote {
        /// By id or name.
        #[arg(required = true)]
        nodes: Vec<String>,
    },
    /// Remove nodes that are down.
    Rm {
        /// By id or name.
        #[arg(required = true)]
        nodes: Vec<String>,
        /// Even if they are not down.
        #[arg(short, long)]
        force: bool,
    },
}

pub(super) fn run(client: &Client, command: Command) -> Result<()> {
    match command {
        Command::Ls { style } => ls(client, &style),
        Command::Ps { nodes, style } => ps(client, nodes, &style),
        Command::Inspect { nodes, pretty } => {
            let ids = nodes.iter().map(|node| resolve(client, node)).collect::<Result<Vec<_>>>()?;
            if pretty {
                return each::object(&ids, |id| show(&client.get(&format!("/nodes/{}", escape(id)))?));
            }
            each::inspect(client, &ids, |id| format!("/nodes/{}", escape(id)))
        }
        Command::Update { node, availability, role, label_add, label_rm } => {
            change(client, &node, |spec| {
                spec.availability = availability.unwrap_or_else(|| spec.availability.clone());
                spec.role = role.unwrap_or_else(|| spec.role.clone());
                pairs::change(&mut spec.labels, &label_add, &label_rm)
            })?;
            line(node)
        }
        Command::Promote { nodes } => set_role(client, &nodes, "manager"),
        Command::Demote { nodes } => set_role(client, &nodes, "worker"),
        Command::Rm { nodes, force } => {
            let query = if force { "?force=1" } else { "" };
            Each::new(&nodes).remove(|node| client.delete(&format!("/nodes/{}{query}", escape(node))))
        }
    }
}

/// `self` is the node that answers.
fn resolve(client: &Client, node: &str) -> Result<String> {
    if node != "self" {
        return Ok(node.to_owned());
    }
    let info: wire::SystemInfo = client.get("/info")?;
    if info.swarm.node_id.is_empty() {
        // The node's own words for why: it is no manager, or in no swarm.
        let _: Vec<wire::Node> = client.get("/nodes")?;
    }
    Ok(info.swarm.node_id)
}

fn ls(client: &Client, style: &Style) -> Result<()> {
    let mut nodes: Vec<wire::Node> =
        client.get(&format!("/nodes{}", filters(&client::filter_pairs(&style.filter)?)))?;
    nodes.sort_by(|a, b| a.description.hostname.cmp(&b.description.hostname));
    let info: wire::SystemInfo = client.get("/info")?;
    style.print(
        &nodes,
        |node| node.id.clone(),
        |nodes| {
            let mut list =
                Listing::new(["ID", "HOSTNAME", "STATUS", "AVAILABILITY", "MANAGER STATUS", "ENGINE VERSION"]);
            for node in nodes {
                let here = if node.id == info.swarm.node_id { " *" } else { "" };
                list.push([
                    format!("{}{here}", node.id),
                    node.description.hostname.clone(),
                    capital(&node.status.state),
                    capital(&node.spec.availability),
                    manager_status(node),
                    node.description.engine.engine_version.clone(),
                ]);
            }
            list
        },
    )
}

fn manager_status(node: &wire::Node) -> String {
    match &node.manager_status {
        None => String::new(),
        Some(manager) if manager.leader => "Leader".to_owned(),
        Some(manager) => capital(&manager.reachability),
    }
}

fn ps(client: &Client, mut nodes: Vec<String>, style: &task::PsStyle) -> Result<()> {
    if nodes.is_empty() {
        nodes.push("self".to_owned());
    }
    let mut tasks = Vec::new();
    let given = client::filter_pairs(&style.filter)?;
    let wanted = each::object(&nodes, |name| {
        let node: wire::Node = client.get(&format!("/nodes/{}", escape(&resolve(client, name)?)))?;
        let mut wanted = given.clone();
        wanted.push(("node", &node.id));
        tasks.extend(client.get::<Vec<wire::Task>>(&format!("/tasks{}", filters(&wanted)))?);
        Ok(())
    });
    if !tasks.is_empty() || wanted.is_ok() {
        task::print(client, tasks, style)?;
    }
    wanted
}

/// Reads a node, changes its spec, writes it back.
fn change(client: &Client, node: &str, edit: impl FnOnce(&mut wire::NodeSpec) -> Result<()>) -> Result<()> {
    let mut node: wire::Node = client.get(&format!("/nodes/{}", escape(&resolve(client, node)?)))?;
    edit(&mut node.spec)?;
    client.post_empty(&format!("/nodes/{}/update?version={}", node.id, node.version.index), &node.spec)
}

fn set_role(client: &Client, nodes: &[String], role: &str) -> Result<()> {
    each::object(nodes, |name| {
        let node: wire::Node = client.get(&format!("/nodes/{}", escape(&resolve(client, name)?)))?;
        if node.spec.role == role {
            return line(format!("Node {name} is already a {role}."));
        }
        change(client, name, |spec| {
            spec.role = role.to_owned();
            Ok(())
        })?;
        line(match role {
            "manager" => format!("Node {name} promoted to a manager in the swarm."),
            _ => format!("Manager {name} demoted in the swarm."),
        })
    })
}

/// One node for people, as `docker node inspect --pretty` lays it out.
fn show(node: &wire::Node) -> Result<()> {
    let description = &node.description;
    let mut text = vec![format!("ID:\t\t\t{}", node.id)];
    if !node.spec.labels.is_empty() {
        text.push("Labels:".to_owned());
        text.extend(node.spec.labels.iter().map(|(key, value)| format!(" - {key}={value}")));
    }
    text.push(format!("Hostname:              \t{}", description.hostname));
    text.push(format!("Joined at:             \t{} ({})", node.created_at, ago(&node.created_at, Timestamp::now())));
    text.push("Status:".to_owned());
    text.push(format!(" State:\t\t\t{}", capital(&node.status.state)));
    if !node.status.message.is_empty() {
        text.push(format!(" Message:\t\t{}", node.status.message));
    }
    text.push(format!(" Availability:         \t{}", capital(&node.spec.availability)));
    text.push(format!(" Address:\t\t{}", node.status.addr));
    if let Some(manager) = &node.manager_status {
        text.push("Manager Status:".to_owned());
        text.push(format!(" Address:\t\t{}", manager.addr));
        text.push(format!(" Raft Status:\t\t{}", capital(&manager.reachability)));
        text.push(format!(" Leader:\t\t{}", if manager.leader { "Yes" } else { "No" }));
    }
    text.push("Platform:".to_owned());
    text.push(format!(" Operating System:\t{}", description.platform.os));
    text.push(format!(" Architecture:\t\t{}", description.platform.architecture));
    text.push("Resources:".to_owned());
    text.push(format!(" CPUs:\t\t\t{}", description.resources.nano_cpus / 1_000_000_000));
    text.push(format!(" Memory:\t\t{}", bytes(description.resources.memory_bytes)));
    text.push(format!("Engine Version:\t\t{}", description.engine.engine_version));
    super::listing::lines(text)
}
