//! Every map, and one safe lookup for each.
//!
//! Names and capacities are the contract with `mesh-daemon/src/datapath/maps.rs`; a test compares
//! the two. Lookups hand out copies or shared references: nothing here writes to a map but the
//! counters and the flows.
#![expect(unsafe_code, reason = "map elements are raw pointers; the faces below are safe")]

use core::ffi::c_void;
use core::hint::black_box;
use core::intrinsics::AtomicOrdering::SeqCst;
use core::intrinsics::{atomic_cxchg, atomic_xadd};

use aya_ebpf::btf_maps::lpm_trie::Key;
use aya_ebpf::btf_maps::{Array, HashMap, LpmTrie, PerCpuArray, PerfEventByteArray};
use aya_ebpf::macros::btf_map;
use mesh_common::ABI_VERSION;
use mesh_common::addr::{Addr, Mac};
use mesh_common::counter::Counter;
use mesh_common::drop::DropReason;
use mesh_common::endpoint::{Endpoint, EndpointKey, Link, Neighbour, NeighbourKey};
use mesh_common::flow::{self, Flow, FlowKey, FlowSet, WAYS};
use mesh_common::limits;
use mesh_common::node::{Network, Node, NodeConfig, VtepKey, network_flag};
use mesh_common::route::{Prefix, Route};
use mesh_common::service::{Backend, PACE_SLOTS, Pace, Service, ServiceKey, Slot};
use mesh_common::tally::{Label, Tally};
use mesh_common::watch::{Watch, watcher};

use crate::dial::Dial;
use crate::watch::{Desk, Watcher};

/// Entries are allocated when they are made: an empty node pays for none of them.
const NO_PREALLOC: usize = aya_ebpf::bindings::BPF_F_NO_PREALLOC as usize;

#[btf_map]
static NODE: Array<NodeConfig, 1> = Array::new();
#[btf_map]
static NODES: Array<Node, { limits::NODES as usize }> = Array::new();
#[btf_map]
static VTEPS: HashMap<VtepKey, u32, { limits::NODES as usize }, NO_PREALLOC> = HashMap::new();
#[btf_map]
static NETWORKS: HashMap<u32, Network, { limits::NETWORKS as usize }, NO_PREALLOC> = HashMap::new();
#[btf_map]
static ENDPOINTS: HashMap<EndpointKey, Endpoint, { limits::ENDPOINTS as usize }, NO_PREALLOC> = HashMap::new();
#[btf_map]
static NEIGHBOURS: HashMap<NeighbourKey, Neighbour, { limits::NEIGHBOURS as usize }, NO_PREALLOC> = HashMap::new();
#[btf_map]
static LINKS: HashMap<u32, Link, { limits::LINKS as usize }, NO_PREALLOC> = HashMap::new();
#[btf_map]
static SERVICES: HashMap<ServiceKey, Service, { limits::SERVICES as usize }, NO_PREALLOC> = HashMap::new();
#[btf_map]
static SLOTS: Array<Slot, { limits::SLOTS as usize }> = Array::new();
#[btf_map]
static BACKENDS: Array<Backend, { limits::BACKENDS as usize }> = Array::new();
#[btf_map]
static PACE: Array<Pace, { limits::PACES as usize }> = Array::new();
#[btf_map]
static LIVE: Array<u64, { limits::BACKENDS as usize }> = Array::new();
#[btf_map]
static LOCALS: HashMap<Addr, u32, { limits::LOCALS as usize }, NO_PREALLOC> = HashMap::new();
#[btf_map]
static ROUTES: LpmTrie<Addr, Route, { limits::ROUTES as usize }> = LpmTrie::new();
#[btf_map]
static FLOWS: Array<FlowSet, { limits::FLOW_SETS as usize }> = Array::new();
#[btf_map]
static TALLIES: PerCpuArray<Tally, { limits::TALLIES as usize }> = PerCpuArray::new();
/// For people; the daemon writes it.
#[btf_map]
static LABELS: Array<Label, { limits::TALLIES as usize }> = Array::new();
#[btf_map]
static WATCH: Array<Watch, { watcher::COUNT as usize }> = Array::new();
#[btf_map]
static EVENTS: PerfEventByteArray = PerfEventByteArray::new();
#[btf_map]
static CAPTURED: PerfEventByteArray = PerfEventByteArray::new();
#[btf_map]
static DESK: PerCpuArray<Desk, { watcher::COUNT as usize }> = PerCpuArray::new();
#[btf_map]
static DIAL: PerCpuArray<Dial, 1> = PerCpuArray::new();
#[btf_map]
static FLOW: PerCpuArray<Flow, 1> = PerCpuArray::new();
#[btf_map]
static COUNTERS: PerCpuArray<u64, { limits::COUNTED as usize }> = PerCpuArray::new();
#[btf_map]
static DROPS: PerCpuArray<u64, { limits::COUNTED as usize }> = PerCpuArray::new();

