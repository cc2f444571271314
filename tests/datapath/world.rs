//! The cluster that the rows speak of: nodes 0, 1 and 2, networks "red" and "blue" with the same
//! subnets, tasks on nodes, and a client outside.

use std::collections::BTreeMap;
use std::net::IpAddr;

use harness::Packet;
use harness::packet::{Checksum, vxlan};
use harness::run::{Hook, Lab, Node};
use mesh_common::addr::Mac;
use mesh_daemon::datapath::Desired;
use mesh_daemon::datapath::desired::{
    Endpoint, Member, Network, Port, PortRange, Protocol, ReturnPath, Service, ThisNode,
};
use mesh_daemon::datapath::facts::{Facts, Interface, Path};
use mesh_daemon::datapath::routes::Way;

/// The uplink of every node.
pub(crate) const UPLINK: u32 = 10;
/// Bytes of the largest IP packet on it.
const UPLINK_MTU: u32 = 1500;
/// Where XDP runs.
pub(crate) const XDP: Hook = Hook::Underlay(UPLINK);
/// Where TC runs on the uplink.
pub(crate) const BULK: Hook = Hook::Bulk(UPLINK);
/// Interface of task 0; the others follow.
const FIRST_LINK: u32 = 20;
const LAST_LINK: u32 = 35;

/// The network of published ports.
pub(crate) const INGRESS: u32 = 0x1000;
/// The network "red".
pub(crate) const RED: u32 = 0x1001;
/// The network "blue", of the same subnets.
pub(crate) const BLUE: u32 = 0x1002;

/// Of "red" and of "blue".
const SUBNETS: [&str; 2] = ["10.0.0.0/24", "fd00::/64"];

/// Who is outside, as the uplink's next hop.
pub(crate) const CLIENT_MAC: [u8; 6] = [0x02, 0, 0, 0, 9, 9];
/// The router of every network.
pub(crate) const ROUTER: [u8; 6] = Mac::ROUTER.bytes;
/// The last byte of the gateway and of the VIP.
pub(crate) const GATEWAY: u8 = 1;
/// See [`GATEWAY`].
pub(crate) const VIP: u8 = 80;

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}
pub(crate) use Family::{V4, V6};

/// Both.
pub(crate) const BOTH: [Family; 2] = [V4, V6];

impl Family {
    /// A host of an overlay network.
    pub(crate) fn host(self, host: u8) -> String {
        match self {
            V4 => format!("10.0.0.{host}"),
            V6 => format!("fd00::{host:x}"),
        }
    }

    /// The address of a node in the underlay.
    pub(crate) fn node(self, node: usize) -> String {
        match self {
            V4 => format!("192.0.2.{}", node + 1),
            V6 => format!("2001:db8::{:x}", node + 1),
        }
    }

    /// A client outside.
    pub(crate) fn client(self, client: u8) -> String {
        match self {
            V4 => format!("198.51.100.{client}"),
            V6 => format!("2001:db8:c::{client:x}"),
        }
    }
}

/// Address and port as text.
pub(crate) fn at(addr: &str, port: u16) -> String {
    if addr.contains(':') { format!("[{addr}]:{port}") } else { format!("{addr}:{port}") }
}

/// The link-layer address of a node's uplink.
pub(crate) fn uplink_mac(node: usize) -> [u8; 6] {
    [0x02, 0, 0, 0, 1, u8::try_from(node).unwrap() + 1]
}

/// The link-layer address of a task, the same in both networks.
pub(crate) fn mac(host: u8) -> [u8; 6] {
    [0x02, 0x42, 10, 0, 0, host]
}

/// A task. Its place in the list of tasks is its interface.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Task {
    pub(crate) network: &'static str,
    pub(crate) node: usize,
    pub(crate) host: u8,
    pub(crate) service: Option<&'static str>,
    pub(crate) draining: bool,
    pub(crate) weight: u32,
}

/// A task of "red".
pub(crate) const fn red(node: usize, host: u8) -> Task {
    Task { network: "red", node, host, service: None, draining: false, weight: 1 }
}

/// A task of "blue".
pub(crate) const fn blue(node: usize, host: u8) -> Task {
    Task { network: "blue", ..red(node, host) }
}

/// A task of the service "web", which is in "red".
pub(crate) const fn web(node: usize, host: u8) -> Task {
    Task { service: Some("web"), ..red(node, host) }
}

