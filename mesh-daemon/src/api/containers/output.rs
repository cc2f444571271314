//! `/containers/ID/logs`: what a container wrote.

use std::io;

use axum::body::Bytes;
use axum::extract::{Extension, Path, State as AxumState};
use axum::response::Response;
use futures_util::StreamExt as _;

use super::{Api, find};
use crate::api::error::Error;
use crate::api::query::Params;
use crate::api::stream::{self as framing, Output};
use crate::api::version::Version;
use crate::api::{LogOptions, logs as swarm_logs, refusal};
use crate::runtime::{LogLine, LogQuery, Stream};

pub(in crate::api) async fn logs(
    AxumState(api): Api,
    Path(name): Path<String>,
    Extension(version): Extension<Version>,
    params: Params,
) -> Result<Response, Error> {
    let LogOptions { stdout, stderr, follow, since, until, tail } = swarm_logs::options(&params, api.cluster.now())?;
    let one = find(&api, &name).await?;
    let query = LogQuery { follow, tail, since, until, stdout, stderr };
    let lines = api.runtime().logs(&one.id, query).await.map_err(|error| refusal(&error))?;
    let timestamps = params.flag("timestamps");
    let lines = lines.map(move |line| match line {
        Ok(line) => Ok(dress(line, timestamps)),
        Err(error) => Err(io::Error::other(error)),
    });
    Ok(framing::answer(lines, version, one.tty))
}

fn dress(line: LogLine, timestamps: bool) -> (Output, Bytes) {
    let bytes = if timestamps {
        [swarm_logs::nine_digits(line.at).as_bytes(), b" ", &line.text].concat().into()
    } else {
        line.text
    };
    (output_of(line.stream), bytes)
}

pub(super) fn output_of(stream: Stream) -> Output {
    match stream {
        Stream::Stdout => Output::Stdout,
        Stream::Stderr => Output::Stderr,
    }
}
