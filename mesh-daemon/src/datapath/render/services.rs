//! Services: who is behind each, and the slots of their flows.
//!
//! Numbers of backends and places of slot tables are kept from the tables in force, and none that is
//! in use there is given to another: a reader never follows an old number to a new meaning.

use std::collections::{BTreeMap, BTreeSet};

use mesh_common::addr::{Addr, Mac};
use mesh_common::endpoint::{EndpointKey, Neighbour, NeighbourKey};
use mesh_common::limits;
use mesh_common::service::{Backend, Service, ServiceKey, Slot, service_flag};

use super::super::desired::{self, Desired, ReturnPath, addr};
use super::super::maglev;
use super::super::tables::Tables;
use super::Waiting;
use super::tallies::Tallies;

/// A number for each endpoint that is a task of a service: the one it has, or one that none has.
pub(super) fn number_backends(desired: &Desired, before: &Tables) -> BTreeMap<EndpointKey, u32> {
    let vnis: BTreeMap<_, _> = desired.networks.iter().map(|network| (network.name.as_str(), network.vni)).collect();
    let taken: BTreeSet<u32> = before.backends.keys().copied().collect();
    let mut free = (1..limits::BACKENDS).filter(|number| !taken.contains(number));
    let mut numbers = BTreeMap::new();
    for endpoint in desired.endpoints.iter().filter(|endpoint| endpoint.service.is_some()) {
        let key = EndpointKey::new(vnis[endpoint.network.as_str()], endpoint.mac);
        let known = before.endpoints.get(&key).map(|value| value.backend).filter(|number| *number != 0);
        if let Some(number) = known.or_else(|| free.next()) {
            numbers.insert(key, number);
        }
    }
    numbers
}

/// Fills in backends, slots, services, and what tasks and other nodes must know to reach them.
/// Endpoints are there already.
pub(super) fn render(desired: &Desired, before: &Tables, tables: &mut Tables, waiting: &mut Vec<Waiting>) {
    let vnis: BTreeMap<_, _> = desired.networks.iter().map(|network| (network.name.as_str(), network.vni)).collect();
    let mut places = Places::of(before);
    let mut tallies = Tallies::of(before);
    let mut tasks: BTreeMap<&str, Vec<&desired::Endpoint>> = BTreeMap::new();
    for endpoint in &desired.endpoints {
        if let Some(service) = &endpoint.service {
            tasks.entry(service).or_default().push(endpoint);
        }
    }
    for service in &desired.services {
        let vni = vnis[service.network.as_str()];
        let mut members = members(tasks.get(service.name.as_str()).map_or(&[], Vec::as_slice), vni, tables);
        let tally = tallies.number(&service.name, vni, Mac::ZERO, tables);
        for member in members.iter_mut().filter(|member| member.backend.ifindex != 0) {
            member.backend.tally = tallies.number(&service.name, vni, member.backend.mac, tables);
            if let Some(link) = tables.links.get_mut(&member.backend.ifindex) {
                link.tally = member.backend.tally;
            }
        }
        for member in &members {
            tables.backends.insert(member.number, member.backend);
            if let (false, Some(ingress)) = (service.ports.is_empty(), desired.node.ingress_vni)
                && let Some(endpoint) = tables.endpoints.get(&EndpointKey::new(vni, member.backend.mac)).copied()
            {
                tables.endpoints.insert(EndpointKey::new(ingress, member.backend.mac), endpoint);
            }
        }
        for v4 in [true, false] {
            let keys = keys(desired, service, vni, v4);
            if keys.is_empty() {
                continue;
            }
            let found = slots(&members, v4, &keys, before, &mut places, tables);
            if found.is_none() {
                waiting.push(Waiting::Slots { service: service.name.clone() });
            }
            let mut value = found.unwrap_or(Service::ZERO);
            value.flags = flags(service);
            value.tally = tally;
            for (key, target) in keys {
                tables.services.insert(key, Service { target_port: target, ..value });
            }
        }
        for vip in &service.vips {
            let key = NeighbourKey { addr: addr(*vip), vni };
            tables.neighbours.insert(key, Neighbour { mac: Mac::ROUTER, pad: [0; 2] });
        }
    }
}

fn flags(service: &desired::Service) -> u16 {
    let direct = match service.return_path {
        ReturnPath::Tunnel => 0,
        ReturnPath::Direct => service_flag::DIRECT,
    };
    let affinity = if service.client_affinity { service_flag::CLIENT_AFFINITY } else { 0 };
    direct | affinity
}

/// A task of a service.
struct Member {
    number: u32,
    backend: Backend,
    draining: bool,
}