/// This node, once the daemon wrote it.
#[inline(always)]
pub(crate) fn node_config() -> Result<&'static NodeConfig, DropReason> {
    let config = NODE.get(0).ok_or(DropReason::NotConfigured)?;
    if config.version != ABI_VERSION {
        return Err(DropReason::NotConfigured);
    }
    Ok(config)
}

/// A node by number.
#[inline(always)]
pub(crate) fn node(number: u32) -> Option<&'static Node> {
    NODES.get(number)
}

/// Which member sends from this address?
#[inline(always)]
pub(crate) fn vtep(addr: Addr) -> Option<u32> {
    // SAFETY: the value is plain bytes and copied at once. An element that is removed meanwhile may be
    // given to another key: the worst is one packet judged by that key's entry.
    unsafe { VTEPS.get(VtepKey { addr }) }.copied()
}

/// Has this node a part in the network?
#[inline(always)]
pub(crate) fn is_network(vni: u32) -> bool {
    NETWORKS.get_ptr(vni).is_some()
}

/// The way to a link-layer address of a network.
#[inline(always)]
pub(crate) fn endpoint(vni: u32, mac: Mac) -> Option<Endpoint> {
    // SAFETY: as in `vtep`.
    unsafe { ENDPOINTS.get(EndpointKey::new(vni, mac)) }.copied()
}

/// The link-layer address of an address of a network.
#[inline(always)]
pub(crate) fn neighbour(vni: u32, addr: Addr) -> Option<Mac> {
    // SAFETY: as in `vtep`.
    unsafe { NEIGHBOURS.get(NeighbourKey { addr, vni }) }.map(|neighbour| neighbour.mac)
}

/// The task behind a host-side interface.
#[inline(always)]
pub(crate) fn link(ifindex: u32) -> Option<&'static Link> {
    // SAFETY: plain bytes that stay mapped for the program run. As in `vtep`, they may become those of
    // another link when this one is removed meanwhile.
    unsafe { LINKS.get(ifindex) }
}

/// What is dialled by this key.
#[inline(always)]
pub(crate) fn service(key: &ServiceKey) -> Option<Service> {
    // SAFETY: as in `vtep`.
    unsafe { SERVICES.get(key) }.copied()
}

/// A slot of a service.
#[inline(always)]
pub(crate) fn slot(index: u32) -> Option<Slot> {
    SLOTS.get(index).copied()
}

/// Is this an address of this node?
#[inline(always)]
pub(crate) fn is_local(addr: Addr) -> bool {
    LOCALS.get_ptr(addr).is_some()
}

/// How this node reaches an address that is none of its own.
#[inline(always)]
pub(crate) fn route(addr: Addr) -> Option<Route> {
    ROUTES.get(&Key::new(Prefix::WHOLE, addr)).copied()
}

/// Have the tasks of the network no way out?
#[inline(always)]
pub(crate) fn is_internal(vni: u32) -> bool {
    // SAFETY: as in `vtep`.
    unsafe { NETWORKS.get(vni) }.is_none_or(|network| network.flags & network_flag::INTERNAL != 0)
}

/// A backend by number.
#[inline(always)]
pub(crate) fn backend(number: u32) -> Option<&'static Backend> {
    if number == 0 {
        return None;
    }
    BACKENDS.get(number)
}

/// Counts one more flow that is dealt out in turn, of the service whose slots begin at `slots_at`; how many
/// there were before.
#[inline(always)]
pub(crate) fn take_turn(slots_at: u32) -> u64 {
    let Some(pace) = PACE.get_ptr_mut(slots_at / PACE_SLOTS) else { return 0 };
    // SAFETY: an aligned word of a map element.
    let (word, turn) = unsafe { (&raw mut (*pace).turn, (&raw const (*pace).turn).read_volatile()) };
    // If two CPUs are at it at once, both flows get the same turn: that is no harm.
    swap_if(word, turn, turn.wrapping_add(1));
    turn
}

