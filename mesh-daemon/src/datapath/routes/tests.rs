//! Choices among routes and addresses.

use std::collections::BTreeMap;

use super::{Own, Way, keep, own_address};

fn own(ifindex: u32, subnet: &str, is_usable: bool) -> Own {
    Own { ifindex, subnet: subnet.parse().unwrap(), is_usable }
}

#[test]
fn what_is_sent_has_the_address_that_the_next_hop_knows() {
    let own = [
        own(2, "192.0.2.1/24", true),
        own(2, "203.0.113.5/28", true),
        own(2, "fe80::1/64", false),
        own(2, "2001:db8::1/64", true),
        own(3, "198.51.100.1/24", true),
    ];
    let rows = [
        (2, "192.0.2.254", Some("192.0.2.1")),
        (2, "203.0.113.14", Some("203.0.113.5")),
        (2, "0.0.0.0", Some("192.0.2.1")),
        (2, "fe80::9", Some("2001:db8::1")),
        (3, "198.51.100.7", Some("198.51.100.1")),
        (3, "fe80::9", None),
        (4, "192.0.2.254", None),
    ];
    for (ifindex, towards, expected) in rows {
        let chosen = own_address(&own, ifindex, towards.parse().unwrap());
        assert_eq!(chosen, expected.map(|text| text.parse().unwrap()), "{ifindex} {towards}");
    }
}

#[test]
fn of_several_routes_the_cheapest_counts() {
    let mut best = BTreeMap::new();
    let to = "0.0.0.0/0".parse().unwrap();
    for (metric, ifindex) in [(100, 2), (50, 3), (200, 4), (50, 5)] {
        keep(&mut best, (to, metric, Way { ifindex, source: None }));
    }
    assert_eq!(best[&to], (50, Way { ifindex: 3, source: None }));
}
