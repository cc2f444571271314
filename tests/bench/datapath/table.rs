//! The figures as Markdown.

use std::fmt::Write as _;

use super::Row;
use super::cases::Way;
use super::reference::{KNOWN, LOOKUP, NEW, Reference};
use crate::stats::{median, spread};

/// Both tables.
pub(crate) fn markdown(rows: &[Row], references: &[Reference], rounds: usize) -> String {
    let of = |name: &str| references.iter().find(|reference| reference.name == name).map_or(0.0, |r| median(&r.ns));
    let units = Units { lookup: of(LOOKUP), known: of(KNOWN), new: of(NEW) };
    let mut text = String::from(
        "| path | 1 service | 100 | 10,000 | 1, of 60,000 backends | spread | lookups | of the balancer | budget | |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        line(&mut text, row, &units);
    }
    text += "\n| reference | ns | spread | lookups |\n|---|---|---|---|\n";
    for reference in references {
        let ns = median(&reference.ns);
        let spread = spread(&reference.ns) * 100.0;
        let _ = writeln!(text, "| {} | {ns:.1} | {spread:.0} % | {:.1} |", reference.name, ns / units.lookup);
    }
    let _ = write!(text, "\nMedians of {rounds} rounds, ns a packet, net of an empty program run the same way.\n");
    text
}

struct Units {
    lookup: f64,
    known: f64,
    new: f64,
}

fn line(text: &mut String, row: &Row, units: &Units) {
    let medians: Vec<_> = row.ns.iter().map(|rounds| (!rounds.is_empty()).then(|| median(rounds))).collect();
    let Some(one) = medians.first().copied().flatten() else { return };
    let (kind, balancer) = if row.new > 0.5 { ("new", units.new) } else { ("known", units.known) };
    let budget = row.case.budget.map_or("-".to_owned(), |budget| format!("{budget:.0}"));
    let way = if row.case.way == Way::Single { " (single)" } else { "" };
    let some_new = row.new > 0.001 && row.new < 0.999;
    let made = if some_new { format!("; {:.0} % found no flow", row.new * 100.0) } else { String::new() };
    let figures = medians.iter().map(|ns| ns.map_or(" - |".to_owned(), |ns| format!(" {ns:.0} |")));
    let _ = writeln!(
        text,
        "| {}{way}{made} |{} {:.0} % | {:.0} | {:.2} {kind} | {budget} | {} |",
        row.case.name,
        figures.collect::<String>(),
        row.ns.first().map_or(0.0, |rounds| spread(rounds)) * 100.0,
        one / units.lookup,
        one / balancer,
        verdict(row, one, medians.get(2).copied().flatten().unwrap_or(one)),
    );
}

/// Is the row dearer than its budget, or does it grow with the number of services?
fn verdict(row: &Row, one: f64, many: f64) -> String {
    let mut words = Vec::new();
    if let Some(budget) = row.case.budget {
        words.push(if one > budget { "missed" } else { "met" }.to_owned());
    }
    if (many / one - 1.0).abs() > 0.1 {
        words.push(format!("not flat: {:.2}", many / one));
    }
    words.join(", ")
}
