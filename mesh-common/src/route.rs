//! Where packets of tasks go that are for nobody in their network.

use crate::addr::Addr;

shared! {
    /// Key of `ROUTES`: the addresses that begin with the same bits (`struct bpf_lpm_trie_key`).
    pub struct Prefix {
        /// How many. Of IPv4 96 more, which the mapped form begins with.
        pub bits: u32,
        /// The bits; those behind them are zero.
        pub addr: Addr,
    }

    /// Value of `ROUTES`: how this node reaches such an address. The longest prefix counts.
    pub struct Route {
        /// The node's own address on that way; zero if it has none of the family there.
        pub source: Addr,
        /// The uplink that leads there; 0 if none does.
        pub ifindex: u32,
        /// Bits of [`route_flag`].
        pub flags: u32,
    }
}

/// Bits of [`Route::flags`].
pub mod route_flag {
    /// The addresses are those of an overlay network: nothing for them may leave the node unwrapped.
    pub const OVERLAY: u32 = 1;
}

impl Prefix {
    /// How many bits an address has.
    pub const WHOLE: u32 = 128;
    /// How many of them all mapped IPv4 addresses share.
    const MAPPED: u32 = 96;

    /// The first bits of an address; of an IPv4 address, counted within that.
    pub const fn new(addr: Addr, bits: u32) -> Self {
        Self::of_bits(addr, if addr.is_v4() { bits + Self::MAPPED } else { bits })
    }

    /// The first bits of an address, of all 128.
    pub const fn of_bits(addr: Addr, bits: u32) -> Self {
        let mut kept = addr.bytes;
        let mut at = 0;
        while at < kept.len() {
            let left = bits.saturating_sub(at as u32 * 8);
            if left < 8 {
                kept[at] &= !(0xff >> left);
            }
            at += 1;
        }
        Self { bits, addr: Addr { bytes: kept } }
    }

    /// Are all addresses of `other` among those of this?
    pub fn covers(&self, other: &Self) -> bool {
        self.bits <= other.bits && Self::of_bits(other.addr, self.bits) == *self
    }
}
