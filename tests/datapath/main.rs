//! Packets run through the loaded programs, one table of rows for each thing they do: bytes, verdict,
//! drop reason and counters of every row.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod agree;
mod awkward;
mod balancing;
mod check;
mod container;
mod drain;
mod encap;
mod flows;
mod mended;
mod published;
mod refuse;
mod tallies;
mod told;
mod tunnel;
mod vip;
mod way_out;
mod world;
