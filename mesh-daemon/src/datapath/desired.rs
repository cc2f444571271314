//! What should be: plain data, complete for one node. Whoever makes it (a cluster's agent, a file)
//! calls [`Desired::check`] before anything is done with it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use mesh_common::addr::{Addr, Mac};
use mesh_common::header::proto;
use mesh_common::limits;
use serde::Deserialize;

use super::balancing;
pub use super::balancing::Balancing;
use super::maglev;
pub use super::subnet::Subnet;

/// The desired state of a node's packet path.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Desired {
    /// A number that whoever makes it gives it, to learn when it is in force: see [`super::status`].
    #[serde(default)]
    pub version: u64,
    /// The node this is for.
    pub node: ThisNode,
    /// The other member nodes.
    #[serde(default)]
    pub nodes: Vec<Member>,
    /// The networks this node has a part in.
    #[serde(default)]
    pub networks: Vec<Network>,
    /// The services of those networks.
    #[serde(default)]
    pub services: Vec<Service>,
    /// The tasks in those networks, wherever they run.
    #[serde(default)]
    pub endpoints: Vec<Endpoint>,
}

/// The node the state is for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ThisNode {
    /// Its name; endpoints refer to it.
    pub name: String,
    /// Interfaces that lead to other nodes and to clients.
    pub uplinks: Vec<String>,
    /// The address other nodes send VXLAN to.
    pub vtep: IpAddr,
    /// UDP port of VXLAN, the same on all nodes.
    #[serde(default = "default_vxlan_port")]
    pub vxlan_port: u16,
    /// Network that published ports travel on between nodes; the same on all nodes.
    pub ingress_vni: Option<u32>,
    /// Addresses that published ports answer on; the VTEP address if left out.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
    /// Ports that flows of tasks to the outside get, and those of own processes to services. Nothing
    /// else on the node may use them.
    #[serde(default)]
    pub masquerade_ports: PortRange,
}

/// Some ports in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortRange {
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
}

impl Default for PortRange {
    /// All behind those that Linux gives to sockets unless it is told otherwise.
    fn default() -> Self {
        Self { first: 61_000, last: 65_535 }
    }
}

impl PortRange {
    /// How many they are.
    pub fn len(self) -> u16 {
        self.last.saturating_sub(self.first).saturating_add(1)
    }

    /// Is the port one of them?
    pub fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

impl ThisNode {
    /// The address of a family that others see flows of this node come from.
    pub fn own_address(&self, v4: bool) -> Option<IpAddr> {
        self.published_on().iter().copied().find(|ip| ip.is_ipv4() == v4)
    }

    /// Addresses that published ports answer on.
    pub fn published_on(&self) -> &[IpAddr] {
        if self.addresses.is_empty() { std::slice::from_ref(&self.vtep) } else { &self.addresses }
    }
}

/// Another member node.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// The address it takes VXLAN at.
    pub vtep: IpAddr,
}

/// An overlay network.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Its name; endpoints refer to it.
    pub name: String,
    /// VXLAN network identifier.
    pub vni: u32,
    /// Largest IP packet of its tasks, bytes.
    #[serde(default = "default_mtu")]
    pub mtu: u32,
    /// Addresses its tasks know as the way out: at most one of each family.
    #[serde(default)]
    pub gateways: Vec<IpAddr>,
    /// The addresses of its tasks and services: what is for one of them and comes from another network is
    /// refused. Left out, only those that this state names are known.
    #[serde(default)]
    pub subnets: Vec<Subnet>,
    /// Have its tasks no way out?
    #[serde(default)]
    pub internal: bool,
}

/// A service: tasks behind one name, in one network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Its name; endpoints refer to it.
    pub name: String,
    /// Name of the network its tasks are in.
    pub network: String,
    /// Its virtual addresses there: at most one of each family.
    #[serde(default)]
    pub vips: Vec<IpAddr>,
    /// Its published ports.
    #[serde(default)]
    pub ports: Vec<Port>,
    /// How replies to clients outside leave.
    #[serde(default)]
    pub return_path: ReturnPath,
    /// Who gets a new flow.
    #[serde(default)]
    pub balancing: Balancing,
    /// For how many seconds a silent client stays with its task, with `balancing = "client"`.
    pub affinity_seconds: Option<u32>,
    /// How many slots its table has: a power of two, the same on all nodes. Whoever makes the state does
    /// best to let it only grow ([`maglev::size`]): then no flow is lost. Left out, it follows the number
    /// of tasks, and a service that loses half of them may lose flows.
    pub slots: Option<u32>,
    /// How many flows may be new in a second, on each node with a task; without it, any number.
    pub new_flows_per_second: Option<u32>,
}

