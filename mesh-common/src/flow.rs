//! A tracked connection, on the node of its backend only: which address was dialled, so that
//! replies can be given it as their source, and where the reply has to go.
//!
//! `FLOWS` is an array of sets of eight. A flow lives in the one set its key hashes to; the array
//! is meant to be at most a quarter full, and when a set is full anyhow the flow that is missed
//! least makes room: a closed one, then one that never got an answer, then the one idle longest.

use core::hint::black_box;

use crate::addr::Addr;
use crate::maglev::{finish, mix};

/// Flows in a set: a set is eight cache lines.
pub const WAYS: usize = 8;

shared! {
    /// One flow: one cache line.
    pub struct Flow {
        /// The other end, as the task sees it.
        pub client: Addr,
        /// What the client dialled.
        pub dialled: Addr,
        /// Host side of the task's link: the task's identity on this node.
        pub ifindex: u32,
        /// The client's port; the identifier of an ICMP echo.
        pub client_port: [u8; 2],
        /// The task's port; the identifier of an ICMP echo.
        pub task_port: [u8; 2],
        /// Port dialled.
        pub dialled_port: [u8; 2],
        /// Protocol; 0 marks an empty place.
        pub proto: u8,
        /// Bits of [`state`].
        pub state: u8,
        /// Where replies go: the number of the node that was dialled, or the interface the client
        /// is behind if [`state::HERE`].
        pub origin: u32,
        /// When it was last seen, in [`TICK`]s.
        pub seen: u32,
        /// The backend, for the count of live flows.
        pub backend: u32,
        /// Odd while somebody writes; moves with every new owner of the place. 64 bits: BPF has no
        /// narrower atomics.
        pub sequence: u64,
    }

    /// Element of `FLOWS`.
    pub struct FlowSet {
        /// Its places.
        pub flows: [Flow; WAYS],
    }
}

const _: () = assert!(size_of::<Flow>() == 64);
// `FlowKey::words` is compared with these as they lie.
const _: () = assert!(core::mem::offset_of!(Flow, client) == 0);
const _: () = assert!(core::mem::offset_of!(Flow, ifindex) == 8 * IFINDEX_AND_PORTS);
const _: () = assert!(core::mem::offset_of!(Flow, client_port) == 8 * IFINDEX_AND_PORTS + 4);
const _: () = assert!(core::mem::offset_of!(Flow, task_port) == 8 * IFINDEX_AND_PORTS + 6);
const _: () = assert!(size_of::<FlowSet>() == 512);

/// Which word of a [`Flow`] holds the interface and both ports.
pub const IFINDEX_AND_PORTS: usize = 4;

/// A set shows how many of its places are taken.
impl crate::abi::Field for [Flow; WAYS] {
    fn value(&self) -> crate::abi::Value<'_> {
        crate::abi::Value::Number(self.iter().filter(|flow| flow.proto != 0).count() as u64)
    }
}

/// Jiffies per unit of [`Flow::seen`], as a shift: between 0.26 s and 2.6 s, by the kernel's HZ.
pub const TICK: u32 = 8;

/// In [`Flow::ifindex`]: it is no flow of a task here, but what this node, which was dialled, chose for a
/// client: the backend, in [`Flow::backend`]. The other bits tell dialled addresses apart; `origin` is the
/// second of the kernel's clock in which a packet passed.
pub const CHOICE: u32 = 1 << 31;

/// Bits of [`Flow::state`].
pub mod state {
    /// The task has answered.
    pub const ANSWERED: u8 = 1;
    /// The client said it is done (TCP FIN).
    pub const CLIENT_DONE: u8 = 2;
    /// The task said it is done (TCP FIN).
    pub const TASK_DONE: u8 = 4;
    /// Either end reset it.
    pub const RESET: u8 = 8;
    /// It came through a published port.
    pub const PUBLISHED: u8 = 16;
    /// This node was dialled.
    pub const HERE: u8 = 32;
    /// Replies leave by this node's own uplink.
    pub const DIRECT: u8 = 64;
    /// The task dialled itself.
    pub const HAIRPIN: u8 = 128;
    /// The task dialled, not the client: what leaves has the node's address. A reply that this node was
    /// dialled for is never direct, so the pair of bits is free for this.
    pub const OUTWARD: u8 = HERE | DIRECT;
}

/// What finds a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowKey {
    /// The other end.
    pub client: Addr,
    /// Host side of the task's link.
    pub ifindex: u32,
    /// The client's port.
    pub client_port: [u8; 2],
    /// The task's port.
    pub task_port: [u8; 2],
    /// Protocol, never 0.
    pub proto: u8,
}

impl FlowKey {
    /// Of what was chosen for a client of `dialled`, in the network `vni`; without `client_port`, for all
    /// that the client sends there.
    #[inline(always)]
    pub const fn choice(
        client: Addr,
        client_port: [u8; 2],
        dialled: &Addr,
        port: [u8; 2],
        proto: u8,
        vni: u32,
    ) -> Self {
        let words = dialled.words();
        let hash = finish(mix(mix(mix(mix(mix(0x6368_6f69, words[0]), words[1]), words[2]), words[3]), vni));
        Self { client, ifindex: CHOICE | hash, client_port, task_port: port, proto }
    }

