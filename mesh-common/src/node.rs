//! This node, and the nodes it exchanges VXLAN with.

use crate::addr::{Addr, Mac};

shared! {
    /// What the programs must know of the node they run on: the one element of `NODE`.
    pub struct NodeConfig {
        /// Where the other nodes send their VXLAN: this node's address on the uplink.
        pub vtep: Addr,
        /// UDP port of VXLAN.
        pub vxlan_port: [u8; 2],
        /// Bits of [`node_flag`].
        pub flags: u16,
        /// [`crate::ABI_VERSION`] of the daemon that wrote this; 0 until one did.
        pub version: u32,
        /// The network that published ports travel on between nodes; 0 is none.
        pub ingress_vni: u32,
        /// Number of sets in `FLOWS` less one.
        pub flow_mask: u32,
        /// Interface that replies leave by which do not go back through the node dialled.
        pub uplink: u32,
        /// Where the search for the number of the next new backend begins: numbers are used again as late
        /// as can be, since flows name them.
        pub next_backend: u32,
        /// IPv4 address that others see flows of this node come from; zero if it has none.
        pub own4: Addr,
        /// The same, IPv6.
        pub own6: Addr,
        /// First of the ports that such flows get.
        pub ports_from: u16,
        /// How many there are.
        pub ports: u16,
    }

    /// A node's place in the underlay: an element of `NODES`, indexed by node number.
    pub struct Node {
        /// Its VTEP address.
        pub vtep: Addr,
        /// The source address to reach it from.
        pub source: Addr,
        /// Interface to reach it by; 0 while unknown.
        pub ifindex: u32,
        /// Link-layer address of the next hop to it.
        pub next_hop: Mac,
        /// Link-layer address of that interface.
        pub source_mac: Mac,
        /// Largest IP packet that interface sends, bytes.
        pub mtu: u32,
    }

    /// Key of `VTEPS`, whose value is a node number: which node a VXLAN packet comes from.
    pub struct VtepKey {
        /// The outer source address.
        pub addr: Addr,
    }

    /// A network this node has a part in; value of `NETWORKS`, keyed by VNI.
    pub struct Network {
        /// Largest IP packet its tasks may send, bytes.
        pub mtu: u32,
        /// Bits of [`network_flag`].
        pub flags: u32,
    }
}

/// Bits of [`Network::flags`].
pub mod network_flag {
    /// Its tasks have no way out.
    pub const INTERNAL: u32 = 1;
}

/// The loopback interface: the same number in every network namespace (`LOOPBACK_IFINDEX`).
pub const LOOPBACK: u32 = 1;

impl NodeConfig {
    /// The address of the family of `like` that others see flows of this node come from; zero if
    /// there is none.
    #[inline(always)]
    pub const fn own_like(&self, like: &Addr) -> Addr {
        if like.is_v4() { self.own4 } else { self.own6 }
    }

    /// Is this one of the ports that flows of this node get?
    #[inline(always)]
    pub const fn is_lent(&self, port: [u8; 2]) -> bool {
        u16::from_be_bytes(port).wrapping_sub(self.ports_from) < self.ports
    }

    /// The port that a hash falls on.
    #[inline(always)]
    pub const fn lent_port(&self, hash: u32) -> [u8; 2] {
        self.ports_from.wrapping_add(crate::maglev::slot(hash, self.ports as u32) as u16).to_be_bytes()
    }
}

/// Bits of [`NodeConfig::flags`].
pub mod node_flag {
    /// Another VXLAN device listens on the same port: networks that are not ours belong to it.
    pub const SHARED_PORT: u16 = 1;
}