/// A published port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// TCP or UDP.
    #[serde(default)]
    pub protocol: Protocol,
    /// The port on every node.
    pub published: u16,
    /// The port the tasks listen on.
    pub target: u16,
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// RFC 9293.
    #[default]
    Tcp,
    /// RFC 768.
    Udp,
}

impl Protocol {
    /// As packets and keys spell it.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => proto::TCP,
            Self::Udp => proto::UDP,
        }
    }
}

/// How replies to clients outside leave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReturnPath {
    /// Back through the node that was dialled.
    #[default]
    Tunnel,
    /// By the task's node itself, with the address dialled as source.
    Direct,
}

/// A task's place in a network.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// Name of the network.
    pub network: String,
    /// Name of the node it runs on.
    pub node: String,
    /// Host side of its link; only, and always, for a task of this node.
    pub link: Option<String>,
    /// Its link-layer address.
    #[serde(with = "mac")]
    pub mac: Mac,
    /// Its addresses: at most one of each family.
    pub addresses: Vec<IpAddr>,
    /// The service it is a task of.
    pub service: Option<String>,
    /// Ports of this node that lead to this task and no other (host mode); only of a task of this node.
    #[serde(default)]
    pub ports: Vec<Port>,
    /// Does it only finish what it has begun? New flows go to others then.
    #[serde(default)]
    pub draining: bool,
    /// When its drain ends even if connections are left, in seconds since 1970: they are reset then.
    pub drain_until: Option<u64>,
    /// Its share of new flows, beside those of the service's other tasks.
    #[serde(default = "balancing::default_weight")]
    pub weight: u32,
}

/// IANA's port for VXLAN (RFC 7348 section 8).
fn default_vxlan_port() -> u16 {
    4789
}

/// Ethernet's 1500 bytes less 50 of VXLAN over IPv4.
fn default_mtu() -> u32 {
    1450
}

/// Something wrong in a desired state, and where.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{section}{}.{field}: {problem}", index.map(|i| format!("[{i}]")).unwrap_or_default())]
pub struct Wrong {
    /// The list, or `node`.
    pub section: &'static str,
    /// Position in the list.
    pub index: Option<usize>,
    /// The field.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

impl Desired {
    /// Is it consistent and within the limits?
    ///
    /// # Errors
    /// The first thing wrong, with its place.
    pub fn check(&self) -> Result<(), Wrong> {
        self.check_nodes()?;
        self.check_networks()?;
        self.check_services()?;
        self.check_endpoints()
    }

    fn check_nodes(&self) -> Result<(), Wrong> {
        let node = |field, problem: &str| Wrong { section: "node", index: None, field, problem: problem.to_owned() };
        if self.node.uplinks.is_empty() {
            return Err(node("uplinks", "names no interface"));
        }
        if self.node.vxlan_port == 0 {
            return Err(node("vxlan_port", "must not be 0"));
        }
        let PortRange { first, last } = self.node.masquerade_ports;
        if first == 0 || first > last {
            return Err(node("masquerade_ports", "first must not be 0, nor above last"));
        }
        // One number is this node's.
        limit("nodes", self.nodes.len() + 1, limits::NODES)?;
        let mut names = BTreeSet::from([self.node.name.as_str()]);
        let mut vteps = BTreeSet::from([self.node.vtep]);
        for (index, member) in self.nodes.iter().enumerate() {
            let wrong = |field, problem| Wrong { section: "nodes", index: Some(index), field, problem };
            if !names.insert(&member.name) {
                return Err(wrong("name", format!("{:?} is the name of another node too", member.name)));
            }
            if !vteps.insert(member.vtep) {
                return Err(wrong("vtep", format!("{} is the address of another node too", member.vtep)));
            }
            if member.vtep.is_ipv4() != self.node.vtep.is_ipv4() {
                return Err(wrong(
                    "vtep",
                    format!("{} is not of the family of this node's {}", member.vtep, self.node.vtep),
                ));
            }
        }
        Ok(())
    }

