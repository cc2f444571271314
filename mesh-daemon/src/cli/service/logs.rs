//! `meshctl service logs`.

use std::collections::BTreeMap;
use std::io::Write as _;

use anyhow::Result;

use super::super::client::{Client, escape, is_not_found};
use super::super::frames::Frames;
use super::super::words::short;
use super::super::{container, each};
use crate::api::wire;

#[derive(Clone, clap::Args)]
pub(in crate::cli) struct Args {
    /// A service or a task, by id or name.
    service: String,
    /// Go on with what comes.
    #[arg(short, long)]
    follow: bool,
    /// Only what was written since: a time, or how long ago.
    #[arg(long, default_value = "")]
    since: String,
    /// At most so many lines of each task's past.
    #[arg(short = 'n', long, default_value = "all")]
    tail: String,
    /// When each line was written.
    #[arg(short, long)]
    timestamps: bool,
    /// Only what the tasks wrote.
    #[arg(long)]
    raw: bool,
    /// Ids of nodes instead of names.
    #[arg(long)]
    no_resolve: bool,
    /// Names of tasks without their ids.
    #[arg(long)]
    no_task_ids: bool,
    /// Whole ids.
    #[arg(long)]
    no_trunc: bool,
}

/// Of a service, a task, or a container of the node that is asked, whichever there is.
pub(in crate::cli) fn any(client: &Client, args: &Args) -> Result<()> {
    if client.get::<wire::Service>(&format!("/services/{}", escape(&args.service))).is_ok() {
        return run(client, args);
    }
    if let Some(task) = container::task(client, &args.service)? {
        return run(client, &Args { service: task.id, ..args.clone() });
    }
    match container::find(client, &args.service) {
        Ok(found) => of_container(client, args, &found),
        Err(error) if is_not_found(&error) => run(client, args),
        Err(error) => Err(error),
    }
}

fn of_container(client: &Client, args: &Args, found: &wire::ContainerDetails) -> Result<()> {
    let mut frames = Frames::default();
    client.stream(&format!("/containers/{}/logs?{}", found.id, args.query(false)), |piece| {
        if found.config.tty {
            return write(1, piece);
        }
        frames.take(piece, write)
    })
}

impl Args {
    fn query(&self, details: bool) -> String {
        format!(
            "stdout=1&stderr=1&follow={}&since={}&tail={}&timestamps={}&details={}",
            u8::from(self.follow),
            escape(&self.since),
            escape(&self.tail),
            u8::from(self.timestamps),
            u8::from(details)
        )
    }
}

pub(super) fn run(client: &Client, args: &Args) -> Result<()> {
    let name = escape(&args.service);
    let (kind, tty) = match client.get::<wire::Service>(&format!("/services/{name}")) {
        Ok(service) => ("services", service.spec.task_template.container_spec.is_some_and(|spec| spec.tty)),
        Err(error) if is_not_found(&error) => match client.get::<wire::Task>(&format!("/tasks/{name}")) {
            Ok(task) => ("tasks", task.spec.container_spec.is_some_and(|spec| spec.tty)),
            Err(error) if is_not_found(&error) => {
                return Err(each::bare(format!("no such task or service: {}", args.service)));
            }
            Err(error) => return Err(error),
        },
        Err(error) => return Err(error),
    };
    let raw = args.raw || tty;
    let mut printer = Printer { client, args, raw, labels: BTreeMap::new() };
    let mut frames = Frames::default();
    client.stream(&format!("/{kind}/{name}/logs?{}", args.query(!raw)), |piece| {
        if tty {
            return write(1, piece);
        }
        frames.take(piece, |output, bytes| printer.line(output, bytes))
    })
}

struct Printer<'a> {
    client: &'a Client,
    args: &'a Args,
    raw: bool,
    labels: BTreeMap<String, String>,
}

impl Printer<'_> {
    /// A line: its time, then the context in which it was written, then itself.
    fn line(&mut self, output: u8, bytes: &[u8]) -> Result<()> {
        if self.raw {
            return write(output, bytes);
        }
        let text = String::from_utf8_lossy(bytes);
        let (time, rest) = match self.args.timestamps {
            true => text.split_once(' ').unwrap_or(("", &text)),
            false => ("", &*text),
        };
        let (context, said) = rest.split_once(' ').unwrap_or((rest, "\n"));
        let label = self.label(context);
        let time = if time.is_empty() { String::new() } else { format!("{time} ") };
        write(output, format!("{time}{label}    | {said}").as_bytes())
    }

    fn label(&mut self, context: &str) -> String {
        if let Some(label) = self.labels.get(context) {
            return label.clone();
        }
        let field = |name: &str| {
            let of = |pair: &str| pair.strip_prefix(name).and_then(|rest| rest.strip_prefix('=')).map(str::to_owned);
            context.split(',').find_map(of).unwrap_or_default()
        };
        let (task, node) = (field("com.docker.swarm.task.id"), field("com.docker.swarm.node.id"));
        let found: Option<wire::Task> = self.client.get(&format!("/tasks/{task}")).ok();
        let service: Option<wire::Service> =
            self.client.get(&format!("/services/{}", field("com.docker.swarm.service.id"))).ok();
        let name = service.map_or_else(|| "task".to_owned(), |service| service.spec.name);
        let slot = found.as_ref().map_or(0, |task| task.slot);
        let place = if slot > 0 { format!("{name}.{slot}") } else { format!("{name}.{node}") };
        let id = if self.args.no_trunc { task } else { short(&task) };
        let place = if self.args.no_task_ids { place } else { format!("{place}.{id}") };
        let host = match self.client.get::<wire::Node>(&format!("/nodes/{node}")) {
            Ok(found) if !self.args.no_resolve => found.description.hostname,
            _ => node,
        };
        let label = format!("{place}@{host}");
        self.labels.insert(context.to_owned(), label.clone());
        label
    }
}

fn write(output: u8, bytes: &[u8]) -> Result<()> {
    if output == 2 {
        std::io::stderr().lock().write_all(bytes)?;
        return Ok(());
    }
    super::super::table::to_stdout(|out| Ok(out.write_all(bytes)?))
}
