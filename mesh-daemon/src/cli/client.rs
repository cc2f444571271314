//! Speaks HTTP to the Docker API of a node: one request at a time, over the socket that `DOCKER_HOST`
//! names.

use std::fmt;
use std::io::Read;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Body as _, Bytes, Frame, Incoming};
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::api::wire::ErrorBody;

/// Where meshd listens.
pub(super) const DEFAULT_HOST: &str = "unix:///run/mesh/docker.sock";

/// The version that is spoken: what the types of `api::wire` were recorded with, and a little more.
const VERSION: &str = "v1.47";

/// What the node answered when it refused: printed as the docker CLI prints it.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) message: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error response from daemon: {}", self.message)
    }
}

impl std::error::Error for Refusal {}

/// What goes with a request.
type Content = UnsyncBoxBody<Bytes, std::io::Error>;

fn whole(bytes: Bytes) -> Content {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// A file is sent in pieces of this size.
const PIECE: usize = 64 << 10;

/// A reader's bytes, as it gives them.
fn pieces(from: impl Read + Send + 'static) -> Content {
    let next = |mut from: Box<dyn Read + Send>| async move {
        let mut piece = vec![0; PIECE];
        let read = from.read(&mut piece).map(|length| {
            piece.truncate(length);
            Bytes::from(piece)
        });
        match read {
            Ok(piece) if piece.is_empty() => None,
            read => Some((read.map(Frame::data), from)),
        }
    };
    StreamBody::new(stream::unfold(Box::new(from) as Box<dyn Read + Send>, next)).boxed_unsync()
}

enum Address {
    Unix(PathBuf),
    Tcp(String),
}

/// A node that can be asked.
pub(super) struct Client {
    host: String,
    address: Address,
    runtime: tokio::runtime::Runtime,
}

impl Client {
    /// For the node at `unix://PATH` or `tcp://HOST:PORT`.
    pub(super) fn new(host: &str) -> Result<Self> {
        let address = match host.split_once("://") {
            Some(("unix", path)) => Address::Unix(path.into()),
            Some(("tcp" | "http", address)) => Address::Tcp(address.to_owned()),
            _ => bail!("the host \"{host}\" is neither unix://PATH nor tcp://ADDRESS:PORT"),
        };
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
        Ok(Self { host: host.to_owned(), address, runtime })
    }

    /// Reads an object or a list.
    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let body = self.get_raw(path)?;
        serde_json::from_slice(&body).with_context(|| format!("read the answer to GET {path}"))
    }

    /// As [`Client::get`], with headers.
    pub(super) fn get_with<T: DeserializeOwned>(&self, path: &str, headers: &[(&str, String)]) -> Result<T> {
        let body = self.exchange(Method::GET, path, Bytes::new(), headers)?;
        serde_json::from_slice(&body).with_context(|| format!("read the answer to GET {path}"))
    }

    /// Reads the bytes of an object, as the node wrote them.
    pub(super) fn get_raw(&self, path: &str) -> Result<Bytes> {
        self.exchange(Method::GET, path, Bytes::new(), &[])
    }

    /// Asks for something that answers with an object.
    pub(super) fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        self.post_with(path, body, &[])
    }

    /// As [`Client::post`], with headers.
    pub(super) fn post_with<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        headers: &[(&str, String)],
    ) -> Result<T> {
        let body = serde_json::to_vec(body).context("write the request")?;
        let answer = self.exchange(Method::POST, path, body.into(), headers)?;
        serde_json::from_slice(&answer).with_context(|| format!("read the answer to POST {path}"))
    }

    /// Sends bytes as they are to something that answers with an object.
    pub(super) fn post_bytes<T: DeserializeOwned>(
        &self,
        path: &str,
        body: Vec<u8>,
        headers: &[(&str, String)],
    ) -> Result<T> {
        let answer = self.exchange(Method::POST, path, body.into(), headers)?;
        serde_json::from_slice(&answer).with_context(|| format!("read the answer to POST {path}"))
    }

    /// Asks for something that answers with nothing.
    pub(super) fn post_empty(&self, path: &str, body: &impl Serialize) -> Result<()> {
        let body = serde_json::to_vec(body).context("write the request")?;
        self.exchange(Method::POST, path, body.into(), &[]).map(drop)
    }

    /// Asks for something that takes no body; the bytes of the answer.
    pub(super) fn post_raw(&self, path: &str) -> Result<Bytes> {
        self.exchange(Method::POST, path, Bytes::new(), &[])
    }

    /// Removes an object.
    pub(super) fn delete(&self, path: &str) -> Result<()> {
        self.exchange(Method::DELETE, path, Bytes::new(), &[]).map(drop)
    }

    /// Reads a stream piece by piece, until it ends or `take` has had enough.
    pub(super) fn stream(&self, path: &str, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let answer = self.runtime.block_on(self.send(Method::GET, path, whole(Bytes::new()), &[]))?;
        let mut body = answer.into_body();
        // Whoever takes a piece may ask for something else in between.
        while let Some(frame) = self.runtime.block_on(body.frame()) {
            if let Ok(piece) = frame.context("read the stream")?.into_data() {
                take(&piece)?;
            }
        }
        Ok(())
    }

    /// Sends all that a reader has; the answer.
    pub(super) fn upload(&self, path: &str, from: impl Read + Send + 'static) -> Result<Bytes> {
        self.runtime.block_on(async {
            let answer = self.send(Method::POST, path, pieces(from), &[]).await?;
            Ok(answer.into_body().collect().await.context("read the answer")?.to_bytes())
        })
    }

    /// Begins a conversation, and lets `talk` have it.
    pub(super) fn converse<T>(
        &self,
        path: &str,
        body: &impl Serialize,
        talk: impl AsyncFnOnce(TokioIo<Upgraded>) -> Result<T>,
    ) -> Result<T> {
        let body = serde_json::to_vec(body).context("write the request")?;
        let headers = [("Connection", "Upgrade".to_owned()), ("Upgrade", "tcp".to_owned())];
        self.runtime.block_on(async {
            let answer = self.send(Method::POST, path, whole(body.into()), &headers).await?;
            let stream = hyper::upgrade::on(answer).await.context("begin the conversation")?;
            talk(TokioIo::new(stream)).await
        })
    }

    /// As [`Client::post_raw`], from within a conversation.
    pub(super) async fn post_async(&self, path: &str) -> Result<()> {
        self.send(Method::POST, path, whole(Bytes::new()), &[]).await.map(drop)
    }

    fn exchange(&self, method: Method, path: &str, body: Bytes, headers: &[(&str, String)]) -> Result<Bytes> {
        self.runtime.block_on(async {
            let answer = self.send(method, path, whole(body), headers).await?;
            Ok(answer.into_body().collect().await.context("read the answer")?.to_bytes())
        })
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Content,
        headers: &[(&str, String)],
    ) -> Result<Response<Incoming>> {
        let unreachable = || format!("cannot connect to meshd at {}: does it run, and may you use it?", self.host);
        let mut request = Request::builder()
            .method(method)
            .uri(format!("/{VERSION}{path}"))
            .header("Host", "meshd")
            .header("User-Agent", concat!("meshctl/", env!("CARGO_PKG_VERSION")));
        if body.size_hint().upper() != Some(0) {
            // A whole body is JSON; what comes in pieces is an archive.
            let kind = if body.size_hint().exact().is_some() { "application/json" } else { "application/x-tar" };
            request = request.header("Content-Type", kind);
        }
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let request = request.body(body).with_context(|| format!("\"{path}\" cannot be asked for"))?;
        let answer = match &self.address {
            Address::Unix(path) => {
                exchange_over(UnixStream::connect(path).await.with_context(unreachable)?, request).await?
            }
            Address::Tcp(address) => {
                exchange_over(TcpStream::connect(address).await.with_context(unreachable)?, request).await?
            }
        };
        if answer.status().is_success() || answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(answer);
        }
        let status = answer.status();
        let body = answer.into_body().collect().await.context("read the refusal")?.to_bytes();
        let message = match serde_json::from_slice::<ErrorBody>(&body) {
            Ok(error) => error.message,
            Err(_) => String::from_utf8_lossy(&body).trim().to_owned(),
        };
        Err(Refusal { status, message }.into())
    }
}

