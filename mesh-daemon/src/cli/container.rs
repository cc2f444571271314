//! `meshctl ps`: the containers of one node; and how other commands find one of them.

use anyhow::Result;
use jiff::Timestamp;

use super::client::{Client, escape, filter_pairs, filters, is_not_found};
use super::listing::{Listing, Style};
use super::words::{ago, short};
use crate::api::wire;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Those that have ended too.
    #[arg(short, long)]
    all: bool,
    /// Whole ids and commands.
    #[arg(long)]
    no_trunc: bool,
    #[command(flatten)]
    style: Style,
}

/// How long a command is shown.
const MAX_COMMAND: usize = 20;

pub(super) fn run(client: &Client, args: &Args) -> Result<()> {
    let query = filters(&filter_pairs(&args.style.filter)?).replace('?', "&");
    let all = u8::from(args.all);
    let containers: Vec<wire::ContainerSummary> = client.get(&format!("/containers/json?all={all}{query}"))?;
    let id = |id: &str| if args.no_trunc { id.to_owned() } else { short(id) };
    let now = Timestamp::now();
    args.style.print(
        &containers,
        |container| id(&container.id),
        |containers| {
            let mut list = Listing::new(["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]);
            for container in containers {
                let created = Timestamp::from_second(container.created).map(|at| ago(&at.to_string(), now));
                list.push([
                    id(&container.id),
                    container.image.clone(),
                    command(&container.command, args.no_trunc),
                    created.unwrap_or_default(),
                    container.status.clone(),
                    container.ports.iter().map(port).collect::<Vec<_>>().join(", "),
                    name(container).to_owned(),
                ]);
            }
            list
        },
    )
}

fn command(command: &str, whole: bool) -> String {
    if whole || command.chars().count() <= MAX_COMMAND {
        return format!("\"{command}\"");
    }
    format!("\"{}…\"", command.chars().take(MAX_COMMAND - 1).collect::<String>())
}

fn port(port: &wire::ContainerPort) -> String {
    let own = format!("{}/{}", port.private_port, port.kind);
    if port.public_port == 0 { own } else { format!("{}:{}->{own}", port.ip, port.public_port) }
}

fn name(container: &wire::ContainerSummary) -> &str {
    container.names.first().map_or("", |name| name.trim_start_matches('/'))
}

/// The container that a name means: its own, its id's beginning, or its task's (`web.1`).
pub(super) fn find(client: &Client, given: &str) -> Result<wire::ContainerDetails> {
    let unknown = match client.get(&format!("/containers/{}/json", escape(given))) {
        Err(error) if is_not_found(&error) => error,
        found => return found,
    };
    // By what is left of the dot alone any task of a service would be meant.
    if !given.contains('.') {
        return Err(unknown);
    }
    let all: Vec<wire::ContainerSummary> = client.get("/containers/json?all=1")?;
    let of_task = |container: &&wire::ContainerSummary| {
        name(container).strip_prefix(given).is_some_and(|rest| rest.starts_with('.') && rest.len() > 1)
    };
    let mut of_task: Vec<_> = all.iter().filter(of_task).collect();
    // Of a slot's tasks the one that runs, else the newest, stands for it.
    of_task.sort_by_key(|container| (container.state == "running", container.created));
    match of_task.pop() {
        Some(one) => client.get(&format!("/containers/{}/json", one.id)),
        None => Err(unknown),
    }
}

/// The task that a name (`web.1`) means: the newest of its slot; None where nobody can be asked.
pub(super) fn task(client: &Client, given: &str) -> Result<Option<wire::Task>> {
    let Some((service, slot)) = given.rsplit_once('.') else { return Ok(None) };
    let Ok(slot) = slot.parse::<u64>() else { return Ok(None) };
    let found: Result<wire::Service> = client.get(&format!("/services/{}", escape(service)));
    let Ok(service) = found else { return Ok(None) };
    let mut tasks: Vec<wire::Task> = client.get(&format!("/tasks{}", filters(&[("service", &service.id)])))?;
    tasks.retain(|task| task.slot == slot);
    tasks.sort_by_key(|task| (task.desired_state == "running", task.created_at.clone()));
    Ok(tasks.pop())
}
