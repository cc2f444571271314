//! `KEY=VALUE` on the command line.

use anyhow::{Context as _, Result};

use crate::api::wire::Labels;

/// Reads labels; a key alone has an empty value.
pub(super) fn labels(given: &[String]) -> Labels {
    let pair = |text: &String| {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        (key.to_owned(), value.to_owned())
    };
    given.iter().map(pair).collect()
}

/// Adds and removes labels.
pub(super) fn change(labels: &mut Labels, add: &[String], remove: &[String]) -> Result<()> {
    for key in remove {
        labels.remove(key).with_context(|| format!("key {key} doesn't exist in node's labels"))?;
    }
    labels.extend(self::labels(add));
    Ok(())
}

/// Reads the parts of `key=value,key=value`, a key alone being `key=true`.
pub(super) fn fields(text: &str) -> Vec<(String, String)> {
    let part = |part: &str| {
        let (key, value) = part.split_once('=').unwrap_or((part, "true"));
        (key.trim().to_lowercase(), value.trim().to_owned())
    };
    text.split(',').map(part).collect()
}
