//! The output of tasks, from the node that has it to the manager that was asked: a line of JSON for each line
//! of output.

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::api::{self, LogLine, LogOptions};
use crate::cluster::rpc::{Code, Refusal, Stream};
use crate::model::id::TaskId;
use crate::runtime::{self, LogQuery, Runtime};

/// What a manager would like of a node.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Wanted {
    task: TaskId,
    stdout: bool,
    stderr: bool,
    follow: bool,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    tail: Option<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Line {
    at: Timestamp,
    stderr: bool,
    /// Output is bytes, not text.
    bytes: Vec<u8>,
}

impl Wanted {
    pub(super) fn new(task: TaskId, options: &LogOptions) -> Self {
        let LogOptions { stdout, stderr, follow, since, until, tail } = *options;
        Self { task, stdout, stderr, follow, since, until, tail }
    }
}

/// Finds the task's container, and what it wrote.
pub(super) async fn written(runtime: &dyn Runtime, wanted: Wanted) -> Stream<Bytes> {
    match lines(runtime, wanted).await {
        Ok(lines) => lines.map(|line| Ok(encode(&line.map_err(|error| refusal(&error))?))).boxed(),
        Err(refusal) => futures_util::stream::iter([Err(refusal)]).boxed(),
    }
}

async fn lines(runtime: &dyn Runtime, wanted: Wanted) -> Result<runtime::LogStream, Refusal> {
    let all = runtime.list().await.map_err(|error| refusal(&error))?;
    let found = all.into_iter().find(|status| status.task == Some(wanted.task));
    let container = found.ok_or_else(|| Refusal::new(Code::NotFound, format!("task {} is not here", wanted.task)))?;
    let query = LogQuery {
        follow: wanted.follow,
        tail: wanted.tail,
        since: wanted.since,
        until: wanted.until,
        stdout: wanted.stdout,
        stderr: wanted.stderr,
    };
    runtime.logs(&container.id, query).await.map_err(|error| refusal(&error))
}

fn refusal(error: &runtime::RuntimeError) -> Refusal {
    Refusal::new(Code::Internal, error.to_string())
}

fn encode(line: &runtime::LogLine) -> Bytes {
    let stderr = line.stream == runtime::Stream::Stderr;
    let line = Line { at: line.at, stderr, bytes: line.text.to_vec() };
    let mut json = serde_json::to_vec(&line).unwrap_or_default();
    json.push(b'\n');
    json.into()
}

/// Reads what a node sends: pieces may end within a line.
pub(super) fn decode(pieces: Stream<Bytes>) -> BoxStream<'static, LogLine> {
    let state = (pieces, Vec::new());
    let lines = futures_util::stream::unfold(state, |(mut pieces, mut rest)| async move {
        loop {
            if let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                let Ok(Line { at, stderr, bytes }) = serde_json::from_slice(&line) else { continue };
                let output = if stderr { api::Output::Stderr } else { api::Output::Stdout };
                return Some((LogLine { at, output, bytes: bytes.into() }, (pieces, rest)));
            }
            rest.extend_from_slice(&pieces.next().await?.ok()?);
        }
    });
    lines.boxed()
}
