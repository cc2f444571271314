//! `meshctl stack`: what a compose file says, as networks, secrets, configs and services of a swarm.

mod compose;
mod deploy;
mod fields;
mod mounts;
mod name;
mod objects;
mod policies;
mod remove;
mod service;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use clap::Subcommand;

use super::client::{self, Client, filters};
use super::listing::{Listing, Style};
use super::table::{Output, to_stdout};
use super::{each, listing, objects as files, service as services, task};
use crate::api::wire;

use compose::{Source, Stack};
use name::{NAMESPACE, Name};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Make a stack what its file says.
    #[command(visible_alias = "up")]
    Deploy(deploy::Args),
    /// List stacks.
    Ls {
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// List the tasks of a stack.
    Ps {
        /// By name.
        stack: String,
        #[command(flatten)]
        style: task::PsStyle,
    },
    /// List the services of a stack.
    Services {
        /// By name.
        stack: String,
        #[command(flatten)]
        style: Style,
    },
    /// Remove stacks.
    #[command(visible_aliases = ["remove", "down"])]
    Rm {
        /// By name.
        #[arg(required = true)]
        stacks: Vec<String>,
        /// Do not wait until the tasks are gone.
        #[arg(short, long, num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true", action = clap::ArgAction::Set)]
        detach: bool,
    },
    /// Print what files say, checked, completed and as one.
    Config {
        /// The files; - is standard input.
        #[arg(short, long = "compose-file", required = true)]
        compose_file: Vec<String>,
    },
}

pub(super) fn run(client: impl Fn() -> Result<Client>, command: Command) -> Result<()> {
    match command {
        Command::Deploy(args) => deploy::run(&client()?, &args),
        Command::Ls { output } => ls(&client()?, output),
        Command::Ps { stack, style } => ps(&client()?, &stack, &style),
        Command::Services { stack, style } => list_services(&client()?, &stack, &style),
        Command::Rm { stacks, detach } => {
            let client = client()?;
            each::object(&stacks, |stack| remove::run(&client, &Name::new(stack)?, detach))
        }
        Command::Config { compose_file } => {
            let stack = read(&compose_file)?;
            let text = serde_saphyr::to_string(&stack.tree).context("write YAML")?;
            to_stdout(|out| Ok(write!(out, "{text}")?))
        }
    }
}

/// Reads files, and says what of them is left out.
fn read(names: &[String]) -> Result<Stack> {
    let mut sources = Vec::new();
    for name in names {
        let bytes = files::read(name).map_err(|error| match error.downcast_ref::<std::io::Error>() {
            Some(why) if why.kind() == std::io::ErrorKind::NotFound => {
                each::bare(format!("open {name}: no such file or directory"))
            }
            _ => error,
        })?;
        let text = String::from_utf8(bytes).map_err(|_| each::bare(format!("{name}: it is not text (UTF-8)")))?;
        sources.push(Source { name: if name == "-" { "stdin".to_owned() } else { name.clone() }, text });
    }
    let folder = names.first().filter(|name| *name != "-").and_then(|name| Path::new(name).parent());
    let folder = folder.filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let stack = compose::load(&sources, folder, &environment).map_err(|wrong| each::bare(wrong.to_string()))?;
    stack.warnings.iter().for_each(|warning| warn(warning));
    Ok(stack)
}

#[expect(clippy::print_stderr, reason = "a warning beside the output that scripts read")]
fn warn(text: &str) {
    eprintln!("{text}");
}

fn ls(client: &Client, output: Output) -> Result<()> {
    let services: Vec<wire::Service> = client.get(&format!("/services{}", filters(&[("label", NAMESPACE)])))?;
    let mut stacks: BTreeMap<String, u64> = BTreeMap::new();
    for service in services {
        *stacks.entry(service.spec.labels.get(NAMESPACE).cloned().unwrap_or_default()).or_default() += 1;
    }
    if output == Output::Json {
        let rows = stacks.iter().map(|(name, count)| serde_json::json!({ "Name": name, "Services": count }));
        return listing::json(&rows.collect::<Vec<_>>());
    }
    let mut list = Listing::new(["NAME", "SERVICES"]);
    for (name, count) in stacks {
        list.push([name, count.to_string()]);
    }
    list.print()
}

fn ps(client: &Client, stack: &str, style: &task::PsStyle) -> Result<()> {
    let label = Name::new(stack)?.filter();
    let mut wanted = client::filter_pairs(&style.filter)?;
    wanted.push(("label", &label));
    let tasks: Vec<wire::Task> = client.get(&format!("/tasks{}", filters(&wanted)))?;
    if tasks.is_empty() {
        return Err(each::bare(format!("nothing found in stack: {stack}")));
    }
    task::print(client, tasks, style)
}

fn list_services(client: &Client, stack: &str, style: &Style) -> Result<()> {
    let label = Name::new(stack)?.filter();
    let found: Vec<wire::Service> = client.get(&format!("/services{}", filters(&[("label", &label)])))?;
    if found.is_empty() {
        warn(&format!("Nothing found in stack: {stack}"));
        return Ok(());
    }
    services::ls(client, style, vec![("label", &label)])
}
