//! The name of a stack, and the labels that say what is part of it.

use anyhow::Result;

use super::super::each;
use super::compose::{Map, Node};
use crate::api::wire::Labels;

/// Whatever belongs to a stack has its name under this label.
pub(super) const NAMESPACE: &str = "com.docker.stack.namespace";

/// The image as the file names it.
pub(super) const IMAGE: &str = "com.docker.stack.image";

/// A stack's name.
pub(super) struct Name<'a>(&'a str);

impl<'a> Name<'a> {
    pub(super) fn new(name: &'a str) -> Result<Self> {
        let quoted = name.contains(['"', '\'']) || name.contains(char::is_whitespace);
        if name.is_empty() || quoted {
            return Err(each::bare(format!("invalid stack name: \"{name}\"")));
        }
        Ok(Self(name))
    }

    pub(super) fn text(&self) -> &'a str {
        self.0
    }

    /// What one of the stack's objects is called outside of it.
    pub(super) fn of(&self, name: &str) -> String {
        format!("{}_{name}", self.0)
    }

    /// What an object of the file is called in the swarm: its own name, if it has one.
    pub(super) fn of_object(&self, key: &str, object: &Map) -> String {
        object.get("name").and_then(Node::plain).unwrap_or_else(|| self.of(key))
    }

    /// Labels, and the one that says that this is the stack's.
    pub(super) fn label(&self, mut labels: Labels) -> Labels {
        labels.insert(NAMESPACE.to_owned(), self.0.to_owned());
        labels
    }

    /// The filter for what is the stack's.
    pub(super) fn filter(&self) -> String {
        format!("{NAMESPACE}={}", self.0)
    }
}
