//! Addresses of one subnet.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::model::cidr::Cidr;
use crate::model::network::Subnet;

/// Which addresses of a subnet are given.
///
/// The next one given is the next free one behind the last: an address that was given back rests for
/// as long as it can, so that nobody who remembers it meets another.
#[derive(Debug, Clone)]
pub(super) struct Addresses {
    subnet: Cidr,
    first: u128,
    last: u128,
    used: BTreeSet<u128>,
    cursor: u128,
}

impl Addresses {
    pub(super) fn new(subnet: &Subnet) -> Self {
        let (first, last) = usable(subnet.subnet, subnet.range.unwrap_or(subnet.subnet));
        let mut addresses = Self { subnet: subnet.subnet, first, last, used: BTreeSet::new(), cursor: first };
        addresses.mark(subnet.gateway);
        subnet.reserved.values().for_each(|address| addresses.mark(*address));
        addresses
    }

    /// Gives the next free address, with the prefix of the subnet.
    pub(super) fn give(&mut self) -> Option<Cidr> {
        let free = self.free_from(self.cursor, self.last).or_else(|| self.free_from(self.first, self.cursor))?;
        self.used.insert(free);
        self.cursor = if free >= self.last { self.first } else { free + 1 };
        Some(Cidr { address: address(free, self.subnet.address.is_ipv4()), prefix: self.subnet.prefix })
    }

    /// Gives this very address; false if it is not of the subnet or not free.
    pub(super) fn give_exactly(&mut self, wanted: IpAddr) -> bool {
        self.contains(wanted) && self.used.insert(number(wanted))
    }

    /// Notes that an address is in use. One outside the subnet is none of ours.
    pub(super) fn mark(&mut self, address: IpAddr) {
        if self.contains(address) {
            self.used.insert(number(address));
        }
    }

    pub(super) fn take_back(&mut self, address: IpAddr) {
        self.used.remove(&number(address));
    }

    pub(super) fn contains(&self, address: IpAddr) -> bool {
        self.subnet.contains(address)
    }

    pub(super) fn is_v4(&self) -> bool {
        self.subnet.address.is_ipv4()
    }

    pub(super) fn prefix(&self) -> u8 {
        self.subnet.prefix
    }

    /// The first free number within; used ones that follow each other are stepped over one by one.
    fn free_from(&self, from: u128, to: u128) -> Option<u128> {
        let mut candidate = from;
        for used in self.used.range(from..=to) {
            if *used > candidate {
                break;
            }
            candidate = used.checked_add(1)?;
        }
        (candidate <= to).then_some(candidate)
    }
}

/// The first and the last address that an interface can have. Of IPv4 neither the network's own nor the
/// broadcast address, unless the subnet is so small that it has none (RFC 3021); of IPv6 not the first,
/// which is every router's (RFC 4291, section 2.6.1).
fn usable(subnet: Cidr, range: Cidr) -> (u128, u128) {
    let (low, high) = bounds(subnet);
    let (first, last) = match (subnet.address, high - low) {
        (_, 0 | 1) => (low, high),
        (IpAddr::V4(_), _) => (low + 1, high - 1),
        (IpAddr::V6(_), _) => (low + 1, high),
    };
    let (from, to) = bounds(range);
    (first.max(from), last.min(to))
}

/// The lowest and the highest number of a network.
pub(super) fn bounds(network: Cidr) -> (u128, u128) {
    let low = number(network.network().address);
    let width = if network.address.is_ipv4() { 32 } else { 128 };
    let host = u32::from(width - network.prefix.min(width));
    let ones = 1_u128.checked_shl(host).map_or(u128::MAX, |size| size - 1);
    (low, low | ones)
}

pub(super) fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

/// The address of a number.
pub(super) fn address(number: u128, is_v4: bool) -> IpAddr {
    if is_v4 {
        IpAddr::V4(Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX)))
    } else {
        IpAddr::V6(Ipv6Addr::from(number))
    }
}

/// The first address of a subnet that an interface can have: its router's, unless the user says otherwise.
pub(super) fn first_usable(subnet: Cidr) -> IpAddr {
    address(usable(subnet, subnet).0, subnet.address.is_ipv4())
}
