//! Machines on a wire: namespaces joined by veth pairs to a bridge that has a namespace of its own.
//!
//! ```text
//!   node1: eth0 ---- p-node1 \
//!   node2: eth0 ---- p-node2  >-- bridge, in the namespace "wire"
//!   client1: eth0 - p-client1/
//! ```
//! It makes links, addresses and offload settings; what runs on them is the test's business.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};

use crate::netns::{Netns, mac_text};
use crate::registry::{self, Lease};
use crate::vlan;

/// What the wire carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// Frames as a NIC would deliver them: at most MTU long, checksums filled in, VLAN tags in the
    /// frame. What an XDP program needs to see.
    Frames,
    /// Whatever the kernel passes between veths: GSO packets, checksums left to offloads.
    Bulk,
}

/// What a bed is made of.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Machines named node1, node2, ... with 192.0.2.1 and fd00:2::1, and so on.
    pub nodes: u8,
    /// Machines named client1, client2, ... with 192.0.2.101 and fd00:2::101, and so on.
    pub clients: u8,
    /// MTU of the wire: 1280 to 9000.
    pub mtu: u32,
    /// Puts all machines on this VLAN: every frame on the wire has the tag, and XDP sees it; the
    /// machines' own stacks do not.
    pub vlan: Option<u16>,
    /// What the wire carries.
    pub wire: Wire,
    /// Has each machine's eth0 GRO, as a NIC has?
    pub gro: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self { nodes: 2, clients: 1, mtu: 1500, vlan: None, wire: Wire::Frames, gro: true }
    }
}

/// Machines on a wire. Everything goes when the last of the bed and its hosts is dropped.
#[derive(Debug)]
pub struct Bed {
    /// The cluster.
    pub nodes: Vec<Host>,
    /// Machines outside of it.
    pub clients: Vec<Host>,
    /// Where the bridge `wire` and its ports are.
    pub wire: Netns,
    lease: Arc<Lease>,
}

/// A machine on the wire.
#[derive(Clone, Debug)]
pub struct Host {
    /// Its name: node1, client1.
    pub name: String,
    /// Its namespace.
    pub ns: Netns,
    /// Its IPv4 address, in a /24.
    pub ip4: Ipv4Addr,
    /// Its IPv6 address, in a /64.
    pub ip6: Ipv6Addr,
    /// Link-layer address of the uplink.
    pub mac: [u8; 6],
    /// The interface on the wire, with the addresses.
    pub uplink: &'static str,
    /// The bridge's end of the cable, in the namespace of the wire. XDP_TX on eth0 is lost unless
    /// an XDP program (a plain XDP_PASS) is attached here.
    pub port: String,
    /// MTU of the uplink.
    pub mtu: u32,
    lease: Arc<Lease>,
}

/// A task to be put on a node: the end of a veth pair in a namespace of its own.
#[derive(Clone, Debug)]
pub struct TaskPlan {
    name: String,
    ip4: Option<String>,
    ip6: Option<String>,
    mac: Option<[u8; 6]>,
    mtu: u32,
    gateways: Vec<IpAddr>,
}

/// A task's namespace on a node.
#[derive(Clone, Debug)]
pub struct Task {
    /// Its namespace; its interface is eth0.
    pub ns: Netns,
    /// The host's end of its veth pair, in the node's namespace.
    pub host_link: String,
    /// Interface index of [`host_link`](Self::host_link).
    pub host_ifindex: u32,
    /// Link-layer address of its eth0.
    pub mac: [u8; 6],
    path: PathBuf,
}

/// A stock vxlan device of the kernel, with one static peer.
#[derive(Clone, Debug)]
pub struct KernelVxlan<'a> {
    /// Name of the device.
    pub name: &'a str,
    /// Network identifier.
    pub vni: u32,
    /// UDP port.
    pub port: u16,
    /// Own underlay address.
    pub local: IpAddr,
    /// Underlay address of the peer.
    pub remote: IpAddr,
    /// Addresses on the device, with prefix length.
    pub addresses: &'a [&'a str],
    /// Link-layer address of the device.
    pub mac: [u8; 6],
}

