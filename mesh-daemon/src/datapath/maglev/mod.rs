//! Builds Maglev tables (Eisenbud et al., NSDI 2016, section 3.4): every candidate gets nearly the same
//! number of slots, and a candidate that comes or goes moves few slots of the others.
//!
//! Every node builds the same table from the same candidates: the order comes from their link-layer
//! addresses, not from their numbers, which differ from node to node.

use mesh_common::addr::Mac;
use mesh_common::maglev::{finish, mix};
use mesh_common::service::PACE_SLOTS;

/// Somebody who may get slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// What a slot will hold; never 0.
    pub number: u32,
    /// What makes it the same candidate on every node.
    pub identity: Mac,
    /// Its share, beside those of the others; never 0.
    pub weight: u32,
}

/// The smallest table.
pub const SMALLEST: u32 = PACE_SLOTS;

/// The largest table: no more candidates than that get a slot.
pub const LARGEST: u32 = 65_536;

/// Slots a candidate should have at least: the shares of two then differ by three percent at most.
const SHARE: usize = 32;

/// How many slots a table of so many candidates should have, which had `before`. A power of two: when it
/// doubles, each old slot becomes two, and every flow still finds what was in its slot. It never
/// shrinks, for the other way round two would become one. Whoever decides for all nodes keeps `before`.
pub fn size(candidates: usize, before: usize) -> u32 {
    let wanted = candidates.saturating_mul(SHARE).max(before).clamp(SMALLEST as usize, LARGEST as usize);
    (wanted as u32).next_power_of_two()
}

/// The number of the candidate of each of `size` slots; empty without candidates.
pub fn table(candidates: &[Candidate], size: u32) -> Vec<u32> {
    if candidates.is_empty() {
        return Vec::new();
    }
    let mut ordered = candidates.to_vec();
    ordered.sort_by_key(|candidate| candidate.identity);
    let mut walks: Vec<_> = ordered.iter().map(|candidate| Walk::new(candidate.identity, size)).collect();
    let mut slots = vec![0; size as usize];
    let mut left = size;
    // Each in turn takes the next free slot of its own walk.
    for turn in turns(&ordered) {
        if left == 0 {
            break;
        }
        let slot = walks[turn].find(|slot| slots[*slot as usize] == 0);
        if let Some(slot) = slot {
            slots[slot as usize] = ordered[turn].number;
            left -= 1;
        }
    }
    slots
}

/// A table for those who are served one after the other: read from any slot on, it gives each candidate its
/// share, and as evenly as can be.
pub fn rounds(candidates: &[Candidate], size: u32) -> Vec<u32> {
    let mut ordered = candidates.to_vec();
    ordered.sort_by_key(|candidate| candidate.identity);
    turns(&ordered).map(|turn| ordered[turn].number).take(size as usize).collect()
}

/// Whose turn it is, without end: the heaviest in every round, another in as many rounds as its weight is
/// of the heaviest's. Empty without candidates.
fn turns(ordered: &[Candidate]) -> impl Iterator<Item = usize> {
    let heaviest = ordered.iter().map(|candidate| candidate.weight.max(1)).max().unwrap_or(1);
    let weights: Vec<_> = ordered.iter().map(|candidate| candidate.weight.max(1)).collect();
    let mut credit = vec![0; weights.len()];
    (0..weights.len()).cycle().filter(move |turn| {
        credit[*turn] += weights[*turn];
        let has_turn = credit[*turn] >= heaviest;
        if has_turn {
            credit[*turn] -= heaviest;
        }
        has_turn
    })
}

/// A candidate's order of preference: all slots, each once, since an odd step and a power of two have
/// no common divisor.
struct Walk {
    next: u32,
    step: u32,
    size: u32,
    left: u32,
}

impl Walk {
    fn new(identity: Mac, size: u32) -> Self {
        let m = identity.bytes;
        let words = [u32::from_le_bytes([m[0], m[1], m[2], m[3]]), u32::from_le_bytes([m[4], m[5], 0, 0])];
        let hash = |seed| finish(mix(mix(seed, words[0]), words[1]));
        Self { next: hash(0x6f66_6673) % size, step: (hash(0x736b_6970) % size) | 1, size, left: size }
    }
}

impl Iterator for Walk {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        self.left = self.left.checked_sub(1)?;
        let slot = self.next;
        self.next = (self.next + self.step) % self.size;
        Some(slot)
    }
}

#[cfg(test)]
mod tests;
