//! Several files as one: what a later one says, it says instead, or in addition.

use super::tree::{Map, Node, Value};

/// Puts what a later file says into an earlier one.
pub(super) fn over(base: &mut Node, later: Node) {
    let Value::Map(later) = later.value else { return };
    let Some(base) = base.map_mut() else { return };
    for (section, node) in later {
        let Some(before) = base.get_mut(&section) else {
            base.insert(section, node);
            continue;
        };
        match (section.as_str(), node.value) {
            ("services", Value::Map(services)) => {
                let Some(before) = before.map_mut() else { continue };
                for (name, service) in services {
                    match before.get_mut(&name) {
                        Some(before) => self::service(before, service),
                        None => drop(before.insert(name, service)),
                    }
                }
            }
            // Networks, volumes, secrets and configs are said whole.
            (_, Value::Map(objects)) => match before.map_mut() {
                Some(before) => before.extend(objects),
                None => before.value = Value::Map(objects),
            },
            (_, value) => before.value = value,
        }
    }
}

fn service(before: &mut Node, later: Node) {
    let Value::Map(later) = later.value else { return };
    let Some(before) = before.map_mut() else { return };
    for (field, node) in later {
        let Some(old) = before.get_mut(&field) else {
            before.insert(field, node);
            continue;
        };
        match field.as_str() {
            "command" | "entrypoint" | "ulimits" => *old = node,
            "secrets" | "configs" => by(old, node, |item| item.get("source").and_then(Node::plain)),
            "volumes" => by(old, node, |item| item.get("target").and_then(Node::plain)),
            "ports" => by(old, node, |item| Some(port(item))),
            "logging" if differ(old, &node, "driver") => *old = node,
            _ => deep(old, node),
        }
    }
}

/// What tells a published port from others.
fn port(item: &Node) -> String {
    let field = |name: &str| item.get(name).and_then(Node::plain).unwrap_or_default();
    format!("{:0>5} {} {} {}", field("published"), field("target"), field("protocol"), field("mode"))
}

fn differ(one: &Node, other: &Node, field: &str) -> bool {
    match (one.get(field), other.get(field)) {
        (Some(one), Some(other)) => one.value != other.value,
        (None, _) | (_, None) => false,
    }
}

/// Lists whose items have a key: a later item takes the place of the earlier one, sorted by it.
fn by(old: &mut Node, later: Node, key: impl Fn(&Node) -> Option<String>) {
    let items = old.items().iter().chain(later.items()).cloned();
    let keyed: std::collections::BTreeMap<_, _> = items.map(|item| (key(&item), item)).collect();
    old.value = Value::List(keyed.into_values().collect());
}

/// Mappings are merged, lists go on, anything else is replaced.
fn deep(old: &mut Node, later: Node) {
    match (&mut old.value, later.value) {
        (Value::Map(old), Value::Map(later)) => merge_maps(old, later),
        (Value::List(old), Value::List(later)) => old.extend(later),
        // Nothing said is nothing changed.
        (_, Value::Null) => {}
        (_, value) => *old = Node { at: later.at, value },
    }
}

fn merge_maps(old: &mut Map, later: Map) {
    for (name, node) in later {
        match old.get_mut(&name) {
            Some(before) => deep(before, node),
            None => drop(old.insert(name, node)),
        }
    }
}
