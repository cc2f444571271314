//! Typed handles to the kernel's maps: the only place that opens one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use aya::maps::lpm_trie::LpmTrie;
use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, PerCpuValues, PerfEventArray};
use aya::{Ebpf, Pod};
use mesh_common::abi::{Record, Value};
use mesh_common::addr::Addr;
use mesh_common::counter::Counter;
use mesh_common::drop::DropReason;
use mesh_common::endpoint::{Endpoint, EndpointKey, Link, Neighbour, NeighbourKey};
use mesh_common::flow::{CHOICE, Flow, FlowSet, is_over};
use mesh_common::header::proto;
use mesh_common::node::{Network, Node, NodeConfig, VtepKey};
use mesh_common::route::Route;
use mesh_common::service::{Backend, PACE_SLOTS, Pace, Service, ServiceKey};
use mesh_common::tally::{Label, Tally};
use mesh_common::watch::{Watch, watcher};

use super::Pins;
use super::kinds::{Cell, Regions, Table, Visit};
use super::seeing::tallies::Counted;
use super::tables::{Change, Edit, Tables, for_each_table};

/// The maps of what is counted.
pub const COUNTERS: &str = "COUNTERS";
/// The map of tracked connections.
pub const FLOWS: &str = "FLOWS";
/// The map of how busy backends are.
pub const LIVE: &str = "LIVE";
/// The map of how services are doing.
pub const PACE: &str = "PACE";
/// The map of what is dropped.
pub const DROPS: &str = "DROPS";
/// The map of what is counted by service and task.
pub const TALLIES: &str = "TALLIES";
/// The map of what watchers want.
pub const WATCH: &str = "WATCH";
/// The buffers of events for those who follow drops and verdicts.
pub const EVENTS: &str = "EVENTS";
/// The buffers of frames that are captured.
pub const CAPTURED: &str = "CAPTURED";
/// Maps of watchers: nothing in them to print.
const OF_WATCHERS: [&str; 3] = [WATCH, EVENTS, CAPTURED];

