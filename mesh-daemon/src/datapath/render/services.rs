//! Services: who is behind each, and the slots of their flows.
//!
//! Numbers of backends and places of slot tables are kept from the tables in force, and none that is
//! in use there is given to another: a reader never follows an old number to a new meaning.

use std::collections::{BTreeMap, BTreeSet};

use mesh_common::addr::{Addr, Mac};
use mesh_common::endpoint::{Endpoint, EndpointKey, Neighbour, NeighbourKey};
use mesh_common::limits;
use mesh_common::service::{Backend, Run, Service, ServiceKey, Slot, backend_flag, service_flag};

use super::super::balancing::Balancing;
use super::super::desired::{self, Desired, ReturnPath, addr};
use super::super::maglev;
use super::super::tables::Tables;
use super::Waiting;
use super::own_ports::OwnPorts;
use super::tallies::Tallies;

/// A number for each endpoint that is a task of a service: the one it has, or one that none has.
pub(super) fn number_backends(desired: &Desired, before: &Tables) -> BTreeMap<EndpointKey, u32> {
    let vnis: BTreeMap<_, _> = desired.networks.iter().map(|network| (network.name.as_str(), network.vni)).collect();
    let taken: BTreeSet<u32> = before.backends.keys().copied().collect();
    // From where the last search ended: a number that went is used again as late as can be, for what was
    // chosen for a client names it.
    let from = first_candidate(before);
    let mut free = (from..limits::BACKENDS).chain(1..from).filter(|number| !taken.contains(number));
    let mut numbers = BTreeMap::new();
    let is_dialled = |endpoint: &&desired::Endpoint| endpoint.service.is_some() || !endpoint.ports.is_empty();
    for endpoint in desired.endpoints.iter().filter(is_dialled) {
        let key = EndpointKey::new(vnis[endpoint.network.as_str()], endpoint.mac);
        let known = before.endpoints.get(&key).map(|value| value.backend).filter(|number| *number != 0);
        if let Some(number) = known.or_else(|| free.next()) {
            numbers.insert(key, number);
        }
    }
    numbers
}

fn first_candidate(before: &Tables) -> u32 {
    before.config.get(&0).map_or(0, |config| config.next_backend).clamp(1, limits::BACKENDS - 1)
}

/// Where the search after this one begins: behind the last number that was given.
pub(super) fn next_backend(before: &Tables, after: &Tables) -> u32 {
    let from = first_candidate(before);
    let mut given = after.backends.keys().filter(|number| !before.backends.contains_key(number));
    // Counted from where the search began, around the end.
    let last = given.by_ref().max_by_key(|number| number.wrapping_sub(from) % limits::BACKENDS);
    last.map_or(from, |number| if number + 1 < limits::BACKENDS { number + 1 } else { 1 })
}

/// Fills in backends, slots, services, and what tasks and other nodes must know to reach them.
/// Endpoints are there already.
pub(super) fn render(desired: &Desired, before: &Tables, tables: &mut Tables, waiting: &mut Vec<Waiting>) {
    let vnis: BTreeMap<_, _> = desired.networks.iter().map(|network| (network.name.as_str(), network.vni)).collect();
    let mut places = Places::of(before);
    let mut tallies = Tallies::of(before);
    let mut counted = BTreeMap::new();
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
        counted.insert(service.name.as_str(), tally);
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
            let tasks = tasks.get(service.name.as_str()).map_or(&[][..], Vec::as_slice);
            let size = service.table_size(tasks.iter().filter(|task| has_family(task, v4)).count());
            let table = Table { service, members: &members, v4, size };
            let old = keys.iter().find_map(|(key, _)| before.services.get(key)).copied().unwrap_or(Service::ZERO);
            let found = table.render(old, before, &mut places, tables);
            if found.is_none() {
                waiting.push(Waiting::Slots { service: service.name.clone() });
            }
            let mut value = found.unwrap_or(Service::ZERO);
            value.flags = flags(service);
            value.tally = tally;
            value.budget = service.new_flows_per_second.unwrap_or(0);
            value.affinity = service.affinity();
            for (key, target) in keys {
                tables.services.insert(key, Service { target_port: target, ..value });
            }
        }
        for vip in &service.vips {
            let key = NeighbourKey { addr: addr(*vip), vni };
            tables.neighbours.insert(key, Neighbour { mac: Mac::ROUTER, pad: [0; 2] });
        }
    }
    // Behind the services: runs that those keep are theirs.
    for endpoint in desired.endpoints.iter().filter(|endpoint| !endpoint.ports.is_empty()) {
        let key = EndpointKey::new(vnis[endpoint.network.as_str()], endpoint.mac);
        let tally = endpoint.service.as_deref().and_then(|service| counted.get(service)).copied().unwrap_or(0);
        if (OwnPorts { desired, endpoint, key, tally }).render(before, &mut places, tables).is_none() {
            waiting.push(Waiting::Slots { service: format!("of the task at {}", desired::mac::format(endpoint.mac)) });
        }
    }
}

fn flags(service: &desired::Service) -> u16 {
    let direct = match service.return_path {
        ReturnPath::Tunnel => 0,
        ReturnPath::Direct => service_flag::DIRECT,
    };
    direct | service.balancing.flags()
}

pub(super) fn has_family(task: &desired::Endpoint, v4: bool) -> bool {
    task.addresses.iter().any(|ip| ip.is_ipv4() == v4)
}

