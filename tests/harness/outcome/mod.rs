//! What a run of the docker CLI left, made comparable with another, and the runs that were recorded before the
//! real Swarm: docker 28.2.2, dockerd 20.10.24.

mod normalise;

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde_json::Value;

pub use normalise::normalise;

/// A command as it was recorded.
#[derive(Clone, Debug)]
pub struct Case {
    /// The command, without `docker`.
    pub argv: Vec<String>,
    /// What it was given to read.
    pub stdin: Option<String>,
    /// What it left.
    pub outcome: Outcome,
}

/// What a command left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Its exit code.
    pub code: i64,
    /// Its output.
    pub out: String,
    /// Its errors.
    pub err: String,
}

impl From<&crate::Output> for Outcome {
    fn from(output: &crate::Output) -> Self {
        let code = output.status.code().map_or(-1, i64::from);
        Self { code, out: output.stdout.clone(), err: output.stderr.clone() }
    }
}

/// The recordings, by name.
///
/// # Errors
/// Their file is not what it should be.
pub fn recorded() -> Result<BTreeMap<String, Case>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/cli/recordings/cases.json");
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {path}"))?;
    let cases: Vec<Value> = serde_json::from_str(&text).with_context(|| format!("reading {path}"))?;
    let words = |value: &Value| value.as_str().map(str::to_owned).with_context(|| format!("no text: {value}"));
    let read = |case: &Value| {
        let code = case["rc"].as_i64().context("no rc")?;
        let outcome = Outcome { code, out: words(&case["out"])?, err: words(&case["err"])? };
        let argv = case["argv"].as_array().context("no argv")?.iter().map(words).collect::<Result<_>>()?;
        Ok((words(&case["name"])?, Case { argv, stdin: case["stdin"].as_str().map(str::to_owned), outcome }))
    };
    cases.iter().map(read).collect()
}

/// An outcome as it is compared. `name` is the recording's: `stack-..`, `..-ps..`.
pub fn comparable(name: &str, outcome: &Outcome) -> Outcome {
    let mut lines: Vec<_> = outcome.out.lines().map(str::to_owned).collect();
    // The CLI takes networks and services from a Go map, in any order.
    if name.starts_with("stack-") {
        lines.sort_by_key(|line| {
            ["Creating", "Updating", "Removing"].iter().any(|act| line.starts_with(act)).then(|| line.clone())
        });
    }
    let mut out = lines.join("\n");
    // Which node a task went to is the scheduler's, and chance.
    if name.contains("-ps") {
        for node in ["node1", "node2", "node3", "node4"] {
            out = out.replace(node, "NODE");
        }
    }
    Outcome { code: outcome.code, out: normalise(&out), err: normalise(&outcome.err) }
}

/// The lines that only one has.
pub fn difference(recorded: &str, ours: &str) -> String {
    let (a, b): (Vec<_>, Vec<_>) = (recorded.lines().collect(), ours.lines().collect());
    let only = |sign: &str, one: &[&str], other: &[&str]| {
        one.iter().filter(|line| !other.contains(line)).map(|line| format!("{sign} {line}\n")).collect::<String>()
    };
    let lines = only("-", &a, &b) + &only("+", &b, &a);
    if lines.is_empty() && a != b { "(other order)\n".to_owned() } else { lines }
}
