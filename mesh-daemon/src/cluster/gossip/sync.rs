//! An exchange after which two nodes know the same: who is there, and what was told.
//!
//! Rumours get lost; this finds what they left out. A hint, one number by datagram, says whether
//! there is anything to exchange. Then, by TCP: one side opens with its list of members and how
//! far it has every node's notices; the other answers with its own and what the first lacks; the
//! first closes with what the other lacks.

use super::frame::{Entry, Sync};
use super::member::Identity;
use super::notices::{Mark, Notices};

/// How many notices one message has at most.
pub(super) const MAX_NOTICES: usize = 16_384;

pub(super) fn open(members: Vec<Entry>, notices: &Notices) -> Sync {
    Sync { members, has: notices.marks(), ..Sync::default() }
}

pub(super) fn answer(members: Vec<Entry>, notices: &Notices, asked: &Sync) -> Sync {
    let (lacking, then) = notices.beyond(&asked.has, MAX_NOTICES);
    Sync { members, has: notices.marks(), notices: lacking, then }
}

pub(super) fn close(notices: &Notices, answered: &Sync) -> Sync {
    let (lacking, then) = notices.beyond(&answered.has, MAX_NOTICES);
    Sync { notices: lacking, then, ..Sync::default() }
}

/// What is known, as one number that does not depend on an order. Only what all nodes should agree
/// on goes in: who is alive in which generation, and how far notices are complete.
pub(super) fn fingerprint<'a>(alive: impl Iterator<Item = &'a Identity>, marks: &[Mark]) -> u64 {
    let members = alive.map(|id| hash(&[1, id.node.0, u128::from(id.generation)]));
    let told = marks.iter().filter(|mark| mark.complete > 0).map(|mark| {
        let reach = u128::from(mark.life) << 32 | u128::from(mark.complete);
        hash(&[2, mark.origin.0, reach])
    });
    members.chain(told).fold(0, u64::wrapping_add)
}

/// FNV-1a, 64 bits: nodes of different builds must come to the same number.
fn hash(numbers: &[u128]) -> u64 {
    let bytes = numbers.iter().flat_map(|number| number.to_be_bytes());
    bytes.fold(0xCBF2_9CE4_8422_2325, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3))
}
