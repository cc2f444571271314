//! Every map, and one safe lookup for each.
//!
//! Names and capacities are the contract with `mesh-daemon/src/datapath/maps.rs`; a test compares
//! the two. Lookups hand out copies or shared references: nothing here writes to a map but the
//! counters.
#![expect(unsafe_code, reason = "map elements are raw pointers; the faces below are safe")]

use aya_ebpf::btf_maps::{Array, HashMap, PerCpuArray};
use aya_ebpf::macros::btf_map;
use mesh_common::ABI_VERSION;
use mesh_common::addr::{Addr, Mac};
use mesh_common::counter::Counter;
use mesh_common::drop::DropReason;
use mesh_common::endpoint::{Endpoint, EndpointKey, Link, Neighbour, NeighbourKey};
use mesh_common::limits;
use mesh_common::node::{Network, Node, NodeConfig, VtepKey};

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
static COUNTERS: PerCpuArray<u64, { Counter::COUNT as usize }> = PerCpuArray::new();
#[btf_map]
static DROPS: PerCpuArray<u64, { DropReason::COUNT as usize }> = PerCpuArray::new();

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
    // SAFETY: the value is copied at once. Elements live for an RCU grace period after removal
    // (no preallocation), and a program runs inside one.
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
    // SAFETY: the element outlives the program run: see `vtep`. The daemon replaces elements
    // whole and never writes into one.
    unsafe { LINKS.get(ifindex) }
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
