//! `/events`: what happens, as lines of JSON, live and of the near past.
//!
//! [`follow`] turns the store's transactions, and the steps of this node's containers and images, into events and
//! keeps the last of them; a stream reads what was kept and goes on with what comes. With an engine the events of
//! containers and images are the engine's, mixed in.

mod describe;

pub(super) use describe::container;

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
    pub(super) fn add(&self, event: wire::Event) {
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

/// Follows the containers of this node, and its store each time it has one.
pub(super) async fn follow(api: &Shared) {
    tokio::join!(follow_store(api), follow_containers(api));
}

async fn follow_containers(api: &Shared) {
    let mut steps = api.cluster.steps();
    loop {
        match steps.recv().await {
            // An engine tells of its own containers itself.
            Ok(_) if api.cluster.engine().is_some() => {}
            Ok(step) => api.events.add(describe::step(step, api.cluster.now())),
            Err(broadcast::error::RecvError::Lagged(lost)) => tracing::debug!(lost, "events of containers are lost"),
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

async fn follow_store(api: &Shared) {
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
    let attribute = |name: &str| event.actor.attributes.get(name).map_or("", String::as_str);
    let (id, name, image) = (event.actor.id.as_str(), attribute("name"), attribute("image"));
    // The beginning of an id or a name is enough, as for the engine.
    let actor = |key: &str| {
        !filters.has(key)
            || event.kind == key && filters.any(key, |wanted| id.starts_with(wanted) || name.starts_with(wanted))
    };
    let of_image = |wanted: &str| match event.kind.as_str() {
        "image" => is_image(id, wanted) || is_image(name, wanted),
        _ => is_image(image, wanted),
    };
    // `exec_create: sh` and `health_status: healthy` are asked for by their first word.
    let action = event.action.split(':').next().unwrap_or_default();
    filters.any("type", |kind| kind == event.kind)
        && filters.any("event", |wanted| wanted == event.action || wanted == action)
        && filters.any("scope", |scope| scope == event.scope)
        && filters.any("id", |wanted| wanted == id)
        && filters.any("image", of_image)
        && filters.labels("label", &event.actor.attributes)
        && ["config", "container", "daemon", "network", "node", "plugin", "secret", "service", "volume"]
            .into_iter()
            .all(actor)
}

/// Whether an image is meant, with its tag or without.
fn is_image(image: &str, wanted: &str) -> bool {
    let plain = image.split('@').next().unwrap_or_default();
    !image.is_empty()
        && (image == wanted || plain == wanted || plain.rsplit_once(':').is_some_and(|(of, _)| of == wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: &str, action: &str, id: &str, attributes: &[(&str, &str)]) -> wire::Event {
        let attributes = attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        wire::Event {
            kind: kind.to_owned(),
            action: action.to_owned(),
            actor: wire::Actor { id: id.to_owned(), attributes, ..wire::Actor::default() },
            scope: "local".to_owned(),
            ..wire::Event::default()
        }
    }

    #[test]
    fn events_are_filtered_as_the_engine_does() {
        let health = event(
            "container",
            "health_status: healthy",
            "abcdef",
            &[("name", "web.1.x"), ("image", "r:5000/web:1@sha256:0"), ("tier", "front")],
        );
        let pull = event("image", "pull", "web:1", &[("name", "web")]);
        for (filters, of_health, of_pull) in [
            (r#"{"type":["container"]}"#, true, false),
            (r#"{"event":["health_status"]}"#, true, false),
            (r#"{"event":["health_status: healthy","pull"]}"#, true, true),
            (r#"{"event":["health_status: unhealthy"]}"#, false, false),
            (r#"{"container":["abc"]}"#, true, false),
            (r#"{"container":{"web.1":true}}"#, true, false),
            (r#"{"container":["b"]}"#, false, false),
            (r#"{"image":["r:5000/web"]}"#, true, false),
            (r#"{"image":["web"]}"#, false, true),
            (r#"{"image":["web:1"]}"#, false, true),
            (r#"{"label":["tier=front"]}"#, true, false),
            (r#"{"scope":["swarm"]}"#, false, false),
            (r#"{"type":["container","image"],"event":["pull"]}"#, false, true),
        ] {
            let read = Filters::parse(Some(filters), FILTERS).unwrap();
            assert_eq!((fits(&read, &health), fits(&read, &pull)), (of_health, of_pull), "{filters}");
        }
    }
}
