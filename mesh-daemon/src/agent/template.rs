//! `{{.Service.Name}}` and its like, in host names, environments, mounts and payloads.
//!
//! Of Go's templates what Swarm documents: a field in braces, with or without `index`. Anything else is
//! refused by name, so that nothing is put in silently wrong.

use std::collections::BTreeMap;

use crate::model::node::NodeDescription;
use crate::model::task::Task;

/// What templates may name.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    fields: BTreeMap<&'static str, String>,
    labels: BTreeMap<String, String>,
}

impl Facts {
    pub(super) fn new(task: &Task, description: &NodeDescription) -> Self {
        let id = |id: Option<String>| id.unwrap_or_default();
        let slot = if task.slot == 0 { id(task.node_id.map(|node| node.to_string())) } else { task.slot.to_string() };
        let fields = BTreeMap::from([
            (".Service.ID", id(task.service_id.map(|service| service.to_string()))),
            (".Service.Name", task.service_name.clone()),
            (".Node.ID", id(task.node_id.map(|node| node.to_string()))),
            (".Node.Hostname", description.hostname.clone()),
            (".Node.Platform.Architecture", description.platform.architecture.clone()),
            (".Node.Platform.OS", description.platform.os.clone()),
            (".Task.ID", task.id.to_string()),
            (".Task.Name", task.name()),
            (".Task.Slot", slot),
        ]);
        Self { fields, labels: task.service_labels.clone() }
    }
}

/// Fills a text in.
pub(super) fn fill(text: &str, facts: &Facts) -> Result<String, String> {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once("{{") {
        let (inside, after) = behind.split_once("}}").ok_or_else(|| format!("\"{{{{{behind}\" has no end"))?;
        filled.push_str(before);
        filled.push_str(&value(inside.trim(), facts)?);
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

fn value(expression: &str, facts: &Facts) -> Result<String, String> {
    if let Some(value) = facts.fields.get(expression) {
        return Ok(value.clone());
    }
    let label = expression
        .strip_prefix("index .Service.Labels ")
        .and_then(|quoted| quoted.trim().strip_prefix('"')?.strip_suffix('"'))
        .or_else(|| expression.strip_prefix(".Service.Labels."));
    match label {
        Some(label) => Ok(facts.labels.get(label).cloned().unwrap_or_default()),
        None => Err(format!("\"{expression}\" names nothing that a task has")),
    }
}
