//! From what should be, and what the kernel says, to the content of the maps. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use mesh_common::ABI_VERSION;
use mesh_common::addr::{Addr, Mac};
use mesh_common::endpoint::{Endpoint, EndpointKey, Link, Neighbour, NeighbourKey};
use mesh_common::limits;
use mesh_common::node::{Network, Node, NodeConfig, VtepKey, network_flag, node_flag};

use super::desired::{self, Desired, addr};
use super::facts::Facts;
use super::tables::Tables;

mod own_ports;
mod routes;
mod services;
mod tallies;

/// Something that should be and cannot be yet. It is tried again when the facts change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Waiting {
    /// The interface of a task does not exist.
    #[error("interface {link} of a task in network {network} does not exist")]
    Link {
        /// Its name.
        link: String,
        /// The network.
        network: String,
    },
    /// There is no run of free slots for a service.
    #[error("the {} slots of all services do not suffice for service {service}", limits::SLOTS)]
    Slots {
        /// Its name.
        service: String,
    },
    /// The node has more routes than there is room for.
    #[error("{left_out} routes of this node are beyond the {} that tasks can use", limits::ROUTES)]
    Routes {
        /// How many tasks cannot use.
        left_out: usize,
    },
    /// The next hop to a node is not resolved.
    #[error("node {node} at {vtep} has no resolved next hop")]
    Path {
        /// Its name.
        node: String,
        /// Its address.
        vtep: IpAddr,
    },
}

/// The tables for a desired state that passed [`Desired::check`], and what is missing in them.
///
/// `before` are the tables in force: nodes keep the numbers they have there, so that an entry that
/// names one never means another for a moment.
pub fn render(desired: &Desired, facts: &Facts, flow_sets: u32, before: &Tables) -> (Tables, Vec<Waiting>) {
    let mut tables = Tables::default();
    let mut waiting = Vec::new();
    let numbers = number_nodes(desired, before);
    render_nodes(desired, facts, &numbers, &mut tables, &mut waiting);
    render_endpoints(desired, facts, &numbers, before, &mut tables, &mut waiting);
    services::render(desired, before, &mut tables, &mut waiting);
    routes::render(desired, facts, &mut tables, &mut waiting);
    tables.locals = facts.addresses.iter().take(limits::LOCALS as usize).map(|ip| (addr(*ip), 0)).collect();
    let own = |v4| desired.node.own_address(v4).map_or(Addr::ZERO, addr);
    let ports = desired.node.masquerade_ports;
    tables.config.insert(
        0,
        NodeConfig {
            vtep: addr(desired.node.vtep),
            vxlan_port: desired.node.vxlan_port.to_be_bytes(),
            flags: if facts.vxlan_ports.contains(&desired.node.vxlan_port) { node_flag::SHARED_PORT } else { 0 },
            version: ABI_VERSION,
            ingress_vni: desired.node.ingress_vni.unwrap_or(0),
            flow_mask: flow_sets - 1,
            next_backend: services::next_backend(before, &tables),
            uplink: desired.node.uplinks.first().and_then(|name| facts.interfaces.get(name)).map_or(0, |i| i.ifindex),
            own4: own(true),
            own6: own(false),
            ports_from: ports.first,
            ports: ports.len(),
        },
    );
    (tables, waiting)
}

/// A number for each node by name: the one it has, or the lowest that no node has.
fn number_nodes<'a>(desired: &'a Desired, before: &Tables) -> BTreeMap<&'a str, u32> {
    let known = |vtep: IpAddr| before.vteps.get(&VtepKey { addr: addr(vtep) }).copied();
    let mut taken: BTreeSet<u32> = before.vteps.values().copied().collect();
    taken.insert(Endpoint::HERE);
    let mut free = (1..).filter(|number| !taken.contains(number));
    let mut numbers = BTreeMap::from([(desired.node.name.as_str(), Endpoint::HERE)]);
    for member in &desired.nodes {
        if let Some(number) = known(member.vtep).or_else(|| free.next()) {
            numbers.insert(member.name.as_str(), number);
        }
    }
    numbers
}

