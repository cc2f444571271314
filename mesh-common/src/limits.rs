//! How many of each thing a node holds. What happens at the bound is written beside each.

/// Tasks of all nodes in the networks this node has a part in, one per network and task. At the
/// bound the daemon refuses the desired state and names the limit.
pub const ENDPOINTS: u32 = 131_072;
/// Answers to ARP and neighbour solicitations: endpoints times address families, and gateways.
pub const NEIGHBOURS: u32 = 2 * ENDPOINTS;
/// Member nodes, this one included. Node numbers are below it.
pub const NODES: u32 = 16_384;
/// Networks this node has a part in.
pub const NETWORKS: u32 = 16_384;
/// Interfaces of local tasks.
pub const LINKS: u32 = 8_192;
/// Addresses of this node, of all its interfaces. Those beyond are taken for addresses of others.
pub const LOCALS: u32 = 1_024;
/// Prefixes of addresses outside of a task's network: of all overlay networks, and of the node's routes. At
/// the bound the longest of the node's routes are left out, and the daemon says so.
pub const ROUTES: u32 = 2 * NEIGHBOURS;
/// Kinds of counters, and of drop reasons: room for those to come, since a pinned map keeps its length.
pub const COUNTED: u32 = 64;
/// VIPs, and published ports times the addresses they are published on.
pub const SERVICES: u32 = 131_072;
/// Slots of all Maglev tables together, 8 bytes each.
pub const SLOTS: u32 = 4_194_304;
/// Places for a service's pace: one for each of the smallest runs of slots.
pub const PACES: u32 = SLOTS / crate::service::PACE_SLOTS;
/// Tasks that flows are sent to.
pub const BACKENDS: u32 = 131_072;
/// Sets of [`crate::flow::WAYS`] flows each; a power of two. At the bound a new flow takes the place of
/// the least missed one of its set, and that is counted.
pub const FLOW_SETS: u32 = 32_768;

/// Services, and local tasks of services, that are counted one by one; 40 bytes each on every CPU. At
/// the bound the rest share the tally of number 0.
pub const TALLIES: u32 = 16_384;

const _: () = assert!(crate::counter::Counter::COUNT <= COUNTED && crate::drop::DropReason::COUNT <= COUNTED);
