//! How packets are seen: what the programs tell of single packets, what they would do with one, and
//! how full and how busy they are. Changes nothing that decides about packets.

pub mod explain;
pub mod filter;
pub mod frame;
pub mod programs;
pub mod sandbox;
mod story;
pub mod tallies;
pub mod watch;

#[cfg(test)]
mod tests;
