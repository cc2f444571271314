//! The routes by which this node reaches others, as its main table has them (rtnetlink(7)): the way of
//! tasks to the outside. Rules that choose other tables are not followed.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::TryStreamExt as _;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteNextHop, RouteNextHopFlags, RouteType,
};
use rtnetlink::{Handle, RouteMessageBuilder};

use super::facts::{FactsError, request};
use super::subnet::Subnet;

/// Where a route leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// The interface; 0 if the route says that nothing does.
    pub ifindex: u32,
    /// The node's own address there, if it has one of the family.
    pub source: Option<IpAddr>,
}

/// An address of an interface, with its subnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Own {
    pub(super) ifindex: u32,
    pub(super) subnet: Subnet,
    /// May others be told of it, and may what is sent have it? Not an address of one link, nor one that is
    /// being tried or given up.
    pub(super) is_usable: bool,
}

/// The routes of both families.
pub(super) async fn look(handle: &Handle, own: &[Own]) -> Result<BTreeMap<Subnet, Way>, FactsError> {
    let all = [RouteMessageBuilder::<Ipv4Addr>::new().build(), RouteMessageBuilder::<Ipv6Addr>::new().build()];
    let mut best = BTreeMap::new();
    for family in all {
        let messages: Vec<RouteMessage> =
            handle.route().get(family).execute().try_collect().await.map_err(request("routes"))?;
        for route in messages.iter().filter_map(|message| read(message, own)) {
            keep(&mut best, route);
        }
    }
    Ok(best.into_iter().map(|(subnet, (_, way))| (subnet, way)).collect())
}

/// A route: where to, how dear, which way.
type Route = (Subnet, u32, Way);

/// Of several routes to one subnet the cheapest counts.
fn keep(best: &mut BTreeMap<Subnet, (u32, Way)>, (subnet, metric, way): Route) {
    match best.get(&subnet) {
        Some((other, _)) if *other <= metric => {}
        _ => drop(best.insert(subnet, (metric, way))),
    }
}

fn read(message: &RouteMessage, own: &[Own]) -> Option<Route> {
    let is_v4 = message.header.address_family == netlink_packet_route::AddressFamily::Inet;
    let unspecified: IpAddr = if is_v4 { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let mut subnet = Subnet { address: unspecified, bits: message.header.destination_prefix_length };
    let (mut table, mut metric) = (u32::from(message.header.table), 0);
    let (mut ifindex, mut gateway, mut source) = (0, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => subnet.address = ip(address)?,
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Priority(number) => metric = *number,
            RouteAttribute::Oif(number) => ifindex = *number,
            RouteAttribute::Gateway(address) => gateway = ip(address),
            RouteAttribute::PrefSource(address) => source = ip(address),
            // One of them is as good as another, if its link is up.
            RouteAttribute::MultiPath(hops) => {
                let lost = RouteNextHopFlags::Dead | RouteNextHopFlags::Linkdown;
                (ifindex, gateway) = hops.iter().find(|hop| !hop.flags.intersects(lost)).map(hop)?;
            }
            _ => {}
        }
    }
    let is_alive = !message.header.flags.intersects(RouteFlags::Dead | RouteFlags::Linkdown);
    let way = match message.header.kind {
        RouteType::Unicast if is_alive => {
            Way { ifindex, source: source.or_else(|| own_address(own, ifindex, gateway.unwrap_or(subnet.address))) }
        }
        RouteType::BlackHole | RouteType::Unreachable | RouteType::Prohibit => Way { ifindex: 0, source: None },
        _ => return None,
    };
    (table == u32::from(RouteHeader::RT_TABLE_MAIN)).then_some((subnet, metric, way))
}

fn hop(hop: &RouteNextHop) -> (u32, Option<IpAddr>) {
    let gateway = hop.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(address) => ip(address),
        _ => None,
    });
    (hop.interface_index, gateway)
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
        RouteAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}

/// The interface's address that `towards` knows: one of its subnet, else the first.
fn own_address(own: &[Own], ifindex: u32, towards: IpAddr) -> Option<IpAddr> {
    let of_interface = || {
        own.iter()
            .filter(move |own| own.ifindex == ifindex && own.is_usable)
            .filter(move |own| own.subnet.address.is_ipv4() == towards.is_ipv4())
    };
    let near = of_interface().find(|own| own.subnet.contains(towards));
    near.or_else(|| of_interface().next()).map(|own| own.subnet.address)
}

#[cfg(test)]
mod tests;
