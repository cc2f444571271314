//! `meshctl doctor`: what is wrong, and what to do about it.

use std::io::Write as _;

use anyhow::Result;
use serde_json::json;

use super::client::{Client, Refusal};
use super::each;
use super::table::{self, Output, Row};
use crate::datapath::{Pins, pins};
use crate::doctor::{self, Finding, Level};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Where maps and programs are pinned, for a look without a daemon.
    #[arg(long, env = "MESH_PIN_DIR", default_value = pins::DEFAULT_DIR)]
    pin_dir: std::path::PathBuf,
    /// Only what is not as it should be.
    #[arg(short, long)]
    quiet: bool,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(client: &Client, args: &Args) -> Result<()> {
    let findings = match client.get("/doctor") {
        Ok(findings) => findings,
        Err(error) if error.is::<Refusal>() => return Err(error),
        // Without a daemon the machine can still be looked at.
        Err(error) => {
            let mut findings = doctor::machine(&Pins::new(&args.pin_dir));
            let fix = "start it: `meshd node` (the rest of a node can only be looked at by its daemon)";
            findings.push(Finding::broken("daemon", format!("{error:#}"), fix));
            findings
        }
    };
    let shown: Vec<&Finding> = findings.iter().filter(|finding| !args.quiet || finding.level != Level::Ok).collect();
    table::to_stdout(|out| match args.output {
        Output::Json => Ok(writeln!(out, "{:#}", json!(shown))?),
        Output::Table => table::write(out, &shown.iter().map(|finding| row(finding)).collect::<Vec<_>>()),
    })?;
    match findings.iter().filter(|finding| finding.level == Level::Broken).count() {
        0 => Ok(()),
        1 => Err(each::bare("1 thing is broken")),
        broken => Err(each::bare(format!("{broken} things are broken"))),
    }
}

fn row(finding: &Finding) -> Row {
    let level = match finding.level {
        Level::Ok => "ok",
        Level::Warning => "warning",
        Level::Broken => "BROKEN",
    };
    let cells = [
        ("node", finding.node.as_str()),
        ("check", &finding.check),
        ("level", level),
        ("found", &finding.found),
        ("what_to_do", &finding.fix),
    ];
    cells.into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect()
}
