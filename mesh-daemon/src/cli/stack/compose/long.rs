//! Makes the long form of what may be written short, reads files of variables, and completes paths, so
//! that whoever reads a service afterwards knows one form of everything.

use std::collections::BTreeMap;
use std::path::Path;

use super::ports;
use super::shell;
use super::tree::{At, Map, Node, Value, Wrong};
use super::variables::Environment;

/// Where a file stands, and what its user's environment is.
pub(super) struct Around<'a> {
    pub(super) folder: &'a Path,
    pub(super) environment: &'a Environment,
}

impl Around<'_> {
    fn path(&self, text: &str) -> String {
        let home = self.environment.get("HOME");
        let text = match (text.strip_prefix('~'), home) {
            (Some(rest), Some(home)) => format!("{home}{rest}"),
            _ => text.to_owned(),
        };
        if text.starts_with('/') {
            return text;
        }
        let joined = self.folder.join(&text);
        // Without `.` and `..`, as the docker CLI joins.
        let mut clean = std::path::PathBuf::new();
        for part in joined.components() {
            match part {
                std::path::Component::ParentDir => drop(clean.pop()),
                std::path::Component::CurDir => {}
                std::path::Component::RootDir | std::path::Component::Prefix(_) | std::path::Component::Normal(_) => {
                    clean.push(part)
                }
            }
        }
        clean.display().to_string()
    }
}

/// Makes everything in a file long.
pub(super) fn all(file: &mut Node, around: &Around<'_>) -> Result<(), Wrong> {
    let Some(file) = file.map_mut() else { return Ok(()) };
    for (section, service) in each(file, &["services"]) {
        let path = format!("{section}.{}", service.0);
        if let Some(map) = service.1.map_mut() {
            self::service(map, &path, around)?;
        }
    }
    for (section, (name, object)) in each(file, &["networks", "volumes", "secrets", "configs"]) {
        if matches!(object.value, Value::Null) {
            object.value = Value::Map(Map::new());
        }
        let Some(map) = object.map_mut() else { continue };
        pairs(map, "labels");
        texts(map, "driver_opts");
        external(section, name, map)?;
        let is_file = matches!(section, "secrets" | "configs");
        if is_file && let Some(file) = map.get_mut("file") {
            let path = around.path(file.text().unwrap_or_default());
            file.value = Value::Text(path);
        }
    }
    Ok(())
}

/// The objects of sections.
fn each<'a>(
    file: &'a mut Map,
    sections: &'static [&'static str],
) -> impl Iterator<Item = (&'static str, (&'a String, &'a mut Node))> {
    let named = |name: &String| sections.iter().find(|section| *section == name).copied();
    file.iter_mut()
        .filter_map(move |(name, node)| Some((named(name)?, node.map_mut()?)))
        .flat_map(|(section, map)| map.iter_mut().map(move |object| (section, object)))
}

/// An object that is made by others has the name it has there, or its own.
fn external(section: &str, name: &str, map: &mut Map) -> Result<(), Wrong> {
    let Some(mut external) = map.remove("external") else { return Ok(()) };
    let what = section.trim_end_matches('s');
    let given = external.get("name").and_then(Node::text).map(str::to_owned);
    if external.value == Value::Bool(false) {
        return Ok(());
    }
    if section == "volumes" {
        for key in ["driver", "driver_opts", "labels"] {
            if let Some(node) = map.get(key) {
                return Err(Wrong::at(
                    &node.at,
                    format!("conflicting parameters \"external\" and \"{key}\" specified for volume \"{name}\""),
                ));
            }
        }
    }
    if given.is_some() && map.contains_key("name") {
        return Err(Wrong::at(
            &external.at,
            format!("{what} {name}: {what}.external.name and {what}.name conflict; only use {what}.name"),
        ));
    }
    let own = external.text_beside(given.unwrap_or_else(|| name.to_owned()));
    map.entry("name".to_owned()).or_insert(own);
    external.value = Value::Bool(true);
    map.insert("external".to_owned(), external);
    Ok(())
}

