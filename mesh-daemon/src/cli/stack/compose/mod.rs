//! Compose files of version 3: read, checked, completed and merged into one tree, in which everything has
//! its long form and knows the line it came from.
//!
//! YAML is serde-saphyr's; what it means is here. Reads files that the compose files name, and nothing else.

mod long;
mod merge;
mod ports;
mod schema;
mod shell;
mod tree;
mod variables;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

pub(super) use tree::{Map, Node, Value, Wrong};
pub(super) use variables::Environment;

/// A file as it was given.
pub(super) struct Source {
    /// What errors call it.
    pub(super) name: String,
    pub(super) text: String,
}

/// What files say.
pub(super) struct Stack {
    pub(super) tree: Node,
    /// What should be said to the user of things that are left out.
    pub(super) warnings: Vec<String>,
}

/// What a service cannot have in a swarm, and what is not carried: said, and left out.
const IGNORED: [&str; 18] = [
    "build",
    "cgroup_parent",
    "cgroupns_mode",
    "devices",
    "domainname",
    "external_links",
    "group_add",
    "ipc",
    "links",
    "mac_address",
    "network_mode",
    "pid",
    "privileged",
    "restart",
    "security_opt",
    "shm_size",
    "tmpfs",
    "userns_mode",
];

/// What is of no use any more, and why.
const DEPRECATED: [(&str, &str); 2] = [
    ("container_name", "Setting the container name is not supported."),
    (
        "expose",
        "Exposing ports is unnecessary - services on the same network can access each other's containers on any port.",
    ),
];

/// What version 3 does not have, and what it has instead.
const FORBIDDEN: [(&str, &str); 8] = [
    ("cpu_quota", "set resource limits using deploy.resources"),
    ("cpu_shares", "set resource limits using deploy.resources"),
    ("cpuset", "set resource limits using deploy.resources"),
    ("extends", "`extends` is not implemented"),
    ("mem_limit", "set resource limits using deploy.resources"),
    ("memswap_limit", "set resource limits using deploy.resources"),
    ("volume_driver", "define a volume using the top-level `volumes` option and specify the driver there"),
    ("volumes_from", "define a volume using the top-level `volumes` option and reference it from each service"),
];

/// Reads files as one; paths in them are of `folder`.
pub(super) fn load(sources: &[Source], folder: &Path, environment: &Environment) -> Result<Stack, Wrong> {
    let folder = absolute(folder)?;
    let around = long::Around { folder: &folder, environment };
    let mut missing = BTreeSet::new();
    let mut warnings = Vec::new();
    let mut merged: Option<Node> = None;
    let mut ignored = BTreeSet::new();
    let mut deprecated = BTreeSet::new();
    for source in sources {
        let mut file = tree::parse(&source.name, &source.text)?;
        if file.map().is_none() {
            return Err(Wrong::at(&file.at, "top-level object must be a mapping"));
        }
        check_version(&file)?;
        check_forbidden(&file)?;
        variables::put(&mut file, "", environment, &mut missing)?;
        let mut wrong = Vec::new();
        schema::check(&mut file, &schema::FILE, "", &mut wrong);
        if let Some(first) = wrong.into_iter().min_by_key(Wrong::place) {
            return Err(first);
        }
        let used = |name: &str| services(&file).any(|(_, service)| service.get(name).is_some());
        ignored.extend(IGNORED.into_iter().filter(|name| used(name)));
        deprecated.extend(DEPRECATED.into_iter().filter(|(name, _)| used(name)));
        long::all(&mut file, &around)?;
        match &mut merged {
            Some(merged) => merge::over(merged, file),
            None => merged = Some(file),
        }
    }
    let tree = merged.ok_or_else(|| Wrong::anywhere("specify a Compose file (with --compose-file)"))?;
    for name in missing {
        warnings.push(format!("The \"{name}\" variable is not set. Defaulting to a blank string."));
    }
    if !ignored.is_empty() {
        let names: Vec<_> = ignored.into_iter().collect();
        warnings.push(format!("Ignoring unsupported options: {}\n", names.join(", ")));
    }
    if !deprecated.is_empty() {
        let lines: Vec<_> = deprecated.into_iter().map(|(name, why)| format!("{name}: {why}")).collect();
        warnings.push(format!("Ignoring deprecated options:\n\n{}\n", lines.join("\n")));
    }
    Ok(Stack { tree, warnings })
}

fn absolute(folder: &Path) -> Result<PathBuf, Wrong> {
    std::path::absolute(folder).map_err(|error| Wrong::anywhere(format!("{}: {error}", folder.display())))
}

/// The services of a file, by name.
fn services(file: &Node) -> impl Iterator<Item = (&String, &Node)> {
    file.get("services").and_then(Node::map).into_iter().flatten()
}

fn check_version(file: &Node) -> Result<(), Wrong> {
    let Some(version) = file.get("version") else { return Ok(()) };
    let text = version.plain().unwrap_or_default();
    let minor = match text.split_once('.') {
        Some(("3", minor)) => minor.parse::<u32>().ok(),
        _ => (text == "3").then_some(0),
    };
    if minor.is_some_and(|minor| minor <= 14) {
        return Ok(());
    }
    Err(Wrong::at(&version.at, format!("unsupported Compose file version: {text}")))
}

fn check_forbidden(file: &Node) -> Result<(), Wrong> {
    for (service, node) in services(file) {
        for (name, instead) in FORBIDDEN {
            if let Some(found) = node.get(name) {
                return Err(Wrong::at(&found.at, format!("services.{service}.{name} is not supported: {instead}")));
            }
        }
    }
    Ok(())
}
