//! The socket: accepts connections and lets each speak HTTP/1.1 to the router.
//!
//! Bounded: connections by a semaphore, the time for the head of a request by hyper's timer, bodies by
//! [`super::body`]. A client that reads slowly holds its own connection and nothing else.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::Api;

/// Connections at a time; the next wait in the socket's backlog.
const MAX_CONNECTIONS: usize = 2048;

/// How long a client may take to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// How long connections may finish what they answer when the node stops.
const GRACE: Duration = Duration::from_secs(5);

/// How long to wait when the process has no descriptor left for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What can go wrong before anybody is served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The folder of the socket.
    #[error("make the folder of the socket {path}")]
    Folder {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Somebody answers there.
    #[error("the socket {0} is served by another process")]
    Taken(PathBuf),
    /// The socket.
    #[error("listen at {path}")]
    Listen {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Who may use it.
    #[error("let root and group {group} use {path}")]
    Owner {
        /// The socket.
        path: PathBuf,
        /// The group.
        group: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Listens at `path`, for root and, if it exists, `group`. What a daemon that died left there is replaced;
/// what is served is not.
///
/// # Errors
/// The socket is taken, or cannot be made.
pub fn listen(path: &Path, group: &str) -> Result<UnixListener, ServeError> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|source| ServeError::Folder { path: path.to_owned(), source })?;
    }
    let listen = |source| ServeError::Listen { path: path.to_owned(), source };
    if StdUnixStream::connect(path).is_ok() {
        return Err(ServeError::Taken(path.to_owned()));
    }
    // Named only when its owner and mode are right: nobody else ever connects.
    let mut unnamed = path.as_os_str().to_owned();
    unnamed.push(".new");
    let unnamed = PathBuf::from(unnamed);
    match fs::remove_file(&unnamed) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(listen(error)),
        _ => {}
    }
    let listener = UnixListener::bind(&unnamed).map_err(listen)?;
    admit(&unnamed, group)?;
    fs::rename(&unnamed, path).map_err(listen)?;
    Ok(listener)
}

fn admit(path: &Path, group: &str) -> Result<(), ServeError> {
    let owner = |source| ServeError::Owner { path: path.to_owned(), group: group.to_owned(), source };
    fs::set_permissions(path, fs::Permissions::from_mode(0o660)).map_err(owner)?;
    match nix::unistd::Group::from_name(group) {
        Ok(Some(group)) => nix::unistd::chown(path, None, Some(group.gid)).map_err(|errno| owner(errno.into())),
        // Without such a group the socket is root's alone.
        Ok(None) => Ok(()),
        Err(errno) => Err(owner(errno.into())),
    }
}

/// Serves until `stop`, then lets open answers end.
pub async fn serve(api: Arc<Api>, listener: UnixListener, stop: CancellationToken) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Some((stream, permit)) = accept(&listener, &permits, &stop).await else { break };
        connections.spawn(connection(Arc::clone(&api), stream, permit, stop.clone()));
    }
    let ended = async {
        while connections.join_next().await.is_some() {}
        api.finish().await;
    };
    if tokio::time::timeout(GRACE, ended).await.is_err() {
        debug!(open = connections.len(), "connections are cut");
        connections.shutdown().await;
    }
}

async fn accept(
    listener: &UnixListener,
    permits: &Arc<Semaphore>,
    stop: &CancellationToken,
) -> Option<(UnixStream, OwnedSemaphorePermit)> {
    let next = async {
        let permit = Arc::clone(permits).acquire_owned().await.ok()?;
        loop {
            match listener.accept().await {
                Ok((stream, _)) => return Some((stream, permit)),
                Err(error) => {
                    warn!(%error, "accept a connection of the Docker API");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        next = next => next,
        () = stop.cancelled() => None,
    }
}

async fn connection(api: Arc<Api>, stream: UnixStream, permit: OwnedSemaphorePermit, stop: CancellationToken) {
    let answer = service_fn(move |request: hyper::Request<Incoming>| {
        let api = Arc::clone(&api);
        async move { Ok::<_, Infallible>(api.answer(request.map(Body::new)).await) }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).half_close(true);
    let connection = http.serve_connection(TokioIo::new(stream), answer).with_upgrades();
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "a connection of the Docker API ended early");
    }
    drop(permit);
}
