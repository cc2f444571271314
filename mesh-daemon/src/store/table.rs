//! One table: the objects of a kind, found by id, by name, and by what they belong to and use.

use std::sync::Arc;

use imbl::{OrdMap, OrdSet};

use super::error::Rejection;
use super::object::{Key, Object};
use crate::model::id::DIGITS;

/// The objects of a kind. A copy shares what has not changed since.
#[derive(Clone)]
pub struct Table<T: Object> {
    objects: OrdMap<T::Id, Arc<T>>,
    names: OrdSet<(String, T::Id)>,
    keys: OrdSet<(Key, T::Id)>,
}

impl<T: Object> Default for Table<T> {
    fn default() -> Self {
        Self { objects: OrdMap::new(), names: OrdSet::new(), keys: OrdSet::new() }
    }
}

impl<T: Object> Table<T> {
    /// How many objects there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// The object of this id.
    #[must_use]
    pub fn get(&self, id: T::Id) -> Option<&Arc<T>> {
        self.objects.get(&id)
    }

    /// All objects, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<T>> {
        self.objects.values()
    }

    /// Objects of this name, whatever the case of its letters: at most one, unless they are nodes.
    pub fn by_name(&self, name: &str) -> impl Iterator<Item = &Arc<T>> {
        let name = name.to_lowercase();
        let range = (name.clone(), T::id_from(0))..=(name, T::id_from(u128::MAX));
        self.names.range(range).filter_map(|(_, id)| self.objects.get(id))
    }

    /// The object of this name, whatever the case of its letters; the first if several have it.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Arc<T>> {
        self.by_name(name).next()
    }

    /// Objects whose id begins with these digits.
    pub fn by_id_prefix(&self, prefix: &str) -> impl Iterator<Item = &Arc<T>> {
        ids_with_prefix(prefix)
            .into_iter()
            .flat_map(|(first, last)| self.objects.range(T::id_from(first)..=T::id_from(last)))
            .map(|(_, object)| object)
    }

    /// Objects that belong to or use this one.
    pub fn by_key(&self, key: Key) -> impl Iterator<Item = &Arc<T>> {
        let range = (key, T::id_from(0))..=(key, T::id_from(u128::MAX));
        self.keys.range(range).filter_map(|(_, id)| self.objects.get(id))
    }

    /// Puts an object, in the place of the one of its id; returns that.
    pub(super) fn put(&mut self, object: Arc<T>) -> Result<Option<Arc<T>>, Rejection> {
        let id = object.id();
        let name = object.name().to_lowercase();
        if T::UNIQUE_NAMES && self.by_name(&name).any(|other| other.id() != id) {
            return Err(Rejection::NameTaken { kind: T::KIND, name: object.name().to_owned() });
        }
        let before = self.take(id);
        if !name.is_empty() {
            self.names.insert((name, id));
        }
        self.keys.extend(object.keys().into_iter().map(|key| (key, id)));
        self.objects.insert(id, object);
        Ok(before)
    }

    /// Takes an object out.
    pub(super) fn take(&mut self, id: T::Id) -> Option<Arc<T>> {
        let object = self.objects.remove(&id)?;
        self.names.remove(&(object.name().to_lowercase(), id));
        for key in object.keys() {
            self.keys.remove(&(key, id));
        }
        Some(object)
    }
}

/// The first and the last number whose digits begin so; None if none does.
fn ids_with_prefix(prefix: &str) -> Option<(u128, u128)> {
    if prefix.len() > DIGITS || prefix.starts_with('+') {
        return None;
    }
    let digits = if prefix.is_empty() { 0 } else { u128::from_str_radix(prefix, 36).ok()? };
    if prefix.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    let rest = u32::try_from(DIGITS - prefix.len()).ok()?;
    // 36 to the power of 25 is more than 128 bits hold, and the range of an empty prefix is all.
    let Some(width) = 36u128.checked_pow(rest) else {
        return Some((0, u128::MAX));
    };
    let first = digits.checked_mul(width)?;
    Some((first, first.saturating_add(width - 1)))
}
