//! The node's own network: of tasks that are in none of the cluster's. They reach the outside, and ports of
//! the node lead to them; no other node knows of them.
//!
//! Addresses are given by the node itself. The node's end of a link says in its alias which one it has, so
//! that the next daemon knows.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

use super::wire::Cable;
use crate::datapath::desired::{Network, Subnet};
use crate::model::cidr::Cidr;

/// Its name in the packet path. No network of the cluster has such a short one.
pub(super) const NAME: &str = "own";
/// Below the numbers of all others, and of the network of published ports.
const VNI: u32 = 4094;
/// Docker's for the same purpose (docker_gwbridge).
const SUBNET4: Cidr = Cidr { address: IpAddr::V4(Ipv4Addr::new(172, 18, 0, 0)), prefix: 16 };
/// A unique local one (RFC 4193).
const SUBNET6: Cidr = Cidr { address: IpAddr::V6(Ipv6Addr::new(0xfd6d, 0x6573, 0x6800, 0, 0, 0, 0, 0)), prefix: 64 };
/// The router.
const GATEWAY: u16 = 1;
/// Numbers of tasks in the subnets.
const TASKS: std::ops::RangeInclusive<u16> = 2..=65_534;
/// What an alias begins with; the number follows.
const ALIAS: &str = "mesh own ";

/// Who has which address, by the name of the node's end of the link.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    given: Mutex<Given>,
}

#[derive(Debug, Default)]
struct Given {
    numbers: BTreeMap<String, u16>,
    /// The last number that was given: one that is free again is given as late as can be.
    last: u16,
}

impl Addresses {
    /// As the aliases of links say.
    pub(super) fn of(links: impl IntoIterator<Item = (String, String)>) -> Self {
        let number = |alias: &str| alias.strip_prefix(ALIAS)?.parse().ok();
        let numbers: BTreeMap<_, u16> =
            links.into_iter().filter_map(|(link, alias)| Some((link, number(&alias)?))).collect();
        let last = numbers.values().max().copied().unwrap_or(0);
        Self { given: Mutex::new(Given { numbers, last }) }
    }

    /// The addresses that belong to a link: those it has, or some that none has. Nothing if none are left.
    pub(super) fn give(&self, link: &str) -> Vec<Cidr> {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        let number = given.numbers.get(link).copied().or_else(|| {
            let from = (given.last.saturating_add(1)).clamp(*TASKS.start(), *TASKS.end());
            let taken: BTreeSet<u16> = given.numbers.values().copied().collect();
            (from..=*TASKS.end()).chain(*TASKS.start()..from).find(|number| !taken.contains(number))
        });
        let Some(number) = number else { return Vec::new() };
        given.last = number;
        given.numbers.insert(link.to_owned(), number);
        addresses(number)
    }

    /// The link is gone.
    pub(super) fn take_back(&self, link: &str) {
        self.given.lock().unwrap_or_else(PoisonError::into_inner).numbers.remove(link);
    }

    /// What the link's alias is to say.
    pub(super) fn alias(&self, link: &str) -> Option<String> {
        let given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        given.numbers.get(link).map(|number| format!("{ALIAS}{number}"))
    }
}

fn addresses(number: u16) -> Vec<Cidr> {
    let of = |subnet: Cidr| {
        let address = match subnet.address {
            IpAddr::V4(v4) => IpAddr::V4((u32::from(v4) | u32::from(number)).into()),
            IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) | u128::from(number)).into()),
        };
        Cidr { address, prefix: subnet.prefix }
    };
    [SUBNET4, SUBNET6].map(of).to_vec()
}

fn gateways() -> Vec<IpAddr> {
    addresses(GATEWAY).into_iter().map(|cidr| cidr.address).collect()
}

/// The link of a task in it.
pub(super) fn cable(mac: [u8; 6], addresses: Vec<Cidr>, alias: Option<String>, mtu: u32) -> Cable {
    Cable { mac, addresses, gateways: gateways(), mtu, alias }
}

/// As the packet path sees it.
pub(super) fn network(mtu: u32) -> Network {
    Network {
        name: NAME.to_owned(),
        vni: VNI,
        mtu,
        gateways: gateways(),
        subnets: [SUBNET4, SUBNET6].map(|subnet| Subnet { address: subnet.address, bits: subnet.prefix }).to_vec(),
        internal: false,
    }
}

#[cfg(test)]
mod tests {
    use super::Addresses;

    fn first(addresses: &Addresses, link: &str) -> String {
        addresses.give(link).first().map(ToString::to_string).unwrap_or_default()
    }

    #[test]
    fn a_link_keeps_its_address_and_a_free_one_is_given_late() {
        let addresses = Addresses::default();
        assert_eq!(first(&addresses, "a"), "172.18.0.2/16");
        assert_eq!(first(&addresses, "b"), "172.18.0.3/16");
        assert_eq!(first(&addresses, "a"), "172.18.0.2/16");
        addresses.take_back("a");
        assert_eq!(first(&addresses, "c"), "172.18.0.4/16");
        assert_eq!(addresses.give("c")[1].to_string(), "fd6d:6573:6800::4/64");
    }

    #[test]
    fn the_next_daemon_knows_what_was_given() {
        let before = Addresses::default();
        let links = ["a", "b"].map(|link| {
            before.give(link);
            (link.to_owned(), before.alias(link).unwrap())
        });
        let after = Addresses::of(links.into_iter().chain([("x".to_owned(), "somebody's".to_owned())]));
        assert_eq!(first(&after, "b"), "172.18.0.3/16");
        assert_eq!(first(&after, "x"), "172.18.0.4/16");
    }

    #[test]
    fn when_all_are_given_none_is() {
        let addresses = Addresses::of((2..=65_534).map(|number| (number.to_string(), format!("mesh own {number}"))));
        assert!(addresses.give("one more").is_empty());
        addresses.take_back("300");
        assert_eq!(first(&addresses, "one more"), "172.18.1.44/16");
    }
}
