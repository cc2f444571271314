//! Objects as JSON, kept from one answer to the next. An object of the store never changes: another takes its place.
//! So its text holds for as long as the store has that very object, and with it what else the text was made of.
//!
//! Clients ask for the same lists again and again, `docker service create` five times a second until it has
//! converged. What is made anew for them is what has changed.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Bytes;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::error::Error;
use super::{convert, wire};
use crate::model::id::{NodeId, ServiceId, TaskId};
use crate::model::network::Network;
use crate::model::node::Node;
use crate::model::service::Service;
use crate::model::task::Task;
use crate::store::Tables;

/// Bytes of text that each kind of object may have here; at the bound all of it goes, and is made again when asked for.
/// Some ten thousand tasks.
const MAX_BYTES: usize = 32 << 20;

/// The texts of a kind of object: by its id, beside what they were made of.
struct Texts<Id, Of> {
    kept: Mutex<Kept<Id, Of>>,
    max_bytes: usize,
}

struct Kept<Id, Of> {
    texts: HashMap<Id, (Of, Bytes)>,
    bytes: usize,
}

impl<Id: Hash + Eq, Of> Texts<Id, Of> {
    fn up_to(max_bytes: usize) -> Self {
        Self { kept: Mutex::new(Kept { texts: HashMap::new(), bytes: 0 }), max_bytes }
    }

    /// The text of an object: the one that is here, if it `is` of what there is now, else what `show` makes.
    fn text<T: Serialize>(
        &self,
        id: Id,
        is: impl FnOnce(&Of) -> bool,
        show: impl FnOnce() -> (Of, T),
    ) -> Result<Bytes, Error> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, text)) = kept.texts.get(&id).filter(|(of, _)| is(of)) {
            return Ok(text.clone());
        }
        drop(kept);
        let (of, shown) = show();
        let text = Bytes::from(json(&shown)?);
        kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.bytes += text.len();
        if let Some((_, before)) = kept.texts.insert(id, (of, text.clone())) {
            kept.bytes -= before.len();
        }
        // What is no longer in the store goes then, too.
        if kept.bytes > self.max_bytes {
            kept.texts.clear();
            kept.bytes = 0;
        }
        Ok(text)
    }
}

fn json(shown: &impl Serialize) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(shown).map_err(|error| Error::internal(format!("write JSON: {error}")))
}

/// What a task's text is of: itself and its networks.
struct OfTask {
    task: Arc<Task>,
    networks: Vec<Arc<Network>>,
}

impl OfTask {
    fn is(&self, tables: &Tables, task: &Arc<Task>) -> bool {
        Arc::ptr_eq(&self.task, task)
            && self.networks.iter().map(Arc::as_ptr).eq(networks(tables, task).map(Arc::as_ptr))
    }
}

/// The networks of a task that are there.
fn networks<'a>(tables: &'a Tables, task: &'a Task) -> impl Iterator<Item = &'a Arc<Network>> {
    task.networks.iter().filter_map(|attachment| tables.networks().get(attachment.network_id))
}

/// What a service's text is of: itself and how many tasks it has, where that was asked for.
type OfService = (Arc<Service>, Option<wire::ServiceStatus>);

/// The objects that lists are long of, as JSON.
pub(super) struct Shown {
    tasks: Texts<TaskId, OfTask>,
    /// Those with and those without a count of their tasks.
    services: Texts<(ServiceId, bool), OfService>,
    nodes: Texts<NodeId, Arc<Node>>,
}

impl Default for Shown {
    fn default() -> Self {
        Self { tasks: Texts::up_to(MAX_BYTES), services: Texts::up_to(MAX_BYTES), nodes: Texts::up_to(MAX_BYTES) }
    }
}

impl Shown {
    pub(super) fn task(&self, tables: &Tables, task: &Arc<Task>) -> Result<Bytes, Error> {
        let show = || {
            let of = OfTask { task: Arc::clone(task), networks: networks(tables, task).map(Arc::clone).collect() };
            (of, convert::task(task, |id| tables.networks().get(id).map(|network| convert::network(network))))
        };
        self.tasks.text(task.id, |of| of.is(tables, task), show)
    }

    pub(super) fn service(&self, service: &Arc<Service>, status: Option<wire::ServiceStatus>) -> Result<Bytes, Error> {
        let is = |(before, counted): &OfService| Arc::ptr_eq(before, service) && *counted == status;
        let show = || {
            let shown = wire::Service { service_status: status.clone(), ..convert::service(service) };
            ((Arc::clone(service), status.clone()), shown)
        };
        self.services.text((service.id, status.is_some()), is, show)
    }

    pub(super) fn node(&self, node: &Arc<Node>) -> Result<Bytes, Error> {
        self.nodes.text(node.id, |before| Arc::ptr_eq(before, node), || (Arc::clone(node), convert::node(node)))
    }
}

/// An answer of JSON that is written already.
pub(super) struct Json(Bytes);

impl Json {
    /// One object.
    pub(super) fn of(text: Bytes) -> Self {
        Self(text)
    }

    /// A list of objects.
    pub(super) fn list(texts: impl Iterator<Item = Result<Bytes, Error>>) -> Result<Self, Error> {
        let texts = texts.collect::<Result<Vec<_>, _>>()?;
        // A comma or a bracket each.
        let mut list = Vec::with_capacity(texts.iter().map(|text| text.len() + 1).sum::<usize>() + 2);
        list.push(b'[');
        for (at, text) in texts.iter().enumerate() {
            if at > 0 {
                list.push(b',');
            }
            list.extend_from_slice(text);
        }
        list.push(b']');
        Ok(Self(list.into()))
    }
}

impl IntoResponse for Json {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, "application/json")], self.0).into_response()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Asks for the text of one object after another, each of this version; what was answered, and which had to be
    /// made.
    #[track_caller]
    fn check(max_bytes: usize, asked: &[(u8, u64)], made: &[(u8, u64)]) {
        let texts = Texts::<u8, u64>::up_to(max_bytes);
        let seen = Cell::new(Vec::new());
        for (id, version) in asked {
            let show = || {
                let mut all = seen.take();
                all.push((*id, *version));
                seen.set(all);
                (*version, (*id, *version))
            };
            let text = texts.text(*id, |of| of == version, show).unwrap();
            assert_eq!(text.as_ref(), format!("[{id},{version}]").as_bytes());
        }
        assert_eq!(seen.take(), made);
    }

    #[test]
    fn a_text_is_made_once_until_its_object_changes() {
        check(100, &[(1, 1), (1, 1), (2, 1), (1, 1)], &[(1, 1), (2, 1)]);
        check(100, &[(1, 1), (1, 2), (1, 2), (1, 1)], &[(1, 1), (1, 2), (1, 1)]);
    }

    #[test]
    fn at_the_bound_all_texts_go_and_are_made_again() {
        check(10, &[(1, 1), (2, 1), (1, 1), (2, 1)], &[(1, 1), (2, 1)]);
        check(10, &[(1, 1), (2, 1), (3, 1), (1, 1)], &[(1, 1), (2, 1), (3, 1), (1, 1)]);
        // One that is changed takes the place of the one before.
        check(10, &[(1, 1), (1, 2), (1, 3), (1, 3)], &[(1, 1), (1, 2), (1, 3)]);
        check(0, &[(1, 1), (1, 1)], &[(1, 1), (1, 1)]);
    }
}
