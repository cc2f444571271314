//! Puts measured sections into a page, between marks; the words around them are a person's.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

/// Replaces what stands between the marks of a part.
pub(crate) fn put(file: &Path, part: &str, section: &str) -> Result<()> {
    let page = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    let page = replace(&page, part, section).with_context(|| format!("{} has no marks of {part}", file.display()))?;
    fs::write(file, page).with_context(|| format!("write {}", file.display()))
}

fn replace(page: &str, part: &str, section: &str) -> Option<String> {
    let (begin, end) = (format!("<!-- {part}: measured -->\n"), format!("<!-- {part}: end -->"));
    let (before, rest) = page.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}\n{}\n\n{end}{after}", section.trim_end()))
}
