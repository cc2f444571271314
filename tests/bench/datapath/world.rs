//! A node as the daemon would configure it, with as many services and backends as asked for.
//!
//! Nothing is attached: programs are run by the kernel's test run.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use aya::Ebpf;
use aya::maps::{Array, Map, MapData};
use aya::programs::{Program, ProgramFd};
use mesh_common::addr::Mac;
use mesh_common::counter::Counter;
use mesh_common::flow::FlowSet;
use mesh_daemon::datapath::desired::{
    Endpoint, Member, Network, Port, PortRange, Protocol, ReturnPath, Service, ThisNode,
};
use mesh_daemon::datapath::facts::{Facts, Interface, Path};
use mesh_daemon::datapath::maps::Maps;
use mesh_daemon::datapath::tables::{Tables, plan};
use mesh_daemon::datapath::{Desired, Pins, attach, loader, maps, render};

use super::driver;

/// This node.
pub(crate) const VTEP: &str = "192.0.2.1";
/// The first of the others.
pub(crate) const OTHER_VTEP: &str = "192.0.2.11";
/// The network of all tasks.
pub(crate) const VNI: u32 = 7;
/// Task A: behind interface 1, where test runs come from. Serves `a`.
pub(crate) const A: Task = Task { ip4: "10.0.0.2", ip6: "fd00:a::2", mac: [2, 0x42, 10, 0, 0, 2] };
/// Task B: behind interface 2. Serves `b`.
pub(crate) const B: Task = Task { ip4: "10.0.0.3", ip6: "fd00:a::3", mac: [2, 0x42, 10, 0, 0, 3] };
/// The first task of `far`, on another node.
pub(crate) const FAR: Task = Task { ip4: "10.1.0.0", ip6: "fd00:b::", mac: [2, 0x43, 0, 0, 0, 0] };
/// VIP of `b`.
pub(crate) const VIP_B: &str = "10.255.0.2";
/// Published ports: of `a`, of `b`, of `far`; for TCP and UDP alike.
pub(crate) const PORT_A: u16 = 81;
/// See above.
pub(crate) const PORT_B: u16 = 82;
/// See above.
pub(crate) const PORT_FAR: u16 = 83;
/// What the tasks listen on.
pub(crate) const TARGET: u16 = 8080;

const OTHER_NODES: u32 = 100;
const UPLINK: &str = "uplink";
const LINK_B: &str = "link-b";

/// A task by its addresses.
pub(crate) struct Task {
    /// Its IPv4 address.
    pub(crate) ip4: &'static str,
    /// Its IPv6 address.
    pub(crate) ip6: &'static str,
    /// Its link-layer address.
    pub(crate) mac: [u8; 6],
}

/// Interface numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Links {
    /// The uplink, and the link of task A at once.
    pub(crate) uplink: u32,
    /// The link of task B.
    pub(crate) b: u32,
}

impl Links {
    /// For test runs that send nothing anywhere: they come from interface 1, and there need be no other.
    pub(crate) const NOWHERE: Self = Self { uplink: 1, b: 2 };
}

/// How much there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    /// Services, beside the three that are used.
    pub(crate) services: u32,
    /// Backends of the service on other nodes.
    pub(crate) backends: u32,
}

/// A loaded packet path.
pub(crate) struct World {
    ebpf: Ebpf,
    maps: Maps,
    flows: Array<MapData, FlowSet>,
}

impl World {
    /// Loads the programs and writes their maps, by the daemon's own code.
    pub(crate) fn new(pin_dir: PathBuf, size: Size, links: Links) -> Result<Self> {
        let pins = Pins::new(pin_dir);
        let mut ebpf = loader::load(&pins)?;
        attach::load(&mut ebpf)?;
        let mut maps = Maps::take(&mut ebpf)?;
        let desired = desired(size)?;
        desired.check()?;
        let (tables, waiting) = render::render(&desired, &facts(&desired, links), maps.flow_sets(), &Tables::default());
        ensure!(waiting.is_empty(), "the benchmark's world waits for {waiting:?}");
        for change in plan(&Tables::default(), &tables) {
            maps.apply(change)?;
        }
        let flows = Map::from_map_data(MapData::from_pin(pins.map(maps::FLOWS))?)?.try_into()?;
        Ok(Self { ebpf, maps, flows })
    }

    /// A program of the packet path.
    pub(crate) fn program(&self, name: &str) -> Result<&Program> {
        self.ebpf.program(name).with_context(|| format!("no program {name}"))
    }

    /// A handle of it.
    pub(crate) fn program_fd(&self, name: &str) -> Result<ProgramFd> {
        driver::fd_of(self.program(name)?)
    }

    /// Forgets all flows.
    pub(crate) fn forget_flows(&mut self) -> Result<()> {
        (0..self.flows.len()).try_for_each(|set| Ok(self.flows.set(set, FlowSet::ZERO, 0)?))
    }

