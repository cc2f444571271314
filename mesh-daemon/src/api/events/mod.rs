//! `/events`: what happens, as lines of JSON, live and of the near past.
//!
//! [`follow`] turns the store's transactions into events and keeps the last of them; a stream reads what
//! was kept and goes on with what comes. Events of containers are the engine's, mixed in.

mod describe;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderValue, Uri, header};
use axum::response::Response;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use jiff::Timestamp;
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;

use super::error::Error;
use super::filters::Filters;
use super::query::Params;
use super::{Shared, engine, logs, wire};
use crate::store::Notice;

/// Events of the past that are kept.
const KEPT: usize = 1024;

/// How far a stream may lag behind before it loses events.
const LAG: usize = 1024;

const FILTERS: &[&str] = &[
    "config",
    "container",
    "daemon",
    "event",
    "id",
    "image",
    "label",
    "network",
    "node",
    "plugin",
    "scope",
    "secret",
    "service",
    "type",
    "volume",
];

/// The last events, and who listens.
#[derive(Clone)]
pub(super) struct Journal {
    kept: Arc<Mutex<VecDeque<Arc<wire::Event>>>>,
    live: broadcast::Sender<Arc<wire::Event>>,
}

impl Default for Journal {
    fn default() -> Self {
        Self { kept: Arc::default(), live: broadcast::Sender::new(LAG) }
    }
}

impl Journal {
    fn add(&self, event: wire::Event) {
        let event = Arc::new(event);
        // Sent under the lock, so that a listener gets each event once: kept or live.
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(Arc::clone(&event));
        // It fails if nobody listens.
        let _ = self.live.send(event);
    }

    fn listen(&self) -> (Vec<Arc<wire::Event>>, broadcast::Receiver<Arc<wire::Event>>) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        (kept.iter().cloned().collect(), self.live.subscribe())
    }
}

/// Follows the store of this node, each time it has one.
pub(super) async fn follow(api: &Shared) {
    let mut stores = api.cluster.stores();
    loop {
        let store = stores.borrow_and_update().clone();
        let Some(store) = store else {
            if stores.changed().await.is_err() {
                return;
            }
            continue;
        };
        let (_, mut watch) = store.watch();
        drop(store);
        loop {
            tokio::select! {
                notice = watch.next() => match notice {
                    Some(Notice::Transaction(transaction)) => {
                        let now = api.cluster.now();
                        let described = transaction.events.iter().filter_map(|event| describe::event(event, now));
                        described.for_each(|event| api.events.add(event));
                    }
                    // What was missed is not known as events any more.
                    Some(Notice::Resync) => {}
                    None => break,
                },
                changed = stores.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
            }
        }
    }
}

pub(super) async fn stream(State(api): State<Arc<Shared>>, uri: Uri, params: Params) -> Result<Response, Error> {
    let filters = params.filters(FILTERS)?;
    let now = api.cluster.now();
    let time = |name: &str| params.get(name).map(|text| logs::instant(text, now)).transpose();
    let (since, until) = (time("since")?, time("until")?);
    if let (Some(since), Some(until)) = (since, until)
        && since > until
    {
        return Err(Error::bad("`since` time cannot be after `until` time"));
    }
    let engines = engine::events(&api, uri.query()).await;
    let ours = ours(&api.events, filters, since, until, now);
    let lines: BoxStream<'static, Result<Bytes, std::io::Error>> = match engines {
        Some(engines) => stream::select(ours, engines).boxed(),
        None => ours,
    };
    let mut response = Response::new(Body::from_stream(lines));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

fn ours(
    journal: &Journal,
    filters: Filters,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    now: Timestamp,
) -> BoxStream<'static, Result<Bytes, std::io::Error>> {
    let (past, live) = journal.listen();
    let at = |event: &wire::Event| Timestamp::from_nanosecond(event.time_nano.into()).unwrap_or(Timestamp::MAX);
    let past: Vec<_> = match since {
        Some(since) => past.into_iter().filter(|event| at(event) >= since).collect(),
        None => Vec::new(),
    };
    // A stream that has lagged goes on with what there is: the past is gone.
    let live = BroadcastStream::new(live).filter_map(|event| async { event.ok() });
    let all = stream::iter(past).chain(live);
    let wanted = all.filter(move |event| std::future::ready(fits(&filters, event)));
    let lines = wanted.map(|event| {
        let mut line = serde_json::to_vec(&*event)?;
        line.push(b'\n');
        Ok(Bytes::from(line))
    });
    match until {
        None => lines.boxed(),
        Some(until) => {
            let left = std::time::Duration::try_from(until.duration_since(now)).unwrap_or_default();
            // The past is read at once; only what comes is waited for.
            lines.take_until(async move { tokio::time::sleep(left.max(PAST)).await }).boxed()
        }
    }
}

/// How long a stream of the past alone may take.
const PAST: std::time::Duration = std::time::Duration::from_millis(50);

fn fits(filters: &Filters, event: &wire::Event) -> bool {
    let name = event.actor.attributes.get("name").map_or("", String::as_str);
    let actor = |key: &str| {
        !filters.has(key) || event.kind == key && filters.any(key, |wanted| wanted == event.actor.id || wanted == name)
    };
    filters.any("type", |kind| kind == event.kind)
        && filters.any("event", |action| action == event.action)
        && filters.any("scope", |scope| scope == event.scope)
        && filters.any("id", |id| id == event.actor.id)
        && filters.labels("label", &event.actor.attributes)
        && ["config", "container", "daemon", "image", "network", "node", "plugin", "secret", "service", "volume"]
            .into_iter()
            .all(actor)
}