/// What the cluster's agents would be told.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) underlay: Family,
    pub(crate) tasks: Vec<Task>,
    pub(crate) services: Vec<Service>,
    /// Nodes whose next hop nobody knows.
    pub(crate) unresolved: Vec<usize>,
    /// Further addresses that published ports answer on, on every node.
    pub(crate) more_addresses: Vec<IpAddr>,
    /// Further networks: name, number, subnets.
    pub(crate) more_networks: Vec<(&'static str, u32, &'static [&'static str])>,
    /// Families of which no node has an address to the outside.
    pub(crate) without_source: Vec<Family>,
    /// Ports that flows of nodes get.
    pub(crate) masquerade_ports: PortRange,
}

impl World {
    pub(crate) fn new(underlay: Family, tasks: &[Task]) -> Self {
        Self {
            underlay,
            tasks: tasks.to_vec(),
            services: Vec::new(),
            unresolved: Vec::new(),
            more_addresses: Vec::new(),
            more_networks: Vec::new(),
            without_source: Vec::new(),
            masquerade_ports: PortRange::default(),
        }
    }

    /// With the service "web" at the VIP, at port 8080 (TCP, for 80) and 5353 (UDP, for 53).
    pub(crate) fn with_web(mut self) -> Self {
        let port = |protocol, published, target| Port { protocol, published, target };
        self.services.push(Service {
            name: "web".to_owned(),
            network: "red".to_owned(),
            vips: BOTH.iter().map(|family| ip(&family.host(VIP))).collect(),
            ports: vec![port(Protocol::Tcp, 8080, 80), port(Protocol::Udp, 5353, 53)],
            return_path: ReturnPath::Tunnel,
            ..Service::default()
        });
        self
    }

    /// The desired state of a node.
    pub(crate) fn desired(&self, me: usize) -> Desired {
        let network = |name: &str, vni| Network {
            name: name.to_owned(),
            vni,
            mtu: 1450,
            gateways: BOTH.iter().map(|family| ip(&family.host(GATEWAY))).collect(),
            subnets: SUBNETS.iter().map(|subnet| subnet.parse().unwrap()).collect(),
            internal: name == "blue",
        };
        let vtep = |node| ip(&self.underlay.node(node));
        let more = self.more_networks.iter().map(|(name, vni, subnets)| Network {
            gateways: Vec::new(),
            subnets: subnets.iter().map(|subnet| subnet.parse().unwrap()).collect(),
            ..network(name, *vni)
        });
        Desired {
            version: 0,
            node: ThisNode {
                name: name(me),
                uplinks: vec!["uplink".to_owned()],
                vtep: vtep(me),
                vxlan_port: 4789,
                ingress_vni: Some(INGRESS),
                addresses: BOTH
                    .iter()
                    .map(|family| ip(&family.node(me)))
                    .chain(self.more_addresses.iter().copied())
                    .collect(),
                masquerade_ports: self.masquerade_ports,
            },
            nodes: others(me).map(|node| Member { name: name(node), vtep: vtep(node) }).collect(),
            networks: [network("red", RED), network("blue", BLUE)].into_iter().chain(more).collect(),
            services: self.services.clone(),
            endpoints: self.tasks.iter().enumerate().map(|(at, task)| endpoint(at, task, me)).collect(),
        }
    }

    /// What the kernel of a node would say.
    pub(crate) fn facts(&self, me: usize) -> Facts {
        let interface =
            |ifindex, mac| Interface { ifindex, mac: Mac { bytes: mac }, mtu: UPLINK_MTU, xdp_program: None };
        let mut interfaces = BTreeMap::from([("uplink".to_owned(), interface(UPLINK, uplink_mac(me)))]);
        for link in (0..self.tasks.len()).map(link) {
            interfaces.insert(format!("if{link}"), interface(link, [0x02, 0, 0, 0, 2, 2]));
        }
        let known = others(me).filter(|node| !self.unresolved.contains(node));
        let path = |node| Path {
            ifindex: UPLINK,
            source_mac: Mac { bytes: uplink_mac(me) },
            mtu: UPLINK_MTU,
            next_hop: Mac { bytes: uplink_mac(node) },
        };
        let paths = known.map(|node| (ip(&self.underlay.node(node)), path(node))).collect();
        let addresses = BOTH.iter().map(|family| ip(&family.node(me))).collect();
        // Both families leave by the uplink; documentation's last network by an interface that is none.
        let source = |family| (!self.without_source.contains(&family)).then(|| ip(&family.node(me)));
        let way = |ifindex, family: Family| Way { ifindex, source: source(family) };
        let mut routes = BTreeMap::new();
        for (subnet, ifindex, family) in [
            ("0.0.0.0/0", UPLINK, V4),
            ("::/0", UPLINK, V6),
            ("203.0.113.0/24", LAST_LINK, V4),
            ("2001:db8:f::/48", LAST_LINK, V6),
        ] {
            routes.insert(subnet.parse().unwrap(), way(ifindex, family));
        }
        Facts { interfaces, paths, addresses, routes, ..Facts::default() }
    }

    /// A frame as one node sends it to another.
    pub(crate) fn tunnel(&self, (from, to): (usize, usize), vni: u32, inner: impl Into<Vec<u8>>) -> Packet {
        let (src, dst) = (self.underlay.node(from), self.underlay.node(to));
        vxlan(vni, &src, &dst, inner).macs(uplink_mac(from), uplink_mac(to))
    }

    /// As [`Self::tunnel`], byte for byte as our programs write it, with the source port that is in
    /// `seen`. Only its range is known to a test.
    #[track_caller]
    pub(crate) fn our_tunnel(
        &self,
        (from, to): (usize, usize),
        vni: u32,
        inner: impl Into<Vec<u8>>,
        seen: &[u8],
    ) -> Vec<u8> {
        let port = self.source_port(seen);
        // RFC 6335: the dynamic ports.
        assert!(port >= 49152, "source port {port}");
        let (src, dst) = (at(&self.underlay.node(from), port), at(&self.underlay.node(to), 4789));
        let packet = vxlan(vni, &src, &dst, inner).macs(uplink_mac(from), uplink_mac(to));
        packet.checksum(Checksum::Zero).id(0).ttl(64).build()
    }

    /// The source port of a tunnelled frame.
    #[track_caller]
    pub(crate) fn source_port(&self, frame: &[u8]) -> u16 {
        let at = 14 + self.header();
        u16::from_be_bytes([frame[at], frame[at + 1]])
    }

    /// Length of the underlay's network header.
    pub(crate) fn header(&self) -> usize {
        if self.underlay == V4 { 20 } else { 40 }
    }
}

/// Loaded nodes of a world.
pub(crate) struct Site {
    pub(crate) world: World,
    pub(crate) nodes: Vec<Node>,
    /// Goes last: it removes the pins.
    _lab: Lab,
}

impl Site {
    /// The first `count` nodes of the world, running.
    #[track_caller]
    pub(crate) fn new(world: World, count: usize) -> Self {
        let lab = lab();
        let nodes = (0..count).map(|node| Node::load(&lab, &name(node)).unwrap()).collect();
        let mut site = Self { world, nodes, _lab: lab };
        site.apply();
        site
    }

    /// Tells every node the world as it is now.
    #[track_caller]
    pub(crate) fn apply(&mut self) {
        for (me, node) in self.nodes.iter_mut().enumerate() {
            node.apply(&self.world.desired(me), &self.world.facts(me)).unwrap();
        }
    }
}

/// Interfaces for every world.
#[track_caller]
pub(crate) fn lab() -> Lab {
    Lab::new(UPLINK..=LAST_LINK).unwrap()
}

/// The interface of a task, by its place in the list.
pub(crate) fn link(task: usize) -> u32 {
    let link = FIRST_LINK + u32::try_from(task).unwrap();
    assert!(link <= LAST_LINK, "more tasks than interfaces");
    link
}

/// Where what a task sends comes in.
pub(crate) fn from_task(task: usize) -> Hook {
    Hook::Container(link(task))
}

fn endpoint(at: usize, task: &Task, me: usize) -> Endpoint {
    Endpoint {
        network: task.network.to_owned(),
        node: name(task.node),
        link: (task.node == me).then(|| format!("if{}", link(at))),
        mac: Mac { bytes: mac(task.host) },
        addresses: BOTH.iter().map(|family| ip(&family.host(task.host))).collect(),
        service: task.service.map(str::to_owned),
        draining: task.draining,
        drain_until: None,
        ports: Vec::new(),
        weight: task.weight,
    }
}

fn name(node: usize) -> String {
    format!("node{node}")
}

fn others(me: usize) -> impl Iterator<Item = usize> {
    (0..3).filter(move |node| *node != me)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}
