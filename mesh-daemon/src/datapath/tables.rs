//! The content of the maps that configure the programs, and the difference between two of them.
//!
//! The list below is the one place that names a map on this side: its field, its kernel name, key,
//! value and capacity. Everything else (reading, comparing, applying, dumping, the contract test)
//! walks it.

use std::collections::BTreeMap;

use mesh_common::addr::Addr;
use mesh_common::endpoint::{Endpoint, EndpointKey, Link, Neighbour, NeighbourKey};
use mesh_common::node::{Network, Node, NodeConfig, VtepKey};
use mesh_common::route::{Prefix, Route};
use mesh_common::service::{Backend, Service, ServiceKey, Slot};
use mesh_common::tally::Label;

/// What the kernel checks when it meets a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Bytes of a key.
    pub key: u32,
    /// Bytes of a value.
    pub value: u32,
    /// Most elements.
    pub capacity: u32,
}

/// What of a table's value lies in one element of the map.
macro_rules! element {
    (Regions<$key:ty, $value:ty>) => {
        Slot
    };
    ($kind:ident<$key:ty, $value:ty>) => {
        $value
    };
}

/// One step from a table to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit<K, V> {
    /// Write the element, new or not.
    Put(K, V),
    /// Remove it.
    Remove(K),
}

/// Calls `$then!` with the list of configuration maps: variant, field, kind, key, value, kernel
/// name, capacity.
///
/// `Regions` is an array of which runs of elements, one a service, are written as one; `Trie` finds the longest
/// prefix.
///
/// The order is the order of writing: what others refer to comes first. Removal goes backwards.
macro_rules! for_each_table {
    ($then:ident) => {
        $then! {
            (Nodes, nodes, Array<u32, Node>, "NODES", mesh_common::limits::NODES),
            (Vteps, vteps, Hash<VtepKey, u32>, "VTEPS", mesh_common::limits::NODES),
            (Labels, labels, Array<u32, Label>, "LABELS", mesh_common::limits::TALLIES),
            (Backends, backends, Array<u32, Backend>, "BACKENDS", mesh_common::limits::BACKENDS),
            (Slots, slots, Regions<u32, Vec<Slot>>, "SLOTS", mesh_common::limits::SLOTS),
            (Services, services, Hash<ServiceKey, Service>, "SERVICES", mesh_common::limits::SERVICES),
            (Networks, networks, Hash<u32, Network>, "NETWORKS", mesh_common::limits::NETWORKS),
            (Endpoints, endpoints, Hash<EndpointKey, Endpoint>, "ENDPOINTS", mesh_common::limits::ENDPOINTS),
            (Neighbours, neighbours, Hash<NeighbourKey, Neighbour>, "NEIGHBOURS", mesh_common::limits::NEIGHBOURS),
            (Links, links, Hash<u32, Link>, "LINKS", mesh_common::limits::LINKS),
            (Locals, locals, Hash<Addr, u32>, "LOCALS", mesh_common::limits::LOCALS),
            (Routes, routes, Trie<Prefix, Route>, "ROUTES", mesh_common::limits::ROUTES),
            (Config, config, Array<u32, NodeConfig>, "NODE", 1),
        }
    };
}
pub(super) use for_each_table;

macro_rules! define {
    ($( ($variant:ident, $field:ident, $kind:ident<$key:ty, $value:ty>, $name:literal, $capacity:expr) ),* $(,)?) => {
        /// The content of every configuration map. Array elements that are all zero are absent.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Tables {
            $(
                #[doc = concat!("Content of `", $name, "`.")]
                pub $field: BTreeMap<$key, $value>,
            )*
        }

        /// One write to one map.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Change {
            $(
                #[doc = concat!("To `", $name, "`.")]
                $variant(Edit<$key, $value>),
            )*
        }

        /// Name and shape of every configuration map.
        pub const CONTRACT: &[(&str, Shape)] = &[ $( ($name, Shape {
            key: size_of::<$key>() as u32,
            value: size_of::<element!($kind<$key, $value>)>() as u32,
            capacity: $capacity,
        }) ),* ];

        /// The writes that turn `from` into `to`: first everything that is put, in an order in
        /// which nothing refers to what is not there yet; then everything that goes, backwards.
        pub fn plan(from: &Tables, to: &Tables) -> Vec<Change> {
            let mut puts = Vec::new();
            let mut removals = Vec::new();
            $(
                for edit in difference(&from.$field, &to.$field) {
                    match edit {
                        Edit::Put(..) => puts.push(Change::$variant(edit)),
                        Edit::Remove(..) => removals.push(Change::$variant(edit)),
                    }
                }
            )*
            puts.extend(removals.into_iter().rev());
            puts
        }

        impl Tables {
            /// How many elements of each map are in use, and how many there may be.
            pub fn fill(&self) -> Vec<(&'static str, usize, u32)> {
                let slots = self.slots.values().map(Vec::len).sum();
                let fill = [ $( ($name, self.$field.len(), $capacity) ),* ];
                let runs_by_slot = |(name, used, limit)| (name, if name == "SLOTS" { slots } else { used }, limit);
                fill.into_iter().map(runs_by_slot).collect()
            }

            /// The tables after one change.
            pub fn apply(&mut self, change: Change) {
                match change {
                    $( Change::$variant(edit) => step(&mut self.$field, edit), )*
                }
            }
        }
    };
}
for_each_table!(define);

fn difference<K: Ord + Copy, V: PartialEq + Clone>(from: &BTreeMap<K, V>, to: &BTreeMap<K, V>) -> Vec<Edit<K, V>> {
    let puts = to
        .iter()
        .filter(|(key, value)| from.get(key) != Some(value))
        .map(|(key, value)| Edit::Put(*key, value.clone()));
    let removals = from.keys().filter(|key| !to.contains_key(key)).map(|key| Edit::Remove(*key));
    puts.chain(removals).collect()
}

fn step<K: Ord, V>(table: &mut BTreeMap<K, V>, edit: Edit<K, V>) {
    match edit {
        Edit::Put(key, value) => {
            table.insert(key, value);
        }
        Edit::Remove(key) => {
            table.remove(&key);
        }
    }
}
