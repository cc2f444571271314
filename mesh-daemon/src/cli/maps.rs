//! `meshctl maps`: the kernel's maps, decoded.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use anyhow::Result;
use clap::Subcommand;
use mesh_common::abi::{Record, Value};
use mesh_common::addr::Addr;
use serde_json::{Map, json};

use super::table::{self, Output, Row};
use crate::datapath::desired::mac;
use crate::datapath::maps::{self, Maps};
use crate::datapath::{Pins, pins};

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print maps, every field decoded.
    Dump {
        /// One map; all of them if left out.
        name: Option<String>,
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
        /// Where meshd pinned them.
        #[arg(long, env = "MESH_PIN_DIR", default_value = pins::DEFAULT_DIR)]
        pin_dir: PathBuf,
    },
}

pub(super) fn run(args: Args) -> Result<()> {
    let Command::Dump { name, output, pin_dir } = args.command;
    let names = match &name {
        Some(name) => vec![maps::find(name)?],
        None => maps::NAMES.to_vec(),
    };
    let maps = Maps::open(&Pins::new(pin_dir))?;
    let mut dumps = Vec::new();
    for name in names {
        let mut rows = Vec::new();
        maps.dump(name, &mut |key, value| rows.push(row(key, value)))?;
        dumps.push((name, rows));
    }
    table::to_stdout(|out| match output {
        Output::Json => {
            let document: Map<_, _> = dumps.into_iter().map(|(name, rows)| (name.to_owned(), json!(rows))).collect();
            writeln!(out, "{:#}", serde_json::Value::Object(document))?;
            Ok(())
        }
        Output::Table => {
            for (index, (map, rows)) in dumps.iter().enumerate() {
                let gap = if index == 0 { "" } else { "\n" };
                writeln!(out, "{gap}{map}: {}", count(rows.len()))?;
                table::write(out, rows)?;
            }
            Ok(())
        }
    })
}

fn count(rows: usize) -> String {
    match rows {
        1 => "1 element".to_owned(),
        more => format!("{more} elements"),
    }
}

fn row(key: &dyn Record, value: &dyn Record) -> Row {
    let mut row = Row::new();
    for record in [key, value] {
        collect(record, &mut row);
    }
    row
}

fn collect(record: &dyn Record, row: &mut Row) {
    record.visit(&mut |name, value| {
        let cell = match value {
            _ if name.starts_with("pad") => return,
            Value::Number(number) => json!(number),
            Value::Addr(addr) => json!(format_addr(addr)),
            Value::Mac(address) => json!(mac::format(address)),
            Value::Bytes([a, b]) => json!(u16::from_be_bytes([*a, *b])),
            // Four bytes are an IPv4 address in every shared type.
            Value::Bytes([a, b, c, d]) => json!(format_addr(Addr::v4([*a, *b, *c, *d]))),
            Value::Bytes(bytes) => json!(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
            Value::Text(text) => json!(text),
            Value::Name(text) => json!(text),
            Value::Record(inner) => return collect(inner, row),
        };
        row.insert(name.to_owned(), cell);
    });
}

/// `-` for no address at all.
fn format_addr(addr: Addr) -> String {
    if addr == Addr::ZERO || addr == Addr::v4([0; 4]) {
        return "-".to_owned();
    }
    let ip =
        if addr.is_v4() { IpAddr::V4(Ipv4Addr::from(addr.low4())) } else { IpAddr::V6(Ipv6Addr::from(addr.bytes)) };
    ip.to_string()
}
