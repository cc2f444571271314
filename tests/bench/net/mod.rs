//! What a user gets, with real sockets between namespaces: throughput, round trips, connections a
//! second, and the processor time of each, for mesh beside the host's own network, beside a routing
//! mesh made of the kernel's parts as Docker Swarm shapes it, and beside HAProxy.
//!
//! All candidates stand side by side and take turns within a round.

mod beds;
mod load;

use anyhow::{Context as _, Result};

use self::beds::{Bare, Candidate, Kernel, Mesh};
use self::load::Figures;
use crate::Effort;
use crate::stats::{median, spread};

const ROUNDS: usize = 5;

/// What is measured of a candidate, one value a round.
struct Measured {
    candidate: Candidate,
    rounds: Vec<Figures>,
}

/// A column: its title, which figure, and whether the ratio says "more is better".
struct Column {
    title: &'static str,
    figure: fn(&Figures) -> f64,
}

const COLUMNS: &[Column] = &[
    Column { title: "TCP, 1 flow, Gbit/s", figure: |of| of.one_flow },
    Column { title: "TCP, 8 flows, Gbit/s", figure: |of| of.eight_flows },
    Column { title: "CPU ns/KiB", figure: |of| of.cpu_per_kib },
    Column { title: "RR p50, µs", figure: |of| of.rr_p50 },
    Column { title: "RR p99, µs", figure: |of| of.rr_p99 },
    Column { title: "HTTP connections/s", figure: |of| of.connections },
    Column { title: "CPU µs/connection", figure: |of| of.cpu_per_connection },
];

/// The tables, in Markdown.
pub(crate) fn run(effort: Effort) -> Result<String> {
    let mesh = Mesh::start().context("the bed of mesh")?;
    let kernel = Kernel::start().context("the bed of the kernel's parts")?;
    let bare = Bare::start().context("the bare hosts")?;
    let candidates = mesh.candidates()?.into_iter().chain(kernel.candidates()?).chain([bare.candidate()]);
    let mut measured: Vec<_> = candidates.map(|candidate| Measured { candidate, rounds: Vec::new() }).collect();
    for _ in 0..effort.of(ROUNDS, 1) {
        for row in &mut measured {
            let figures = load::measure(&row.candidate, effort).context(row.candidate.name)?;
            row.rounds.push(figures);
        }
    }
    Ok(markdown(&measured))
}

fn markdown(measured: &[Measured]) -> String {
    let titles: Vec<_> = COLUMNS.iter().map(|column| column.title).collect();
    let mut text = format!("| path | {} |\n|---|{}\n", titles.join(" | "), "---|".repeat(titles.len()));
    for row in measured {
        let cells = COLUMNS.iter().map(|column| {
            let values: Vec<_> = row.rounds.iter().map(column.figure).collect();
            format!("{} ± {:.0} %", short(median(&values)), spread(&values) * 100.0)
        });
        text += &format!("| {} | {} |\n", row.candidate.name, cells.collect::<Vec<_>>().join(" | "));
    }
    text += "\nThe same as ratios, round by round, to the row that each is compared with:\n\n";
    text += &format!("| path | to | {} |\n|---|---|{}\n", titles.join(" | "), "---|".repeat(titles.len()));
    for row in measured {
        for base in row.candidate.beside {
            let Some(base) = measured.iter().find(|other| other.candidate.name == *base) else { continue };
            let cells = COLUMNS.iter().map(|column| {
                let rounds = row.rounds.iter().zip(&base.rounds);
                let ratios: Vec<_> = rounds.map(|(own, other)| (column.figure)(own) / (column.figure)(other)).collect();
                format!("{:.2}", median(&ratios))
            });
            let cells = cells.collect::<Vec<_>>().join(" | ");
            text += &format!("| {} | {} | {cells} |\n", row.candidate.name, base.candidate.name);
        }
    }
    let rounds = measured.first().map_or(0, |row| row.rounds.len());
    text + &format!("\nMedians of {rounds} rounds; ± is half the distance between the quartiles.\n")
}

/// Three figures that count.
fn short(value: f64) -> String {
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.3}").chars().take(4).collect() }
}