/// The bridge.
const BRIDGE: &str = "wire";
/// Longest interface name of Linux (IFNAMSIZ without the final zero).
const IFNAME_MAX: usize = 15;
/// No machine waits for duplicate address detection, listens to routers or asks for them.
const QUIET_IPV6: [(&str, &str); 4] = [
    ("net/ipv6/conf/default/accept_dad", "0"),
    ("net/ipv6/conf/default/accept_ra", "0"),
    ("net/ipv6/conf/default/autoconf", "0"),
    ("net/ipv6/conf/default/router_solicitations", "0"),
];

impl Bed {
    /// Makes what is planned, after removing what killed runs left behind.
    pub fn new(plan: &Plan) -> Result<Self> {
        crate::require_root()?;
        ensure!((1280..=9000).contains(&plan.mtu), "MTU {} is not in 1280..=9000", plan.mtu);
        ensure!(plan.nodes <= 100 && plan.clients <= 100, "at most 100 nodes and 100 clients");
        let lease = Arc::new(Lease::take()?);
        let wire = Netns::named(lease.name(BRIDGE));
        let host = |kind: &str, number: u8, last: u8| Host::planned(plan, &lease, format!("{kind}{number}"), last);
        let nodes: Vec<_> = (1..=plan.nodes).map(|number| host("node", number, number)).collect();
        let clients: Vec<_> = (1..=plan.clients).map(|number| host("client", number, 100 + number)).collect();
        let bed = Self { nodes, clients, wire, lease };
        bed.make(plan).with_context(|| format!("making test bed {}", bed.id()))?;
        Ok(bed)
    }

    /// Its id, the prefix of everything it owns.
    pub fn id(&self) -> &str {
        self.lease.id()
    }

    /// A new directory on bpffs that goes with the bed.
    pub fn pin_dir(&self, name: &str) -> Result<PathBuf> {
        self.lease.pin_dir(name)
    }

    /// A new folder for files that goes with the bed.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        self.lease.folder(name)
    }

    /// All machines.
    pub fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.nodes.iter().chain(&self.clients)
    }

    fn make(&self, plan: &Plan) -> Result<()> {
        make_namespaces(&std::iter::once(&self.wire).chain(self.hosts().map(|host| &host.ns)).collect::<Vec<_>>())?;
        // The bridge and its ports carry frames only; they must not speak IPv6 themselves.
        self.wire.sysctl("net/ipv6/conf/default/disable_ipv6", "1")?;
        // Nor is there a firewall in a wire: br_netfilter, where it is loaded, looks into every frame.
        for family in ["iptables", "ip6tables", "arptables"] {
            let key = format!("net/bridge/bridge-nf-call-{family}");
            if Path::new("/proc/sys").join(&key).exists() {
                self.wire.sysctl(&key, "0")?;
            }
        }
        let mut lines = vec![
            format!("link add {BRIDGE} type bridge stp_state 0 forward_delay 0 mcast_snooping 0"),
            format!("link set {BRIDGE} up"),
        ];
        for host in self.hosts() {
            let Host { port, uplink, mtu, .. } = host;
            let (mac, peer) = (mac_text(host.mac), host.ns.name());
            // Born in its namespace, under its final name: nothing ever shows up elsewhere.
            lines.push(format!(
                "link add {port} mtu {mtu} type veth peer name {uplink} address {mac} mtu {mtu} netns {peer}"
            ));
            lines.push(format!("link set {port} master {BRIDGE} up"));
        }
        self.wire.ip(&lines)?;
        for host in self.hosts() {
            host.set_offloads(plan, &self.wire)?;
            if let Some(id) = plan.vlan {
                vlan::put_on(&host.ns, host.uplink, id, &self.lease.pin_dir("vlan")?)?;
            }
            host.ns.ip(&host.address_lines())?;
        }
        Ok(())
    }
}

