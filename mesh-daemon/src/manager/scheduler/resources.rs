//! Arithmetic on what nodes have and tasks reserve.

use std::collections::BTreeMap;

use crate::model::resources::{GenericResource, Resources};

/// What a node still has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Available {
    nano_cpus: i64,
    memory_bytes: i64,
    discrete: BTreeMap<String, i64>,
    named: BTreeMap<String, Vec<String>>,
}

impl Available {
    /// All that a node says it has.
    pub(super) fn new(all: &Resources) -> Self {
        let mut available = Self { nano_cpus: all.nano_cpus, memory_bytes: all.memory_bytes, ..Self::default() };
        for generic in &all.generic {
            available.put(generic);
        }
        available
    }

    /// Whether so much is there.
    pub(super) fn has(&self, wanted: &Resources) -> bool {
        wanted.nano_cpus <= self.nano_cpus.max(0)
            && wanted.memory_bytes <= self.memory_bytes.max(0)
            && wanted.generic.iter().all(|generic| self.has_generic(generic))
    }

    fn has_generic(&self, wanted: &GenericResource) -> bool {
        match wanted {
            GenericResource::Discrete { kind, value } => {
                let counted = self.discrete.get(kind).copied().unwrap_or(0);
                let named = self.named.get(kind).map_or(0, Vec::len);
                *value <= counted.max(i64::try_from(named).unwrap_or(i64::MAX))
            }
            GenericResource::Named { kind, value } => self.named.get(kind).is_some_and(|names| names.contains(value)),
        }
    }

    /// Takes what is reserved, and says which generic resources that were: of named ones, which.
    pub(super) fn take(&mut self, wanted: &Resources) -> Vec<GenericResource> {
        self.nano_cpus -= wanted.nano_cpus;
        self.memory_bytes -= wanted.memory_bytes;
        let mut got = Vec::new();
        for generic in &wanted.generic {
            match generic {
                GenericResource::Discrete { kind, value } => match self.named.get_mut(kind) {
                    Some(names) => {
                        let count = usize::try_from(*value).unwrap_or(0).min(names.len());
                        let named = names.drain(..count);
                        got.extend(named.map(|value| GenericResource::Named { kind: kind.clone(), value }));
                    }
                    None => {
                        *self.discrete.entry(kind.clone()).or_default() -= value;
                        got.push(generic.clone());
                    }
                },
                GenericResource::Named { .. } => {
                    self.take_given(generic);
                    got.push(generic.clone());
                }
            }
        }
        got
    }

    /// Takes what a task that is there has: reserved amounts, and the generic resources it was given.
    pub(super) fn occupy(&mut self, reserved: &Resources, given: &[GenericResource]) {
        self.nano_cpus -= reserved.nano_cpus;
        self.memory_bytes -= reserved.memory_bytes;
        for generic in given {
            self.take_given(generic);
        }
    }

    fn take_given(&mut self, given: &GenericResource) {
        match given {
            GenericResource::Discrete { kind, value } => *self.discrete.entry(kind.clone()).or_default() -= value,
            GenericResource::Named { kind, value } => {
                if let Some(names) = self.named.get_mut(kind) {
                    names.retain(|name| name != value);
                }
            }
        }
    }

    fn put(&mut self, generic: &GenericResource) {
        match generic {
            GenericResource::Discrete { kind, value } => *self.discrete.entry(kind.clone()).or_default() += value,
            GenericResource::Named { kind, value } => self.named.entry(kind.clone()).or_default().push(value.clone()),
        }
    }
}
