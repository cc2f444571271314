//! Where the tasks of a network live.

use crate::addr::{Addr, Mac};

shared! {
    /// Key of `ENDPOINTS`: a link-layer address in a network.
    pub struct EndpointKey {
        /// VXLAN network identifier, 24 bits.
        pub vni: u32,
        /// The task's address.
        pub mac: Mac,
        /// Zero.
        pub pad: [u8; 2],
    }

    /// Value of `ENDPOINTS`: the way to a task.
    pub struct Endpoint {
        /// Number of its node; [`Endpoint::HERE`] for a local task.
        pub node: u32,
        /// Host side of its link, if it is local; else 0.
        pub ifindex: u32,
        /// Its IPv4 address, or zero.
        pub addr4: [u8; 4],
        /// Its number among the backends, or 0.
        pub backend: u32,
        /// Its IPv6 address, or zero.
        pub addr6: Addr,
    }

    /// Key of `NEIGHBOURS`: an address in a network.
    pub struct NeighbourKey {
        /// The address asked for.
        pub addr: Addr,
        /// VXLAN network identifier.
        pub vni: u32,
    }

    /// Value of `NEIGHBOURS`: the answer to ARP and neighbour discovery.
    pub struct Neighbour {
        /// Link-layer address of that IP address.
        pub mac: Mac,
        /// Zero.
        pub pad: [u8; 2],
    }

    /// Value of `LINKS`, keyed by interface index: what a local task may send.
    pub struct Link {
        /// Its network.
        pub vni: u32,
        /// Its link-layer address.
        pub mac: Mac,
        /// Number of its tally, if it is a task of a service; else 0.
        pub tally: u16,
        /// Its IPv4 address, or zero if it has none.
        pub addr4: Addr,
        /// Its IPv6 address, or zero if it has none.
        pub addr6: Addr,
    }
}

impl EndpointKey {
    /// A key with its padding zeroed.
    #[inline(always)]
    pub const fn new(vni: u32, mac: Mac) -> Self {
        Self { vni, mac, pad: [0; 2] }
    }
}

impl Endpoint {
    /// The node number that means "this node".
    pub const HERE: u32 = 0;

    /// Its address of the same family as `like`.
    #[inline(always)]
    pub const fn addr_like(&self, like: &Addr) -> Addr {
        if like.is_v4() { Addr::v4(self.addr4) } else { self.addr6 }
    }
}