impl Host {
    fn planned(plan: &Plan, lease: &Arc<Lease>, name: String, last: u8) -> Self {
        // fd00:2::101 for 192.0.2.101: the digits are kept, read as hexadecimal.
        let digits = u16::from(last / 100) << 8 | u16::from(last / 10 % 10) << 4 | u16::from(last % 10);
        Self {
            ns: Netns::named(lease.name(&name)),
            ip4: Ipv4Addr::new(192, 0, 2, last),
            ip6: Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 0, digits),
            mac: [0x02, 0, 0, 0, 0, last],
            uplink: "eth0",
            port: format!("p-{name}"),
            mtu: plan.mtu,
            lease: Arc::clone(lease),
            name,
        }
    }

    fn address_lines(&self) -> Vec<String> {
        let Self { uplink, ip4, ip6, .. } = self;
        vec![
            format!("link set {uplink} up"),
            format!("addr add {ip4}/24 dev {uplink}"),
            format!("addr add {ip6}/64 dev {uplink} nodad"),
        ]
    }

    fn set_offloads(&self, plan: &Plan, wire: &Netns) -> Result<()> {
        let gro = if plan.gro { "on" } else { "off" };
        match plan.wire {
            Wire::Bulk => ethtool(&self.ns, self.uplink, &["gro", gro]),
            Wire::Frames => {
                ethtool(&self.ns, self.uplink, &[&FRAMES[..], &["gro", gro]].concat())?;
                // Ports forward frame by frame: GRO here would join what the sender kept apart.
                ethtool(wire, &self.port, &[&FRAMES[..], &["gro", "off"]].concat())
            }
        }
    }

    /// Puts a task on this machine.
    pub fn task(&self, plan: &TaskPlan) -> Result<Task> {
        let name = &plan.name;
        let ns = Netns::named(self.lease.name(&format!("{}-{name}", self.name)));
        let host_link = format!("v-{name}");
        ensure!(host_link.len() <= IFNAME_MAX, "task name {name:?} is too long for an interface name");
        let mac = plan.mac.map_or_else(|| mac_of_address(plan.ip4.as_deref()), Ok)?;
        self.make_task(plan, &ns, &host_link, mac).with_context(|| format!("putting task {name} on {}", self.name))?;
        let host_ifindex = self.ns.link(&host_link)?.ifindex;
        Ok(Task { path: ns.path(), ns, host_link, host_ifindex, mac })
    }

    fn make_task(&self, plan: &TaskPlan, ns: &Netns, host_link: &str, mac: [u8; 6]) -> Result<()> {
        make_namespaces(&[ns])?;
        let (mtu, mac, peer) = (plan.mtu, mac_text(mac), ns.name());
        self.ns.ip(&[
            format!("link add {host_link} mtu {mtu} type veth peer name eth0 address {mac} mtu {mtu} netns {peer}"),
            // The host's end has no address of its own, not even a link-local one.
            format!("link set {host_link} addrgenmode none"),
            format!("link set {host_link} up"),
        ])?;
        let mut lines = vec!["link set eth0 up".to_owned()];
        lines.extend(plan.ip4.iter().map(|ip4| format!("addr add {ip4} dev eth0")));
        lines.extend(plan.ip6.iter().map(|ip6| format!("addr add {ip6} dev eth0 nodad")));
        for gateway in &plan.gateways {
            lines.push(format!("route add default via {gateway} dev eth0 onlink"));
        }
        ns.ip(&lines)?;
        // XDP redirect into a veth is lost without a word unless the far end has GRO. Switched on while
        // that end is down, it would not be told to the near end.
        ethtool(ns, "eth0", &["gro", "on"])
    }

    /// Puts a vxlan device of the kernel on this machine, up and addressed.
    pub fn kernel_vxlan(&self, vxlan: &KernelVxlan<'_>) -> Result<()> {
        let KernelVxlan { name, vni, port, local, remote, .. } = vxlan;
        let overhead = if local.is_ipv4() { 50 } else { 70 };
        let (mtu, mac) = (self.mtu - overhead, mac_text(vxlan.mac));
        let mut lines = vec![
            format!(
                "link add {name} address {mac} mtu {mtu} type vxlan id {vni} dstport {port} local {local} remote {remote} dev {}",
                self.uplink
            ),
            format!("link set {name} up"),
        ];
        for address in vxlan.addresses {
            let nodad = if address.contains(':') { " nodad" } else { "" };
            lines.push(format!("addr add {address} dev {name}{nodad}"));
        }
        self.ns.ip(&lines).with_context(|| format!("making vxlan device {name} on {}", self.name))
    }
}

