//! `meshctl datapath explain`.

use std::io::Write as _;
use std::net::SocketAddr;

use anyhow::Result;
use mesh_common::header::proto;
use serde_json::json;
use tabwriter::TabWriter;

use super::super::table::{self, Output};
use super::{interface_name, interface_number};
use crate::datapath::Pins;
use crate::datapath::seeing::explain::{Question, explain};
use crate::datapath::seeing::watch::verdict_name;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Who sends: ADDRESS:PORT, an IPv6 address in brackets.
    src: SocketAddr,
    /// What is dialled: ADDRESS:PORT.
    dst: SocketAddr,
    /// The protocol.
    #[arg(value_enum, default_value_t)]
    proto: Proto,
    /// Where it comes in: `underlay`, an interface, the address of a task of this node, or the VTEP
    /// address of a member that sends it in VXLAN. Left out: from the task of the source address, if
    /// there is one here, else from the underlay.
    #[arg(long)]
    from: Option<String>,
    /// The middle of a TCP connection, not its beginning.
    #[arg(long)]
    midflow: bool,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Proto {
    #[default]
    Tcp,
    Udp,
}

pub(super) fn run(args: Args, pins: &Pins) -> Result<()> {
    let question = Question {
        src: args.src,
        dst: args.dst,
        proto: match args.proto {
            Proto::Tcp => proto::TCP,
            Proto::Udp => proto::UDP,
        },
        midflow: args.midflow,
        from: args.from,
    };
    let answer = explain(pins, &question, &interface_name, &interface_number)?;
    table::to_stdout(|out| match args.output {
        Output::Json => {
            let lines: Vec<_> =
                answer.lines.iter().map(|line| json!({ "about": line.about, "text": line.text })).collect();
            let reason = answer.reason.map(|reason| reason.name());
            let document = json!({ "verdict": verdict_name(answer.verdict), "reason": reason, "lines": lines });
            writeln!(out, "{document:#}")?;
            Ok(())
        }
        Output::Table => {
            let mut columns = TabWriter::new(out).minwidth(0).padding(3);
            for line in &answer.lines {
                writeln!(columns, "{}\t{}", line.about, line.text)?;
            }
            columns.flush()?;
            Ok(())
        }
    })
}
