//! The pages of docs/reference, made from the lists of mesh-common.

use super::Page;
use super::contract::{TYPE_HEADING, VERSION_LINE};
use super::source_docs::{SourceDocs, StructDocs};
use crate::workspace;
use anyhow::{Context as _, Result, bail};
use mesh_common::ABI_VERSION;
use mesh_common::abi::Layout;
use mesh_common::counter::Counter;
use mesh_common::drop::DropReason;
use mesh_common::layouts::{LAYOUTS, LIMITS};
use std::fmt::Write as _;
use std::fs;

/// Every page.
pub(super) fn all() -> Result<Vec<Page>> {
    let reasons = DropReason::ALL.iter().map(|reason| (*reason as u32, reason.name(), reason.describe()));
    let counters = Counter::ALL.iter().map(|counter| (*counter as u32, counter.name(), counter.describe()));
    Ok(vec![
        Page {
            name: "drop-reasons.md",
            text: numbered(
                "Drop reasons",
                "Every packet that mesh drops has one of these reasons, counted by number in the per-CPU array `DROPS`.",
                reasons,
            ),
        },
        Page {
            name: "counters.md",
            text: numbered("Counters", "What the programs count, by number in the per-CPU array `COUNTERS`.", counters),
        },
        Page { name: "maps-abi.md", text: maps_abi(&source_docs()?)? },
    ])
}

fn head(title: &str, story: &str) -> String {
    format!(
        "# {title}\n\n<!-- Written by `cargo xtask gen` from mesh-common; never edited by hand. -->\n\n{story}\n\n\
         {VERSION_LINE}{ABI_VERSION}.\n"
    )
}

fn numbered<'a>(title: &str, story: &str, rows: impl Iterator<Item = (u32, &'a str, &'a str)>) -> String {
    let mut page = head(title, story);
    page.push_str("\nNumbers are appended, never reused.\n\n| number | name | meaning |\n|---:|---|---|\n");
    for (number, name, meaning) in rows {
        page.push_str(&format!("| {number} | `{name}` | {} |\n", in_cell(meaning)));
    }
    page
}

fn maps_abi(sources: &[Source]) -> Result<String> {
    let mut page = head(
        "Layout of maps",
        "The types that lie in BPF maps, byte by byte, and how many of each there may be. Pinned maps carry the version in \
         their path, so that an upgrade never reads bytes of another shape.",
    );
    page.push_str("\n## Limits\n\n| limit | value | what is counted |\n|---|---:|---|\n");
    let constants =
        || sources.iter().filter(|source| source.name == "limits").flat_map(|source| &source.docs.constants);
    for limit in LIMITS {
        let (_, text) = constants().find(|(name, _)| name == limit.name).with_context(|| {
            format!("layouts::LIMITS names {}, which mesh-common/src/limits.rs does not declare", limit.name)
        })?;
        writeln!(page, "| `{}` | {} | {} |", limit.name, limit.value, in_cell(text))?;
    }
    if let Some((name, _)) = constants().find(|(name, _)| !LIMITS.iter().any(|limit| limit.name == name)) {
        bail!("mesh-common/src/limits.rs declares {name}, which layouts::LIMITS does not name");
    }
    page.push_str("\n## Types\n");
    for layout in LAYOUTS {
        page.push_str(&one_type(layout, sources)?);
    }
    none_is_missing(sources)?;
    Ok(page)
}

fn one_type(layout: &Layout, sources: &[Source]) -> Result<String> {
    let docs = sources.iter().find_map(|source| source.docs.structs.get(layout.name));
    let docs = docs.with_context(|| format!("no source of mesh-common declares type {}", layout.name))?;
    let mut text = format!("\n{TYPE_HEADING}`{}` ({} bytes)\n\n{}\n\n", layout.name, layout.size, docs.text);
    text.push_str("| offset | size | field | type | meaning |\n|---:|---:|---|---|---|\n");
    for (index, field) in layout.fields.iter().enumerate() {
        let words = field_words(docs, index, field.name)
            .with_context(|| format!("field {} of {} is not found in its source", field.name, layout.name))?;
        let (at, size, name) = (field.offset, field.size, field.name);
        writeln!(text, "| {at} | {size} | `{name}` | `{}` | {} |", words.0, in_cell(words.1))?;
    }
    Ok(text)
}

/// Type and text of a field, if the source has it at this place.
fn field_words<'a>(docs: &'a StructDocs, index: usize, name: &str) -> Option<(&'a str, &'a str)> {
    docs.fields.get(index).filter(|field| field.name == name).map(|field| (field.ty.as_str(), field.text.as_str()))
}

/// Fails if a source with [`shared!`](mesh_common::shared) types has one that is not in the list.
fn none_is_missing(sources: &[Source]) -> Result<()> {
    for source in sources.iter().filter(|source| source.shares_types) {
        if let Some(name) = source.docs.structs.keys().find(|name| !LAYOUTS.iter().any(|layout| layout.name == *name)) {
            bail!("mesh-common/src/{}.rs shares type {name}, which layouts::LAYOUTS does not name", source.name);
        }
    }
    Ok(())
}

/// A source file of mesh-common.
struct Source {
    name: String,
    docs: SourceDocs,
    /// Does it declare types that lie in maps? (Headers lie in packets.)
    shares_types: bool,
}

fn source_docs() -> Result<Vec<Source>> {
    let folder = workspace::root().join("mesh-common/src");
    let mut sources = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".rs"))
        else {
            continue;
        };
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let shares_types = text.lines().any(|line| line.starts_with("shared! {"));
        sources.push(Source { name: name.to_owned(), docs: SourceDocs::read(&text), shares_types });
    }
    Ok(sources)
}

/// Text that keeps to its cell of a table; what rustdoc would make a link is only a name here.
fn in_cell(text: &str) -> String {
    text.trim().replace('|', "\\|").replace("[`", "`").replace("`]", "`")
}

#[cfg(test)]
mod tests {
    use super::super::contract::Contract;
    use super::*;

    #[test]
    fn every_shared_type_and_limit_is_on_the_page() {
        let page = all().unwrap().pop().unwrap();
        for layout in LAYOUTS {
            assert!(page.text.contains(&format!("### `{}` ({} bytes)", layout.name, layout.size)), "{}", layout.name);
        }
        for limit in LIMITS {
            assert!(page.text.contains(&format!("| `{}` | {} |", limit.name, limit.value)), "{}", limit.name);
        }
    }

    #[test]
    fn a_page_read_back_promises_what_was_written() {
        let row = |name: &'static str| [(0, "A", "one"), (7, name, "has a | in it")].into_iter();
        let page = |name| Contract::read(&numbered("T", "S", row(name)));
        assert_eq!(page("B").version, Some(ABI_VERSION));
        assert_eq!(page("C").breaks(&page("B")), ["number 7 was B and is C"]);
    }

    #[test]
    fn a_moved_field_is_seen_through_the_page() {
        let sources = source_docs().unwrap();
        let page = maps_abi(&sources).unwrap();
        let moved = page.replacen("| 16 | 2 |", "| 18 | 2 |", 1);
        assert_ne!(page, moved);
        assert_eq!(Contract::read(&moved).breaks(&Contract::read(&page)), ["type NodeConfig has another layout"]);
    }
}
