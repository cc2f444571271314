//! A desired state from a TOML file. Every error names the file, the line and the field.

use std::fs;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::Desired;
use super::desired::Wrong;

/// Why a file is no desired state.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It is not TOML of the right shape.
    #[error("{}, line {line}: {problem}", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What.
        problem: String,
    },
    /// It contradicts itself.
    #[error("{}, line {line}: {wrong}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What.
        wrong: Wrong,
    },
}

/// Reads and checks a file.
///
/// # Errors
/// It cannot be read, has the wrong shape, or contradicts itself.
pub fn read(path: &Path) -> Result<Desired, FileError> {
    let text = fs::read_to_string(path).map_err(|source| FileError::Read { path: path.to_owned(), source })?;
    parse(path, &text)
}

/// Checks the text of a file; `path` is for messages.
///
/// # Errors
/// It has the wrong shape or contradicts itself.
pub fn parse(path: &Path, text: &str) -> Result<Desired, FileError> {
    let shape = |error: toml::de::Error| {
        let line = line_at(text, error.span().map_or(0, |span| span.start));
        // The text of the line names the field, which the message does not always.
        let written = text.lines().nth(line - 1).unwrap_or_default().trim();
        let problem = format!("`{written}`: {}", error.message().replace('\n', ", "));
        FileError::Shape { path: path.to_owned(), line, problem }
    };
    let desired: Desired = toml::from_str(text).map_err(shape)?;
    desired.check().map_err(|wrong| FileError::Wrong { path: path.to_owned(), line: line_of(text, &wrong), wrong })?;
    Ok(desired)
}

/// The line of the field, or of the nearest thing around it that is written down.
fn line_of(text: &str, wrong: &Wrong) -> usize {
    let start = DeTable::parse(text).ok().and_then(|document| {
        let section = document.get_ref().get(wrong.section)?;
        let place = match (section.get_ref(), wrong.index) {
            (DeValue::Array(list), Some(index)) => list.get(index)?,
            _ => section,
        };
        let field = match place.get_ref() {
            DeValue::Table(table) => table.get(wrong.field),
            _ => None,
        };
        Some(field.unwrap_or(place).span().start)
    });
    line_at(text, start.unwrap_or(0))
}

/// The line of a byte, from 1.
fn line_at(text: &str, byte: usize) -> usize {
    text.bytes().take(byte).filter(|byte| *byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests;
