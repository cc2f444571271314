//! All tables, and how a transaction changes them: the same on every replica.

use std::sync::Arc;

use jiff::Timestamp;

use super::change::{Change, Proposal};
use super::error::Rejection;
use super::object::{AnyObject, Kind, Object, for_each_kind};
use super::table::Table;
use super::watch::Event;
use crate::model::cluster::Cluster;
use crate::model::meta::{Meta, Version};
use crate::model::network::Network;
use crate::model::node::Node;
use crate::model::payload::{Config, Secret};
use crate::model::service::Service;
use crate::model::task::Task;

macro_rules! tables {
    ($($variant:ident, $object:ident, $id:ident, $word:literal, $table:ident;)*) => {
        /// Every object of the cluster. A copy shares what has not changed since.
        #[derive(Clone, Default)]
        pub struct Tables {
            version: Version,
            $(pub(super) $table: Table<$object>,)*
        }

        impl Tables {
            $(
                #[doc = concat!("The table of each ", $word, ".")]
                #[must_use]
                pub fn $table(&self) -> &Table<$object> {
                    &self.$table
                }
            )*

            /// An object of any kind.
            pub(super) fn get(&self, kind: Kind, id: u128) -> Option<AnyObject> {
                match kind { $(
                    Kind::$variant => self.$table.get($object::id_from(id)).cloned().map(AnyObject::$variant),
                )* }
            }

            /// Takes an object of any kind out.
            fn take(&mut self, kind: Kind, id: u128) -> Option<AnyObject> {
                match kind { $(
                    Kind::$variant => self.$table.take($object::id_from(id)).map(AnyObject::$variant),
                )* }
            }

            /// Puts an object of any kind.
            pub(super) fn put(&mut self, object: AnyObject) -> Result<(), Rejection> {
                match object { $(
                    AnyObject::$variant(object) => self.$table.put(object).map(drop),
                )* }
            }

            /// Every object, those first that others name.
            pub(super) fn all(&self) -> impl Iterator<Item = AnyObject> {
                std::iter::empty()$(.chain(self.$table.iter().cloned().map(AnyObject::$variant)))*
            }

            /// How an id of this kind is written.
            pub(super) fn id_text(kind: Kind, id: u128) -> String {
                match kind { $(Kind::$variant => $object::id_from(id).to_string(),)* }
            }
        }
    };
}
for_each_kind!(tables);

impl Tables {
    /// The version of the last transaction that is in.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// The cluster: there is one, from the moment it was made.
    #[must_use]
    pub fn cluster(&self) -> Option<&Arc<Cluster>> {
        self.clusters.iter().next()
    }

    pub(super) fn at_version(version: Version) -> Self {
        Self { version, ..Self::default() }
    }

    /// Carries a transaction out, or nothing of it. Depends on nothing but the tables and the
    /// transaction.
    pub(super) fn apply(&mut self, proposal: &Proposal) -> Result<Vec<Event>, Rejection> {
        for change in &proposal.changes {
            self.check(change)?;
        }
        let mut next = self.clone();
        next.version = Version(self.version.0 + 1);
        // What changes goes out first: the order of changes does not matter to names.
        let before: Vec<_> = proposal.changes.iter().map(|change| next.take_out(change)).collect();
        let mut events = Vec::with_capacity(proposal.changes.len());
        for (change, before) in proposal.changes.iter().zip(before) {
            events.extend(next.carry_out(change, before, proposal)?);
        }
        *self = next;
        Ok(events)
    }

    fn check(&self, change: &Change) -> Result<(), Rejection> {
        let (kind, id) = change.target();
        let there = self.get(kind, id);
        let version = there.as_ref().map(|object| object.meta().version);
        if version != change.seen() {
            let id = Self::id_text(kind, id);
            let is_new = matches!(change, Change::Put { seen: None, .. });
            return Err(if is_new { Rejection::Exists { kind, id } } else { Rejection::OutOfSequence { kind, id } });
        }
        match (there, change) {
            (Some(AnyObject::Task(from)), Change::Put { object: AnyObject::Task(to), .. }) => only_grows(&from, to),
            _ => Ok(()),
        }
    }

    fn take_out(&mut self, change: &Change) -> Option<AnyObject> {
        let (kind, id) = change.target();
        match change {
            Change::Put { .. } | Change::Remove { .. } => self.take(kind, id),
            Change::Require { .. } => None,
        }
    }

    fn carry_out(
        &mut self,
        change: &Change,
        before: Option<AnyObject>,
        proposal: &Proposal,
    ) -> Result<Option<Event>, Rejection> {
        match change {
            Change::Put { object, .. } => {
                let object = stamp(object, before.as_ref(), self.version, proposal.at);
                self.put(object.clone())?;
                Ok(Some(match before {
                    Some(before) => Event::Changed { before, after: object },
                    None => Event::Created(object),
                }))
            }
            Change::Remove { .. } => Ok(before.map(Event::Removed)),
            Change::Require { .. } => Ok(None),
        }
    }
}

/// The states of a task only grow, observed and wanted.
fn only_grows(before: &Task, after: &Task) -> Result<(), Rejection> {
    let observed = (before.status.state, after.status.state);
    let wanted = (before.desired_state, after.desired_state);
    match [observed, wanted].into_iter().find(|(from, to)| to < from) {
        Some((from, to)) => Err(Rejection::TaskWentBack { id: after.id.to_string(), from, to }),
        None => Ok(()),
    }
}

/// The object as it goes in: with its version and times, and a service with the version of its spec.
fn stamp(object: &AnyObject, before: Option<&AnyObject>, version: Version, at: Timestamp) -> AnyObject {
    let created_at = before.map_or(at, |before| before.meta().created_at);
    let mut object = object.with_meta(Meta { version, created_at, updated_at: at });
    if let AnyObject::Service(service) = &mut object {
        let same = matches!(before, Some(AnyObject::Service(before)) if before.spec == service.spec);
        if !same {
            Arc::make_mut(service).spec_version = version;
        }
    }
    object
}
