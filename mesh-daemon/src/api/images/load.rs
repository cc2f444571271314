//! `POST /images/load`: an archive, from the client's hand into a file without a name, from there into the
//! runtime. Nothing of it stays if it is refused.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use tokio::io::AsyncWriteExt as _;

use super::{Api, familiar};
use crate::api::error::Error;
use crate::api::{refusal, wire};

/// The largest archive. Images of many GB are built, and a disk has an end.
const MAX_BYTES: u64 = 32 << 30;

/// A client that sends nothing for so long has gone.
const SILENCE: Duration = Duration::from_secs(60);

pub(in crate::api) async fn load(State(api): Api, body: Body) -> Result<Response, Error> {
    let root = api.cluster.runtime().root;
    let folder = if root.is_empty() { std::env::temp_dir() } else { PathBuf::from(root) };
    let file = unnamed(&folder, api.cluster.random())
        .map_err(|error| Error::internal(format!("make a file for the archive in {}: {error}", folder.display())))?;
    let mut file = tokio::fs::File::from_std(file);
    receive(body, &mut file).await?;
    // It has no name; this one leads to it as long as it is open.
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    let loaded = api.runtime().load(&path).await;
    let names = loaded.map_err(|error| renamed(refusal(&error), &path))?;
    let lines = names.iter().map(|name| {
        let stream = format!("Loaded image: {}\n", familiar(name));
        line(&wire::Progress { stream, ..wire::Progress::default() })
    });
    let lines: String = lines.collect();
    Ok(([(header::CONTENT_TYPE, "application/json")], lines).into_response())
}

/// A line of a long answer.
pub(super) fn line(progress: &wire::Progress) -> String {
    let mut text = serde_json::to_string(progress).unwrap_or_default();
    text.push_str("\r\n");
    text
}

fn unnamed(folder: &Path, chance: u128) -> io::Result<File> {
    let path = folder.join(format!(".load-{chance:032x}"));
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

async fn receive(body: Body, file: &mut tokio::fs::File) -> Result<(), Error> {
    let mut pieces = body.into_data_stream();
    let mut bytes = 0;
    loop {
        let piece = match tokio::time::timeout(SILENCE, pieces.next()).await {
            Err(_) => {
                let message = format!("nothing of the archive came for {SILENCE:?}");
                return Err(Error::Refused { status: StatusCode::REQUEST_TIMEOUT, message });
            }
            Ok(None) => break,
            Ok(Some(piece)) => piece.map_err(|error| Error::bad(format!("read the archive: {error}")))?,
        };
        bytes += piece.len() as u64;
        if bytes > MAX_BYTES {
            let message = format!("the archive is larger than {} GiB", MAX_BYTES >> 30);
            return Err(Error::Refused { status: StatusCode::PAYLOAD_TOO_LARGE, message });
        }
        file.write_all(&piece).await.map_err(|error| unwritten(&error))?;
    }
    file.flush().await.map_err(|error| unwritten(&error))?;
    if bytes == 0 { Err(Error::bad("the archive is empty")) } else { Ok(()) }
}

fn unwritten(error: &io::Error) -> Error {
    Error::internal(format!("keep the archive on this node: {error}"))
}

/// The same error, of the archive: its file is nobody's to look for.
fn renamed(error: Error, path: &Path) -> Error {
    match error {
        Error::Refused { status, message } => {
            Error::Refused { status, message: message.replace(&path.display().to_string(), "the archive") }
        }
        other => other,
    }
}
