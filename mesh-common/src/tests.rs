//! The arithmetic both sides share, against plain definitions of it.

use proptest::prelude::*;

use crate::addr::Addr;
use crate::flow::{CLOSED, expendable, is_zero, state};
use crate::header::{EthHeader, ether_type};
use crate::{checksum, maglev, parse};

proptest! {
    /// RFC 1624: updating a checksum gives what computing it anew would.
    #[test]
    fn an_updated_checksum_is_the_one_computed_anew(
        mut packet in proptest::collection::vec(any::<u8>(), 40..64),
        new in any::<[u8; 4]>(),
        port in any::<[u8; 2]>(),
    ) {
        packet.truncate(packet.len() & !1);
        let stored = u16::from_ne_bytes(checksum::of(&packet).to_be_bytes());
        let old: [u8; 4] = [packet[12], packet[13], packet[14], packet[15]];
        let old_port = [packet[20], packet[21]];
        packet[12..16].copy_from_slice(&new);
        packet[20..22].copy_from_slice(&port);
        let change = checksum::address_difference(&Addr::v4(old), &Addr::v4(new)) + checksum::port_difference(old_port, port);
        let updated = checksum::update(stored, change);
        // Zero has two spellings in one's complement.
        let canonical = |sum: u16| if sum == 0xffff { 0 } else { sum };
        prop_assert_eq!(canonical(updated), canonical(u16::from_ne_bytes(checksum::of(&packet).to_be_bytes())));
    }

    #[test]
    fn a_slot_is_inside_its_table(hash in any::<u32>(), slots in 1u32..100_000) {
        prop_assert!(maglev::slot(hash, slots) < slots);
    }

    #[test]
    fn zero_is_told_without_a_branch(word in any::<u64>()) {
        prop_assert_eq!(is_zero(word), u64::from(word == 0));
        prop_assert_eq!(is_zero(0), 1);
    }

    /// No input makes the parser read past the end, and what it accepts has its version right.
    #[test]
    fn parsing_random_bytes_never_fails_otherwise_than_by_reason(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        for ether_type in [ether_type::IPV4, ether_type::IPV6] {
            let eth = EthHeader { ether_type, ..EthHeader::ZERO };
            if let Ok(Some(ip)) = parse::ip(bytes.as_slice(), &eth, 0) {
                prop_assert_eq!(bytes[14] >> 4, if ether_type == ether_type::IPV4 { 4 } else { 6 });
                let _ = parse::transport(bytes.as_slice(), &ip);
            }
        }
    }
}

#[test]
fn the_least_missed_flow_is_empty_then_closed_then_unanswered_then_oldest() {
    let now = 1000;
    let both = state::ANSWERED | state::CLIENT_DONE | state::TASK_DONE;
    let in_order = [
        expendable(0, 0, 0, now),
        expendable(6, state::RESET, 0, now),
        expendable(6, both, 990, now),
        expendable(6, 0, 0, now),
        expendable(6, 0, 999, now),
        expendable(6, state::ANSWERED, 0, now),
        expendable(6, state::ANSWERED | state::CLIENT_DONE, 500, now),
        expendable(6, state::ANSWERED, now, now),
    ];
    assert!(in_order.windows(2).all(|pair| pair[0] > pair[1]), "{in_order:?}");
    assert_eq!(in_order.iter().filter(|score| **score >= CLOSED).count(), 3);
    assert!(in_order.iter().all(|score| *score > 0));
}

#[test]
fn flows_spread_evenly_over_slots() {
    let mut shares = [0u32; 16];
    for port in 0..16_000u16 {
        let tuple =
            maglev::Tuple { client: Addr::v4([10, 0, 0, 1]), client_port: port.to_be_bytes(), port: [0, 80], proto: 6 };
        shares[maglev::slot(tuple.hash(), 16) as usize] += 1;
    }
    // 1000 each; five standard deviations are some 155.
    assert!(shares.iter().all(|share| (845..1155).contains(share)), "{shares:?}");
}
