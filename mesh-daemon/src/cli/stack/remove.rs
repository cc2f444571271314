//! Removes what belongs to a stack.

use std::time::Duration;

use anyhow::Result;

use super::super::client::{Client, filters, is_not_found};
use super::super::each;
use super::super::listing::line;
use super::name::Name;
use super::warn;
use crate::api::wire;

/// Between two looks at the tasks that are going.
const PERIOD: Duration = Duration::from_millis(200);

pub(super) fn run(client: &Client, name: &Name<'_>, detach: bool) -> Result<()> {
    let label = name.filter();
    let query = filters(&[("label", &label)]);
    let services: Vec<wire::Service> = client.get(&format!("/services{query}"))?;
    let secrets: Vec<wire::Secret> = client.get(&format!("/secrets{query}"))?;
    let configs: Vec<wire::Config> = client.get(&format!("/configs{query}"))?;
    let networks: Vec<wire::Network> = client.get(&format!("/networks{query}"))?;
    if services.is_empty() && secrets.is_empty() && configs.is_empty() && networks.is_empty() {
        warn(&format!("Nothing found in stack: {}", name.text()));
        return Ok(());
    }
    let mut all: Vec<(&str, String, String)> = Vec::new();
    all.extend(services.into_iter().map(|one| ("service", one.spec.name, one.id)));
    all.extend(secrets.into_iter().map(|one| ("secret", one.spec.name, one.id)));
    all.extend(configs.into_iter().map(|one| ("config", one.spec.name, one.id)));
    all.extend(networks.into_iter().map(|one| ("network", one.name, one.id)));
    // The kinds in this order, since each uses those after it.
    let kinds = ["service", "secret", "config", "network"];
    all.sort_by_key(|(kind, name, _)| (kinds.iter().position(|other| other == kind), name.clone()));
    let mut failed = Vec::new();
    for (kind, name, id) in all {
        line(format!("Removing {kind} {name}"))?;
        match client.delete(&format!("/{kind}s/{id}")) {
            Err(error) if !is_not_found(&error) => failed.push(format!("Failed to remove {kind} {name}: {error:#}")),
            _ => {}
        }
    }
    if !failed.is_empty() {
        let text = format!("{}\nFailed to remove some resources from stack: {}", failed.join("\n"), name.text());
        return Err(each::bare(text));
    }
    if !detach {
        wait(client, &label)?;
    }
    Ok(())
}

/// Until no task of the stack runs.
fn wait(client: &Client, label: &str) -> Result<()> {
    loop {
        let tasks: Vec<wire::Task> = client.get(&format!("/tasks{}", filters(&[("label", label)])))?;
        let over = ["complete", "shutdown", "failed", "rejected", "remove", "orphaned"];
        if tasks.iter().all(|task| over.contains(&task.status.state.as_str())) {
            return Ok(());
        }
        std::thread::sleep(PERIOD);
    }
}
