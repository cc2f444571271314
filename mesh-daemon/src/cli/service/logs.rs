//! `meshctl service logs`.

use std::collections::BTreeMap;
use std::io::Write as _;

use anyhow::Result;

use super::super::client::{Client, escape, is_not_found};
use super::super::each;
use super::super::words::short;
use crate::api::wire;

#[derive(clap::Args)]
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
    let query = format!(
        "stdout=1&stderr=1&follow={}&since={}&tail={}&timestamps={}&details={}",
        u8::from(args.follow),
        escape(&args.since),
        escape(&args.tail),
        u8::from(args.timestamps),
        u8::from(!raw)
    );
    let mut printer = Printer { client, args, raw, labels: BTreeMap::new() };
    let mut frames = Frames::default();
    client.stream(&format!("/{kind}/{name}/logs?{query}"), |piece| {
        if tty {
            return printer.write(1, piece);
        }
        frames.take(piece, |output, bytes| printer.line(output, bytes))
    })
}

/// Cuts a stream into its frames: a byte for the output, three zeros, four of length.
#[derive(Default)]
struct Frames {
    kept: Vec<u8>,
}

impl Frames {
    fn take(&mut self, piece: &[u8], mut each: impl FnMut(u8, &[u8]) -> Result<()>) -> Result<()> {
        self.kept.extend_from_slice(piece);
        let mut at = 0;
        while let Some(head) = self.kept.get(at..at + 8) {
            let length = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
            let output = head[0];
            let Some(payload) = self.kept.get(at + 8..at + 8 + length) else { break };
            each(output, payload)?;
            at += 8 + length;
        }
        self.kept.drain(..at);
        Ok(())
    }
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
            return self.write(output, bytes);
        }
        let text = String::from_utf8_lossy(bytes);
        let (time, rest) = match self.args.timestamps {
            true => text.split_once(' ').unwrap_or(("", &text)),
            false => ("", &*text),
        };
        let (context, said) = rest.split_once(' ').unwrap_or((rest, "\n"));
        let label = self.label(context);
        let time = if time.is_empty() { String::new() } else { format!("{time} ") };
        self.write(output, format!("{time}{label}    | {said}").as_bytes())
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

    fn write(&self, output: u8, bytes: &[u8]) -> Result<()> {
        if output == 2 {
            std::io::stderr().lock().write_all(bytes)?;
            return Ok(());
        }
        super::super::table::to_stdout(|out| Ok(out.write_all(bytes)?))
    }
}

#[test]
fn frames_are_cut_wherever_pieces_end() {
    let stream = b"\x01\0\0\0\0\0\0\x03hi\n\x02\0\0\0\0\0\0\x02e\n";
    for size in 1..stream.len() {
        let (mut frames, mut seen) = (Frames::default(), Vec::new());
        for piece in stream.chunks(size) {
            let see = |output, bytes: &[u8]| {
                seen.push((output, bytes.to_vec()));
                Ok(())
            };
            frames.take(piece, see).unwrap();
        }
        assert_eq!(seen, [(1, b"hi\n".to_vec()), (2, b"e\n".to_vec())]);
    }
}
