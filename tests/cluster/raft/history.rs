//! What clients did and saw, and whether one register in one place could have shown them that.
//!
//! The cluster orders transactions by version. Clients' calls are linearizable if that order agrees
//! with their clock: what ended before another began comes before it, for writes and reads alike.

use std::collections::BTreeMap;
use std::time::Duration;

/// A call that ended well.
#[derive(Debug, Clone)]
struct Call {
    began: Duration,
    ended: Duration,
    version: u64,
    /// What was written or read.
    value: String,
    is_write: bool,
    /// Whom the client asked.
    at: u64,
}

/// All calls.
#[derive(Default)]
pub(super) struct History {
    calls: Vec<Call>,
    /// Writes of which nobody knows whether they happened.
    pub(super) unknown: usize,
    /// Which manager led in a term.
    leaders: BTreeMap<u64, u64>,
}

impl History {
    pub(super) fn wrote(&mut self, began: Duration, ended: Duration, (at, version): (u64, u64), value: String) {
        self.calls.push(Call { began, ended, version, value, is_write: true, at });
    }

    pub(super) fn read(&mut self, began: Duration, ended: Duration, (at, version): (u64, u64), value: String) {
        self.calls.push(Call { began, ended, version, value, is_write: false, at });
    }

    pub(super) fn leads(&mut self, term: u64, id: u64) {
        let first = *self.leaders.entry(term).or_insert(id);
        assert_eq!(first, id, "two managers led in term {term}");
    }

    pub(super) fn writes(&self) -> usize {
        self.calls.iter().filter(|call| call.is_write).count()
    }

    /// What was acknowledged, by version.
    pub(super) fn acknowledged(&self) -> impl Iterator<Item = (u64, &str)> {
        self.calls.iter().filter(|call| call.is_write).map(|call| (call.version, call.value.as_str()))
    }

    /// Fails if no order explains what was seen. `values` is the value of each version that changed it.
    pub(super) fn check(&self, values: &BTreeMap<u64, String>) {
        for call in &self.calls {
            let value = values.range(..=call.version).next_back().map_or("", |(_, value)| value);
            assert_eq!(value, call.value, "what version {} held: {call:?}", call.version);
        }
        let mut by_end = self.calls.clone();
        by_end.sort_by_key(|call| call.ended);
        let mut by_begin = self.calls.clone();
        by_begin.sort_by_key(|call| call.began);
        let (mut ended, mut newest) = (by_end.iter().peekable(), None::<&Call>);
        for call in &by_begin {
            while let Some(before) = ended.next_if(|before| before.ended < call.began) {
                newest = newest.filter(|newest| newest.version >= before.version).or(Some(before));
            }
            let Some(newest) = newest else { continue };
            let late = if call.is_write { call.version <= newest.version } else { call.version < newest.version };
            assert!(!late, "{newest:?} at {} ended before this at {} began: {call:?}", newest.at, call.at);
        }
    }
}
