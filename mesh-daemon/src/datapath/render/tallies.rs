//! Numbers for what is counted one by one: a service or a task keeps the one it has, and none that is
//! in use is given to another in the same pass.

use std::collections::{BTreeMap, BTreeSet};

use mesh_common::addr::Mac;
use mesh_common::limits;
use mesh_common::tally::{Label, Name};

use super::super::tables::Tables;

/// Who has which number.
pub(super) struct Tallies {
    known: BTreeMap<Label, u32>,
    taken: BTreeSet<u32>,
    /// No number below it is free.
    next: u32,
}

impl Tallies {
    pub(super) fn of(before: &Tables) -> Self {
        Self {
            known: before.labels.iter().map(|(number, label)| (*label, *number)).collect(),
            taken: before.labels.keys().copied().collect(),
            next: 1,
        }
    }

    /// The number of a service, or of one of its tasks; 0, which the rest share, when there are no more.
    pub(super) fn number(&mut self, service: &str, vni: u32, task: Mac, tables: &mut Tables) -> u16 {
        let label = Label { service: Name::new(service), vni, task, pad: [0; 2] };
        let number = self.known.get(&label).copied().or_else(|| self.free());
        let Some(number) = number.and_then(|number| u16::try_from(number).ok()) else { return 0 };
        tables.labels.insert(u32::from(number), label);
        number
    }

    fn free(&mut self) -> Option<u32> {
        while self.taken.contains(&self.next) {
            self.next += 1;
        }
        let number = Some(self.next).filter(|number| *number < limits::TALLIES)?;
        self.next += 1;
        Some(number)
    }
}