    /// Which set it lives in, for a table of `mask + 1` sets.
    #[inline(always)]
    pub const fn set(&self, mask: u32) -> u32 {
        let words = self.client.words();
        let ports =
            u32::from_be_bytes([self.client_port[0], self.client_port[1], self.task_port[0], self.task_port[1]]);
        let addr = mix(mix(mix(mix(0x666c_6f77, words[0]), words[1]), words[2]), words[3]);
        finish(mix(mix(mix(addr, ports), self.ifindex), self.proto as u32)) & mask
    }

    /// The key as three words of a [`Flow`]: the client, and the interface with both ports.
    #[inline(always)]
    pub const fn words(&self) -> [u64; 3] {
        let words = self.client.words();
        let (i, client, task) = (self.ifindex.to_ne_bytes(), self.client_port, self.task_port);
        [
            join(words[0], words[1]),
            join(words[2], words[3]),
            u64::from_ne_bytes([i[0], i[1], i[2], i[3], client[0], client[1], task[0], task[1]]),
        ]
    }
}

/// Two words as they lie one behind the other in memory.
#[inline(always)]
const fn join(first: u32, second: u32) -> u64 {
    let (a, b) = (first.to_ne_bytes(), second.to_ne_bytes());
    u64::from_ne_bytes([a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3]])
}

/// How little the flow in a place would be missed at `now`: an empty place most of all. From
/// [`CLOSED`] on the flow is over. Never 0.
///
/// Arithmetic instead of branches: the verifier would follow every way through a set of eight.
#[inline(always)]
pub const fn expendable(proto: u8, bits: u8, seen: u32, now: u32) -> u64 {
    let bits = bits as u64;
    const { assert!(state::ANSWERED == 1 && state::CLIENT_DONE == 2 && state::TASK_DONE == 4 && state::RESET == 8) };
    let both = (bits >> 1) & (bits >> 2) & 1;
    let over = both | ((bits >> 3) & 1);
    let unanswered = ((over | bits) & 1) ^ 1;
    // 2^29 ticks are four years at least.
    let age = (now.wrapping_sub(seen) & 0x1fff_ffff) as u64;
    (is_zero(proto as u64) << 33) | (over << 32) | (unanswered << 31) | (age + 1)
}

/// For so many ticks after its last packet a connection keeps its client's port for itself: minutes.
/// Longer, and a client that died without a word would lose the port for good.
const HOLDS: u32 = 256;

/// Does a flow keep a new connection of its client from its port? It does while it is alive: answered,
/// not over, and not idle for long.
#[inline(always)]
pub const fn holds_port(bits: u8, seen: u32, now: u32) -> bool {
    bits & state::ANSWERED != 0 && !is_over(bits) && now.wrapping_sub(seen) < HOLDS
}

/// Is the flow of this state at its end?
#[inline(always)]
pub const fn is_over(bits: u8) -> bool {
    let done = state::CLIENT_DONE | state::TASK_DONE;
    bits & state::RESET != 0 || bits & done == done
}

/// Scores of [`expendable`] from here on are of flows that are over, or of no flow.
pub const CLOSED: u64 = 1 << 32;

/// 1 if a port that a flow got is free for another: the flow is over, or silent for so long that its
/// ends have given it up. TCP that was answered has 2 hours 4 minutes at least, and 4 minutes until then
/// (RFC 5382 REQ-5); all else has 4 minutes at least, of which RFC 4787 REQ-5 asks for two. Without a branch,
/// as [`expendable`].
#[inline(always)]
pub const fn gives_up_port(proto: u8, bits: u8, seen: u32, now: u32) -> u64 {
    const { assert!(state::ANSWERED == 1) };
    let established = is_zero((proto ^ crate::header::proto::TCP) as u64) & bits as u64;
    let patience = SHORT_PATIENCE + established * (LONG_PATIENCE - SHORT_PATIENCE);
    let score = expendable(proto, bits, seen, now);
    let age = (score & 0x3fff_ffff) - 1;
    // The sign of the difference: is the age above?
    (score >> 32 & 1) | (patience.wrapping_sub(age) >> 63)
}

/// Ticks in four minutes where a tick is shortest.
const SHORT_PATIENCE: u64 = 940;
/// Ticks in 2 hours 4 minutes, likewise. Linux has an idle connection asked after 2 hours.
const LONG_PATIENCE: u64 = 29_063;

/// 1 for zero, else 0, without a branch.
///
/// The compiler knows this for a comparison, and BPF compares by a jump alone: of eight in a row the
/// verifier would follow 256 ways. So it is kept from seeing through.
#[inline(always)]
pub const fn is_zero(word: u64) -> u64 {
    // The sign is set for all but zero.
    let signed = black_box(word | word.wrapping_neg());
    black_box(signed >> 63) ^ 1
}
