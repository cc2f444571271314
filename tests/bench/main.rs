//! mesh-bench: measures the packet path and the API beside references, in one run on one machine.
//!
//! `mesh-bench [datapath|live|net|api]... [--quick | --page FILE]`; `cargo xtask bench` builds and runs it.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it talks to the person who started it")]

mod api;
mod datapath;
mod live;
mod machine;
mod net;
mod page;
mod stats;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};

/// A part, by name: what it measures as Markdown.
type Part = (&'static str, fn(Effort) -> Result<String>);

/// How long to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effort {
    /// For figures that are shown to others.
    Full,
    /// While one changes something: fewer rounds, one world.
    Quick,
}

impl Effort {
    /// One number or the other.
    pub(crate) fn of(self, full: usize, quick: usize) -> usize {
        match self {
            Self::Full => full,
            Self::Quick => quick,
        }
    }
}

/// Every part, in the order of the page.
const PARTS: &[Part] = &[("datapath", datapath::run), ("live", live::run), ("net", net::run), ("api", api::run)];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut wanted = Vec::new();
    let mut file = None;
    let mut effort = Effort::Full;
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        if arg == "--page" {
            file = Some(PathBuf::from(args.next().context("--page needs a file")?));
        } else if arg == "--quick" {
            effort = Effort::Quick;
        } else {
            wanted.push(*PARTS.iter().find(|(name, _)| *name == arg).with_context(|| format!("no part {arg:?}"))?);
        }
    }
    for (name, part) in if wanted.is_empty() { PARTS.to_vec() } else { wanted } {
        let measured = part(effort).with_context(|| format!("part {name}"))?;
        let section = format!("{}\n{measured}", machine::describe());
        println!("{name}\n\n{section}");
        if let Some(file) = &file {
            page::put(file, name, &section)?;
        }
    }
    Ok(())
}