impl TaskPlan {
    /// A task without addresses, MTU 1450.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ip4: None, ip6: None, mac: None, mtu: 1450, gateways: Vec::new() }
    }

    /// Its IPv4 address with prefix length, e.g. `10.0.9.2/24`.
    #[must_use]
    pub fn ip4(mut self, ip4: &str) -> Self {
        self.ip4 = Some(ip4.to_owned());
        self
    }

    /// Its IPv6 address with prefix length.
    #[must_use]
    pub fn ip6(mut self, ip6: &str) -> Self {
        self.ip6 = Some(ip6.to_owned());
        self
    }

    /// Its link-layer address; without, 02:42 and the IPv4 address.
    #[must_use]
    pub fn mac(mut self, mac: [u8; 6]) -> Self {
        self.mac = Some(mac);
        self
    }

    /// MTU of both ends of its link.
    #[must_use]
    pub fn mtu(mut self, mtu: u32) -> Self {
        self.mtu = mtu;
        self
    }

    /// A default route for the family of the address; the gateway need not be in the subnet.
    #[must_use]
    pub fn gateway(mut self, gateway: impl Into<IpAddr>) -> Self {
        self.gateways.push(gateway.into());
        self
    }
}

impl Task {
    /// Removes it, its processes and both ends of its link before the bed goes.
    pub fn remove(self) -> Result<()> {
        registry::remove_one(&self.path)
    }
}

/// Makes namespaces with `lo` up and without IPv6 noise.
fn make_namespaces(namespaces: &[&Netns]) -> Result<()> {
    let lines: Vec<_> = namespaces.iter().map(|ns| format!("netns add {}", ns.name())).collect();
    crate::netns::ip_in_root(&lines)?;
    for ns in namespaces {
        for (key, value) in QUIET_IPV6 {
            ns.sysctl(key, value)?;
        }
        ns.ip(&["link set lo up".to_owned()])?;
    }
    Ok(())
}

/// Everything a sender may leave undone, off.
const FRAMES: [&str; 16] = [
    "tx",
    "off",
    "tso",
    "off",
    "gso",
    "off",
    "txvlan",
    "off",
    "tx-gso-list",
    "off",
    "tx-udp-segmentation",
    "off",
    "tx-udp_tnl-segmentation",
    "off",
    "tx-udp_tnl-csum-segmentation",
    "off",
];

fn ethtool(ns: &Netns, device: &str, settings: &[&str]) -> Result<()> {
    ns.run([&["ethtool", "-K", device], settings].concat()).map(drop)
}

/// 02:42 and the four bytes of an address with prefix length: what Docker gives, and mesh.
fn mac_of_address(ip4: Option<&str>) -> Result<[u8; 6]> {
    let text = ip4.context("a task without a link-layer address needs an IPv4 address to make one of")?;
    let address: Ipv4Addr =
        text.split('/').next().unwrap_or(text).parse().with_context(|| format!("parsing {text}"))?;
    let [a, b, c, d] = address.octets();
    Ok([0x02, 0x42, a, b, c, d])
}
