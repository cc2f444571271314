//! Ports of this node that lead to one task alone: host mode, as Swarm calls it.

use std::net::IpAddr;

use mesh_common::endpoint::EndpointKey;
use mesh_common::service::{PACE_SLOTS, Service, ServiceKey, Slot};

use super::super::desired::{self, Desired, addr};
use super::super::tables::Tables;
use super::services::{Places, backend, has_family};

/// Ports of this node that lead to one task alone.
pub(super) struct OwnPorts<'a> {
    pub(super) desired: &'a Desired,
    pub(super) endpoint: &'a desired::Endpoint,
    /// Its place in its network.
    pub(super) key: EndpointKey,
    /// Of its service, if it has one.
    pub(super) tally: u16,
}

impl OwnPorts<'_> {
    /// Fills in the backend, its slots and what is dialled; `None` if no run of slots is free.
    pub(super) fn render(&self, before: &Tables, places: &mut Places, tables: &mut Tables) -> Option<()> {
        // A task whose interface is not there yet is no endpoint: nobody is at its ports.
        let Some(value) = tables.endpoints.get(&self.key).copied() else { return Some(()) };
        tables.backends.entry(value.backend).or_insert_with(|| backend(&value, self.endpoint));
        for v4 in [true, false] {
            let keys = self.keys(v4);
            if keys.is_empty() || !has_family(self.endpoint, v4) {
                continue;
            }
            let slots = vec![Slot { current: value.backend, previous: 0 }; PACE_SLOTS as usize];
            let is_own = |old: &&Service| {
                before.slots.get(&old.slots_at) == Some(&slots) && !tables.slots.contains_key(&old.slots_at)
            };
            let kept = keys.iter().filter_map(|(key, _)| before.services.get(key)).find(is_own).map(|old| old.slots_at);
            let at = kept.or_else(|| places.take(PACE_SLOTS))?;
            tables.slots.insert(at, slots);
            let service = Service { slots_at: at, slots: PACE_SLOTS, tally: self.tally, ..Service::ZERO };
            for (key, target) in keys {
                tables.services.insert(key, Service { target_port: target, ..service });
            }
        }
        Some(())
    }

    fn keys(&self, v4: bool) -> Vec<(ServiceKey, [u8; 2])> {
        let addresses = self.desired.node.published_on().iter().filter(|ip| ip.is_ipv4() == v4);
        let of_address = |ip: &IpAddr| {
            let ip = addr(*ip);
            self.endpoint.ports.iter().map(move |port| {
                let key = ServiceKey::published(ip, port.protocol.number(), port.published.to_be_bytes());
                (key, port.target.to_be_bytes())
            })
        };
        addresses.flat_map(of_address).collect()
    }
}
