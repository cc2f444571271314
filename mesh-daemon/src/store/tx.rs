//! A transaction while its writer makes it.

use std::sync::Arc;

use super::change::{Bits, Change};
use super::error::{Error, Rejection};
use super::object::{AnyObject, Kind, Object};
use super::tables::Tables;
use super::{MAX_BYTES, MAX_CHANGES, View};
use crate::model::meta::Version;

/// A transaction: reads see its own writes, nobody else does.
#[derive(Clone)]
pub struct Tx {
    base: View,
    tables: Tables,
    changes: Vec<Change>,
    bytes: usize,
}

impl std::ops::Deref for Tx {
    type Target = Tables;

    fn deref(&self) -> &Tables {
        &self.tables
    }
}

impl Tx {
    pub(super) fn new(base: View) -> Self {
        let tables = Tables::clone(&base);
        Self { base, tables, changes: Vec::new(), bytes: 0 }
    }

    /// Adds an object.
    ///
    /// # Errors
    ///
    /// If its id or name is taken; at a bound of transactions.
    pub fn create<T: Object>(&mut self, object: T) -> Result<(), Error> {
        let id = object.id();
        if T::table(&self.tables).get(id).is_some() {
            return Err(Rejection::Exists { kind: T::KIND, id: id.to_string() }.into());
        }
        self.put(object)
    }

    /// Puts an object in the place of the one of its id. That must be the one whose copy was changed: a
    /// version that is no longer there is refused.
    ///
    /// # Errors
    ///
    /// If there is none, if it has changed since, if its name is taken; at a bound of transactions.
    pub fn update<T: Object>(&mut self, object: T) -> Result<(), Error> {
        let there = self.find::<T>(object.id())?;
        if there.meta().version != object.meta().version {
            return Err(Error::OutOfSequence);
        }
        self.put(object)
    }

    /// Changes the object of this id.
    ///
    /// # Errors
    ///
    /// As [`Tx::update`].
    pub fn modify<T: Object>(&mut self, id: T::Id, change: impl FnOnce(&mut T)) -> Result<(), Error> {
        let mut object = T::clone(&*self.find::<T>(id)?);
        change(&mut object);
        self.put(object)
    }

    /// Takes the object of this id out.
    ///
    /// # Errors
    ///
    /// If there is none; at a bound of transactions.
    pub fn remove<T: Object>(&mut self, id: T::Id) -> Result<(), Error> {
        self.find::<T>(id)?;
        T::table_mut(&mut self.tables).take(id);
        let id = T::id_bits(id);
        match self.seen(T::KIND, id) {
            Some(seen) => self.record(Change::Remove { kind: T::KIND, id: Bits(id), seen }),
            None => {
                self.changes.retain(|change| change.target() != (T::KIND, id));
                Ok(())
            }
        }
    }

    /// Has the transaction refused if the object of this id changes before it happens: for decisions
    /// that rest on an object which is only read.
    ///
    /// # Errors
    ///
    /// If there is none; at a bound of transactions.
    pub fn require<T: Object>(&mut self, id: T::Id) -> Result<(), Error> {
        self.find::<T>(id)?;
        let id = T::id_bits(id);
        if self.changes.iter().any(|change| change.target() == (T::KIND, id)) {
            return Ok(()); // written here, so its version is checked anyway
        }
        match self.seen(T::KIND, id) {
            Some(seen) => self.record(Change::Require { kind: T::KIND, id: Bits(id), seen }),
            None => Ok(()),
        }
    }

    /// Refuses unless the object of this id has this version: what a user of the API saw.
    ///
    /// # Errors
    ///
    /// If there is none, or its version is another.
    pub fn expect_version<T: Object>(&self, id: T::Id, version: Version) -> Result<(), Error> {
        if self.find::<T>(id)?.meta().version == version { Ok(()) } else { Err(Error::OutOfSequence) }
    }

    /// The object of this id.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn find<T: Object>(&self, id: T::Id) -> Result<Arc<T>, Error> {
        let found = T::table(&self.tables).get(id).cloned();
        found.ok_or_else(|| Error::NotFound { kind: T::KIND, id: id.to_string() })
    }

    pub(super) fn into_changes(self) -> Vec<Change> {
        self.changes
    }

    fn put<T: Object>(&mut self, object: T) -> Result<(), Error> {
        let id = T::id_bits(object.id());
        let object = Arc::new(object);
        T::table_mut(&mut self.tables).put(Arc::clone(&object))?;
        let seen = self.seen(T::KIND, id);
        self.record(Change::Put { object: T::wrap(object), seen })
    }

    /// The version of an object before this transaction.
    fn seen(&self, kind: Kind, id: u128) -> Option<Version> {
        self.base.get(kind, id).as_ref().map(AnyObject::meta).map(|meta| meta.version)
    }

    /// Adds a change, in the place of an earlier one of the same object.
    fn record(&mut self, change: Change) -> Result<(), Error> {
        let bytes = self.bytes + size(&change)?;
        if bytes > MAX_BYTES {
            return Err(Error::TooManyBytes { bytes });
        }
        match self.changes.iter().position(|earlier| earlier.target() == change.target()) {
            Some(at) => self.changes[at] = change,
            None if self.changes.len() == MAX_CHANGES => return Err(Error::TooManyChanges),
            None => self.changes.push(change),
        }
        self.bytes = bytes;
        Ok(())
    }
}

/// How many bytes a change has as JSON.
fn size(change: &Change) -> Result<usize, Error> {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    let kind = change.target().0;
    serde_json::to_writer(&mut count, change).map_err(|source| Error::Encode { kind, source })?;
    Ok(count.0)
}
