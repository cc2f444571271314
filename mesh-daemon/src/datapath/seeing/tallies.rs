//! What was counted for a service or a task, over all CPUs.

use mesh_common::abi::{Record, Value};
use mesh_common::tally::{Label, Tally};

/// Whose count, and what was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Its number.
    pub number: u32,
    /// Whose it is.
    pub label: Label,
    /// Over all CPUs.
    pub tally: Tally,
}

impl Record for Counted {
    fn visit<'a>(&'a self, visit: &mut dyn FnMut(&'static str, Value<'a>)) {
        Record::visit(&self.label, visit);
        Record::visit(&self.tally, visit);
    }
}

impl Counted {
    /// Of all CPUs.
    pub fn sum<'a>(number: u32, label: Label, cpus: impl IntoIterator<Item = &'a Tally>) -> Self {
        Self { number, label, tally: cpus.into_iter().fold(Tally::ZERO, add) }
    }
}

fn add(a: Tally, b: &Tally) -> Tally {
    Tally {
        packets: a.packets + b.packets,
        bytes: a.bytes + b.bytes,
        replies: a.replies + b.replies,
        reply_bytes: a.reply_bytes + b.reply_bytes,
        flows: a.flows + b.flows,
    }
}