    fn check_networks(&self) -> Result<(), Wrong> {
        limit("networks", self.networks.len(), limits::NETWORKS)?;
        let (mut names, mut vnis) = (BTreeSet::new(), BTreeSet::new());
        for (index, network) in self.networks.iter().enumerate() {
            let wrong = |field, problem| Wrong { section: "networks", index: Some(index), field, problem };
            if !names.insert(&network.name) {
                return Err(wrong("name", format!("{:?} is the name of another network too", network.name)));
            }
            if network.vni == 0 || network.vni >= 1 << 24 {
                return Err(wrong("vni", format!("{} is not in 1..16777215", network.vni)));
            }
            if !vnis.insert(network.vni) {
                return Err(wrong("vni", format!("{} is the identifier of another network too", network.vni)));
            }
            // RFC 8200 section 5: every IPv6 link carries 1280 bytes.
            if !(1280..=65_535).contains(&network.mtu) {
                return Err(wrong("mtu", format!("{} is not in 1280..65535", network.mtu)));
            }
        }
        Ok(())
    }

    fn check_services(&self) -> Result<(), Wrong> {
        let (mut names, mut vips, mut ports) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for (index, service) in self.services.iter().enumerate() {
            let wrong = |field, problem| Wrong { section: "services", index: Some(index), field, problem };
            if !names.insert(&service.name) {
                return Err(wrong("name", format!("{:?} is the name of another service too", service.name)));
            }
            if !self.networks.iter().any(|network| network.name == service.network) {
                return Err(wrong("network", format!("there is no network {:?}", service.network)));
            }
            balancing::check_service(service).map_err(|(field, problem)| wrong(field, problem))?;
            for vip in &service.vips {
                if !vips.insert((service.network.as_str(), *vip)) {
                    return Err(wrong("vips", format!("{vip} is a VIP of another service too")));
                }
            }
            self.check_ports(&service.ports, &mut ports).map_err(|problem| wrong("ports", problem))?;
            if !service.ports.is_empty() && self.node.ingress_vni.is_none() {
                return Err(wrong("ports", "published ports need node.ingress_vni".to_owned()));
            }
        }
        for (index, endpoint) in self.endpoints.iter().enumerate() {
            let wrong = |problem| Wrong { section: "endpoints", index: Some(index), field: "ports", problem };
            if !endpoint.ports.is_empty() && endpoint.node != self.node.name {
                return Err(wrong("only tasks of this node have ports of their own".to_owned()));
            }
            self.check_ports(&endpoint.ports, &mut ports).map_err(wrong)?;
        }
        let keys = vips.len() + ports.len() * (self.node.published_on().len() + 2);
        limit("services", keys, limits::SERVICES)
    }

    /// Are these ports of nodes free? They are taken then.
    fn check_ports(&self, ports: &[Port], taken: &mut BTreeSet<(Protocol, u16)>) -> Result<(), String> {
        for port in ports {
            if port.published == 0 || port.target == 0 {
                return Err("a port must not be 0".to_owned());
            }
            if self.node.masquerade_ports.contains(port.published) {
                return Err(format!("{} is among node.masquerade_ports", port.published));
            }
            if !taken.insert((port.protocol, port.published)) {
                return Err(format!("{} is published by another service too", port.published));
            }
        }
        Ok(())
    }

