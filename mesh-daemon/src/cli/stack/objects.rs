//! The networks, secrets and configs of a stack, as they should be.

use std::collections::{BTreeMap, BTreeSet};

use super::compose::{Map, Node, Wrong};
use super::fields::Fields;
use super::name::Name;
use crate::api::wire::{self, ConfigSpec, Driver, Ipam, IpamConfig, NetworkCreateRequest, SecretSpec};

/// The network of services that name none.
pub(super) const DEFAULT_NETWORK: &str = "default";

/// The largest file that is read: a config has fewer bytes.
const MAX_BYTES: u64 = 1 << 20;

/// Networks to be made, and those that others made and must be there: by name, where the file says so.
pub(super) struct Networks<'a> {
    pub(super) own: BTreeMap<String, NetworkCreateRequest>,
    pub(super) external: Vec<(String, &'a Node)>,
}

/// The networks that services are in.
pub(super) fn networks<'a>(tree: &'a Node, name: &Name<'_>) -> Networks<'a> {
    let mut used = BTreeSet::new();
    for (_, service) in Fields::of(Some(tree)).entries("services") {
        let names: Vec<_> = Fields::of(Some(service)).entries("networks").map(|(name, _)| name.as_str()).collect();
        if names.is_empty() {
            used.insert(DEFAULT_NETWORK);
        }
        used.extend(names);
    }
    let declared = Fields::of(Some(tree)).below("networks");
    let mut networks = Networks { own: BTreeMap::new(), external: Vec::new() };
    for key in used {
        let node = declared.node(key);
        let network = Fields::of(node);
        if let Some(node) = node.filter(|_| network.bool("external")) {
            networks.external.push((network.text("name"), node));
            continue;
        }
        let called = network.some_text("name").unwrap_or_else(|| name.of(key));
        networks.own.insert(called.clone(), request(called, network, name));
    }
    networks
}

fn request(called: String, network: Fields<'_>, name: &Name<'_>) -> NetworkCreateRequest {
    let options = network.labels("driver_opts");
    let driver = network.text("driver");
    NetworkCreateRequest {
        name: called,
        driver: if driver.is_empty() { "overlay".to_owned() } else { driver },
        internal: network.bool("internal"),
        attachable: network.bool("attachable"),
        labels: Some(name.label(network.labels("labels"))),
        options: (!options.is_empty()).then_some(options),
        ipam: ipam(network.below("ipam")),
        ..NetworkCreateRequest::default()
    }
}

fn ipam(ipam: Fields<'_>) -> Option<Ipam> {
    let driver = ipam.text("driver");
    let subnet = |node: &Node| IpamConfig { subnet: Fields::of(Some(node)).text("subnet"), ..IpamConfig::default() };
    let config: Vec<_> = ipam.items("config").iter().map(subnet).collect();
    if driver.is_empty() && config.is_empty() {
        return None;
    }
    Some(Ipam { driver, config: Some(config), ..Ipam::default() })
}

/// The secrets that the file makes.
pub(super) fn secrets(tree: &Node, name: &Name<'_>) -> Result<Vec<SecretSpec>, Wrong> {
    own(tree, "secrets")
        .map(|(key, node, map)| {
            let fields = Fields(Some(map));
            let driver = fields.text("driver");
            let spec = SecretSpec {
                name: name.of_object(key, map),
                labels: name.label(fields.labels("labels")),
                templating: templating(fields),
                ..SecretSpec::default()
            };
            if driver.is_empty() {
                return Ok(SecretSpec { data: data("secrets", key, node, fields)?, ..spec });
            }
            let driver = Driver { name: driver, options: fields.labels("driver_opts"), ..Driver::default() };
            Ok(SecretSpec { driver: Some(driver), ..spec })
        })
        .collect()
}

/// The configs that the file makes.
pub(super) fn configs(tree: &Node, name: &Name<'_>) -> Result<Vec<ConfigSpec>, Wrong> {
    own(tree, "configs")
        .map(|(key, node, map)| {
            let fields = Fields(Some(map));
            Ok(ConfigSpec {
                name: name.of_object(key, map),
                labels: name.label(fields.labels("labels")),
                data: data("configs", key, node, fields)?,
                templating: templating(fields),
                ..ConfigSpec::default()
            })
        })
        .collect()
}

fn own<'a>(tree: &'a Node, section: &str) -> impl Iterator<Item = (&'a String, &'a Node, &'a Map)> {
    let objects = Fields::of(Some(tree)).entries(section);
    let mapped = objects.filter_map(|(key, node)| Some((key, node, node.map()?)));
    mapped.filter(|(_, _, map)| !Fields(Some(map)).bool("external"))
}

fn templating(fields: Fields<'_>) -> Option<Driver> {
    Some(Driver { name: fields.some_text("template_driver")?, ..Driver::default() })
}

/// The bytes of an object's file.
fn data(section: &str, key: &str, node: &Node, fields: Fields<'_>) -> Result<String, Wrong> {
    let Some(path) = fields.some_text("file") else {
        return Err(Wrong::at(&node.at, format!("{section}.{key} needs a file, or external: true")));
    };
    let fail = |why: String| fields.wrong("file", format!("{section}.{key}.file: {path}: {why}"));
    let length = std::fs::metadata(&path).map_err(|error| fail(error.to_string()))?.len();
    if length > MAX_BYTES {
        return Err(fail(format!("it has more than {MAX_BYTES} bytes")));
    }
    let bytes = std::fs::read(&path).map_err(|error| fail(error.to_string()))?;
    Ok(wire::base64::encode(&bytes))
}
