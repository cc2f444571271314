//! Writes docs/reference from the lists of mesh-common, so that no page is kept by hand.
//!
//! It also holds the promise of [`mesh_common::ABI_VERSION`]: pinned maps of one version have one
//! shape. A layout, list or limit that differs from the committed page while the version does not
//! is refused.

mod contract;
mod pages;
mod source_docs;

use crate::{command, workspace};
use anyhow::{Context as _, Result, bail};
use clap::Args;
use contract::Contract;
use std::fs;

const FOLDER: &str = "docs/reference";

/// Arguments of `cargo xtask gen`.
#[derive(Args)]
pub(crate) struct Gen {
    /// Write nothing; fail if a page is not what the code says.
    #[arg(long)]
    pub(crate) check: bool,
}

/// A page of docs/reference.
struct Page {
    name: &'static str,
    text: String,
}

impl Gen {
    pub(crate) fn run(self) -> Result<()> {
        let pages = pages::all()?;
        for page in &pages {
            refuse_a_silent_change(page)?;
        }
        let folder = workspace::root().join(FOLDER);
        let differs = |page: &&Page| fs::read_to_string(folder.join(page.name)).ok().as_ref() != Some(&page.text);
        let stale: Vec<_> = pages.iter().filter(differs).collect();
        if self.check && !stale.is_empty() {
            let names: Vec<_> = stale.iter().map(|page| format!("{FOLDER}/{}", page.name)).collect();
            bail!("not what the code says: {}; `cargo xtask gen` writes them anew", names.join(", "));
        }
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        for page in &stale {
            let path = folder.join(page.name);
            fs::write(&path, &page.text).with_context(|| format!("write {}", path.display()))?;
            println!("gen: wrote {FOLDER}/{}", page.name);
        }
        if stale.is_empty() {
            println!("gen: {} pages are what the code says", pages.len());
        }
        Ok(())
    }
}

/// Fails if the page as it was last committed with another text promised another contract under
/// the same ABI version.
fn refuse_a_silent_change(page: &Page) -> Result<()> {
    let now = Contract::read(&page.text);
    let Some((commit, text)) = last_other_version(page)? else {
        return Ok(());
    };
    let breaks = now.breaks(&Contract::read(&text));
    if !breaks.is_empty() {
        bail!(
            "{FOLDER}/{} changes what ABI version {} promised in commit {commit}:\n  {}\n\
             pinned maps of that version have the old shape: raise ABI_VERSION in mesh-common/src/lib.rs",
            page.name,
            now.version.unwrap_or(0),
            breaks.join("\n  ")
        );
    }
    Ok(())
}

/// The last committed text of the page that is not its text now, with its commit.
fn last_other_version(page: &Page) -> Result<Option<(String, String)>> {
    let path = format!("{FOLDER}/{}", page.name);
    let log = ["log", "--max-count=10", "--format=%h", "--", &path];
    // A repository without a commit yet, or a copy without git, has no version to keep to.
    let Ok(commits) = command::read(command::program("git").args(log)) else {
        println!("gen: no git history here, so layouts are not compared with an earlier commit");
        return Ok(None);
    };
    for commit in commits.lines() {
        // A commit that deleted the page has no text of it.
        let text = command::read(command::program("git").args(["show", &format!("{commit}:{path}")])).ok();
        if let Some(text) = text.filter(|text| *text != page.text) {
            return Ok(Some((commit.to_owned(), text)));
        }
    }
    Ok(None)
}
