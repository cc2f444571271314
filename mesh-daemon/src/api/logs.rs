//! `/services/{id}/logs` and `/tasks/{id}/logs`: output of tasks, from whichever nodes have them.

use std::io;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Extension, Path, State};
use axum::response::Response;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt as _, future};
use jiff::{SignedDuration, Timestamp};

use super::error::Error;
use super::query::Params;
use super::stream::{self as framing, Output};
use super::version::Version;
use super::{LogLine, LogOptions, Shared, lookup};
use crate::model::service::Service;
use crate::model::state::TaskState;
use crate::model::task::Task;
use crate::store::Key;

type Api = State<Arc<Shared>>;

/// How many tasks one request reads at a time: a stream each.
const MAX_TASKS: usize = 1000;

pub(super) async fn of_service(
    State(api): Api,
    Path(name): Path<String>,
    Extension(version): Extension<Version>,
    params: Params,
) -> Result<Response, Error> {
    let options = options(&params, api.cluster.now())?;
    let view = api.view().await?;
    let service = lookup::find::<Service>(&view, &name)?;
    let mut tasks: Vec<_> = view.tasks().by_key(Key::Service(service.id)).cloned().collect();
    // What has never reached a node has said nothing.
    tasks.retain(|task| task.node_id.is_some() && task.status.state >= TaskState::Accepted);
    if tasks.len() > MAX_TASKS {
        tasks.sort_by_key(|task| std::cmp::Reverse(task.meta.created_at));
        tasks.truncate(MAX_TASKS);
    }
    let raw = service.spec.task.container.tty;
    let lines = merged(&api, tasks, &options, params.flag("details"), params.flag("timestamps")).await?;
    Ok(framing::answer(lines, version, raw))
}

pub(super) async fn of_task(
    State(api): Api,
    Path(name): Path<String>,
    Extension(version): Extension<Version>,
    params: Params,
) -> Result<Response, Error> {
    let options = options(&params, api.cluster.now())?;
    let view = api.view().await?;
    let task = lookup::find::<Task>(&view, &name)?;
    let raw = task.spec.container.tty;
    let lines = merged(&api, vec![task], &options, params.flag("details"), params.flag("timestamps")).await?;
    Ok(framing::answer(lines, version, raw))
}

/// Reads what is wanted of the output.
pub(super) fn options(params: &Params, now: Timestamp) -> Result<LogOptions, Error> {
    let (stdout, stderr) = (params.flag("stdout"), params.flag("stderr"));
    if !stdout && !stderr {
        return Err(Error::bad("Bad parameters: you must choose at least one stream"));
    }
    let tail = match params.get("tail") {
        None | Some("all") => None,
        // As the engine does with what is no number.
        Some(count) => count.parse().ok(),
    };
    let time = |name: &str| params.get(name).map(|text| instant(text, now)).transpose();
    Ok(LogOptions {
        stdout,
        stderr,
        follow: params.flag("follow"),
        since: time("since")?.filter(|since| *since != Timestamp::UNIX_EPOCH),
        until: time("until")?.filter(|until| *until != Timestamp::UNIX_EPOCH),
        tail,
    })
}

/// An instant as clients write it: seconds with a fraction since 1970, RFC 3339, or a duration ago.
pub(super) fn instant(text: &str, now: Timestamp) -> Result<Timestamp, Error> {
    let invalid =
        || Error::bad(format!("invalid timestamp \"{text}\": it is neither seconds, RFC 3339 nor a duration"));
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    if let Ok(seconds) = seconds.parse::<i64>() {
        let digits: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
        let nanos = digits.parse().map_err(|_| invalid())?;
        return Timestamp::new(seconds, nanos).map_err(|_| invalid());
    }
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let ago: SignedDuration = text.parse().map_err(|_| invalid())?;
    now.checked_sub(ago).map_err(|_| invalid())
}

type Lines = BoxStream<'static, Result<(Output, Bytes), io::Error>>;

async fn merged(
    api: &Shared,
    tasks: Vec<Arc<Task>>,
    options: &LogOptions,
    details: bool,
    timestamps: bool,
) -> Result<Lines, Error> {
    let prefix = |task: &Task| if details { context(task) } else { String::new() };
    let opened = tasks.iter().map(|task| {
        let prefix = prefix(task);
        async move {
            let opened = api.cluster.logs(task.id, options.clone()).await;
            opened.map(|lines| lines.map(move |line| dress(&line, &prefix, timestamps)).boxed())
        }
    });
    let mut streams = Vec::new();
    let mut failure = None;
    for opened in future::join_all(opened).await {
        match opened {
            Ok(lines) => streams.push(lines),
            Err(error) => failure = Some(error),
        }
    }
    match failure {
        // A node that does not answer hides its own tasks' output, not that of others.
        Some(error) if streams.is_empty() => Err(error),
        Some(error) => {
            let note = format!("error from daemon in stream: {error}\n");
            let note = stream::iter([Ok((Output::Stderr, Bytes::from(note)))]).boxed();
            streams.push(note);
            Ok(stream::select_all(streams).boxed())
        }
        None => Ok(stream::select_all(streams).boxed()),
    }
}

/// The CLI reads from this which task of which node spoke.
fn context(task: &Task) -> String {
    let id = |id: Option<String>| id.unwrap_or_default();
    format!(
        "com.docker.swarm.node.id={},com.docker.swarm.service.id={},com.docker.swarm.task.id={} ",
        id(task.node_id.map(|id| id.to_string())),
        id(task.service_id.map(|id| id.to_string())),
        task.id
    )
}

/// What stands before a line: its time, then its context.
fn dress(line: &LogLine, context: &str, timestamps: bool) -> Result<(Output, Bytes), io::Error> {
    if context.is_empty() && !timestamps {
        return Ok((line.output, line.bytes.clone()));
    }
    let time = if timestamps { format!("{} ", nine_digits(line.at)) } else { String::new() };
    Ok((line.output, [time.as_bytes(), context.as_bytes(), &line.bytes].concat().into()))
}

/// Times of log lines always have nine digits after the point.
pub(super) fn nine_digits(at: Timestamp) -> String {
    format!("{at:.9}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_read_in_the_three_ways_that_clients_write_them() {
        let now: Timestamp = "2026-11-24T04:00:00Z".parse().unwrap();
        for (text, expected) in [
            ("1795493066", "2026-11-24T04:04:26Z"),
            ("1795493066.5", "2026-11-24T04:04:26.5Z"),
            ("2026-11-24T03:00:00Z", "2026-11-24T03:00:00Z"),
            ("2026-11-24T05:00:00+02:00", "2026-11-24T03:00:00Z"),
            ("1h30m", "2026-11-24T02:30:00Z"),
        ] {
            assert_eq!(instant(text, now).unwrap().to_string(), expected);
        }
        for text in ["x", "-", "1.x"] {
            assert!(instant(text, now).is_err(), "{text}");
        }
    }

    #[test]
    fn times_of_lines_have_nine_digits() {
        assert_eq!(nine_digits("2026-11-24T04:07:05.1Z".parse().unwrap()), "2026-11-24T04:07:05.100000000Z");
    }
}
