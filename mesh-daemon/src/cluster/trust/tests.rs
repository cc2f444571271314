use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::attempts::Attempts;

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn ten_failures_are_free_and_each_six_seconds_give_one_back() {
    let attempts = Attempts::default();
    let (from, begin) = (address("192.0.2.1"), Instant::now());
    let at = |seconds: u64| begin + Duration::from_secs(seconds);
    let may = |seconds: u64| attempts.may_try(from, at(seconds)).is_ok();
    for _ in 0..10 {
        assert!(may(0));
        attempts.failed(from, at(0));
    }
    assert!(!may(0) && !may(5));
    assert!(attempts.may_try(address("192.0.2.2"), at(0)).is_ok(), "others may");
    assert!(may(6));
    attempts.failed(from, at(6));
    assert!(!may(6) && !may(11) && may(12));
    // After a minute of peace all are free again.
    for _ in 0..10 {
        assert!(may(200));
        attempts.failed(from, at(200));
    }
    let refusal = attempts.may_try(from, at(200)).unwrap_err();
    assert_eq!(refusal.text, "too many attempts to join from 192.0.2.1: try again in 7 s");
}

#[test]
fn an_address_of_ipv6_answers_for_its_network_and_a_mapped_one_is_ipv4() {
    let attempts = Attempts::default();
    let now = Instant::now();
    for n in 0..10 {
        attempts.failed(address(&format!("2001:db8::{n}")), now);
        attempts.failed(address("::ffff:192.0.2.7"), now);
    }
    assert!(attempts.may_try(address("2001:db8::ffff"), now).is_err());
    assert!(attempts.may_try(address("2001:db8:0:1::1"), now).is_ok());
    assert!(attempts.may_try(address("192.0.2.7"), now).is_err());
}

#[test]
fn many_addresses_are_remembered_but_not_all_there_are() {
    let attempts = Attempts::default();
    let now = Instant::now();
    let worst = address("192.0.2.1");
    for _ in 0..20 {
        attempts.failed(worst, now);
    }
    for n in 0..10_000_u32 {
        attempts.failed(IpAddr::V4((0x0a00_0000 + n).into()), now);
    }
    assert!(attempts.may_try(worst, now).is_err(), "who failed most is forgotten last");
}
