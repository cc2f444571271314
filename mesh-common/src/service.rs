//! What is balanced, and to whom.

use crate::addr::{Addr, Mac};

shared! {
    /// Key of `SERVICES`: what a client dials.
    ///
    /// Three kinds of entry share the map. A VIP: its network's VNI, the address, port and
    /// protocol zero (a VIP answers on all ports). A port published on this node: VNI 0, an address
    /// of the node, port and protocol. The same port as other nodes send it on: the ingress VNI,
    /// the unspecified address of the family, port and protocol; so that it does not depend on which
    /// node was dialled.
    pub struct ServiceKey {
        /// What is dialled.
        pub addr: Addr,
        /// See above.
        pub vni: u32,
        /// The port, in packet order.
        pub port: [u8; 2],
        /// The protocol, or 0 for all.
        pub proto: u8,
        /// Zero.
        pub pad: u8,
    }

    /// Value of `SERVICES`.
    pub struct Service {
        /// First of its slots in `SLOTS`.
        pub slots_at: u32,
        /// How many slots it has; 0 while no backend is fit.
        pub slots: u32,
        /// First of the slots of who is dialled on this node, if they are others: see [`Service::entry`].
        pub near_at: u32,
        /// How many of those it has; 0 for none.
        pub near: u32,
        /// How many flows a second may be new on this node; 0 is no limit.
        pub budget: u32,
        /// For how many seconds a client without traffic stays with its backend.
        pub affinity: u32,
        /// What the packet's destination port becomes, in packet order; 0 keeps it.
        pub target_port: [u8; 2],
        /// Bits of [`service_flag`].
        pub flags: u16,
        /// Number of its tally.
        pub tally: u16,
        /// Zero.
        pub pad: [u8; 2],
    }

    /// Element of `SLOTS`: where the flows of one slot of a Maglev table go.
    pub struct Slot {
        /// Backend of new flows; 0 is none.
        pub current: u32,
        /// Backend that flows may still belong to that `current` does not know; 0 is none.
        pub previous: u32,
    }

    /// Element of `BACKENDS`: a task that flows are sent to. Number 0 is nobody.
    pub struct Backend {
        /// Its IPv6 address, or zero.
        pub addr6: Addr,
        /// Its IPv4 address, or zero.
        pub addr4: [u8; 4],
        /// Number of its node; 0 for a local task.
        pub node: u32,
        /// Host side of its link, if it is local; else 0.
        pub ifindex: u32,
        /// Its link-layer address.
        pub mac: Mac,
        /// Bits of [`backend_flag`].
        pub flags: u16,
        /// Number of its tally, if it is local; else 0.
        pub tally: u16,
        /// Zero.
        pub pad: [u8; 2],
    }

    /// Element of `PACE`, one for each [`PACE_SLOTS`] slots: how a service is doing, by its first slot.
    /// The programs write it.
    pub struct Pace {
        /// How many flows have been dealt out in turn.
        pub turn: u64,
        /// The second of the kernel's clock, and how many flows were new in it.
        pub budget: u64,
    }
}

/// Every run of slots starts at a multiple of this, since each has at least so many, and a power of two.
pub const PACE_SLOTS: u32 = 64;

/// Bits of [`Service::flags`].
pub mod service_flag {
    /// Replies leave by the backend's own uplink, with the dialled address as source, instead of
    /// going back through the node that was dialled.
    pub const DIRECT: u16 = 1;
    /// All flows of a client go to one backend.
    pub const CLIENT_AFFINITY: u16 = 2;
    /// New flows go to one backend after the other.
    pub const ROUND_ROBIN: u16 = 4;
    /// A new flow goes to the less busy of two backends.
    pub const LEAST_CONNECTIONS: u16 = 8;
    /// The node that is dialled remembers what it chose.
    pub const REMEMBERED: u16 = CLIENT_AFFINITY | ROUND_ROBIN | LEAST_CONNECTIONS;
}

/// Bits of [`Backend::flags`].
pub mod backend_flag {
    /// It takes no new flows.
    pub const DRAINING: u16 = 1;
}

/// A run of slots in `SLOTS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first.
    pub at: u32,
    /// How many.
    pub len: u32,
}

impl Service {
    /// The slots that all nodes have: of packets that another node chose a task for.
    #[inline(always)]
    pub const fn all(&self) -> Run {
        Run { at: self.slots_at, len: self.slots }
    }

    /// The slots of packets that dial the service at this node.
    #[inline(always)]
    pub const fn entry(&self) -> Run {
        if self.near != 0 { Run { at: self.near_at, len: self.near } } else { self.all() }
    }
}

impl ServiceKey {
    /// A virtual address in a network: all ports, all protocols.
    #[inline(always)]
    pub const fn vip(vni: u32, addr: Addr) -> Self {
        Self { addr, vni, port: [0; 2], proto: 0, pad: 0 }
    }

    /// A port published on this node's address.
    #[inline(always)]
    pub const fn published(addr: Addr, proto: u8, port: [u8; 2]) -> Self {
        Self { addr, vni: 0, port, proto, pad: 0 }
    }

    /// A published port as it comes from the node that was dialled, at an address like `dialled`.
    #[inline(always)]
    pub const fn forwarded(ingress_vni: u32, dialled: &Addr, proto: u8, port: [u8; 2]) -> Self {
        let addr = if dialled.is_v4() { Addr::v4([0; 4]) } else { Addr::ZERO };
        Self { addr, vni: ingress_vni, port, proto, pad: 0 }
    }
}

impl Backend {
    /// Its address of the same family as `like`.
    #[inline(always)]
    pub const fn addr_like(&self, like: &Addr) -> Addr {
        if like.is_v4() { Addr::v4(self.addr4) } else { self.addr6 }
    }
}
