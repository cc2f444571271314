//! All objects as a text: a line that says what it is, then an object a line.

use std::io::{self, BufRead, Write};

use serde::{Deserialize, Serialize};

use super::error::Rejection;
use super::object::AnyObject;
use super::tables::Tables;
use crate::model::meta::Version;

const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Header {
    format: u32,
    version: Version,
    objects: usize,
}

/// Why objects cannot be written or put back.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// They cannot be written.
    #[error("write a snapshot")]
    Write(#[source] io::Error),
    /// They cannot be read.
    #[error("read a snapshot")]
    Read(#[source] io::Error),
    /// A line is not what was written.
    #[error("line {line} of the snapshot is not what was written there")]
    Line {
        /// Which, from 1.
        line: usize,
        /// Why.
        source: serde_json::Error,
    },
    /// A later version of mesh wrote it.
    #[error("the snapshot has format {format}: this version reads {FORMAT}")]
    Format {
        /// What it has.
        format: u32,
    },
    /// Objects are missing.
    #[error("the snapshot ends after {found} of {expected} objects")]
    Short {
        /// So many are there.
        found: usize,
        /// So many were written.
        expected: usize,
    },
    /// Two objects cannot both be.
    #[error("the snapshot contradicts itself")]
    Contradiction(#[source] Rejection),
}

pub(super) fn save(tables: &Tables, mut writer: impl Write) -> Result<(), SnapshotError> {
    let header = Header { format: FORMAT, version: tables.version(), objects: tables.all().count() };
    line(&mut writer, &header)?;
    for object in tables.all() {
        line(&mut writer, &object)?;
    }
    writer.flush().map_err(SnapshotError::Write)
}

fn line(writer: &mut impl Write, what: &impl Serialize) -> Result<(), SnapshotError> {
    serde_json::to_writer(&mut *writer, what).map_err(|error| SnapshotError::Write(error.into()))?;
    writer.write_all(b"\n").map_err(SnapshotError::Write)
}

pub(super) fn load(reader: impl BufRead) -> Result<Tables, SnapshotError> {
    let mut lines = reader.lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new())).map_err(SnapshotError::Read)?;
    let header: Header = parse(&first, 1)?;
    if header.format != FORMAT {
        return Err(SnapshotError::Format { format: header.format });
    }
    let mut tables = Tables::at_version(header.version);
    let mut found = 0;
    for text in lines {
        let object: AnyObject = parse(&text.map_err(SnapshotError::Read)?, found + 2)?;
        tables.put(object).map_err(SnapshotError::Contradiction)?;
        found += 1;
    }
    if found == header.objects { Ok(tables) } else { Err(SnapshotError::Short { found, expected: header.objects }) }
}

fn parse<'de, T: Deserialize<'de>>(text: &'de str, line: usize) -> Result<T, SnapshotError> {
    serde_json::from_str(text).map_err(|source| SnapshotError::Line { line, source })
}