fn members(tasks: &[&desired::Endpoint], vni: u32, tables: &Tables) -> Vec<Member> {
    let member = |endpoint: &&desired::Endpoint| {
        // A local task whose interface is not there yet is no endpoint, and so no backend.
        let value = tables.endpoints.get(&EndpointKey::new(vni, endpoint.mac))?;
        let backend = Backend {
            addr6: value.addr6,
            addr4: value.addr4,
            node: value.node,
            ifindex: value.ifindex,
            mac: endpoint.mac,
            tally: 0,
        };
        Some(Member { number: value.backend, backend, draining: endpoint.draining })
    };
    tasks.iter().filter_map(member).collect()
}

/// What is dialled to reach the service in one family, with the target port of each.
fn keys(desired: &Desired, service: &desired::Service, vni: u32, v4: bool) -> Vec<(ServiceKey, [u8; 2])> {
    let of_family = |ip: &&std::net::IpAddr| ip.is_ipv4() == v4;
    let mut keys: Vec<_> =
        service.vips.iter().filter(of_family).map(|vip| (ServiceKey::vip(vni, addr(*vip)), [0; 2])).collect();
    let like = if v4 { Addr::v4([0; 4]) } else { Addr::ZERO };
    for port in &service.ports {
        let (proto, published, target) =
            (port.protocol.number(), port.published.to_be_bytes(), port.target.to_be_bytes());
        for ip in desired.node.published_on().iter().filter(of_family) {
            keys.push((ServiceKey::published(addr(*ip), proto, published), target));
        }
        if let Some(ingress) = desired.node.ingress_vni {
            keys.push((ServiceKey::forwarded(ingress, &like, proto, published), target));
        }
    }
    keys
}

/// The slot table of the service in one family, and the value that names it; `None` if no run of
/// slots is free.
fn slots(
    members: &[Member],
    v4: bool,
    keys: &[(ServiceKey, [u8; 2])],
    before: &Tables,
    places: &mut Places,
    tables: &mut Tables,
) -> Option<Service> {
    let has_addr =
        |member: &&Member| if v4 { member.backend.addr4 != [0; 4] } else { member.backend.addr6 != Addr::ZERO };
    let alive: BTreeSet<u32> = members.iter().filter(has_addr).map(|member| member.number).collect();
    let active: Vec<_> = members
        .iter()
        .filter(has_addr)
        .filter(|member| !member.draining)
        .map(|member| maglev::Candidate { number: member.number, identity: member.backend.mac })
        .collect();
    // Where all drain, they go on serving: better than nobody.
    let all: Vec<_> = members
        .iter()
        .filter(has_addr)
        .map(|member| maglev::Candidate { number: member.number, identity: member.backend.mac })
        .collect();
    let old = keys.iter().find_map(|(key, _)| before.services.get(key)).filter(|old| old.slots != 0);
    let old_run = old.and_then(|old| before.slots.get(&old.slots_at));
    let size = maglev::size(all.len(), old_run.map_or(0, Vec::len));
    let table = maglev::table(if active.is_empty() { &all } else { &active }, size);
    let same_size = old_run.filter(|run| run.len() == table.len());
    let run: Vec<_> = table
        .iter()
        .enumerate()
        .map(|(index, current)| {
            // Of a table that doubled, the old slot with the same hashes: see `maglev::size`.
            let at = old_run.map(|run| index * run.len() / table.len());
            let old = old_run.zip(at).and_then(|(run, at)| run.get(at)).copied().unwrap_or(Slot::ZERO);
            next_slot(old, *current, &alive)
        })
        .collect();
    if run.is_empty() {
        return Some(Service::ZERO);
    }
    let len = run.len() as u32;
    let kept = same_size.and(old).map(|old| old.slots_at);
    let at = kept.or_else(|| places.take(len))?;
    tables.slots.insert(at, run);
    Some(Service { slots_at: at, slots: len, ..Service::ZERO })
}

/// A slot whose backend changes remembers the one before, as long as that is alive.
fn next_slot(old: Slot, current: u32, alive: &BTreeSet<u32>) -> Slot {
    let previous = if old.current == current { old.previous } else { old.current };
    let useful = previous != current && alive.contains(&previous);
    Slot { current, previous: if useful { previous } else { 0 } }
}

/// Free runs of slots.
struct Places {
    /// Taken runs: first element, and the one behind the last.
    taken: BTreeMap<u32, u32>,
}

impl Places {
    /// Everything that is in use before counts as taken: it may be read until the change is done.
    fn of(before: &Tables) -> Self {
        let run = |(first, run): (&u32, &Vec<Slot>)| (*first, first + run.len() as u32);
        Self { taken: before.slots.iter().map(run).collect() }
    }

    /// The first gap of this length.
    fn take(&mut self, len: u32) -> Option<u32> {
        let mut at = 0;
        for (first, end) in &self.taken {
            if first.saturating_sub(at) >= len {
                break;
            }
            at = at.max(*end);
        }
        let end = at.checked_add(len).filter(|end| *end <= limits::SLOTS)?;
        self.taken.insert(at, end);
        Some(at)
    }
}
