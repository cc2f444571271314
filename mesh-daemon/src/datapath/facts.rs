//! What the kernel says of its interfaces, routes and neighbours, by netlink (rtnetlink(7)).
//!
//! Read-only but for one thing: it asks the kernel to resolve the next hop to a node, since an XDP
//! program cannot.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use futures_util::TryStreamExt as _;
use mesh_common::addr::Mac;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{InfoData, InfoVxlan, LinkAttribute, LinkInfo, LinkMessage, LinkXdp};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourState};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use rtnetlink::{Handle, RouteMessageBuilder};
use tokio::task::JoinSet;

use super::desired::Desired;
use super::routes::{self, Own, Way};
use super::subnet::Subnet;
use super::{anchor, clsact};

/// A question the kernel did not answer.
#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    /// No netlink at all.
    #[error("open a netlink socket")]
    Socket(#[source] std::io::Error),
    /// One request failed.
    #[error("ask the kernel for its {what}")]
    Request {
        /// Of what.
        what: &'static str,
        /// Why not.
        #[source]
        source: rtnetlink::Error,
    },
}

/// An interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its number.
    pub ifindex: u32,
    /// Its link-layer address.
    pub mac: Mac,
    /// Largest IP packet it sends, bytes.
    pub mtu: u32,
    /// The XDP program it runs, if any.
    pub xdp_program: Option<u32>,
}

/// The way to a node's VTEP address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// Interface it leaves by.
    pub ifindex: u32,
    /// Link-layer address of that interface.
    pub source_mac: Mac,
    /// Largest IP packet that interface sends, bytes.
    pub mtu: u32,
    /// Link-layer address of the next hop.
    pub next_hop: Mac,
}

/// A snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Interfaces by name.
    pub interfaces: BTreeMap<String, Interface>,
    /// Ways to other nodes, by VTEP address. Those without a resolved next hop are absent.
    pub paths: BTreeMap<IpAddr, Path>,
    /// UDP ports that VXLAN devices of others listen on.
    pub vxlan_ports: BTreeSet<u16>,
    /// Addresses of this node, but for those that it calls itself by.
    pub addresses: BTreeSet<IpAddr>,
    /// The ways to all others.
    pub routes: BTreeMap<Subnet, Way>,
}

/// Asks the kernel.
pub struct Observer {
    handle: Handle,
    /// Drives the socket; ends with the observer.
    _driver: JoinSet<()>,
}

impl Observer {
    /// Opens a netlink socket in the current network namespace; its driver runs as a task of the
    /// current runtime and ends with the observer.
    ///
    /// # Errors
    /// No netlink.
    pub fn open() -> Result<Self, FactsError> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(FactsError::Socket)?;
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        Ok(Self { handle, _driver: driver })
    }

    /// Looks at everything that `desired` depends on.
    ///
    /// # Errors
    /// A request failed.
    pub async fn look(&self, desired: &Desired) -> Result<Facts, FactsError> {
        let links = self.links().await?;
        let interfaces: BTreeMap<_, _> = links.iter().filter_map(interface).collect();
        let anchor = interfaces.get(anchor::NAME).map(|interface| interface.ifindex);
        let others = links.iter().filter(|link| Some(link.header.index) != anchor);
        let vxlan_ports = others.filter_map(vxlan_port).collect();
        let neighbours = self.neighbours().await?;
        let mut paths = BTreeMap::new();
        for member in &desired.nodes {
            let Some((ifindex, next_hop)) = self.route(member.vtep).await? else { continue };
            let Some(source) = interfaces.values().find(|interface| interface.ifindex == ifindex) else { continue };
            match neighbours.get(&(ifindex, next_hop)) {
                Some(Neighbour { mac, fresh }) => {
                    let path = Path { ifindex, source_mac: source.mac, mtu: source.mtu, next_hop: *mac };
                    paths.insert(member.vtep, path);
                    if !fresh {
                        self.resolve(ifindex, next_hop).await?;
                    }
                }
                None => self.resolve(ifindex, next_hop).await?,
            }
        }
        let own = self.addresses().await?;
        let addresses = own.iter().map(|own| own.subnet.address).filter(|ip| !ip.is_loopback()).collect();
        let routes = routes::look(&self.handle, &own).await?;
        Ok(Facts { interfaces, paths, vxlan_ports, addresses, routes })
    }

    /// Looks at interfaces only.
    ///
    /// # Errors
    /// The request failed.
    pub async fn look_at_interfaces(&self) -> Result<Facts, FactsError> {
        let interfaces = self.links().await?.iter().filter_map(interface).collect();
        Ok(Facts { interfaces, ..Facts::default() })
    }

    /// Makes the anchor device if it is missing: see [`anchor`].
    pub async fn ensure_anchor(&self, facts: &Facts, port: u16) {
        anchor::ensure(&self.handle, facts, port).await;
    }

    /// Removes the anchor device.
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn remove_anchor(&self, facts: &Facts) -> Result<(), FactsError> {
        anchor::remove(&self.handle, facts).await
    }

    /// Takes our filters off the clsact qdiscs of interfaces that are not in `wanted`.
    ///
    /// # Errors
    /// A request failed.
    pub async fn clear_clsact(&self, facts: &Facts, wanted: &BTreeSet<u32>) -> Result<(), FactsError> {
        clsact::remove(&self.handle, facts, wanted).await
    }

    async fn links(&self) -> Result<Vec<LinkMessage>, FactsError> {
        self.handle.link().get().execute().try_collect().await.map_err(request("interfaces"))
    }

    async fn addresses(&self) -> Result<Vec<Own>, FactsError> {
        let all: Vec<_> = self.handle.address().get().execute().try_collect().await.map_err(request("addresses"))?;
        Ok(all.iter().filter_map(own).collect())
    }

    async fn neighbours(&self) -> Result<BTreeMap<(u32, IpAddr), Neighbour>, FactsError> {
        let entries: Vec<_> =
            self.handle.neighbours().get().execute().try_collect().await.map_err(request("neighbours"))?;
        let mut neighbours = BTreeMap::new();
        for entry in entries {
            let (mut addr, mut mac) = (None, None);
            for attribute in &entry.attributes {
                match attribute {
                    NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => addr = Some(IpAddr::V4(*v4)),
                    NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => addr = Some(IpAddr::V6(*v6)),
                    NeighbourAttribute::LinkLayerAddress(bytes) => mac = mac_of(bytes),
                    _ => {}
                }
            }
            let usable = !matches!(
                entry.header.state,
                NeighbourState::Failed | NeighbourState::Incomplete | NeighbourState::None
            );
            let fresh = matches!(entry.header.state, NeighbourState::Reachable | NeighbourState::Permanent);
            if let (Some(addr), Some(mac), true) = (addr, mac, usable) {
                neighbours.insert((entry.header.ifindex, addr), Neighbour { mac, fresh });
            }
        }
        Ok(neighbours)
    }

    /// Interface and next hop of the route to an address; `None` if there is no route.
    async fn route(&self, to: IpAddr) -> Result<Option<(u32, IpAddr)>, FactsError> {
        let message = match to {
            IpAddr::V4(v4) => RouteMessageBuilder::<std::net::Ipv4Addr>::new().destination_prefix(v4, 32).build(),
            IpAddr::V6(v6) => RouteMessageBuilder::<std::net::Ipv6Addr>::new().destination_prefix(v6, 128).build(),
        };
        let answer: Result<Vec<RouteMessage>, _> = self.handle.route().get(message).execute().try_collect().await;
        match answer {
            Ok(routes) => Ok(routes.first().and_then(|route| hop(route, to))),
            // ENETUNREACH and its like: an answer, not a failure.
            Err(rtnetlink::Error::NetlinkError(_)) => Ok(None),
            Err(error) => Err(request("route")(error)),
        }
    }

    /// Makes the kernel ask for a link-layer address, as a packet to it would (`ip neigh ... use`).
    async fn resolve(&self, ifindex: u32, addr: IpAddr) -> Result<(), FactsError> {
        let ask = self.handle.neighbours().add(ifindex, addr);
        ask.state(NeighbourState::None)
            .flags(NeighbourFlags::Use)
            .replace()
            .execute()
            .await
            .map_err(request("next hop"))
    }
}