/// Counts one more new flow in this second; is it beyond `budget`?
///
/// Two CPUs that begin a second at once may lose a few counts: a budget is no exact number.
#[inline(always)]
pub(crate) fn is_over_budget(slots_at: u32, budget: u32, second: u32) -> bool {
    let Some(pace) = PACE.get_ptr_mut(slots_at / PACE_SLOTS) else { return false };
    // SAFETY: an aligned word of a map element, which other CPUs count in by the same instruction.
    unsafe {
        let word = &raw mut (*pace).budget;
        if (word.read_volatile() >> 32) as u32 != second {
            word.write_volatile(u64::from(second) << 32 | 1);
            return false;
        }
        // The count stops at the budget, so it cannot run over into the second.
        if word.read_volatile() as u32 >= budget {
            return true;
        }
        atomic_xadd::<u64, u64, { SeqCst }>(word, 1);
        false
    }
}

/// How many connections this node sends to a backend now.
#[inline(always)]
pub(crate) fn chosen(number: u32) -> i64 {
    LIVE.get(number).map_or(0, |count| count.cast_signed())
}

/// Counts connections that this node sends to a backend.
#[inline(always)]
pub(crate) fn add_chosen(number: u32, more: i64) {
    if let Some(count) = LIVE.get_ptr_mut(number) {
        // SAFETY: as in `is_over_budget`.
        unsafe { atomic_xadd::<u64, u64, { SeqCst }>(count, more.cast_unsigned()) };
    }
}

/// The places of one set of flows.
#[inline(always)]
pub(crate) fn flow_set(index: u32) -> Option<FlowPlaces> {
    FLOWS.get_ptr_mut(index).map(|set| FlowPlaces { set })
}

/// What is read of a flow that was found.
#[derive(Clone, Copy)]
pub(crate) struct Found {
    /// What the client dialled.
    pub(crate) dialled: Addr,
    /// Port dialled.
    pub(crate) dialled_port: [u8; 2],
    /// Where replies go.
    pub(crate) origin: u32,
    /// Bits of [`flow::state`].
    pub(crate) state: u8,
    /// When it was last seen.
    pub(crate) seen: u32,
    /// Its backend.
    pub(crate) backend: u32,
}

/// Room for a packet to a service beside the 512 bytes of stack; this CPU's own.
#[inline(always)]
pub(crate) fn dial_room() -> Result<&'static mut Dial, DropReason> {
    let room = DIAL.get_ptr_mut(0).ok_or(DropReason::NotConfigured)?;
    // SAFETY: programs run one after the other on a CPU, with soft interrupts off, and each asks
    // once.
    Ok(unsafe { &mut *room })
}

/// Room for a flow to be remembered; this CPU's own.
#[inline(always)]
pub(crate) fn flow_room() -> Result<&'static mut Flow, DropReason> {
    let room = FLOW.get_ptr_mut(0).ok_or(DropReason::NotConfigured)?;
    // SAFETY: as in `dial_room`; a program that asks twice has let go of the first.
    Ok(unsafe { &mut *room })
}

/// One set of flows, shared with every other CPU.
pub(crate) struct FlowPlaces {
    set: *mut FlowSet,
}

impl FlowPlaces {
    #[inline(always)]
    fn place(&self, way: usize) -> *mut Flow {
        // SAFETY: the set is a map element, and callers keep `way` below `WAYS` (the verifier
        // checks it).
        unsafe { (&raw mut (*self.set).flows).cast::<Flow>().add(way) }
    }

    /// The place of the flow of `key`.
    #[inline(always)]
    pub(crate) fn way_of(&self, key: &FlowKey) -> Option<usize> {
        match self.ways_of(key) {
            0 => None,
            // The lowest, should two CPUs have made the same flow at once.
            many => Some(lowest(many)),
        }
    }

    /// 1 if no flow has this key, or the one that has it needs its port no more. Without a branch: this
    /// is asked in a loop.
    #[inline(always)]
    pub(crate) fn gives_up(&self, key: &FlowKey, now: u32) -> u64 {
        let found = self.ways_of(key);
        let place = self.place(lowest(found) & (WAYS - 1));
        // SAFETY: fields of a map element.
        let (state, seen) =
            unsafe { ((&raw const (*place).state).read_volatile(), (&raw const (*place).seen).read_volatile()) };
        flow::is_zero(found) | flow::gives_up_port(key.proto, state, seen, now)
    }

