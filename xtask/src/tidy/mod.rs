//! The rules of the house that neither rustc nor clippy knows, each a pure function over the files
//! of the repository. docs/STYLE.md says why they are there.

mod decisions;
mod edges;
mod files;
mod source;
mod unsafe_code;
mod words;

use crate::{command, workspace};
use anyhow::{Context as _, Result, bail};
use clap::Args;
use source::SourceFile;
use std::fmt;
use std::fs;
use std::path::Path;

/// Arguments of `cargo xtask tidy`.
#[derive(Args)]
pub(crate) struct Tidy {}

/// A place where a rule is broken, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    path: String,
    /// Counted from 1; 0 means the file as a whole.
    line: usize,
    what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.what),
            line => write!(f, "{}:{line}: {}", self.path, self.what),
        }
    }
}

/// A rule: all files in, findings out.
type Rule = fn(&[SourceFile]) -> Vec<Finding>;

/// Every rule, by the words that name it.
const RULES: &[(&str, Rule)] = &[
    ("modules depend downward only", edges::check),
    ("files are short, text, and named by what they hold", files::check),
    ("nothing is left undone or waved through", words::check),
    ("unsafe code stays where it is expected", unsafe_code::check),
    ("decisions are numbered and linked", decisions::check),
];

impl Tidy {
    pub(crate) fn run(self) -> Result<()> {
        let files = load(&workspace::root())?;
        let findings = findings(&files);
        for finding in &findings {
            println!("{finding}");
        }
        if !findings.is_empty() {
            bail!("{} findings; the rules stand in xtask/src/tidy", findings.len());
        }
        println!("tidy: {} rules over {} files", RULES.len(), files.len());
        Ok(())
    }
}

fn findings(files: &[SourceFile]) -> Vec<Finding> {
    let mut findings: Vec<_> = RULES.iter().flat_map(|(_, rule)| rule(files)).collect();
    findings.sort();
    findings
}

/// What git tracks and what it would: a file that is ignored is no part of the house.
fn load(root: &Path) -> Result<Vec<SourceFile>> {
    let mut git = command::program("git");
    git.args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"]).current_dir(root);
    let names = command::read(&mut git)?;
    let mut names: Vec<&str> = names.split('\0').filter(|name| !name.is_empty()).collect();
    // During a merge git names a file once per side.
    names.dedup();
    // A file that is deleted but not yet committed is still named.
    names.retain(|name| root.join(name).is_file());
    let read = |name: &str| {
        let bytes = fs::read(root.join(name)).with_context(|| format!("read {name}"))?;
        Ok(SourceFile::new(name, bytes))
    };
    names.into_iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_repository_is_tidy() {
        let findings = findings(&load(&workspace::root()).unwrap());
        assert!(findings.is_empty(), "{}", findings.iter().map(|f| format!("\n{f}")).collect::<String>());
    }
}
