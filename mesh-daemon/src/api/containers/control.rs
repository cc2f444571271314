//! Ends containers: stop, kill, remove, and waiting for the end.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, State as AxumState};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;

use super::{Api, find, find_running};
use crate::api::error::Error;
use crate::api::query::Params;
use crate::api::{Shared, refusal, wire};
use crate::runtime::{ContainerId, RuntimeError, State, Status};

/// Nobody waits longer.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// Between two looks whether a container is gone.
const LOOK: Duration = Duration::from_millis(250);

/// Ends a container as its service would: its signal, its grace, and then by force. `t` is another grace, in
/// seconds; less than nothing is for ever.
pub(in crate::api) async fn stop(
    AxumState(api): Api,
    Path(name): Path<String>,
    params: Params,
) -> Result<StatusCode, Error> {
    let one = find(&api, &name).await?;
    if !matches!(one.state, State::Running { .. }) {
        return Ok(StatusCode::NOT_MODIFIED);
    }
    let grace = params.get("t").map(grace).transpose()?;
    api.runtime().shutdown(&one.id, grace).await.map_err(|error| refusal(&error))?;
    Ok(StatusCode::NO_CONTENT)
}

fn grace(text: &str) -> Result<Duration, Error> {
    let seconds: i64 = text.parse().map_err(|_| Error::bad(format!("invalid grace \"{text}\": it is in seconds")))?;
    Ok(u64::try_from(seconds).map_or(FOREVER, |seconds| Duration::from_secs(seconds).min(FOREVER)))
}

pub(in crate::api) async fn kill(
    AxumState(api): Api,
    Path(name): Path<String>,
    params: Params,
) -> Result<StatusCode, Error> {
    let one = find_running(&api, &name).await?;
    let signal = params.get("signal").unwrap_or("KILL");
    if !signal.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'-') {
        return Err(Error::bad(format!("Invalid signal: {signal}")));
    }
    api.runtime().kill(&one.id, signal).await.map_err(|error| refusal(&error))?;
    Ok(StatusCode::NO_CONTENT)
}

pub(in crate::api) async fn remove(
    AxumState(api): Api,
    Path(name): Path<String>,
    params: Params,
) -> Result<StatusCode, Error> {
    let one = find(&api, &name).await?;
    if matches!(one.state, State::Running { .. }) && !params.flag("force") {
        let message = format!(
            "cannot remove container \"/{}\": container is running: stop the container before removing or force remove",
            one.name
        );
        return Err(Error::Refused { status: StatusCode::CONFLICT, message });
    }
    api.runtime().remove(&one.id).await.map_err(|error| refusal(&error))?;
    Ok(StatusCode::NO_CONTENT)
}

/// Answers at once, and says the exit code when there is one.
pub(in crate::api) async fn wait(
    AxumState(api): Api,
    Path(name): Path<String>,
    params: Params,
) -> Result<Response, Error> {
    let one = find(&api, &name).await?;
    let removed = params.get("condition") == Some("removed");
    let line = stream::once(async move { Ok::<_, Infallible>(ended(api, one, removed).await) });
    Ok(([(header::CONTENT_TYPE, "application/json")], Body::from_stream(line)).into_response())
}

async fn ended(api: Arc<Shared>, one: Status, removed: bool) -> String {
    let runtime = api.runtime();
    let code = match runtime.wait(&one.id).await {
        Ok(exit) => exit.code,
        // Removed before it could be asked.
        Err(_) => 137,
    };
    while removed && is_there(&api, &one.id).await {
        tokio::time::sleep(LOOK).await;
    }
    let answer = wire::WaitAnswer { status_code: code, ..wire::WaitAnswer::default() };
    serde_json::to_string(&answer).unwrap_or_default() + "\n"
}

async fn is_there(api: &Shared, id: &ContainerId) -> bool {
    !matches!(api.runtime().inspect(id).await, Err(RuntimeError::Unknown { .. }))
}

#[test]
fn a_grace_is_in_seconds_and_less_than_none_is_for_ever() {
    assert_eq!(grace("3").ok(), Some(Duration::from_secs(3)));
    assert_eq!(grace("-1").ok(), Some(FOREVER));
    assert_eq!(grace("99999999999").ok(), Some(FOREVER));
    assert!(grace("soon").is_err());
}
