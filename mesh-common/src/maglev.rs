//! Which slot a flow falls into. Building the table is the daemon's part.
//!
//! Every node computes the same slot for the same flow, whichever of its addresses was dialled: a
//! flow that another node suddenly receives finds the same backend.

use crate::addr::Addr;

/// What identifies a flow for the choice of a backend. The address dialled is not in it: a client
/// may dial any node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuple {
    /// The client.
    pub client: Addr,
    /// Its port; the identifier of an ICMP echo.
    pub client_port: [u8; 2],
    /// The port dialled.
    pub port: [u8; 2],
    /// The protocol.
    pub proto: u8,
}

impl Tuple {
    /// A hash of all of it.
    #[inline(always)]
    pub const fn hash(&self) -> u32 {
        let ports = u32::from_be_bytes([self.client_port[0], self.client_port[1], self.port[0], self.port[1]]);
        finish(mix(mix(client(&self.client), ports), self.proto as u32))
    }

    /// A hash of the client alone, for services that keep a client on one backend.
    #[inline(always)]
    pub const fn client_hash(&self) -> u32 {
        finish(client(&self.client))
    }
}

#[inline(always)]
const fn client(addr: &Addr) -> u32 {
    let words = addr.words();
    mix(mix(mix(mix(0x6d65_7368, words[0]), words[1]), words[2]), words[3])
}

/// One step of MurmurHash3 (32 bit, public domain).
#[inline(always)]
pub const fn mix(hash: u32, word: u32) -> u32 {
    let word = word.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
    (hash ^ word).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64)
}

/// The finaliser of MurmurHash3: every input bit moves every output bit.
#[inline(always)]
pub const fn finish(mut hash: u32) -> u32 {
    hash ^= hash >> 16;
    hash = hash.wrapping_mul(0x85eb_ca6b);
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(0xc2b2_ae35);
    hash ^ (hash >> 16)
}

/// The slot of a hash in a table of `slots`: a multiplication and a shift instead of a division.
#[inline(always)]
pub const fn slot(hash: u32, slots: u32) -> u32 {
    ((hash as u64 * slots as u64) >> 32) as u32
}
