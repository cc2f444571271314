//! Commands that take several objects: each is tried, what fails is said, and the command fails if any
//! did.

use std::fmt;

use anyhow::Result;
use serde_json::Value;

use super::client::{Client, Refusal};
use super::listing::{json, line};

/// A program that was run for the user ended with this code, and so does meshctl, without a word.
#[derive(Debug)]
pub(super) struct Ended(pub(super) u8);

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exit code {}", self.0)
    }
}

impl std::error::Error for Ended {}

/// Several failures, each a line.
#[derive(Debug)]
struct Failures(Vec<anyhow::Error>);

impl fmt::Display for Failures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<_> = self.0.iter().map(|error| format!("{error:#}")).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for Failures {}

/// Whether an error is already in the words of the docker CLI, and is printed bare.
pub(super) fn is_bare(error: &anyhow::Error) -> bool {
    error.is::<Refusal>() || error.is::<Failures>()
}

/// Objects by name.
pub(super) struct Each<'a> {
    names: &'a [String],
}

impl<'a> Each<'a> {
    pub(super) fn new(names: &'a [String]) -> Self {
        Self { names }
    }

    /// Removes each, and prints its name.
    pub(super) fn remove(&self, remove: impl Fn(&str) -> Result<()>) -> Result<()> {
        object(self.names, |name| {
            remove(name)?;
            line(name)
        })
    }
}

/// Does something with each.
pub(super) fn object(names: &[String], mut act: impl FnMut(&str) -> Result<()>) -> Result<()> {
    let failures: Vec<_> = names.iter().filter_map(|name| act(name).err()).collect();
    if failures.is_empty() { Ok(()) } else { Err(Failures(failures).into()) }
}

/// Prints each as the node wrote it, in one list.
pub(super) fn inspect(client: &Client, names: &[String], path: impl Fn(&str) -> String) -> Result<()> {
    let mut found: Vec<Value> = Vec::new();
    let looked = object(names, |name| {
        found.push(client.get(&path(name))?);
        Ok(())
    });
    json(&found)?;
    looked
}

/// A failure in words that are printed as they are.
pub(super) fn bare(text: impl Into<String>) -> anyhow::Error {
    Failures(vec![anyhow::Error::msg(text.into())]).into()
}
