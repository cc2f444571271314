//! What the packet path of this node should be, from what the node is told.
//!
//! Pure: the same picture and facts give the same state, on every node the same of what all nodes share.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::de::DeserializeOwned;
use serde::de::value::StrDeserializer;

use super::life::Linked;
use super::own;
use super::wire::Cable;
use crate::datapath::desired::{Endpoint, Member, Network, Port, PortRange, Protocol, Service, Subnet, ThisNode};
use crate::datapath::{Desired, Mac, maglev};
use crate::model::assignment::{Assigned, Backend, Picture, Reachable};
use crate::model::id::{NetworkId, NodeId, ServiceId, TaskId};
use crate::model::network;
use crate::model::service::{self, AFFINITY_LABEL, BALANCING_LABEL, PublishMode, RETURN_LABEL};

/// The network that packets to published ports travel on between nodes: below the numbers of all others.
pub(super) const INGRESS_VNI: u32 = 4095;
/// What VXLAN adds to a packet over IPv4 and over IPv6.
const OVERHEAD: [u32; 2] = [50, 70];
/// Sets the size of a network's packets. Docker's name.
const MTU_OPTION: &str = "com.docker.network.driver.mtu";

/// What the node itself knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) node: NodeId,
    /// Interfaces that lead to other nodes and to clients.
    pub(super) uplinks: Vec<String>,
    /// Where its tunnels end.
    pub(super) vtep: IpAddr,
    /// The size of packets on the uplinks.
    pub(super) mtu: u32,
    /// Addresses at which published ports answer.
    pub(super) addresses: Vec<IpAddr>,
    /// The UDP port of tunnels.
    pub(super) port: u16,
}

/// What is known at once, before the managers say it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Rumours {
    /// Nodes that are dead.
    pub(super) dead: BTreeSet<NodeId>,
    /// Tasks that are gone.
    pub(super) gone: BTreeSet<TaskId>,
}

/// The packet path of this node.
pub(super) fn desired(
    picture: &Picture,
    facts: &Facts,
    links: &BTreeMap<TaskId, Linked>,
    rumours: &Rumours,
    version: u64,
) -> Desired {
    let mut desired = Desired {
        version,
        node: ThisNode {
            name: facts.node.to_string(),
            uplinks: facts.uplinks.clone(),
            vtep: facts.vtep,
            vxlan_port: facts.port,
            ingress_vni: Some(INGRESS_VNI),
            addresses: facts.addresses.clone(),
            masquerade_ports: PortRange::default(),
        },
        nodes: members(picture, facts),
        networks: picture.networks.values().filter_map(|network| overlay(network, facts)).collect(),
        services: Vec::new(),
        endpoints: Vec::new(),
    };
    let networks: BTreeSet<NetworkId> =
        picture.networks.values().filter(|network| network.vni.is_some()).map(|network| network.id).collect();
    let mut made = BTreeSet::new();
    // As all nodes are told, whatever each knows beyond that: their tables must be of one size.
    let mut tasks: BTreeMap<ServiceId, usize> = BTreeMap::new();
    for service in picture.backends.values().filter_map(|backend| backend.service) {
        *tasks.entry(service).or_default() += 1;
    }
    for service in picture.services.values() {
        for (place, network) in service_networks(service, picture).into_iter().enumerate() {
            if networks.contains(&network) {
                made.insert((service.id, network));
                let tasks = tasks.get(&service.id).copied().unwrap_or(0);
                desired.services.push(balanced(service, network, place == 0, tasks));
            }
        }
    }
    for backend in picture.backends.values() {
        let local = backend.node == facts.node;
        let reached = local || picture.members.contains_key(&backend.node);
        if !reached || rumours.dead.contains(&backend.node) || rumours.gone.contains(&backend.id) {
            continue;
        }
        let linked = links.get(&backend.id);
        // A task of this node whose links are not there yet, or no more, cannot be delivered to.
        if local && linked.is_none() {
            continue;
        }
        endpoints(backend, linked.filter(|_| local), &networks, &made, &mut desired.endpoints);
    }
    let is_own = |linked: &Linked| !linked.own.is_empty();
    if links.values().any(is_own) {
        desired.networks.push(own::network(facts.mtu));
    }
    desired
        .endpoints
        .extend(links.iter().filter(|(_, linked)| is_own(linked)).map(|(task, linked)| in_own(*task, linked, facts)));
    // Tasks that are not reached by others yet (starting, or waiting to be healthy) may speak already.
    for assigned in picture.tasks.values().filter(|assigned| !picture.backends.contains_key(&assigned.task.id)) {
        if let Some(linked) = links.get(&assigned.task.id) {
            let backend = Backend {
                id: assigned.task.id,
                name: assigned.task.name(),
                service: None,
                node: facts.node,
                networks: assigned.task.networks.clone(),
                draining: false,
            };
            endpoints(&backend, Some(linked), &networks, &made, &mut desired.endpoints);
        }
    }
    give_ports(&mut desired, links);
    desired
}