/// A map that could not be used.
#[derive(Debug, thiserror::Error)]
pub enum MapsError {
    /// The program file has no such map.
    #[error("the eBPF object has no map {0}")]
    Missing(&'static str),
    /// It is not pinned.
    #[error("open the pinned map {}; is meshd running with this pin directory?", path.display())]
    Open {
        /// The pin.
        path: PathBuf,
        /// Why not.
        #[source]
        source: MapError,
    },
    /// It has another type than the daemon knows.
    #[error("map {name} is not what this version knows")]
    Type {
        /// The map.
        name: &'static str,
        /// Why not.
        #[source]
        source: MapError,
    },
    /// It cannot be read.
    #[error("read map {name}")]
    Read {
        /// The map.
        name: &'static str,
        /// Why not.
        #[source]
        source: MapError,
    },
    /// It cannot be written.
    #[error("write to map {name}{}", full(source, *capacity))]
    Write {
        /// The map.
        name: &'static str,
        /// How many elements it takes.
        capacity: u32,
        /// Why not.
        #[source]
        source: MapError,
    },
    /// There is no such map.
    #[error("there is no map {name:?}; the maps are {}", NAMES.join(", "))]
    Unknown {
        /// What was asked for.
        name: String,
    },
}

fn full(source: &MapError, capacity: u32) -> String {
    let MapError::SyscallError(error) = source else { return String::new() };
    // E2BIG: a hash map that has all its elements.
    if error.io_error.kind() == std::io::ErrorKind::ArgumentListTooLong {
        format!(": it is full with {capacity} elements")
    } else {
        String::new()
    }
}

/// The element type of a table of this kind.
macro_rules! handle {
    (Array<$key:ty, $value:ty>) => { Array<MapData, $value> };
    (Regions<$key:ty, $value:ty>) => { Regions };
    (Hash<$key:ty, $value:ty>) => { HashMap<MapData, $key, $value> };
    (Trie<$key:ty, $value:ty>) => { LpmTrie<MapData, Addr, $value> };
}

macro_rules! define {
    ($( ($variant:ident, $field:ident, $kind:ident<$key:ty, $value:ty>, $name:literal, $capacity:expr) ),* $(,)?) => {
        /// Every map, open.
        pub struct Maps {
            $( $field: handle!($kind<$key, $value>), )*
            flows: Array<MapData, FlowSet>,
            live: Array<MapData, u64>,
            pace: Array<MapData, Pace>,
            counters: PerCpuArray<MapData, u64>,
            drops: PerCpuArray<MapData, u64>,
            tallies: PerCpuArray<MapData, Tally>,
        }

        /// The names of all maps that can be printed.
        pub const NAMES: &[&str] = &[ $( $name, )* FLOWS, LIVE, PACE, COUNTERS, DROPS, TALLIES ];

        /// Name and capacity of the configuration maps.
        pub const CAPACITIES: &[(&str, u32)] = &[ $( ($name, $capacity) ),* ];

        impl Maps {
            fn build(mut take: impl FnMut(&'static str) -> Result<Map, MapsError>) -> Result<Self, MapsError> {
                Ok(Self {
                    $( $field: typed(take($name)?, $name)?, )*
                    flows: typed(take(FLOWS)?, FLOWS)?,
                    live: typed(take(LIVE)?, LIVE)?,
                    pace: typed(take(PACE)?, PACE)?,
                    counters: typed(take(COUNTERS)?, COUNTERS)?,
                    drops: typed(take(DROPS)?, DROPS)?,
                    tallies: typed(take(TALLIES)?, TALLIES)?,
                })
            }

            /// What the configuration maps hold.
            ///
            /// # Errors
            /// One of them cannot be read.
            pub fn tables(&self) -> Result<Tables, MapsError> {
                let mut tables = Tables {
                    $( $field: Table::read(&self.$field).map_err(|source| MapsError::Read { name: $name, source })?, )*
                };
                for service in tables.services.values() {
                    // A service without slots names no run.
                    for run in [service.all(), service.entry()].into_iter().filter(|run| run.len != 0) {
                        let slots = self.slots.run(run).map_err(|source| MapsError::Read { name: "SLOTS", source })?;
                        tables.slots.insert(run.at, slots);
                    }
                }
                Ok(tables)
            }

            /// Makes one change.
            ///
            /// # Errors
            /// The kernel refused it; the map is as it was.
            pub fn apply(&mut self, change: Change) -> Result<(), MapsError> {
                if let Change::Labels(Edit::Put(number, _)) = &change {
                    self.clear_tally(*number)?; // what is there was counted for somebody else
                }
                match change {
                    $(
                        Change::$variant(Edit::Put(key, value)) => Table::put(&mut self.$field, key, value)
                            .map_err(|source| MapsError::Write { name: $name, capacity: $capacity, source }),
                        Change::$variant(Edit::Remove(key)) => Table::remove(&mut self.$field, key)
                            .map_err(|source| MapsError::Write { name: $name, capacity: $capacity, source }),
                    )*
                }
            }

            /// Calls `visit` with key and value of each element of a map.
            ///
            /// # Errors
            /// There is no such map, or it cannot be read.
            pub fn dump(&self, name: &str, visit: Visit<'_>) -> Result<(), MapsError> {
                match name {
                    FLOWS => self.dump_flows(visit)?,
                    TALLIES => for row in self.tallies()? {
                        visit(&Cell("number", &row.number), &row);
                    },
                    LIVE => self.dump_live(visit)?,
                    PACE => Table::dump(&self.pace, visit).map_err(|source| MapsError::Read { name: PACE, source })?,
                    $(
                        $name => Table::dump(&self.$field, visit).map_err(|source| MapsError::Read { name: $name, source })?,
                    )*
                    COUNTERS => for (counter, count) in self.counters()? {
                        visit(&Named(counter.name()), &Count { count, meaning: counter.describe() });
                    },
                    DROPS => for (reason, count) in self.drops()? {
                        visit(&Named(reason.name()), &Count { count, meaning: reason.describe() });
                    },
                    _ => return Err(MapsError::Unknown { name: name.to_owned() }),
                }
                Ok(())
            }
        }
    };
}
for_each_table!(define);

impl Maps {
    /// Takes the maps out of freshly loaded programs.
    ///
    /// # Errors
    /// One is missing or of another type.
    pub fn take(ebpf: &mut Ebpf) -> Result<Self, MapsError> {
        Self::build(|name| ebpf.take_map(name).ok_or(MapsError::Missing(name)))
    }

    /// Opens the maps that a daemon pinned.
    ///
    /// # Errors
    /// One is not there or of another type.
    pub fn open(pins: &Pins) -> Result<Self, MapsError> {
        Self::build(|name| open(pins, name))
    }

    fn dump_flows(&self, visit: Visit<'_>) -> Result<(), MapsError> {
        for (place, flow) in self.flows()? {
            visit(&Cell("index", &place), &flow);
        }
        Ok(())
    }

    /// Remembers what `from` remembers: flows, and what services and backends of these tables are at.
    ///
    /// # Errors
    /// A map cannot be read or written.
    pub fn copy_state(&mut self, from: &Self, tables: &Tables) -> Result<(), MapsError> {
        let paces: BTreeSet<_> = tables.slots.keys().map(|at| at / PACE_SLOTS).collect();
        copy(&from.pace, &mut self.pace, PACE, paces)?;
        copy(&from.live, &mut self.live, LIVE, tables.backends.keys().copied())?;
        copy(&from.flows, &mut self.flows, FLOWS, 0..from.flows.len())
    }

    /// How busy each backend is: what this node remembers as the node of its task, and what it sends there
    /// as the node that was dialled.
    fn dump_live(&self, visit: Visit<'_>) -> Result<(), MapsError> {
        let mut busy = BTreeMap::<u32, Busy>::new();
        for (backend, sent) in Table::read(&self.live).map_err(|source| MapsError::Read { name: LIVE, source })? {
            busy.entry(backend).or_default().sent = sent;
        }
        for (_, flow) in self.flows()?.iter().filter(|(_, flow)| flow.ifindex & CHOICE == 0) {
            let of_backend = busy.entry(flow.backend).or_default();
            of_backend.flows += 1;
            of_backend.connections += u64::from(is_live(flow));
        }
        for (backend, busy) in &busy {
            visit(&Cell("backend", backend), busy);
        }
        Ok(())
    }

    /// This node, as the daemon described it; zeros before it did.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn config(&self) -> Result<NodeConfig, MapsError> {
        self.config.get(&0, 0).map_err(|source| MapsError::Read { name: "NODE", source })
    }

    /// Sets how many connections this node sends to a backend.
    ///
    /// # Errors
    /// The map cannot be written.
    pub fn set_live(&mut self, backend: u32, sent: u64) -> Result<(), MapsError> {
        let capacity = self.live.len();
        self.live.set(backend, sent, 0).map_err(|source| MapsError::Write { name: LIVE, capacity, source })
    }

    /// The number of sets of flows.
    pub fn flow_sets(&self) -> u32 {
        self.flows.len()
    }

    /// The flows tracked, with the number of their place.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn flows(&self) -> Result<Vec<(u32, Flow)>, MapsError> {
        let mut flows = Vec::new();
        for index in 0..self.flows.len() {
            let set = self.flows.get(&index, 0).map_err(|source| MapsError::Read { name: FLOWS, source })?;
            let places = (index * set.flows.len() as u32..).zip(set.flows);
            flows.extend(places.filter(|(_, flow)| flow.proto != 0));
        }
        Ok(flows)
    }