    /// The places with this key, as bits.
    ///
    /// All are compared, without a branch: the verifier would follow each way out of a loop.
    #[inline(always)]
    fn ways_of(&self, key: &FlowKey) -> u64 {
        let words = key.words();
        let proto = u64::from(key.proto);
        let mut found = 0;
        let mut way = 0;
        while way < WAYS {
            let place = self.place(way);
            let word = place.cast::<u64>();
            // SAFETY: words of a map element. What another CPU is writing meanwhile is plain bytes;
            // `read` looks at the sequence.
            let differs = unsafe {
                (word.read_volatile() ^ words[0])
                    | (word.add(1).read_volatile() ^ words[1])
                    | (word.add(flow::IFINDEX_AND_PORTS).read_volatile() ^ words[2])
                    | (u64::from((&raw const (*place).proto).read_volatile()) ^ proto)
            };
            found |= flow::is_zero(differs) << way;
            way += 1;
        }
        found
    }

    /// What there is to know of the flow in a place; `None` while another CPU writes there.
    #[inline(always)]
    pub(crate) fn read(&self, way: usize) -> Option<Found> {
        if way >= WAYS {
            return None;
        }
        let place = self.place(way);
        // SAFETY: fields of a map element; volatile keeps the reads between those of the sequence.
        unsafe {
            let before = (&raw const (*place).sequence).read_volatile();
            let dialled = (&raw const (*place).dialled).cast::<[u64; 2]>().read_volatile();
            let found = Found {
                dialled: Addr::from_words(dialled),
                dialled_port: (&raw const (*place).dialled_port).read_volatile(),
                origin: (&raw const (*place).origin).read_volatile(),
                state: (&raw const (*place).state).read_volatile(),
                seen: (&raw const (*place).seen).read_volatile(),
                backend: (&raw const (*place).backend).read_volatile(),
            };
            if before & 1 == 1 || (&raw const (*place).sequence).read_volatile() != before {
                return None;
            }
            Some(found)
        }
    }

    /// The place of the flow that would be missed least, and how little; `None` if every place is
    /// being written.
    #[inline(always)]
    pub(crate) fn least_missed(&self, now: u32) -> Option<(usize, u64)> {
        let mut best = 0;
        let mut way = 0;
        while way < WAYS {
            let place = self.place(way);
            // SAFETY: fields of a map element.
            let score = unsafe {
                let free = (&raw const (*place).sequence).read_volatile() & 1 ^ 1;
                let proto = (&raw const (*place).proto).read_volatile();
                let state = (&raw const (*place).state).read_volatile();
                let seen = (&raw const (*place).seen).read_volatile();
                flow::expendable(proto, state, seen, now) * free
            };
            best = larger(best, score << 3 | way as u64);
            way += 1;
        }
        if best >> 3 == 0 { None } else { Some(((best & 7) as usize, best >> 3)) }
    }

    /// Writes state and time of a flow that stays.
    #[inline(always)]
    pub(crate) fn touch(&self, way: usize, state: u8, seen: u32) {
        if way >= WAYS {
            return;
        }
        let place = self.place(way);
        // SAFETY: single fields of a map element.
        unsafe {
            (&raw mut (*place).state).write_volatile(state);
            (&raw mut (*place).seen).write_volatile(seen);
        }
    }

    /// Writes the second in which a choice was last followed.
    #[inline(always)]
    pub(crate) fn follow(&self, way: usize, second: u32) {
        if way < WAYS {
            // SAFETY: a single field of a map element.
            unsafe { (&raw mut (*self.place(way)).origin).write_volatile(second) }
        }
    }

    /// Writes a new flow into a place, unless another CPU is doing so.
    #[inline(always)]
    pub(crate) fn replace(&self, way: usize, flow: &Flow) -> bool {
        if way >= WAYS {
            return false;
        }
        // SAFETY: an aligned word of a map element.
        let sequence = unsafe { &raw mut (*self.place(way)).sequence };
        // SAFETY: as above.
        let before = unsafe { sequence.read_volatile() };
        if before & 1 == 1 {
            return false;
        }
        let claimed = before | 1;
        if !swap_if(sequence, before, claimed) {
            return false;
        }
        // SAFETY: the place is claimed; nobody else writes it whole. Word by word, all but the
        // sequence: volatile bytes would be written one at a time.
        unsafe {
            let (from, to) = ((&raw const *flow).cast::<u64>(), self.place(way).cast::<u64>());
            let mut word = 0;
            while word < size_of::<Flow>() / 8 - 1 {
                to.add(word).write_volatile(from.add(word).read_volatile());
                word += 1;
            }
        }
        // A read-modify-write orders the writes above before it.
        swap_if(sequence, claimed, claimed + 1)
    }
}

