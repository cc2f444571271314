//! Output: rows of named cells as an aligned table (as the docker CLI prints them) or as JSON.

use std::io::{self, Write};

use anyhow::Result;
use serde_json::{Map, Value};
use tabwriter::TabWriter;

/// How to print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Output {
    /// Aligned columns.
    #[default]
    Table,
    /// One JSON document.
    Json,
}

/// A row: cells by column name, in order.
pub(super) type Row = Map<String, Value>;

/// Writes rows that all have the same columns.
pub(super) fn write(out: &mut impl Write, rows: &[Row]) -> Result<()> {
    let Some(first) = rows.first() else { return Ok(()) };
    // The docker CLI's: three spaces between columns.
    let mut table = TabWriter::new(out).minwidth(0).padding(3);
    let header: Vec<_> = first.keys().map(|name| name.to_uppercase().replace('_', " ")).collect();
    writeln!(table, "{}", header.join("\t"))?;
    for row in rows {
        let cells: Vec<_> = row.values().map(cell).collect();
        writeln!(table, "{}", cells.join("\t"))?;
    }
    table.flush()?;
    Ok(())
}

fn cell(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Runs `print` on standard output; a reader that went away (`| head`) is no error.
pub(super) fn to_stdout(print: impl FnOnce(&mut io::StdoutLock<'_>) -> Result<()>) -> Result<()> {
    let closed = |error: &anyhow::Error| {
        error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    };
    match print(&mut io::stdout().lock()) {
        Err(error) if closed(&error) => Ok(()),
        other => other,
    }
}