    fn clear_tally(&mut self, number: u32) -> Result<(), MapsError> {
        let write = |source| MapsError::Write { name: TALLIES, capacity: self.tallies.len(), source };
        let cpus = aya::util::nr_cpus().map_err(|(_, error)| write(error.into()))?;
        let values = PerCpuValues::try_from(vec![Tally::ZERO; cpus]).map_err(|error| write(error.into()))?;
        let capacity = self.tallies.len();
        self.tallies.set(number, values, 0).map_err(|source| MapsError::Write { name: TALLIES, capacity, source })
    }

    /// What was counted for each service and each task of this node, over all CPUs; number 0 is of
    /// those that found none of their own.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn tallies(&self) -> Result<Vec<Counted>, MapsError> {
        let labels = Table::read(&self.labels).map_err(|source| MapsError::Read { name: "LABELS", source })?;
        let rest = [(0, Label::ZERO)];
        let rows = rest.into_iter().chain(labels).map(|(number, label)| {
            let values = self.tallies.get(&number, 0).map_err(|source| MapsError::Read { name: TALLIES, source })?;
            Ok(Counted::sum(number, label, values.iter()))
        });
        rows.collect()
    }

    /// What was counted since the maps were made, over all CPUs.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn counters(&self) -> Result<Vec<(Counter, u64)>, MapsError> {
        Counter::ALL.iter().map(|counter| Ok((*counter, sum(&self.counters, COUNTERS, *counter as u32)?))).collect()
    }

    /// What was dropped since the maps were made, over all CPUs.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn drops(&self) -> Result<Vec<(DropReason, u64)>, MapsError> {
        DropReason::ALL.iter().map(|reason| Ok((*reason, sum(&self.drops, DROPS, *reason as u32)?))).collect()
    }
}