/// A task in the node's own network.
fn in_own(task: TaskId, linked: &Linked, facts: &Facts) -> Endpoint {
    Endpoint {
        network: own::NAME.to_owned(),
        node: facts.node.to_string(),
        link: linked.names.first().cloned(),
        mac: Mac { bytes: mac(task, 0) },
        addresses: linked.own.iter().map(|cidr| cidr.address).collect(),
        service: None,
        draining: false,
        drain_until: None,
        ports: Vec::new(),
        weight: 1,
    }
}

/// Leads ports of this node to the tasks that have them, by their first networks. A port of all nodes goes
/// before, should the managers not have seen the conflict.
fn give_ports(desired: &mut Desired, links: &BTreeMap<TaskId, Linked>) {
    let of_services = desired.services.iter().flat_map(|service| &service.ports);
    let mut taken: BTreeSet<_> = of_services.map(|port| (port.protocol, port.published)).collect();
    for linked in links.values().filter(|linked| !linked.ports.is_empty()) {
        let own = linked.ports.iter().filter_map(port).filter(|port| taken.insert((port.protocol, port.published)));
        let own: Vec<_> = own.collect();
        let is_its =
            |endpoint: &&mut Endpoint| endpoint.link.is_some() && endpoint.link.as_ref() == linked.names.first();
        if let Some(endpoint) = desired.endpoints.iter_mut().find(is_its) {
            endpoint.ports = own;
        }
    }
}

fn members(picture: &Picture, facts: &Facts) -> Vec<Member> {
    let others = picture.members.values().filter(|member| member.id != facts.node);
    let reached = others.filter_map(|member| {
        // The family that this node's own tunnels use; a member without it is not reached.
        let vtep = member.vteps.iter().copied().find(|vtep| vtep.is_ipv4() == facts.vtep.is_ipv4())?;
        Some(Member { name: member.id.to_string(), vtep })
    });
    reached.collect()
}

fn overlay(network: &network::Network, facts: &Facts) -> Option<Network> {
    Some(Network {
        name: network.id.to_string(),
        vni: network.vni?.0,
        mtu: mtu(network, facts),
        gateways: network.subnets.iter().map(|subnet| subnet.gateway).collect(),
        subnets: network
            .subnets
            .iter()
            .map(|subnet| Subnet { address: subnet.subnet.address, bits: subnet.subnet.prefix })
            .collect(),
        internal: network.spec.internal,
    })
}

fn mtu(network: &network::Network, facts: &Facts) -> u32 {
    let set = network.spec.options.get(MTU_OPTION).and_then(|text| text.parse().ok());
    let overhead = if facts.vtep.is_ipv4() { OVERHEAD[0] } else { OVERHEAD[1] };
    set.unwrap_or_else(|| facts.mtu.saturating_sub(overhead))
}

/// The networks in which a service is balanced: its own; if it has none, the one of published ports.
fn service_networks(service: &Reachable, picture: &Picture) -> Vec<NetworkId> {
    let own: Vec<_> = service.networks.iter().map(|network| network.network_id).collect();
    if !own.is_empty() {
        return own;
    }
    picture.networks.values().filter(|network| network.spec.ingress).map(|network| network.id).collect()
}

fn service_name(service: ServiceId, network: NetworkId) -> String {
    format!("{service}@{network}")
}

/// A service in one of its networks; its published ports lead to the first.
fn balanced(service: &Reachable, network: NetworkId, is_first: bool, tasks: usize) -> Service {
    let vips = service.endpoint.vips.iter().filter(|vip| vip.network_id == network).map(|vip| vip.address.address);
    let ports = service.endpoint.ports.iter().filter(|port| is_first && port.publish_mode == PublishMode::Ingress);
    Service {
        name: service_name(service.id, network),
        network: network.to_string(),
        vips: vips.collect(),
        ports: ports.filter_map(port).collect(),
        return_path: named(service.labels.get(RETURN_LABEL)),
        balancing: named(service.labels.get(BALANCING_LABEL)),
        affinity_seconds: service.labels.get(AFFINITY_LABEL).and_then(|text| text.parse().ok()),
        slots: Some(slots(service, tasks)),
        ..Service::default()
    }
}

