//! Typed handles to the kernel's maps: the only place that opens one.

use std::collections::BTreeMap;
use std::path::PathBuf;

use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray};
use aya::{Ebpf, Pod};
use mesh_common::abi::{Field, Record, Value};
use mesh_common::addr::Addr;
use mesh_common::counter::Counter;
use mesh_common::drop::DropReason;
use mesh_common::endpoint::{Endpoint, EndpointKey, Link, Neighbour, NeighbourKey};
use mesh_common::flow::{Flow, FlowSet};
use mesh_common::node::{Network, Node, NodeConfig, VtepKey};
use mesh_common::service::{Backend, Service, ServiceKey, Slot};

use super::Pins;
use super::tables::{Change, Edit, Tables, for_each_table};

/// The maps of what is counted.
pub const COUNTERS: &str = "COUNTERS";
/// The map of tracked connections.
pub const FLOWS: &str = "FLOWS";
/// The map of what is dropped.
pub const DROPS: &str = "DROPS";

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

/// What all tables can do, whatever their kind.
trait Table<K, V> {
    fn put(&mut self, key: K, value: V) -> Result<(), MapError>;
    fn remove(&mut self, key: K) -> Result<(), MapError>;
    fn read(&self) -> Result<BTreeMap<K, V>, MapError>;
    fn dump(&self, visit: Visit<'_>) -> Result<(), MapError>;
}

/// Called with key and value of each element.
type Visit<'a> = &'a mut dyn FnMut(&dyn Record, &dyn Record);

fn show<K: Field, V: Field>(table: &BTreeMap<K, V>, visit: Visit<'_>) {
    for (key, value) in table {
        visit(&Cell("index", key), &Cell("value", value));
    }
}

impl<K: Pod + Ord + Field, V: Pod + Field> Table<K, V> for HashMap<MapData, K, V> {
    fn put(&mut self, key: K, value: V) -> Result<(), MapError> {
        self.insert(key, value, 0)
    }

    fn remove(&mut self, key: K) -> Result<(), MapError> {
        match HashMap::remove(self, &key) {
            Err(MapError::KeyNotFound) => Ok(()),
            other => other,
        }
    }

    fn read(&self) -> Result<BTreeMap<K, V>, MapError> {
        self.iter().collect()
    }

    fn dump(&self, visit: Visit<'_>) -> Result<(), MapError> {
        show(&self.read()?, visit);
        Ok(())
    }
}

impl<V: Pod + Default + PartialEq + Field> Table<u32, V> for Array<MapData, V> {
    fn put(&mut self, key: u32, value: V) -> Result<(), MapError> {
        self.set(key, value, 0)
    }

    fn remove(&mut self, key: u32) -> Result<(), MapError> {
        self.set(key, V::default(), 0)
    }

    fn read(&self) -> Result<BTreeMap<u32, V>, MapError> {
        let mut table = BTreeMap::new();
        for index in 0..self.len() {
            let value = self.get(&index, 0)?;
            if value != V::default() {
                table.insert(index, value);
            }
        }
        Ok(table)
    }

    fn dump(&self, visit: Visit<'_>) -> Result<(), MapError> {
        show(&self.read()?, visit);
        Ok(())
    }
}

/// An array used in runs of elements.
struct Regions {
    array: Array<MapData, Slot>,
}

impl TryFrom<Map> for Regions {
    type Error = MapError;

    fn try_from(map: Map) -> Result<Self, MapError> {
        Ok(Self { array: map.try_into()? })
    }
}

impl Regions {
    /// The run that a service names.
    fn run(&self, service: &Service) -> Result<Vec<Slot>, MapError> {
        (service.slots_at..service.slots_at + service.slots).map(|index| self.array.get(&index, 0)).collect()
    }
}

impl Table<u32, Vec<Slot>> for Regions {
    /// Slot by slot: each is one word for a reader, and a table that is half new is as good as one
    /// that is new, since every slot stands for flows of its own.
    fn put(&mut self, key: u32, value: Vec<Slot>) -> Result<(), MapError> {
        (key..).zip(value).try_for_each(|(index, slot)| self.array.set(index, slot, 0))
    }

    /// No service names the run any more: what is in it does not matter.
    fn remove(&mut self, _: u32) -> Result<(), MapError> {
        Ok(())
    }

    /// What a run is only `SERVICES` knows: see `Maps::tables`.
    fn read(&self) -> Result<BTreeMap<u32, Vec<Slot>>, MapError> {
        Ok(BTreeMap::new())
    }

    /// Every slot that was ever written: of free runs too.
    fn dump(&self, visit: Visit<'_>) -> Result<(), MapError> {
        show(&self.array.read()?, visit);
        Ok(())
    }
}

/// The element type of a table of this kind.
macro_rules! handle {
    (Array<$key:ty, $value:ty>) => { Array<MapData, $value> };
    (Regions<$key:ty, $value:ty>) => { Regions };
    (Hash<$key:ty, $value:ty>) => { HashMap<MapData, $key, $value> };
}

macro_rules! define {
    ($( ($variant:ident, $field:ident, $kind:ident<$key:ty, $value:ty>, $name:literal, $capacity:expr) ),* $(,)?) => {
        /// Every map, open.
        pub struct Maps {
            $( $field: handle!($kind<$key, $value>), )*
            flows: Array<MapData, FlowSet>,
            counters: PerCpuArray<MapData, u64>,
            drops: PerCpuArray<MapData, u64>,
        }

        /// The names of all maps.
        pub const NAMES: &[&str] = &[ $( $name, )* FLOWS, COUNTERS, DROPS ];

        impl Maps {
            fn build(mut take: impl FnMut(&'static str) -> Result<Map, MapsError>) -> Result<Self, MapsError> {
                Ok(Self {
                    $( $field: typed(take($name)?, $name)?, )*
                    flows: typed(take(FLOWS)?, FLOWS)?,
                    counters: typed(take(COUNTERS)?, COUNTERS)?,
                    drops: typed(take(DROPS)?, DROPS)?,
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
                    let run = self.slots.run(service).map_err(|source| MapsError::Read { name: "SLOTS", source })?;
                    tables.slots.insert(service.slots_at, run);
                }
                Ok(tables)
            }

            /// Makes one change.
            ///
            /// # Errors
            /// The kernel refused it; the map is as it was.
            pub fn apply(&mut self, change: Change) -> Result<(), MapsError> {
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
        Self::build(|name| {
            let path = pins.map(name);
            let open = |source| MapsError::Open { path: path.clone(), source };
            Map::from_map_data(MapData::from_pin(&path).map_err(open)?).map_err(open)
        })
    }

    fn dump_flows(&self, visit: Visit<'_>) -> Result<(), MapsError> {
        for (place, flow) in self.flows()? {
            visit(&Cell("index", &place), &flow);
        }
        Ok(())
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

/// A key or value as a record: a struct shows its own fields, a number gets a name.
struct Cell<'a, T>(&'static str, &'a T);

impl<T: Field> Record for Cell<'_, T> {
    fn visit<'a>(&'a self, visit: &mut dyn FnMut(&'static str, Value<'a>)) {
        match self.1.value() {
            Value::Record(record) => record.visit(visit),
            other => visit(self.0, other),
        }
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
