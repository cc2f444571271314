//! Reads the fields of what was checked: what is not there is its type's zero.

use super::super::units;
use super::compose::{Map, Node, Value, Wrong};
use crate::api::wire::Labels;

/// A mapping's fields.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a>(pub(super) Option<&'a Map>);

impl<'a> Fields<'a> {
    pub(super) fn of(node: Option<&'a Node>) -> Self {
        Self(node.and_then(Node::map))
    }

    pub(super) fn node(&self, name: &str) -> Option<&'a Node> {
        self.0?.get(name)
    }

    pub(super) fn is_there(&self) -> bool {
        self.0.is_some()
    }

    pub(super) fn below(&self, name: &str) -> Self {
        Self::of(self.node(name))
    }

    pub(super) fn text(&self, name: &str) -> String {
        self.node(name).and_then(Node::plain).unwrap_or_default()
    }

    pub(super) fn some_text(&self, name: &str) -> Option<String> {
        self.node(name).and_then(Node::plain)
    }

    pub(super) fn some_bool(&self, name: &str) -> Option<bool> {
        match self.node(name)?.value {
            Value::Bool(is) => Some(is),
            Value::Null | Value::Integer(_) | Value::Number(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => {
                None
            }
        }
    }

    pub(super) fn bool(&self, name: &str) -> bool {
        self.some_bool(name).unwrap_or_default()
    }

    pub(super) fn some_integer(&self, name: &str) -> Option<i64> {
        match self.node(name)?.value {
            Value::Integer(number) => Some(number),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => None,
        }
    }

    pub(super) fn integer(&self, name: &str) -> i64 {
        self.some_integer(name).unwrap_or_default()
    }

    /// A number that cannot be negative, up to a bound.
    pub(super) fn count(&self, name: &str, path: &str, most: u64) -> Result<Option<u64>, Wrong> {
        let Some(number) = self.some_integer(name) else { return Ok(None) };
        match u64::try_from(number) {
            Ok(number) if number <= most => Ok(Some(number)),
            _ => Err(self.wrong(name, format!("{path}.{name} must be from 0 to {most}, and is {number}"))),
        }
    }

    pub(super) fn ratio(&self, name: &str) -> f64 {
        match self.node(name).map(|node| &node.value) {
            #[expect(clippy::cast_precision_loss, reason = "a ratio is 0 or 1 if it is whole")]
            Some(Value::Integer(number)) => *number as f64,
            Some(Value::Number(number)) => *number,
            Some(Value::Null | Value::Bool(_) | Value::Text(_) | Value::List(_) | Value::Map(_)) | None => 0.0,
        }
    }

    /// In nanoseconds.
    pub(super) fn some_duration(&self, name: &str) -> Option<i64> {
        units::duration(self.node(name)?.text()?).ok()
    }

    pub(super) fn duration(&self, name: &str) -> i64 {
        self.some_duration(name).unwrap_or_default()
    }

    pub(super) fn texts(&self, name: &str) -> Vec<String> {
        self.items(name).iter().filter_map(Node::plain).collect()
    }

    pub(super) fn items(&self, name: &str) -> &'a [Node] {
        self.node(name).map_or(&[], Node::items)
    }

    pub(super) fn entries(&self, name: &str) -> impl Iterator<Item = (&'a String, &'a Node)> + use<'a> {
        self.node(name).and_then(Node::map).into_iter().flatten()
    }

    pub(super) fn labels(&self, name: &str) -> Labels {
        self.entries(name).map(|(name, node)| (name.clone(), node.plain().unwrap_or_default())).collect()
    }

    /// What a field's text means to `read`, or what is wrong with it.
    pub(super) fn read(
        &self,
        name: &str,
        path: &str,
        read: impl Fn(&str) -> anyhow::Result<i64>,
    ) -> Result<i64, Wrong> {
        let Some(text) = self.some_text(name) else { return Ok(0) };
        read(&text).map_err(|error| self.wrong(name, format!("{path}.{name}: {error}")))
    }

    /// Something is wrong at a field.
    pub(super) fn wrong(&self, name: &str, text: String) -> Wrong {
        match self.node(name) {
            Some(node) => Wrong::at(&node.at, text),
            None => Wrong::anywhere(text),
        }
    }
}
