//! `/containers/ID/attach`: the output of a container as it comes, and with `logs` what it wrote before. Containers
//! of services have no input here: what a client sends is read and dropped, so that its end is seen.

use axum::extract::{Extension, Path, Request, State as AxumState};
use axum::http::header;
use axum::response::Response;
use futures_util::StreamExt as _;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tracing::debug;

use super::output::output_of;
use super::{Api, find, find_running, hijack};
use crate::api::error::Error;
use crate::api::query::Params;
use crate::api::refusal;
use crate::api::stream as framing;
use crate::api::version::Version;
use crate::runtime::{LogQuery, LogStream};

/// A client's input is read in pieces of this size.
const PIECE: usize = 4 << 10;

pub(in crate::api) async fn attach(
    AxumState(api): Api,
    Path(name): Path<String>,
    Extension(version): Extension<Version>,
    params: Params,
    mut request: Request,
) -> Result<Response, Error> {
    let (stdout, stderr) = (params.flag("stdout"), params.flag("stderr"));
    let (past, live) = (params.flag("logs"), params.flag("stream"));
    if !(stdout || stderr) || !(past || live) {
        return Err(Error::bad("attach to stdout or stderr, with stream or logs: else there is nothing to tell"));
    }
    let one = if live { find_running(&api, &name).await? } else { find(&api, &name).await? };
    let tail = if past { None } else { Some(0) };
    let query = LogQuery { follow: live, tail, stdout, stderr, ..LogQuery::default() };
    let lines = api.runtime().logs(&one.id, query).await.map_err(|error| refusal(&error))?;
    if !request.headers().contains_key(header::UPGRADE) {
        let pieces = lines.map(|line| line.map(|line| (output_of(line.stream), line.text)));
        return Ok(framing::answer(pieces.map(|piece| piece.map_err(std::io::Error::other)), version, one.tty));
    }
    let place = api.attach()?;
    let upgrade = hyper::upgrade::on(&mut request);
    api.tasks.spawn(async move {
        attached(upgrade, lines, one.tty).await;
        drop(place);
    });
    Ok(hijack())
}

/// Until the container ends or the client goes.
async fn attached(upgrade: OnUpgrade, mut lines: LogStream, tty: bool) {
    let client = match upgrade.await {
        Ok(client) => TokioIo::new(client),
        Err(error) => return debug!(%error, "a client that attaches went away"),
    };
    let (mut from, mut to) = tokio::io::split(client);
    let output = async {
        while let Some(line) = lines.next().await {
            let line = match line {
                Ok(line) => line,
                Err(error) => {
                    debug!(%error, "the output of a container cannot be read");
                    break;
                }
            };
            let bytes = if tty { line.text } else { framing::frame(output_of(line.stream), &line.text) };
            if to.write_all(&bytes).await.is_err() || to.flush().await.is_err() {
                return;
            }
        }
        // It may have gone.
        let _ = to.shutdown().await;
    };
    let mut piece = vec![0; PIECE];
    let input = async {
        loop {
            match from.read(&mut piece).await {
                Ok(1..) => {}
                // The end of its input is not the end of its interest. One that has gone looks the same until
                // something is written to it.
                Ok(0) => std::future::pending().await,
                Err(_) => return,
            }
        }
    };
    tokio::select! {
        () = output => {}
        () = input => {}
    }
}
