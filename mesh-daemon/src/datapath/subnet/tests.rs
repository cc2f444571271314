//! Rows of texts and addresses.

use super::Subnet;

#[test]
fn a_subnet_knows_its_addresses() {
    let rows = [
        ("10.0.9.0/24", "10.0.9.255", true),
        ("10.0.9.7/24", "10.0.9.255", true),
        ("10.0.9.0/24", "10.0.10.0", false),
        ("10.0.8.0/23", "10.0.9.1", true),
        ("0.0.0.0/0", "203.0.113.9", true),
        ("0.0.0.0/0", "::1", false),
        ("fd00:9::/64", "fd00:9::ffff", true),
        ("fd00:9::/65", "fd00:9::8000:0:0:0", false),
        ("::/0", "2001:db8::1", true),
        ("::/0", "10.0.0.1", false),
        ("10.0.0.1/32", "10.0.0.1", true),
        ("10.0.0.1/32", "10.0.0.2", false),
    ];
    for (subnet, address, is_in) in rows {
        let subnet: Subnet = subnet.parse().unwrap();
        assert_eq!(subnet.contains(address.parse().unwrap()), is_in, "{subnet:?} {address}");
    }
}

#[test]
fn what_is_no_subnet_is_refused() {
    for text in ["10.0.9.0", "10.0.9.0/33", "fd00::/129", "10.0.9/24", "/24", "10.0.9.0/-1", ""] {
        assert!(text.parse::<Subnet>().is_err(), "{text}");
    }
}