/// Writes elements of one array into another of the same shape, but for those that nobody wrote.
fn copy<V: Pod + Default + PartialEq>(
    from: &Array<MapData, V>,
    to: &mut Array<MapData, V>,
    name: &'static str,
    indices: impl IntoIterator<Item = u32>,
) -> Result<(), MapsError> {
    for index in indices {
        let value = from.get(&index, 0).map_err(|source| MapsError::Read { name, source })?;
        if value != V::default() {
            let capacity = to.len();
            to.set(index, value, 0).map_err(|source| MapsError::Write { name, capacity, source })?;
        }
    }
    Ok(())
}

/// What a watcher needs: its switch, and its buffers.
pub struct WatchMaps {
    /// The switches of all watchers.
    pub switches: Array<MapData, Watch>,
    /// The buffers of this one.
    pub buffers: PerfEventArray<MapData>,
}

impl WatchMaps {
    /// Opens what a daemon pinned, for one of [`watcher`].
    ///
    /// # Errors
    /// One is not there or of another type.
    pub fn open(pins: &Pins, number: u32) -> Result<Self, MapsError> {
        Self::build(number, |name| open(pins, name))
    }

    /// Takes them out of freshly loaded programs.
    ///
    /// # Errors
    /// One is missing or of another type.
    pub fn take(ebpf: &mut Ebpf, number: u32) -> Result<Self, MapsError> {
        Self::build(number, |name| ebpf.take_map(name).ok_or(MapsError::Missing(name)))
    }

    fn build(number: u32, mut take: impl FnMut(&'static str) -> Result<Map, MapsError>) -> Result<Self, MapsError> {
        let buffers = if number == watcher::TRACE { EVENTS } else { CAPTURED };
        Ok(Self { switches: typed(take(WATCH)?, WATCH)?, buffers: typed(take(buffers)?, buffers)? })
    }
}

/// Every map that is pinned.
pub fn pinned() -> impl Iterator<Item = &'static str> {
    NAMES.iter().copied().chain(OF_WATCHERS)
}

fn open(pins: &Pins, name: &'static str) -> Result<Map, MapsError> {
    let path = pins.map(name);
    let refused = |source| MapsError::Open { path: path.clone(), source };
    Map::from_map_data(MapData::from_pin(&path).map_err(refused)?).map_err(refused)
}

/// The map of this name, whatever its case.
///
/// # Errors
/// There is none; the error lists the names.
pub fn find(name: &str) -> Result<&'static str, MapsError> {
    let found = NAMES.iter().find(|known| known.eq_ignore_ascii_case(name));
    found.copied().ok_or_else(|| MapsError::Unknown { name: name.to_owned() })
}

fn sum(map: &PerCpuArray<MapData, u64>, name: &'static str, index: u32) -> Result<u64, MapsError> {
    let values = map.get(&index, 0).map_err(|source| MapsError::Read { name, source })?;
    Ok(values.iter().sum())
}

fn typed<T: TryFrom<Map, Error = MapError>>(map: Map, name: &'static str) -> Result<T, MapsError> {
    T::try_from(map).map_err(|source| MapsError::Type { name, source })
}

/// Is it a connection that goes on? Of datagrams nobody can tell.
pub fn is_live(flow: &Flow) -> bool {
    flow.proto == proto::TCP && !is_over(flow.state)
}

/// How busy a backend is.
#[derive(Default)]
struct Busy {
    connections: u64,
    flows: u64,
    sent: u64,
}

impl Record for Busy {
    fn visit<'a>(&'a self, visit: &mut dyn FnMut(&'static str, Value<'a>)) {
        visit("connections", Value::Number(self.connections));
        visit("flows", Value::Number(self.flows));
        visit("sent", Value::Number(self.sent));
    }
}

struct Named(&'static str);

impl Record for Named {
    fn visit<'a>(&'a self, visit: &mut dyn FnMut(&'static str, Value<'a>)) {
        visit("name", Value::Text(self.0));
    }
}

struct Count {
    count: u64,
    meaning: &'static str,
}

impl Record for Count {
    fn visit<'a>(&'a self, visit: &mut dyn FnMut(&'static str, Value<'a>)) {
        visit("count", Value::Number(self.count));
        visit("meaning", Value::Text(self.meaning));
    }
}