    fn check_endpoints(&self) -> Result<(), Wrong> {
        limit("endpoints", self.endpoints.len(), limits::ENDPOINTS)?;
        let networks: BTreeSet<_> = self.networks.iter().map(|network| network.name.as_str()).collect();
        let nodes: BTreeSet<_> = self.nodes.iter().map(|member| member.name.as_str()).collect();
        let services: BTreeMap<_, _> = self.services.iter().map(|service| (service.name.as_str(), service)).collect();
        let (mut published, mut of_service) = (BTreeSet::new(), BTreeMap::new());
        let (mut macs, mut addresses, mut links) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for (index, endpoint) in self.endpoints.iter().enumerate() {
            let wrong = |field, problem| Wrong { section: "endpoints", index: Some(index), field, problem };
            let network = endpoint.network.as_str();
            if !networks.contains(network) {
                return Err(wrong("network", format!("there is no network {network:?}")));
            }
            let is_here = endpoint.node == self.node.name;
            if !is_here && !nodes.contains(endpoint.node.as_str()) {
                return Err(wrong("node", format!("there is no node {:?}", endpoint.node)));
            }
            match (&endpoint.link, is_here) {
                (None, true) => return Err(wrong("link", "a task of this node needs its interface".to_owned())),
                (Some(_), false) => return Err(wrong("link", "only tasks of this node have one".to_owned())),
                (Some(link), true) if !links.insert(link) => {
                    return Err(wrong("link", format!("{link:?} is the link of another task too")));
                }
                _ => {}
            }
            if endpoint.mac.is_group() || endpoint.mac == Mac::ZERO || endpoint.mac == Mac::ROUTER {
                return Err(wrong("mac", "must be a unicast address, and not the router's".to_owned()));
            }
            if let Some(name) = &endpoint.service {
                let Some(service) = services.get(name.as_str()) else {
                    return Err(wrong("service", format!("there is no service {name:?}")));
                };
                if service.network != endpoint.network {
                    return Err(wrong("service", format!("{name:?} is in network {:?}", service.network)));
                }
                let tasks = of_service.entry(name.as_str()).or_insert(0);
                *tasks += 1;
                limit("endpoints of a service", *tasks, service.slots.unwrap_or(maglev::LARGEST))?;
                if !service.ports.is_empty() && !published.insert(endpoint.mac) {
                    return Err(wrong("mac", "is that of another task with published ports too".to_owned()));
                }
            }
            if !macs.insert((network, endpoint.mac)) {
                return Err(wrong("mac", "is the address of another task of the network too".to_owned()));
            }
            balancing::check_endpoint(endpoint).map_err(|(field, problem)| wrong(field, problem))?;
            check_addresses(endpoint, &mut addresses).map_err(|problem| wrong("addresses", problem))?;
        }
        // A task with a published port has a second place, in the ingress network.
        limit("endpoints", self.endpoints.len() + published.len(), limits::ENDPOINTS)?;
        limit("endpoints with a link", links.len(), limits::LINKS)
    }
}

fn check_addresses<'a>(endpoint: &'a Endpoint, seen: &mut BTreeSet<(&'a str, IpAddr)>) -> Result<(), String> {
    for family in [IpAddr::is_ipv4, IpAddr::is_ipv6] {
        if endpoint.addresses.iter().filter(|addr| family(addr)).count() > 1 {
            return Err("more than one address of a family".to_owned());
        }
    }
    if endpoint.addresses.is_empty() {
        return Err("a task needs one".to_owned());
    }
    for addr in &endpoint.addresses {
        if addr.is_multicast() || addr.is_unspecified() || addr.is_loopback() {
            return Err(format!("{addr} is no address of a host"));
        }
        if !seen.insert((endpoint.network.as_str(), *addr)) {
            return Err(format!("{addr} is the address of another task of the network too"));
        }
    }
    Ok(())
}

fn limit(section: &'static str, count: usize, limit: u32) -> Result<(), Wrong> {
    if count <= limit as usize {
        return Ok(());
    }
    Err(Wrong { section, index: None, field: "length", problem: format!("{count} are more than the limit of {limit}") })
}

/// An address as keys hold it.
pub fn addr(ip: IpAddr) -> Addr {
    match ip {
        IpAddr::V4(v4) => Addr::v4(v4.octets()),
        IpAddr::V6(v6) => Addr::v6(v6.octets()),
    }
}

/// Link-layer addresses as `02:42:0a:00:00:02`.
pub mod mac {
    use mesh_common::addr::Mac;
    use serde::{Deserialize as _, Deserializer};

    /// Reads one.
    pub fn parse(text: &str) -> Option<Mac> {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2)?;
            *byte = u8::from_str_radix(part, 16).ok()?;
        }
        parts.next().is_none().then_some(Mac { bytes })
    }

    /// Writes one.
    pub fn format(mac: Mac) -> String {
        let b = mac.bytes;
        format!("{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", b[0], b[1], b[2], b[3], b[4], b[5])
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Mac, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse(&text).ok_or_else(|| {
            serde::de::Error::custom(format!("{text:?} is no link-layer address like 02:42:0a:00:00:02"))
        })
    }
}
