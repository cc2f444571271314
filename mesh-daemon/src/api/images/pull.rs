//! `POST /images/create`: an image from its registry. The answer tells what happens while it does; once
//! it has begun, a failure is its last line.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::{StreamExt as _, stream};

use super::load::line;
use super::{Api, digests, familiar, find, whole};
use crate::api::error::Error;
use crate::api::query::Params;
use crate::api::wire::{self, ErrorBody, Progress};
use crate::api::{Shared, refusal};
use crate::runtime::images::Credentials;

pub(in crate::api) async fn pull(State(api): Api, params: Params, headers: HeaderMap) -> Result<Response, Error> {
    let Some(from) = params.get("fromImage") else {
        return Err(Error::bad("images are made elsewhere: fromImage must name one of a registry"));
    };
    let name = match params.get("tag") {
        None => from.to_owned(),
        Some(digest) if digest.contains(':') => format!("{from}@{digest}"),
        Some(tag) => format!("{from}:{tag}"),
    };
    let whole = whole(&name).ok_or_else(|| Error::bad("invalid reference format"))?;
    let who = credentials(&headers)?;
    let first = status(format!("Pulling {}", familiar(&whole)));
    let rest = stream::once(fetch(api, whole, who));
    let lines = stream::iter([first]).chain(rest).map(Ok::<_, std::convert::Infallible>);
    Ok(([(header::CONTENT_TYPE, "application/json")], Body::from_stream(lines)).into_response())
}

fn status(status: String) -> String {
    line(&Progress { status, ..Progress::default() })
}

async fn fetch(api: Arc<Shared>, whole: String, who: Credentials) -> String {
    let before = find(&api, &whole).await.ok();
    let pulled = match api.runtime().pull(&whole, &who).await {
        Ok(()) => find(&api, &whole).await,
        Err(error) => Err(refusal(&error)),
    };
    match pulled {
        Ok(image) => {
            let digest = digests(&image).into_iter().find_map(|name| Some(name.split_once('@')?.1.to_owned()));
            let what = if before == Some(image) { "Image is up to date for" } else { "Downloaded newer image for" };
            status(format!("Digest: {}", digest.unwrap_or_default()))
                + &status(format!("Status: {what} {}", familiar(&whole)))
        }
        Err(error) => {
            let body = ErrorBody { message: error.to_string(), ..ErrorBody::default() };
            line(&Progress { error: error.to_string(), error_detail: Some(body), ..Progress::default() })
        }
    }
}

/// Who the client is before the registry.
pub(in crate::api) fn credentials(headers: &HeaderMap) -> Result<Credentials, Error> {
    let Some(json) = registry_auth(headers)? else { return Ok(Credentials::Anonymous) };
    Credentials::of_docker(&json).map_err(|error| Error::bad(error.to_string()))
}

/// What a client says of itself to a registry, without its base64; None if it says nothing.
pub(in crate::api) fn registry_auth(headers: &HeaderMap) -> Result<Option<Vec<u8>>, Error> {
    let Some(auth) = headers.get("x-registry-auth").filter(|auth| !auth.is_empty()) else { return Ok(None) };
    let wrong = || Error::bad("X-Registry-Auth is not base64 of JSON");
    wire::base64::decode(auth.to_str().map_err(|_| wrong())?).ok_or_else(wrong).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_whom_its_header_says() {
        let mut headers = HeaderMap::new();
        assert!(credentials(&headers).unwrap() == Credentials::Anonymous);
        let json = br#"{"username":"u","password":"p"}"#;
        headers.insert("x-registry-auth", wire::base64::encode(json).parse().unwrap());
        assert!(
            credentials(&headers).unwrap() == Credentials::Basic { user: "u".to_owned(), password: "p".to_owned() }
        );
        headers.insert("x-registry-auth", "%".parse().unwrap());
        assert_eq!(credentials(&headers).unwrap_err().status().as_u16(), 400);
    }
}
