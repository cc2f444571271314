//! `node.labels.zone==a`: what a task asks of its node.
//!
//! Words, keys and comparisons are SwarmKit's: keys and values compare without regard to case.

use std::net::IpAddr;

use crate::model::cidr::Cidr;
use crate::model::node::{Node, Role};

/// A condition that a node must meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Constraint {
    key: String,
    equal: bool,
    value: String,
}

/// Why a text is not a constraint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidConstraint {
    /// It has neither `==` nor `!=`.
    #[error("constraint expected one operator from ==, !=")]
    Operator,
    /// What stands before the operator cannot be a key.
    #[error("key '{0}' is invalid")]
    Key(String),
    /// What stands behind the operator cannot be a value.
    #[error("value '{0}' is invalid")]
    Value(String),
}

const NODE_LABEL: &str = "node.labels.";
const ENGINE_LABEL: &str = "engine.labels.";

impl Constraint {
    /// Reads `KEY==VALUE` or `KEY!=VALUE`.
    pub fn parse(text: &str) -> Result<Self, InvalidConstraint> {
        let (at, equal) = [("==", true), ("!=", false)]
            .into_iter()
            .filter_map(|(operator, equal)| Some((text.find(operator)?, equal)))
            .min()
            .ok_or(InvalidConstraint::Operator)?;
        let (key, value) = (text[..at].trim(), text[at + 2..].trim());
        if !is_key(key) {
            return Err(InvalidConstraint::Key(key.to_owned()));
        }
        if value.is_empty() || !value.chars().all(is_value_char) {
            return Err(InvalidConstraint::Value(value.to_owned()));
        }
        Ok(Self { key: key.to_owned(), equal, value: value.to_owned() })
    }

    /// Whether the node meets it. A key that is none is met by no node.
    #[must_use]
    pub fn fits(&self, node: &Node) -> bool {
        let key = self.key.to_lowercase();
        let description = node.description.as_ref();
        let platform = description.map(|description| &description.platform);
        match key.as_str() {
            "node.id" => self.compare(&node.id.to_string()),
            "node.hostname" => self.compare(description.map_or("", |description| &description.hostname)),
            "node.ip" => self.compare_address(&node.status.addr),
            "node.role" => self.compare(match node.role {
                Role::Worker => "worker",
                Role::Manager => "manager",
            }),
            "node.platform.os" => self.compare(platform.map_or("", |platform| &platform.os)),
            "node.platform.arch" => self.compare(platform.map_or("", |platform| architecture(&platform.architecture))),
            _ if key.starts_with(NODE_LABEL) => {
                let label = &self.key[NODE_LABEL.len()..];
                self.compare(node.spec.annotations.labels.get(label).map_or("", String::as_str))
            }
            _ if key.starts_with(ENGINE_LABEL) => {
                let label = &self.key[ENGINE_LABEL.len()..];
                let labels = description.map(|description| &description.engine.labels);
                self.compare(labels.and_then(|labels| labels.get(label)).map_or("", String::as_str))
            }
            _ => false,
        }
    }

    fn compare(&self, seen: &str) -> bool {
        let wanted =
            if self.key.eq_ignore_ascii_case("node.platform.arch") { architecture(&self.value) } else { &self.value };
        wanted.eq_ignore_ascii_case(seen) == self.equal
    }

    /// An address, or a network that has it. An address that cannot be read is in no network.
    fn compare_address(&self, seen: &str) -> bool {
        let seen: Option<IpAddr> = seen.parse().ok();
        let within = match (self.value.parse::<IpAddr>(), self.value.parse::<Cidr>()) {
            (Ok(address), _) => seen == Some(address),
            (_, Ok(network)) => seen.is_some_and(|seen| network.contains(seen)),
            _ => return false,
        };
        within == self.equal
    }
}

/// One word for each processor: nodes say it as `uname -m`, images as Go does.
#[must_use]
pub fn architecture(word: &str) -> &str {
    match word {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        _ => word,
    }
}

fn is_key(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && text.len() > 1
        && chars.all(|char| char.is_ascii_alphanumeric() || "-_./".contains(char))
}

fn is_value_char(char: char) -> bool {
    char.is_ascii_alphanumeric() || char.is_ascii_whitespace() || ":-_.*()?+[]\\^$|/".contains(char)
}
