//! Bodies: read up to a bound, parsed with the engine's words for what is wrong.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use super::error::Error;

/// The largest request: a config of 1000 KiB is 1.4 MB in base64, and Swarm's managers take 4 MiB.
const MAX_BYTES: usize = 4 << 20;

/// How long a client may take to send a body.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Reads a body whole.
///
/// # Errors
/// It is too large, too slow, or breaks off.
pub(super) async fn read(body: Body) -> Result<Bytes, Error> {
    read_up_to(body, MAX_BYTES).await
}

/// Reads a body whole, up to another bound.
///
/// # Errors
/// It is too large, too slow, or breaks off.
pub(super) async fn read_up_to(body: Body, max_bytes: usize) -> Result<Bytes, Error> {
    let refused = |status, message: String| Error::Refused { status, message };
    let whole = tokio::time::timeout(TIMEOUT, Limited::new(body, max_bytes).collect()).await;
    match whole {
        Err(_) => Err(refused(StatusCode::REQUEST_TIMEOUT, format!("the request body took more than {TIMEOUT:?}"))),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(refused(StatusCode::PAYLOAD_TOO_LARGE, format!("the request body is larger than {max_bytes} bytes")))
        }
        Ok(Err(error)) => Err(Error::bad(format!("read the request body: {error}"))),
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
    }
}

/// Parses a body.
///
/// # Errors
/// It is empty, not JSON, or not of this type; the text says where.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(Error::bad("got EOF while reading request body"));
    }
    serde_json::from_slice(body).map_err(|error| Error::bad(format!("invalid JSON: {error}")))
}
