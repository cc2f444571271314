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

/// Candidates of these weights, numbered from 1.
fn weighted(weights: &[u32]) -> Vec<Candidate> {
    candidates(1..=weights.len() as u32)
        .into_iter()
        .zip(weights)
        .map(|(candidate, weight)| Candidate { weight: *weight, ..candidate })
        .collect()
}

#[test]
fn shares_follow_weights() {
    for weights in [&[1, 3][..], &[2, 6], &[1, 1, 2], &[5, 1, 1, 1], &[256, 256], &[7]] {
        let all: u32 = weights.iter().sum();
        for table in [super::table(&weighted(weights), 2048), super::rounds(&weighted(weights), 2048)] {
            let shares = shares(&table);
            for (number, weight) in (1..).zip(weights) {
                let due = 2048 * *weight as usize / all as usize;
                let has = shares.get(&number).copied().unwrap_or(0);
                assert!(has.abs_diff(due) <= weights.len(), "{weights:?}: {has} instead of {due}");
            }
        }
    }
}

#[test]
fn rounds_serve_one_after_the_other() {
    assert_eq!(super::rounds(&weighted(&[1, 1, 1]), 8), [1, 2, 3, 1, 2, 3, 1, 2]);
    assert_eq!(super::rounds(&weighted(&[1, 3]), 8), [2, 2, 1, 2, 2, 2, 1, 2]);
    assert_eq!(super::rounds(&[], 8), Vec::<u32>::new());
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