fn service(service: &mut Map, path: &str, around: &Around<'_>) -> Result<(), Wrong> {
    for key in ["labels", "sysctls"] {
        pairs(service, key);
    }
    if let Some(deploy) = service.get_mut("deploy").and_then(Node::map_mut) {
        pairs(deploy, "labels");
    }
    if service.get("deploy").is_some_and(|deploy| deploy.value == Value::Null) {
        service.remove("deploy");
    }
    for key in ["dns", "dns_search", "env_file", "tmpfs"] {
        listed(service, key, |text| Ok(vec![text.to_owned()]))?;
    }
    for key in ["command", "entrypoint"] {
        listed(service, key, |text| shell::split(text).map_err(|why| format!("{path}.{key}: {why}")))?;
    }
    if let Some(check) = service.get_mut("healthcheck").and_then(Node::map_mut) {
        listed(check, "test", |text| Ok(vec!["CMD-SHELL".to_owned(), text.to_owned()]))?;
    }
    if let Some(logging) = service.get_mut("logging").and_then(Node::map_mut) {
        texts(logging, "options");
    }
    hosts(service);
    networks(service);
    for key in ["secrets", "configs"] {
        sources(service, key);
    }
    if let Some(ports) = service.get_mut("ports") {
        ports::lengthen(ports, &format!("{path}.ports"))?;
    }
    if let Some(volumes) = service.get_mut("volumes")
        && let Value::List(items) = &mut volumes.value
    {
        for (index, item) in items.iter_mut().enumerate() {
            volume(item, &format!("{path}.volumes.{index}"), around)?;
        }
    }
    environment(service, around)
}

/// `KEY=VALUE` in a list, or a mapping, as a mapping to words.
fn pairs(map: &mut Map, key: &str) {
    let Some(node) = map.get_mut(key) else { return };
    if let Value::List(items) = &node.value {
        let pair = |item: &Node| {
            let (name, value) = item
                .text()
                .unwrap_or_default()
                .split_once('=')
                .unwrap_or_else(|| (item.text().unwrap_or_default(), ""));
            (name.to_owned(), item.text_beside(value))
        };
        node.value = Value::Map(items.iter().map(pair).collect());
    }
    texts(map, key);
}

/// The values of a mapping become words.
fn texts(map: &mut Map, key: &str) {
    for node in map.get_mut(key).and_then(Node::map_mut).into_iter().flat_map(Map::values_mut) {
        node.value = Value::Text(node.plain().unwrap_or_default());
    }
}

/// A word becomes the list that is made of it.
fn listed(map: &mut Map, key: &str, of: impl Fn(&str) -> Result<Vec<String>, String>) -> Result<(), Wrong> {
    let Some(node) = map.get_mut(key) else { return Ok(()) };
    let Some(text) = node.text() else { return Ok(()) };
    let items = of(text).map_err(|why| Wrong::at(&node.at, why))?;
    node.value = Value::List(items.into_iter().map(|item| node.text_beside(item)).collect());
    Ok(())
}

/// `extra_hosts`: a list of NAME:ADDRESS.
fn hosts(service: &mut Map) {
    let Some(node) = service.get_mut("extra_hosts") else { return };
    if let Value::Map(map) = &node.value {
        let host =
            |(name, address): (&String, &Node)| Some(address.text_beside(format!("{name}:{}", address.plain()?)));
        node.value = Value::List(map.iter().filter_map(host).collect());
    }
}

fn networks(service: &mut Map) {
    let Some(node) = service.get_mut("networks") else { return };
    if let Value::List(items) = &node.value {
        let named = items.iter().filter_map(|item| Some((item.text()?.to_owned(), item.beside(Value::Null))));
        node.value = Value::Map(named.collect());
    }
}

fn sources(service: &mut Map, key: &str) {
    let Some(Value::List(items)) = service.get_mut(key).map(|node| &mut node.value) else { return };
    for item in items {
        if let Some(text) = item.text() {
            let source = item.text_beside(text);
            item.value = Value::Map(Map::from([("source".to_owned(), source)]));
        }
    }
}

/// A volume as `SOURCE:TARGET:OPTIONS`, and the path of a bind.
fn volume(item: &mut Node, path: &str, around: &Around<'_>) -> Result<(), Wrong> {
    if let Some(text) = item.text() {
        item.value = Value::Map(
            short_volume(item, text)
                .map_err(|why| Wrong::at(&item.at, format!("{path}: invalid spec: {text}: {why}")))?,
        );
    }
    let at = item.at.clone();
    let Some(map) = item.map_mut() else { return Ok(()) };
    let Some(kind) = map.get("type").and_then(Node::text) else {
        return Err(Wrong::at(&at, format!("{path} type is required")));
    };
    if kind != "bind" {
        return Ok(());
    }
    let Some(source) = map.get_mut("source").filter(|source| source.text().is_some_and(|text| !text.is_empty())) else {
        return Err(Wrong::at(&at, "invalid mount config for type \"bind\": field Source must not be empty"));
    };
    source.value = Value::Text(around.path(source.text().unwrap_or_default()));
    Ok(())
}

