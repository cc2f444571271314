//! What can be done with a map, by its kind.

use std::collections::BTreeMap;

use aya::Pod;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, Map, MapData, MapError};
use mesh_common::abi::{Field, Record, Value};
use mesh_common::addr::Addr;
use mesh_common::route::Prefix;
use mesh_common::service::{Run, Slot};

/// What all tables can do, whatever their kind.
pub(super) trait Table<K, V> {
    fn put(&mut self, key: K, value: V) -> Result<(), MapError>;
    fn remove(&mut self, key: K) -> Result<(), MapError>;
    fn read(&self) -> Result<BTreeMap<K, V>, MapError>;
    fn dump(&self, visit: Visit<'_>) -> Result<(), MapError>;
}

/// Called with key and value of each element.
pub(super) type Visit<'a> = &'a mut dyn FnMut(&dyn Record, &dyn Record);

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

impl<V: Pod + Field> Table<Prefix, V> for LpmTrie<MapData, Addr, V> {
    fn put(&mut self, key: Prefix, value: V) -> Result<(), MapError> {
        self.insert(&Key::new(key.bits, key.addr), value, 0)
    }

    fn remove(&mut self, key: Prefix) -> Result<(), MapError> {
        match LpmTrie::remove(self, &Key::new(key.bits, key.addr)) {
            Err(MapError::SyscallError(error)) if error.io_error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn read(&self) -> Result<BTreeMap<Prefix, V>, MapError> {
        let row = |row: Result<(Key<Addr>, V), MapError>| {
            row.map(|(key, value)| (Prefix { bits: key.prefix_len(), addr: key.data() }, value))
        };
        self.iter().map(row).collect()
    }

    fn dump(&self, visit: Visit<'_>) -> Result<(), MapError> {
        show(&self.read()?, visit);
        Ok(())
    }
}

/// An array used in runs of elements.
pub(super) struct Regions {
    array: Array<MapData, Slot>,
}

impl TryFrom<Map> for Regions {
    type Error = MapError;

    fn try_from(map: Map) -> Result<Self, MapError> {
        Ok(Self { array: map.try_into()? })
    }
}

impl Regions {
    /// The slots of a run.
    pub(super) fn run(&self, run: Run) -> Result<Vec<Slot>, MapError> {
        (run.at..run.at + run.len).map(|index| self.array.get(&index, 0)).collect()
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

/// A key or value as a record: a struct shows its own fields, a number gets a name.
pub(super) struct Cell<'a, T>(pub(super) &'static str, pub(super) &'a T);

impl<T: Field> Record for Cell<'_, T> {
    fn visit<'a>(&'a self, visit: &mut dyn FnMut(&'static str, Value<'a>)) {
        match self.1.value() {
            Value::Record(record) => record.visit(visit),
            other => visit(self.0, other),
        }
    }
}
