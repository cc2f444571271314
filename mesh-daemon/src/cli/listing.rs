//! Lists as the docker CLI prints them: columns at least ten wide, three spaces apart.

use std::io::Write;

use anyhow::Result;
use serde::Serialize;

use super::table::{self, Output};

/// The narrowest column.
const MIN_WIDTH: usize = 10;

/// Spaces between columns.
const GAP: usize = 3;

/// Rows under headers.
pub(super) struct Listing {
    lines: Vec<Vec<String>>,
}

impl Listing {
    pub(super) fn new<const N: usize>(headers: [&str; N]) -> Self {
        Self { lines: vec![headers.map(str::to_owned).to_vec()] }
    }

    pub(super) fn push<const N: usize>(&mut self, cells: [String; N]) {
        self.lines.push(cells.to_vec());
    }

    /// Prints the table.
    pub(super) fn print(&self) -> Result<()> {
        table::to_stdout(|out| self.write(out))
    }

    fn write(&self, out: &mut impl Write) -> Result<()> {
        let columns = self.lines.first().map_or(0, Vec::len);
        let width = |column: usize| {
            let longest = self.lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max();
            (longest.unwrap_or(0) + GAP).max(MIN_WIDTH)
        };
        let widths: Vec<_> = (0..columns).map(width).collect();
        for line in &self.lines {
            for (column, cell) in line.iter().enumerate() {
                // The last column ends where its text does.
                let width = if column + 1 == columns { 0 } else { widths[column] };
                write!(out, "{cell:<width$}")?;
            }
            writeln!(out)?;
        }
        Ok(())
    }
}

/// How a list is asked for, by every `ls`.
#[derive(clap::Args)]
pub(super) struct Style {
    /// Only ids.
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    /// Only what fits KEY=VALUE; may be given more than once.
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(super) filter: Vec<String>,
}

impl Style {
    /// Prints objects: as JSON, as ids, or as the table that `list` makes.
    pub(super) fn print<T: Serialize>(
        &self,
        objects: &[T],
        id: impl Fn(&T) -> String,
        list: impl FnOnce(&[T]) -> Listing,
    ) -> Result<()> {
        if self.output == Output::Json {
            return json(&objects);
        }
        if self.quiet {
            return lines(objects.iter().map(id));
        }
        list(objects).print()
    }
}

/// Prints a document.
pub(super) fn json(document: &impl Serialize) -> Result<()> {
    table::to_stdout(|out| Ok(writeln!(out, "{}", indent(document)?)?))
}

/// JSON as `docker inspect` prints it: four spaces a level.
pub(super) fn indent(document: &impl Serialize) -> Result<String> {
    let mut text = Vec::new();
    let four = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    document.serialize(&mut serde_json::Serializer::with_formatter(&mut text, four))?;
    Ok(String::from_utf8(text)?)
}

/// Prints lines.
pub(super) fn lines(lines: impl IntoIterator<Item = String>) -> Result<()> {
    table::to_stdout(|out| {
        for line in lines {
            writeln!(out, "{line}")?;
        }
        Ok(())
    })
}

/// Prints one line.
pub(super) fn line(text: impl Into<String>) -> Result<()> {
    lines([text.into()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_ten_wide_at_least_and_three_apart() {
        let mut listing = Listing::new(["ID", "HOSTNAME", "STATUS"]);
        listing.push(["x17rtwguomvp *".into(), "node1".into(), "Ready".into()]);
        let mut text = Vec::new();
        listing.write(&mut text).unwrap();
        let expected = "ID               HOSTNAME   STATUS\nx17rtwguomvp *   node1      Ready\n";
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }

    #[test]
    fn json_has_four_spaces_a_level() {
        assert_eq!(indent(&serde_json::json!([{"a": 1}])).unwrap(), "[\n    {\n        \"a\": 1\n    }\n]");
    }
}