const PROPAGATIONS: [&str; 6] = ["rprivate", "private", "rshared", "shared", "rslave", "slave"];

fn short_volume(item: &Node, text: &str) -> Result<Map, &'static str> {
    if text.is_empty() {
        return Err("invalid empty volume spec");
    }
    let parts: Vec<_> = text.split(':').collect();
    if parts.iter().any(|part| part.is_empty()) {
        return Err("empty section between colons");
    }
    let (source, target, options) = match parts.as_slice() {
        [target] => ("", *target, ""),
        [source, target] => (*source, *target, ""),
        [source, target, options] => (*source, *target, *options),
        _ => return Err("too many colons"),
    };
    let mut map = Map::new();
    let mut put = |key: &str, value: Value| drop(map.insert(key.to_owned(), item.beside(value)));
    let is_path = source.starts_with(['.', '/', '~']);
    put("type", Value::Text(if is_path { "bind" } else { "volume" }.to_owned()));
    put("target", Value::Text(target.to_owned()));
    if !source.is_empty() {
        put("source", Value::Text(source.to_owned()));
    }
    for option in options.split(',') {
        let of = |key: &str, value: Value| Value::Map(Map::from([(key.to_owned(), item.beside(value))]));
        match option {
            "ro" => put("read_only", Value::Bool(true)),
            "nocopy" => put("volume", of("nocopy", Value::Bool(true))),
            other if PROPAGATIONS.contains(&other) => put("bind", of("propagation", Value::Text(other.to_owned()))),
            // As the docker CLI: others mean nothing.
            _ => {}
        }
    }
    Ok(map)
}

/// The service's environment: of its files, then its own; what has no value takes the user's.
fn environment(service: &mut Map, around: &Around<'_>) -> Result<(), Wrong> {
    let mut all: BTreeMap<String, (At, Option<String>)> = BTreeMap::new();
    let mut add = |at: &At, name: String, value: Option<String>| {
        let value = match (value, around.environment.get(&name)) {
            (None, found) => found.cloned(),
            (Some(value), Some(found)) if value.is_empty() => Some(found.clone()),
            (value, _) => value,
        };
        all.insert(name, (at.clone(), value));
    };
    for file in service.remove("env_file").iter().flat_map(Node::items) {
        for (name, value) in variables(file, around)? {
            add(&file.at, name, value);
        }
    }
    if let Some(own) = service.get("environment") {
        for item in own.items() {
            let text = item.text().unwrap_or_default();
            match text.split_once('=') {
                Some((name, value)) => add(&item.at, name.to_owned(), Some(value.to_owned())),
                None => add(&item.at, text.to_owned(), None),
            }
        }
        for (name, item) in own.map().into_iter().flatten() {
            add(&item.at, name.clone(), item.plain());
        }
    }
    let node = |(name, (at, value)): (String, (At, Option<String>))| {
        (name, Node { at, value: value.map_or(Value::Null, Value::Text) })
    };
    let all: Map = all.into_iter().map(node).collect();
    let Some(at) = all.values().next().map(|first| first.at.clone()) else {
        service.remove("environment");
        return Ok(());
    };
    service.insert("environment".to_owned(), Node { at, value: Value::Map(all) });
    Ok(())
}

/// The largest file of variables.
const MAX_ENV_FILE: u64 = 1 << 20;

/// Lines of NAME=VALUE; NAME alone takes the user's value, and is nothing without one.
fn variables(file: &Node, around: &Around<'_>) -> Result<Vec<(String, Option<String>)>, Wrong> {
    let path = around.path(file.text().unwrap_or_default());
    let fail = |why: String| Wrong::at(&file.at, format!("env_file {path}: {why}"));
    let length = std::fs::metadata(&path).map_err(|error| fail(error.to_string()))?.len();
    if length > MAX_ENV_FILE {
        return Err(fail(format!("it has more than {MAX_ENV_FILE} bytes")));
    }
    let text = std::fs::read_to_string(&path).map_err(|error| fail(error.to_string()))?;
    let mut found = Vec::new();
    for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = line.split_once('=').map_or((line, None), |(name, value)| (name, Some(value)));
        let number = index + 1;
        if name.is_empty() {
            return Err(fail(format!("line {number}: no variable name on line '{line}'")));
        }
        if name.contains(char::is_whitespace) {
            return Err(fail(format!("line {number}: variable '{name}' contains whitespaces")));
        }
        match value {
            Some(value) => found.push((name.to_owned(), Some(value.to_owned()))),
            None if around.environment.contains_key(name) => found.push((name.to_owned(), None)),
            None => {}
        }
    }
    Ok(found)
}
