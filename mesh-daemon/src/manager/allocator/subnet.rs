//! Subnets for networks that ask for none, and the check of those that do.

use std::net::{IpAddr, Ipv6Addr};

use crate::model::cidr::Cidr;
use crate::model::id::ClusterId;

use super::address::{address, bounds, number};

/// The length of the prefix of an IPv6 subnet.
const V6_PREFIX: u8 = 64;

/// Which subnets are given.
#[derive(Debug, Clone)]
pub(super) struct Subnets {
    pools: Vec<Cidr>,
    size: u8,
    v6: Cidr,
    given: Vec<Cidr>,
}

impl Subnets {
    pub(super) fn new(cluster: ClusterId, pools: Vec<Cidr>, size: u8) -> Self {
        Self { pools, size, v6: unique_local(cluster), given: Vec::new() }
    }

    /// The first free subnet of the IPv4 pools.
    pub(super) fn give_v4(&mut self) -> Option<Cidr> {
        let pools: Vec<_> = self.pools.iter().copied().filter(|pool| pool.address.is_ipv4()).collect();
        pools.into_iter().find_map(|pool| self.give_from(pool, self.size.max(pool.prefix)))
    }

    /// The first free subnet of the IPv6 pools; of the cluster's own, if it was given none.
    pub(super) fn give_v6(&mut self) -> Option<Cidr> {
        let own = [self.v6];
        let pools: Vec<_> = self.pools.iter().copied().filter(|pool| pool.address.is_ipv6()).collect();
        let pools = if pools.is_empty() { own.to_vec() } else { pools };
        pools.into_iter().find_map(|pool| self.give_from(pool, V6_PREFIX.max(pool.prefix)))
    }

    /// Gives a subnet that a user asked for; false if it has addresses in common with another.
    pub(super) fn give_exactly(&mut self, wanted: Cidr) -> bool {
        let free = !self.given.iter().any(|given| given.overlaps(wanted));
        if free {
            self.mark(wanted);
        }
        free
    }

    pub(super) fn mark(&mut self, subnet: Cidr) {
        self.given.push(subnet.network());
    }

    pub(super) fn take_back(&mut self, subnet: Cidr) {
        if let Some(at) = self.given.iter().position(|given| *given == subnet.network()) {
            self.given.swap_remove(at);
        }
    }

    fn give_from(&mut self, pool: Cidr, prefix: u8) -> Option<Cidr> {
        let (low, high) = bounds(pool);
        let is_v4 = pool.address.is_ipv4();
        let width = if is_v4 { 32 } else { 128 };
        let step = 1_u128.checked_shl(u32::from(width - prefix))?;
        let mut taken: Vec<_> =
            self.given.iter().filter(|given| given.overlaps(pool)).map(|given| bounds(*given)).collect();
        taken.sort_unstable();
        let mut start = low;
        for (from, to) in taken {
            if from >= start.checked_add(step)? {
                break;
            }
            // The next multiple of the step behind what is taken.
            start = start.max(to.checked_add(1)?.checked_next_multiple_of(step)?);
        }
        if start.checked_add(step - 1)? > high {
            return None;
        }
        let subnet = Cidr { address: address(start, is_v4), prefix };
        self.mark(subnet);
        Some(subnet)
    }
}

/// A /48 of unique local addresses of the cluster's own (RFC 4193): fd and 40 bits of its id.
fn unique_local(cluster: ClusterId) -> Cidr {
    let global = cluster.to_u128() >> 88;
    let bits = number(IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0))) | global << 80;
    Cidr { address: address(bits, false), prefix: 48 }
}
