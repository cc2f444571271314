//! The list of what lies in maps, for the page docs/reference/maps-abi.md: every type declared by
//! [`shared!`], and every bound. `cargo xtask gen` fails when one is missing here.
//!
//! The headers of [`crate::header`] are not in it: their shape is that of their RFC.

use crate::abi::Layout;
use crate::{addr, endpoint, flow, limits, node, route, service, tally, watch};

/// Every shared type, parts before wholes.
pub const LAYOUTS: &[Layout] = &[
    addr::Addr::LAYOUT,
    addr::Mac::LAYOUT,
    node::NodeConfig::LAYOUT,
    node::Node::LAYOUT,
    node::VtepKey::LAYOUT,
    node::Network::LAYOUT,
    route::Prefix::LAYOUT,
    route::Route::LAYOUT,
    endpoint::EndpointKey::LAYOUT,
    endpoint::Endpoint::LAYOUT,
    endpoint::NeighbourKey::LAYOUT,
    endpoint::Neighbour::LAYOUT,
    endpoint::Link::LAYOUT,
    service::ServiceKey::LAYOUT,
    service::Service::LAYOUT,
    service::Slot::LAYOUT,
    service::Backend::LAYOUT,
    service::Pace::LAYOUT,
    flow::Flow::LAYOUT,
    flow::FlowSet::LAYOUT,
    tally::Name::LAYOUT,
    tally::Tally::LAYOUT,
    tally::Label::LAYOUT,
    watch::Watch::LAYOUT,
    watch::Event::LAYOUT,
];

/// A constant of [`limits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Name in the source.
    pub name: &'static str,
    /// How many.
    pub value: u32,
}

macro_rules! limits {
    ($($name:ident),* $(,)?) => { &[ $( Limit { name: stringify!($name), value: limits::$name } ),* ] };
}

/// Every limit, in the order of its source.
pub const LIMITS: &[Limit] = limits![
    ENDPOINTS, NEIGHBOURS, NODES, NETWORKS, LINKS, LOCALS, ROUTES, COUNTED, SERVICES, SLOTS, PACES, BACKENDS,
    FLOW_SETS, TALLIES
];