/// The larger of two numbers below 2^63, without a branch.
#[inline(always)]
fn larger(a: u64, b: u64) -> u64 {
    let difference = a.wrapping_sub(b);
    // All ones if `a` is the smaller.
    let mask = black_box(((difference as i64) >> 63) as u64);
    a.wrapping_sub(difference & mask)
}

/// Number of the lowest bit that is set, of eight.
#[inline(always)]
fn lowest(bits: u64) -> usize {
    let one = bits & bits.wrapping_neg();
    let has = |mask: u64| flow::is_zero(one & mask) ^ 1;
    (has(0xaa) | has(0xcc) << 1 | has(0xf0) << 2) as usize
}

/// Writes `new` if the word of a map element still is `old`. Fully ordered, as every BPF atomic that
/// fetches.
#[inline(always)]
fn swap_if(word: *mut u64, old: u64, new: u64) -> bool {
    // SAFETY: callers pass an aligned word of a map element. The intrinsic stands in for
    // `AtomicU64::compare_exchange`, which core leaves out on a target that had no such instruction
    // before kernel 5.12.
    unsafe { atomic_cxchg::<u64, { SeqCst }, { SeqCst }>(word, old, new).1 }
}

/// Counts a frame towards a service or a task.
#[inline(always)]
pub(crate) fn tally_packet(number: u16, bytes: u32) {
    if let Some(tally) = TALLIES.get_ptr_mut(u32::from(number)) {
        // SAFETY: as in `count`.
        unsafe {
            (*tally).packets += 1;
            (*tally).bytes += u64::from(bytes);
        }
    }
}

/// Counts a frame of a task to a client of its service.
#[inline(always)]
pub(crate) fn tally_reply(number: u16, bytes: u32) {
    if let Some(tally) = TALLIES.get_ptr_mut(u32::from(number)) {
        // SAFETY: as in `count`.
        unsafe {
            (*tally).replies += 1;
            (*tally).reply_bytes += u64::from(bytes);
        }
    }
}

/// Counts a new flow towards a service or a task.
#[inline(always)]
pub(crate) fn tally_flow(number: u16) {
    if let Some(tally) = TALLIES.get_ptr_mut(u32::from(number)) {
        // SAFETY: as in `count`.
        unsafe { (*tally).flows += 1 }
    }
}

/// What a watcher wants to be told.
#[inline(always)]
pub(crate) fn watch(watcher: Watcher) -> Option<&'static Watch> {
    WATCH.get(watcher as u32)
}

/// Nobody watches any more.
#[inline(always)]
pub(crate) fn unwatch(watcher: Watcher) {
    if let Some(watch) = WATCH.get_ptr_mut(watcher as u32) {
        // SAFETY: an aligned word of a map element.
        unsafe { (&raw mut (*watch).on).write_volatile(0) }
    }
}

/// Room for an event; this CPU's own.
#[inline(always)]
pub(crate) fn desk(watcher: Watcher) -> Option<&'static mut Desk> {
    let desk = DESK.get_ptr_mut(watcher as u32)?;
    // SAFETY: as in `dial_room`.
    Some(unsafe { &mut *desk })
}

/// Where the events of a watcher go, as the helper takes it.
#[inline(always)]
pub(crate) fn events(watcher: Watcher) -> *mut c_void {
    match watcher {
        Watcher::Trace => (&raw const EVENTS).cast_mut().cast(),
        Watcher::Capture => (&raw const CAPTURED).cast_mut().cast(),
    }
}

/// Counts one. A failed lookup is no reason to lose a packet.
#[inline(always)]
pub(crate) fn count(counter: Counter) {
    if let Some(value) = COUNTERS.get_ptr_mut(counter as u32) {
        // SAFETY: this CPU's own element; programs are not preempted by one another here.
        unsafe { *value += 1 }
    }
}

/// Counts one lost packet.
#[inline(always)]
pub(crate) fn count_drop(reason: DropReason) {
    if let Some(value) = DROPS.get_ptr_mut(reason as u32) {
        // SAFETY: as in `count`.
        unsafe { *value += 1 }
    }
}