/// A task of a service.
struct Member {
    number: u32,
    backend: Backend,
    draining: bool,
    weight: u32,
}

fn members(tasks: &[&desired::Endpoint], vni: u32, tables: &Tables) -> Vec<Member> {
    let member = |endpoint: &&desired::Endpoint| {
        // A local task whose interface is not there yet is no endpoint, and so no backend.
        let value = tables.endpoints.get(&EndpointKey::new(vni, endpoint.mac))?;
        let backend = backend(value, endpoint);
        Some(Member { number: value.backend, backend, draining: endpoint.draining, weight: endpoint.weight })
    };
    tasks.iter().filter_map(member).collect()
}

pub(super) fn backend(value: &Endpoint, endpoint: &desired::Endpoint) -> Backend {
    Backend {
        addr6: value.addr6,
        addr4: value.addr4,
        node: value.node,
        ifindex: value.ifindex,
        mac: endpoint.mac,
        flags: if endpoint.draining { backend_flag::DRAINING } else { 0 },
        tally: 0,
        pad: [0; 2],
    }
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

/// The slots of a service in one family, to be made.
struct Table<'a> {
    service: &'a desired::Service,
    members: &'a [Member],
    v4: bool,
    size: u32,
}

impl Table<'_> {
    /// Writes the runs, and says where they are; `None` if no run of slots is free. `old` is the service as
    /// it is in force.
    fn render(&self, old: Service, before: &Tables, places: &mut Places, tables: &mut Tables) -> Option<Service> {
        let members: Vec<_> = self.members.iter().filter(|member| member.has_family(self.v4)).collect();
        let slots = |run: Run| before.slots.get(&run.at).filter(|_| run.len != 0).map_or(&[][..], Vec::as_slice);
        let all_before = Before { at: Some(old.slots_at), slots: slots(old.all()) };
        let all = self.run(&members, &members, all_before, places, tables)?;
        let mut value = Service { slots_at: all.at, slots: all.len, ..Service::ZERO };
        let near: Vec<_> = members.iter().copied().filter(|member| member.backend.node == Endpoint::HERE).collect();
        // One that drains counts: its flows are found here only.
        if self.service.balancing == Balancing::PreferLocal && !near.is_empty() {
            let fit = if near.iter().all(|member| member.draining) { &members } else { &near };
            let near_before = Before { at: (old.near != 0).then_some(old.near_at), slots: slots(old.entry()) };
            let near = self.run(fit, &members, near_before, places, tables)?;
            (value.near_at, value.near) = (near.at, near.len);
        }
        Some(value)
    }

    /// Deals out slots to those of `fit` that do not drain.
    fn run(
        &self,
        fit: &[&Member],
        all: &[&Member],
        old: Before<'_>,
        places: &mut Places,
        tables: &mut Tables,
    ) -> Option<Run> {
        let candidates = |draining: bool| -> Vec<_> {
            fit.iter().filter(|member| draining || !member.draining).map(|member| member.candidate()).collect()
        };
        // Where all drain, they go on serving: better than nobody.
        let candidates =
            Some(candidates(false)).filter(|active| !active.is_empty()).unwrap_or_else(|| candidates(true));
        let table = match self.service.balancing {
            Balancing::RoundRobin => maglev::rounds(&candidates, self.size),
            Balancing::Maglev | Balancing::LeastConnections | Balancing::Client | Balancing::PreferLocal => {
                maglev::table(&candidates, self.size)
            }
        };
        if table.is_empty() {
            return Some(Run { at: 0, len: 0 });
        }
        let alive: BTreeSet<u32> = all.iter().map(|member| member.number).collect();
        let slots: Vec<_> = table
            .iter()
            .enumerate()
            .map(|(index, current)| next_slot(matching(old.slots, index, table.len()), *current, &alive))
            .collect();
        let len = self.size;
        let kept = old.at.filter(|_| old.slots.len() == table.len());
        let at = kept.or_else(|| places.take(len))?;
        tables.slots.insert(at, slots);
        Some(Run { at, len })
    }
}

/// What was dealt out before.
struct Before<'a> {
    /// Where it lies, if that place may be written again.
    at: Option<u32>,
    slots: &'a [Slot],
}

impl Member {
    fn has_family(&self, v4: bool) -> bool {
        if v4 { self.backend.addr4 != [0; 4] } else { self.backend.addr6 != Addr::ZERO }
    }

    fn candidate(&self) -> maglev::Candidate {
        maglev::Candidate { number: self.number, identity: self.backend.mac, weight: self.weight }
    }
}

/// The old slots that a slot of a table of `len` stands for: one if the table grew or stayed, several if it
/// shrank.
fn matching(run: &[Slot], index: usize, len: usize) -> &[Slot] {
    let from = index * run.len() / len;
    let to = ((index + 1) * run.len() / len).max(from + 1);
    run.get(from..to).unwrap_or_default()
}

/// A slot whose backend changes remembers the one before, as long as that is alive. Of several old slots
/// it remembers the first that is of use.
fn next_slot(old: &[Slot], current: u32, alive: &BTreeSet<u32>) -> Slot {
    let before = |old: &Slot| if old.current == current { old.previous } else { old.current };
    let useful = |previous: &u32| *previous != current && alive.contains(previous);
    Slot { current, previous: old.iter().map(before).find(useful).unwrap_or(0) }
}

/// Free runs of slots.
pub(super) struct Places {
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
    pub(super) fn take(&mut self, len: u32) -> Option<u32> {
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