struct Neighbour {
    mac: Mac,
    fresh: bool,
}

pub(super) fn request(what: &'static str) -> impl Fn(rtnetlink::Error) -> FactsError {
    move |source| FactsError::Request { what, source }
}

fn interface(link: &LinkMessage) -> Option<(String, Interface)> {
    let mut name = None;
    let mut interface = Interface { ifindex: link.header.index, mac: Mac::ZERO, mtu: 0, xdp_program: None };
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = Some(text.clone()),
            LinkAttribute::Address(bytes) => interface.mac = mac_of(bytes).unwrap_or(Mac::ZERO),
            LinkAttribute::Mtu(mtu) => interface.mtu = *mtu,
            LinkAttribute::Xdp(xdp) => {
                interface.xdp_program = xdp.iter().find_map(|part| match part {
                    LinkXdp::ProgId(id) => Some(*id),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    Some((name?, interface))
}

/// An address of this node.
fn own(message: &AddressMessage) -> Option<Own> {
    let (mut address, mut local, mut flags) = (None, None, AddressFlags::empty());
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Address(ip) => address = Some(*ip),
            // Ours where `Address` is the other end of a point-to-point link.
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Flags(bits) => flags = *bits,
            _ => {}
        }
    }
    let unfit = AddressFlags::Tentative | AddressFlags::Dadfailed | AddressFlags::Deprecated;
    Some(Own {
        ifindex: message.header.index,
        subnet: Subnet { address: local.or(address)?, bits: message.header.prefix_len },
        is_usable: message.header.scope == AddressScope::Universe && !flags.intersects(unfit),
    })
}

/// The port of a VXLAN device; `None` for other interfaces.
fn vxlan_port(link: &LinkMessage) -> Option<u16> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(parts) => parts.iter().find_map(|part| match part {
            LinkInfo::Data(InfoData::Vxlan(settings)) => settings.iter().find_map(|setting| match setting {
                InfoVxlan::Port(port) => Some(*port),
                _ => None,
            }),
            _ => None,
        }),
        _ => None,
    })
}

fn hop(route: &RouteMessage, to: IpAddr) -> Option<(u32, IpAddr)> {
    let (mut ifindex, mut next_hop) = (None, to);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(index) => ifindex = Some(*index),
            RouteAttribute::Gateway(RouteAddress::Inet(v4)) => next_hop = IpAddr::V4(*v4),
            RouteAttribute::Gateway(RouteAddress::Inet6(v6)) => next_hop = IpAddr::V6(*v6),
            _ => {}
        }
    }
    Some((ifindex?, next_hop))
}

fn mac_of(bytes: &[u8]) -> Option<Mac> {
    Some(Mac { bytes: bytes.try_into().ok()? })
}