async fn exchange_over(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Content>,
) -> Result<Response<Incoming>> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.context("speak to meshd")?;
    // The connection lives as long as the answer's body, on the client's own runtime.
    #[expect(clippy::disallowed_methods, reason = "it ends with its socket, which the answer holds")]
    tokio::spawn(connection.with_upgrades());
    sender.send_request(request).await.context("ask meshd")
}

/// Whether an error says that an object does not exist.
pub(super) fn is_not_found(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Refusal>().is_some_and(|refusal| refusal.status == StatusCode::NOT_FOUND)
}

/// A value in a path or a query.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => escaped.push(byte.into()),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

/// The query of filters, `?filters=..`, or nothing: of each key, its values.
pub(super) fn filters(wanted: &[(&str, &str)]) -> String {
    let mut keys = serde_json::Map::new();
    for (key, value) in wanted {
        let values = keys.entry(*key).or_insert_with(|| serde_json::json!({}));
        values[*value] = true.into();
    }
    if keys.is_empty() {
        String::new()
    } else {
        format!("?filters={}", escape(&serde_json::Value::from(keys).to_string()))
    }
}

/// Splits `--filter KEY=VALUE`.
pub(super) fn filter_pairs(given: &[String]) -> Result<Vec<(&str, &str)>> {
    given
        .iter()
        .map(|filter| {
            filter.split_once('=').with_context(|| format!("invalid filter \"{filter}\": it should be KEY=VALUE"))
        })
        .collect()
}
