//! Shares, stability and agreement of the tables.

use std::collections::BTreeMap;

use mesh_common::addr::Mac;

use super::{Candidate, size};

fn candidates(numbers: impl IntoIterator<Item = u32>) -> Vec<Candidate> {
    let identity = |n: u32| Mac { bytes: [2, 0x42, 10, 0, (n >> 8) as u8, n as u8] };
    numbers.into_iter().map(|number| Candidate { number, identity: identity(number), weight: 1 }).collect()
}

/// A table that had no other before.
fn table(candidates: &[Candidate]) -> Vec<u32> {
    super::table(candidates, size(candidates.len(), 0))
}

fn shares(table: &[u32]) -> BTreeMap<u32, usize> {
    let mut shares = BTreeMap::new();
    for number in table {
        *shares.entry(*number).or_default() += 1;
    }
    shares
}

#[test]
fn nobody_gets_no_slots() {
    assert_eq!(table(&[]), Vec::<u32>::new());
}

#[test]
fn every_slot_is_taken_and_shares_differ_by_at_most_one() {
    for count in [1, 2, 3, 7, 50, 500] {
        let shares = shares(&table(&candidates(1..=count)));
        assert_eq!(shares.len(), count as usize);
        let (least, most) = (shares.values().min(), shares.values().max());
        assert!(most.zip(least).is_some_and(|(most, least)| most - least <= 1), "{count}: {shares:?}");
    }
}

#[test]
fn the_order_of_candidates_does_not_matter() {
    assert_eq!(table(&candidates(1..=9)), table(&candidates((1..=9).rev())));
}

#[test]
fn one_that_goes_moves_few_slots_of_the_others() {
    // 50 and 49 candidates have tables of one size.
    let (before, after) = (table(&candidates(1..=50)), table(&candidates(1..=49)));
    assert_eq!(before.len(), after.len());
    let others = before.iter().zip(&after).filter(|(old, _)| **old != 50);
    let moved = others.clone().filter(|(old, new)| old != new).count();
    // The paper's figure 12 has a few percent for tables 100 times the candidates.
    assert!(moved * 10 < others.count(), "{moved} of {} moved", before.len());
}

#[test]
fn a_table_grows_by_doubling_and_never_shrinks() {
    assert_eq!([size(1, 0), size(2, 0), size(3, 0), size(3000, 0)], [64, 64, 128, 65_536]);
    assert_eq!([size(1, 128), size(5, 128)], [128, 256]);
}