/// What a label names, in the words of a desired state; the API lets no other in.
fn named<T: Default + DeserializeOwned>(word: Option<&String>) -> T {
    let read = |word: &String| T::deserialize(StrDeserializer::<serde::de::value::Error>::new(word)).ok();
    word.and_then(read).unwrap_or_default()
}

/// How many slots the tables of a service have: room for all its tasks twice over, as an update that starts the
/// new ones first has them, and never less than before. So no update and no scaling down halves a table, which
/// would cut connections of tasks that stay.
fn slots(service: &Reachable, tasks: usize) -> u32 {
    let most = usize::try_from(service.endpoint.most_tasks).unwrap_or(usize::MAX).saturating_mul(2);
    maglev::size(most.max(tasks), 0)
}

/// SCTP is not carried; the API refuses such ports.
fn port(port: &service::Port) -> Option<Port> {
    let protocol = match port.protocol {
        service::Protocol::Tcp => Protocol::Tcp,
        service::Protocol::Udp => Protocol::Udp,
        service::Protocol::Sctp => return None,
    };
    Some(Port { protocol, published: port.published_port, target: port.target_port })
}

fn endpoints(
    backend: &Backend,
    linked: Option<&Linked>,
    networks: &BTreeSet<NetworkId>,
    services: &BTreeSet<(ServiceId, NetworkId)>,
    into: &mut Vec<Endpoint>,
) {
    for (place, attachment) in backend.networks.iter().enumerate() {
        let network = attachment.network_id;
        if !networks.contains(&network) {
            continue;
        }
        let service = backend.service.filter(|service| services.contains(&(*service, network)));
        into.push(Endpoint {
            network: network.to_string(),
            node: backend.node.to_string(),
            link: linked.and_then(|linked| linked.names.get(place).cloned()),
            mac: Mac { bytes: mac(backend.id, place) },
            addresses: attachment.addresses.iter().map(|cidr| cidr.address).collect(),
            service: service.map(|service| service_name(service, network)),
            draining: backend.draining,
            drain_until: None,
            ports: Vec::new(),
            weight: 1,
        });
    }
}

/// The link-layer address of a task in the network of this place: 40 bits of its id, which are random, so
/// that no two tasks that are published share one.
pub(super) fn mac(task: TaskId, place: usize) -> [u8; 6] {
    let [a, b, c, d, e, ..] = task.to_u128().to_be_bytes();
    // Locally administered, not a group (IEEE 802, section 8.2.2); the place of the network in the rest of
    // the first octet.
    let place = u8::try_from(place % 64).unwrap_or(0);
    [place << 2 | 0x02, a, b, c, d, e]
}

/// The links that a task of this node needs.
pub(super) fn cables(assigned: &Assigned, picture: &Picture, facts: &Facts) -> Result<Vec<Cable>, String> {
    let attachments = assigned.task.networks.iter().enumerate();
    let cable = attachments.map(|(place, attachment)| {
        let id = attachment.network_id;
        let network = picture.networks.get(&id).ok_or_else(|| format!("network {id} is not known on this node"))?;
        let gateways = if network.spec.internal {
            Vec::new()
        } else {
            network.subnets.iter().map(|subnet| subnet.gateway).collect()
        };
        let addresses = attachment.addresses.clone();
        let (mac, mtu) = (mac(assigned.task.id, place), mtu(network, facts));
        Ok(Cable { mac, addresses, gateways, mtu, alias: None })
    });
    cable.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath::desired::{Balancing, ReturnPath};
    use crate::model::service::{BALANCINGS, RETURN_PATHS};

    #[test]
    fn each_word_that_a_label_may_say_means_another_thing() {
        let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let balancings: Vec<Balancing> = words(BALANCINGS).iter().map(|word| named(Some(word))).collect();
        let [maglev, others @ ..] = &balancings[..] else { panic!("no word") };
        assert_eq!((*maglev, named::<Balancing>(None)), (Balancing::Maglev, Balancing::Maglev));
        for (at, other) in others.iter().enumerate() {
            assert!(other != maglev && !others[..at].contains(other), "{} is not understood", BALANCINGS[at + 1]);
        }
        let paths: Vec<ReturnPath> = words(RETURN_PATHS).iter().map(|word| named(Some(word))).collect();
        assert_eq!(paths, [ReturnPath::Tunnel, ReturnPath::Direct]);
    }
}
