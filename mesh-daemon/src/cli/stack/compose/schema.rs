//! What may stand where: the compose format 3.13, as data.
//!
//! A word stands for a number or a boolean where one is asked for, since what a variable gives is a word.

use super::super::super::units;
use super::tree::{Node, Value, Wrong};

/// What may stand at a place.
pub(super) enum Shape {
    Any,
    Text,
    Bool,
    Integer,
    Number,
    /// As `1m30s`.
    Duration,
    /// A word, a number, or nothing.
    Plain,
    /// One of these words.
    Word(&'static [&'static str]),
    List(&'static Shape),
    /// By names of objects.
    Named(&'static Shape),
    /// By any names.
    Free(&'static Shape),
    /// These names only, and those that begin with `x-`.
    Fields(&'static [(&'static str, Shape)]),
    Null,
    /// The first that fits.
    Either(&'static [Shape]),
}

use Shape::{Any, Bool, Duration, Either, Fields, Free, Integer, List, Named, Null, Number, Plain, Text, Word};

const TEXTS: Shape = List(&Text);
const TEXT_OR_TEXTS: Shape = Either(&[Text, List(&Text)]);
const PAIRS: Shape = Either(&[Free(&Plain), List(&Text)]);
const OPTIONS: Shape = Free(&Plain);

/// The whole file.
pub(super) const FILE: Shape = Fields(&[
    ("version", Text),
    ("services", Named(&SERVICE)),
    ("networks", Named(&NETWORK)),
    ("volumes", Named(&VOLUME)),
    ("secrets", Named(&FILE_OBJECT)),
    ("configs", Named(&FILE_OBJECT)),
]);

const SERVICE: Shape = Fields(&[
    ("build", Either(&[Text, Free(&Any)])),
    ("cap_add", TEXTS),
    ("cap_drop", TEXTS),
    ("cgroup_parent", Text),
    ("cgroupns_mode", Text),
    ("command", TEXT_OR_TEXTS),
    ("configs", List(&FILE_USE)),
    ("container_name", Text),
    ("credential_spec", Fields(&[("config", Text), ("file", Text), ("registry", Text)])),
    ("depends_on", TEXTS),
    ("deploy", Either(&[DEPLOY, Null])),
    ("devices", TEXTS),
    ("dns", TEXT_OR_TEXTS),
    ("dns_search", TEXT_OR_TEXTS),
    ("domainname", Text),
    ("entrypoint", TEXT_OR_TEXTS),
    ("env_file", TEXT_OR_TEXTS),
    ("environment", PAIRS),
    ("expose", List(&Either(&[Text, Number]))),
    ("external_links", TEXTS),
    ("extra_hosts", PAIRS),
    ("group_add", List(&Either(&[Text, Number]))),
    ("healthcheck", HEALTHCHECK),
    ("hostname", Text),
    ("image", Text),
    ("init", Bool),
    ("ipc", Text),
    ("isolation", Text),
    ("labels", PAIRS),
    ("links", TEXTS),
    ("logging", Fields(&[("driver", Text), ("options", OPTIONS)])),
    ("mac_address", Text),
    ("network_mode", Text),
    ("networks", Either(&[List(&Text), Named(&Either(&[NETWORK_USE, Null]))])),
    ("oom_score_adj", Integer),
    ("pid", Either(&[Text, Null])),
    ("ports", List(&Either(&[Text, Integer, PORT]))),
    ("privileged", Bool),
    ("read_only", Bool),
    ("restart", Text),
    ("secrets", List(&FILE_USE)),
    ("security_opt", TEXTS),
    ("shm_size", Either(&[Text, Number])),
    ("stdin_open", Bool),
    ("stop_grace_period", Duration),
    ("stop_signal", Text),
    ("sysctls", PAIRS),
    ("tmpfs", TEXT_OR_TEXTS),
    ("tty", Bool),
    ("ulimits", Free(&Either(&[Integer, Fields(&[("hard", Integer), ("soft", Integer)])]))),
    ("user", Text),
    ("userns_mode", Text),
    ("volumes", List(&Either(&[Text, VOLUME_USE]))),
    ("working_dir", Text),
]);

const PORT: Shape = Fields(&[("mode", Text), ("protocol", Text), ("published", Integer), ("target", Integer)]);

const FILE_USE: Shape =
    Either(&[Text, Fields(&[("gid", Text), ("mode", Integer), ("source", Text), ("target", Text), ("uid", Text)])]);

const NETWORK_USE: Shape =
    Fields(&[("aliases", TEXTS), ("driver_opts", OPTIONS), ("ipv4_address", Text), ("ipv6_address", Text)]);

const VOLUME_USE: Shape = Fields(&[
    ("bind", Fields(&[("propagation", Text)])),
    ("cluster", Fields(&[])),
    ("consistency", Text),
    ("read_only", Bool),
    ("source", Text),
    ("target", Text),
    ("tmpfs", Fields(&[("size", Integer)])),
    ("type", Word(&["volume", "bind", "tmpfs", "npipe", "cluster"])),
    ("volume", Fields(&[("nocopy", Bool)])),
]);

const HEALTHCHECK: Shape = Fields(&[
    ("disable", Bool),
    ("interval", Duration),
    ("retries", Integer),
    ("start_interval", Duration),
    ("start_period", Duration),
    ("test", TEXT_OR_TEXTS),
    ("timeout", Duration),
]);

const DEPLOY: Shape = Fields(&[
    ("endpoint_mode", Text),
    ("labels", PAIRS),
    ("mode", Word(&["replicated", "global", "replicated-job", "global-job"])),
    (
        "placement",
        Fields(&[
            ("constraints", TEXTS),
            ("max_replicas_per_node", Integer),
            ("preferences", List(&Fields(&[("spread", Text)]))),
        ]),
    ),
    ("replicas", Integer),
    (
        "resources",
        Fields(&[
            ("limits", Fields(&[("cpus", Text), ("memory", Text), ("pids", Integer)])),
            ("reservations", Fields(&[("cpus", Text), ("generic_resources", List(&GENERIC)), ("memory", Text)])),
        ]),
    ),
    (
        "restart_policy",
        Fields(&[
            ("condition", Word(&["none", "on-failure", "any"])),
            ("delay", Duration),
            ("max_attempts", Integer),
            ("window", Duration),
        ]),
    ),
    ("rollback_config", UPDATE),
    ("update_config", UPDATE),
]);

const GENERIC: Shape = Fields(&[("discrete_resource_spec", Fields(&[("kind", Text), ("value", Integer)]))]);

const UPDATE: Shape = Fields(&[
    ("delay", Duration),
    ("failure_action", Word(&["pause", "continue", "rollback"])),
    ("max_failure_ratio", Number),
    ("monitor", Duration),
    ("order", Word(&["start-first", "stop-first"])),
    ("parallelism", Integer),
]);

const EXTERNAL: Shape = Either(&[Bool, Fields(&[("name", Text)])]);

const NETWORK: Shape = Either(&[
    Null,
    Fields(&[
        ("attachable", Bool),
        ("driver", Text),
        ("driver_opts", OPTIONS),
        ("external", EXTERNAL),
        ("internal", Bool),
        ("ipam", Fields(&[("config", List(&Fields(&[("subnet", Text)]))), ("driver", Text)])),
        ("labels", PAIRS),
        ("name", Text),
    ]),
]);

const VOLUME: Shape = Either(&[
    Null,
    Fields(&[
        ("driver", Text),
        ("driver_opts", OPTIONS),
        ("external", EXTERNAL),
        ("labels", PAIRS),
        ("name", Text),
        ("spec", Any),
    ]),
]);

const FILE_OBJECT: Shape = Fields(&[
    ("driver", Text),
    ("driver_opts", OPTIONS),
    ("external", EXTERNAL),
    ("file", Text),
    ("labels", PAIRS),
    ("name", Text),
    ("template_driver", Text),
]);

/// Checks a node and all below it; words become what is asked for.
pub(super) fn check(node: &mut Node, shape: &'static Shape, path: &str, wrong: &mut Vec<Wrong>) {
    if let Either(shapes) = shape {
        return match shapes.iter().find(|shape| fits(node, shape)) {
            Some(shape) => check(node, shape, path, wrong),
            None => wrong.push(Wrong::at(&node.at, format!("{path} must be {}", words(shape)))),
        };
    }
    if !fits(node, shape) {
        wrong.push(Wrong::at(&node.at, format!("{path} must be {}", words(shape))));
        return;
    }
    cast(node, shape);
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match (&mut node.value, shape) {
        (Value::List(items), List(shape)) => {
            for (index, item) in items.iter_mut().enumerate() {
                check(item, shape, &below(&index.to_string()), wrong);
            }
        }
        (Value::Map(map), Named(shape) | Free(shape)) => {
            for (name, item) in map {
                check(item, shape, &below(name), wrong);
            }
        }
        (Value::Map(map), Fields(fields)) => {
            for (name, item) in map {
                match fields.iter().find(|(field, _)| field == name) {
                    Some((_, shape)) => check(item, shape, &below(name), wrong),
                    None if name.starts_with("x-") => {}
                    None => wrong.push(Wrong::at(&item.at, unknown(path, name, fields))),
                }
            }
        }
        _ => {}
    }
}

fn unknown(path: &str, name: &str, fields: &[(&'static str, Shape)]) -> String {
    let place = if path.is_empty() { "(root)" } else { path };
    let near = fields.iter().map(|(field, _)| *field).filter(|field| distance(field, name) <= 2);
    let meant = near.min_by_key(|field| distance(field, name));
    let meant = meant.map(|field| format!(": is \"{field}\" meant?")).unwrap_or_default();
    format!("{place} Additional property {name} is not allowed{meant}")
}

/// How many letters two words differ in (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, one) in a.chars().enumerate() {
        let mut corner = i;
        row[0] = i + 1;
        for (j, other) in b.iter().enumerate() {
            let replaced = corner + usize::from(one != *other);
            corner = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// Whether a node is of a shape, as far as can be said without looking below it.
fn fits(node: &Node, shape: &Shape) -> bool {
    match (&node.value, shape) {
        (_, Any)
        | (Value::Text(_), Text)
        | (Value::Bool(_), Bool)
        | (Value::Integer(_), Integer | Number)
        | (Value::Number(_), Number)
        | (Value::Null, Null)
        | (Value::List(_), List(_))
        | (Value::Map(_), Free(_) | Fields(_)) => true,
        (value, Plain) => !matches!(value, Value::List(_) | Value::Map(_)),
        (Value::Map(map), Named(_)) => map.keys().all(|name| is_name(name)),
        (Value::Text(text), Word(words)) => words.contains(&text.as_str()),
        (Value::Text(text), Duration) => units::duration(text).is_ok(),
        (Value::Text(_), Bool | Integer | Number) => as_asked(node, shape).is_some(),
        (_, Either(shapes)) => shapes.iter().any(|shape| fits(node, shape)),
        _ => false,
    }
}

/// The boolean or number that a word stands for.
fn as_asked(node: &Node, shape: &Shape) -> Option<Value> {
    let text = node.text()?;
    match shape {
        Integer => text.parse().ok().map(Value::Integer),
        Number => text.parse().ok().map(Value::Number),
        Bool => match text.to_lowercase().as_str() {
            "y" | "yes" | "true" | "on" => Some(Value::Bool(true)),
            "n" | "no" | "false" | "off" => Some(Value::Bool(false)),
            _ => None,
        },
        _ => None,
    }
}

fn cast(node: &mut Node, shape: &Shape) {
    if let Some(value) = as_asked(node, shape) {
        node.value = value;
    }
}

fn words(shape: &Shape) -> String {
    let fixed = match shape {
        Any => "a value",
        Text => "a string",
        Bool => "a boolean",
        Integer => "an integer",
        Number => "a number",
        Duration => "a duration as 1m30s",
        Plain => "a string, a number or null",
        List(_) => "a list",
        Named(_) => "a mapping, its names of letters, digits, \".\", \"_\" and \"-\"",
        Free(_) | Fields(_) => "a mapping",
        Null => "null",
        Word(words) => return format!("one of {}", words.join(", ")),
        Either(shapes) => return shapes.iter().map(words).collect::<Vec<_>>().join(" or "),
    };
    fixed.to_owned()
}