/// Ethernet's 1500 bytes less 50 of VXLAN over IPv4.
const INGRESS_MTU: u32 = 1450;

fn render_nodes(
    desired: &Desired,
    facts: &Facts,
    numbers: &BTreeMap<&str, u32>,
    tables: &mut Tables,
    waiting: &mut Vec<Waiting>,
) {
    for member in &desired.nodes {
        let number = numbers[member.name.as_str()];
        tables.vteps.insert(VtepKey { addr: addr(member.vtep) }, number);
        let mut node = Node { vtep: addr(member.vtep), source: addr(desired.node.vtep), ..Node::ZERO };
        match facts.paths.get(&member.vtep) {
            Some(path) => {
                node.ifindex = path.ifindex;
                node.next_hop = path.next_hop;
                node.source_mac = path.source_mac;
                node.mtu = path.mtu;
            }
            None => waiting.push(Waiting::Path { node: member.name.clone(), vtep: member.vtep }),
        }
        tables.nodes.insert(number, node);
    }
    if let Some(vni) = desired.node.ingress_vni {
        tables.networks.insert(vni, Network { mtu: INGRESS_MTU, flags: network_flag::INTERNAL });
    }
    for network in &desired.networks {
        let flags = if network.internal { network_flag::INTERNAL } else { 0 };
        tables.networks.insert(network.vni, Network { mtu: network.mtu, flags });
        for gateway in &network.gateways {
            let key = NeighbourKey { addr: addr(*gateway), vni: network.vni };
            tables.neighbours.insert(key, Neighbour { mac: Mac::ROUTER, pad: [0; 2] });
        }
    }
}

fn render_endpoints(
    desired: &Desired,
    facts: &Facts,
    numbers: &BTreeMap<&str, u32>,
    before: &Tables,
    tables: &mut Tables,
    waiting: &mut Vec<Waiting>,
) {
    let backends = services::number_backends(desired, before);
    let vnis: BTreeMap<_, _> = desired.networks.iter().map(|network| (network.name.as_str(), network.vni)).collect();
    for endpoint in &desired.endpoints {
        let vni = vnis[endpoint.network.as_str()];
        let key = EndpointKey::new(vni, endpoint.mac);
        let mut value = Endpoint {
            node: numbers[endpoint.node.as_str()],
            ifindex: 0,
            addr4: addr_of(endpoint, true).low4(),
            backend: backends.get(&key).copied().unwrap_or(0),
            addr6: addr_of(endpoint, false),
        };
        if let Some(link) = &endpoint.link {
            let Some(interface) = facts.interfaces.get(link) else {
                waiting.push(Waiting::Link { link: link.clone(), network: endpoint.network.clone() });
                continue;
            };
            value.ifindex = interface.ifindex;
            tables.links.insert(interface.ifindex, link_of(endpoint, vni));
        }
        tables.endpoints.insert(key, value);
        for ip in &endpoint.addresses {
            let key = NeighbourKey { addr: addr(*ip), vni };
            tables.neighbours.insert(key, Neighbour { mac: endpoint.mac, pad: [0; 2] });
        }
    }
}

/// The endpoint's address of a family, or zero.
fn addr_of(endpoint: &desired::Endpoint, v4: bool) -> Addr {
    endpoint.addresses.iter().find(|ip| ip.is_ipv4() == v4).map_or(Addr::ZERO, |ip| addr(*ip))
}

fn link_of(endpoint: &desired::Endpoint, vni: u32) -> Link {
    let (addr4, addr6) = (addr_of(endpoint, true), addr_of(endpoint, false));
    Link { vni, mac: endpoint.mac, tally: 0, addr4, addr6 }
}

#[cfg(test)]
mod tests;