    /// What was counted.
    pub(crate) fn count(&self, counter: Counter) -> Result<u64> {
        let counters = self.maps.counters()?;
        counters.iter().find(|(known, _)| *known == counter).map(|(_, count)| *count).context("no such counter")
    }

    /// What was dropped, by reason, for a message.
    pub(crate) fn drops(&self) -> Result<String> {
        let drops = self.maps.drops()?;
        let seen = drops.iter().filter(|(_, count)| *count != 0);
        Ok(seen.map(|(reason, count)| format!("{}={count}", reason.name())).collect::<Vec<_>>().join(" "))
    }
}

fn desired(size: Size) -> Result<Desired> {
    let mut services =
        vec![service("a", PORT_A, "10.255.0.1"), service("b", PORT_B, VIP_B), service("far", PORT_FAR, "10.255.0.3")];
    let mut endpoints = vec![local(&A, UPLINK, "a")?, local(&B, LINK_B, "b")?];
    endpoints.extend((0..size.backends).map(|number| far(number, "far".to_owned())));
    for number in 1..size.services {
        let name = format!("other{number}");
        let vip = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 254, 0, 0)) + number).to_string();
        endpoints.push(far(size.backends + number, name.clone()));
        services.push(service(&name, 10_000 + u16::try_from(number)?, &vip));
    }
    let nodes = (0..OTHER_NODES).map(|number| Member { name: node(number), vtep: vtep(number) }).collect();
    Ok(Desired {
        version: 0,
        node: ThisNode {
            name: "here".to_owned(),
            uplinks: vec![UPLINK.to_owned()],
            vtep: VTEP.parse()?,
            vxlan_port: 4789,
            ingress_vni: Some(4096),
            addresses: vec![VTEP.parse()?, "2001:db8::1".parse()?],
            masquerade_ports: PortRange::default(),
        },
        nodes,
        networks: vec![Network {
            name: "net".to_owned(),
            vni: VNI,
            mtu: 1450,
            gateways: Vec::new(),
            subnets: Vec::new(),
            internal: false,
        }],
        services,
        endpoints,
    })
}

fn service(name: &str, port: u16, vip: &str) -> Service {
    let port = |protocol| Port { protocol, published: port, target: TARGET };
    Service {
        name: name.to_owned(),
        network: "net".to_owned(),
        vips: vip.parse().into_iter().collect(),
        ports: vec![port(Protocol::Tcp), port(Protocol::Udp)],
        return_path: ReturnPath::Tunnel,
        ..Service::default()
    }
}

fn local(task: &Task, link: &str, service: &str) -> Result<Endpoint> {
    Ok(Endpoint {
        network: "net".to_owned(),
        node: "here".to_owned(),
        link: Some(link.to_owned()),
        mac: Mac { bytes: task.mac },
        addresses: vec![task.ip4.parse()?, task.ip6.parse()?],
        service: Some(service.to_owned()),
        draining: false,
        drain_until: None,
        ports: Vec::new(),
        weight: 1,
    })
}

/// Task `number` on the other nodes; number 0 is [`FAR`].
fn far(number: u32, service: String) -> Endpoint {
    let [_, b, c, d] = number.to_be_bytes();
    let ip4 = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 1, 0, 0)) + number);
    let ip6 = Ipv6Addr::from(u128::from(Ipv6Addr::new(0xfd00, 0xb, 0, 0, 0, 0, 0, 0)) + u128::from(number));
    Endpoint {
        network: "net".to_owned(),
        node: node(number % OTHER_NODES),
        link: None,
        mac: Mac { bytes: [2, 0x43, 0, b, c, d] },
        addresses: vec![ip4.into(), ip6.into()],
        service: Some(service),
        draining: false,
        drain_until: None,
        ports: Vec::new(),
        weight: 1,
    }
}

fn node(number: u32) -> String {
    format!("node{number}")
}

fn vtep(number: u32) -> IpAddr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(192, 0, 2, 11)) + number).into()
}

/// Bytes of the largest IP packet on the uplink.
const MTU: u32 = 1500;

fn facts(desired: &Desired, links: Links) -> Facts {
    let interface =
        |ifindex: u32| Interface { ifindex, mac: Mac { bytes: [2, 0, 0, 0, 0, 1] }, mtu: MTU, xdp_program: None };
    let path = |number: u8| Path {
        mtu: MTU,
        ifindex: links.uplink,
        source_mac: Mac { bytes: [2, 0, 0, 0, 0, 1] },
        next_hop: Mac { bytes: [2, 0, 0, 0, 1, number] },
    };
    Facts {
        interfaces: BTreeMap::from([
            (UPLINK.to_owned(), interface(links.uplink)),
            (LINK_B.to_owned(), interface(links.b)),
        ]),
        paths: desired.nodes.iter().zip(0..).map(|(member, number)| (member.vtep, path(number))).collect(),
        ..Facts::default()
    }
}
