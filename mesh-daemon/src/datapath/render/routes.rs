//! Ways of tasks to elsewhere: overlay networks, which nothing enters from another network, and the routes
//! of the node.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use mesh_common::addr::Addr;
use mesh_common::limits;
use mesh_common::route::{Prefix, Route, route_flag};

use super::super::desired::{Desired, Network, addr};
use super::super::facts::Facts;
use super::super::subnet::Subnet;
use super::super::tables::Tables;
use super::Waiting;

/// Fills in `ROUTES`.
pub(super) fn render(desired: &Desired, facts: &Facts, tables: &mut Tables, waiting: &mut Vec<Waiting>) {
    let overlay = overlay(desired);
    let lengths: BTreeSet<u32> = overlay.iter().map(|prefix| prefix.bits).collect();
    for prefix in &overlay {
        tables.routes.insert(*prefix, Route { flags: route_flag::OVERLAY, ..Route::ZERO });
    }
    let uplinks: BTreeSet<u32> = desired
        .node
        .uplinks
        .iter()
        .filter_map(|name| facts.interfaces.get(name))
        .map(|uplink| uplink.ifindex)
        .collect();
    // The shortest first: those that lead to most. All of IPv4 is one prefix of IPv6, whose default route
    // is not for it.
    let all_v4 = Prefix::new(Addr::v4([0; 4]), 0);
    let mut routes = BTreeMap::from([((all_v4.bits, all_v4), Route::ZERO)]);
    for (subnet, way) in &facts.routes {
        let prefix = subnet.prefix();
        // A longer route would lead packets for an overlay network out of it.
        let is_inside = |bits: &u32| *bits <= prefix.bits && overlay.contains(&Prefix::of_bits(prefix.addr, *bits));
        if lengths.iter().any(is_inside) {
            continue;
        }
        let is_uplink = uplinks.contains(&way.ifindex);
        let route = if is_uplink {
            Route { ifindex: way.ifindex, source: way.source.map_or(Addr::ZERO, addr), flags: 0 }
        } else {
            Route::ZERO
        };
        routes.insert((prefix.bits, prefix), route);
    }
    let room = (limits::ROUTES as usize).saturating_sub(tables.routes.len());
    if routes.len() > room {
        waiting.push(Waiting::Routes { left_out: routes.len() - room });
    }
    tables.routes.extend(routes.into_iter().take(room).map(|((_, prefix), route)| (prefix, route)));
}

/// The addresses of all networks: their subnets, and what is named outside of those.
fn overlay(desired: &Desired) -> BTreeSet<Prefix> {
    let networks: BTreeMap<&str, &Network> =
        desired.networks.iter().map(|network| (network.name.as_str(), network)).collect();
    let subnets = desired.networks.iter().flat_map(|network| &network.subnets).copied();
    let gateways =
        desired.networks.iter().flat_map(|network| network.gateways.iter().map(|ip| (network.name.as_str(), ip)));
    let vips = desired.services.iter().flat_map(|service| service.vips.iter().map(|ip| (service.network.as_str(), ip)));
    let tasks = desired.endpoints.iter().flat_map(|task| task.addresses.iter().map(|ip| (task.network.as_str(), ip)));
    let is_alone = |(network, ip): &(&str, &IpAddr)| {
        networks.get(network).is_none_or(|network| !network.subnets.iter().any(|subnet| subnet.contains(**ip)))
    };
    let alone = gateways.chain(vips).chain(tasks).filter(is_alone).map(|(_, ip)| Subnet::host(*ip));
    subnets.chain(alone).map(Subnet::prefix).collect()
}
