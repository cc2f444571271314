//! The socket and the port: accept connections and let each speak HTTP/1.1 to the router.
//!
//! Bounded: connections by a semaphore, the time for the head of a request by hyper's timer, bodies by
//! [`super::body`]. A client that reads slowly holds its own connection and nothing else.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::tls::{Remote, RemoteError, Stranger, TlsListener};
use super::{Api, Connection};

/// Connections at a time; the next wait in the socket's backlog.
const MAX_CONNECTIONS: usize = 2048;

/// The same over TCP, where the next is anybody until its handshake is done.
const MAX_REMOTE: usize = 512;

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

/// Where the API is served.
pub struct Listener(At);

enum At {
    Unix(UnixListener),
    Tcp(TlsListener),
}

/// Who has come.
enum Accepted {
    Unix(UnixStream),
    Tcp(Stranger),
}

impl Listener {
    /// Where it is, if it is on TCP: the kernel has chosen the port if none was asked for.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        match &self.0 {
            At::Unix(_) => None,
            At::Tcp(listener) => listener.address(),
        }
    }

    fn places(&self) -> usize {
        match self.0 {
            At::Unix(_) => MAX_CONNECTIONS,
            At::Tcp(_) => MAX_REMOTE,
        }
    }

    async fn accept(&self) -> io::Result<Accepted> {
        match &self.0 {
            At::Unix(listener) => Ok(Accepted::Unix(listener.accept().await?.0)),
            At::Tcp(listener) => Ok(Accepted::Tcp(listener.accept().await?)),
        }
    }
}

/// Listens on TCP, for who has a certificate.
///
/// # Errors
/// The files are not what they should be, or the port is taken.
pub async fn listen_remote(remote: &Remote) -> Result<Listener, RemoteError> {
    Ok(Listener(At::Tcp(TlsListener::open(remote).await?)))
}

/// Listens at `path`, for root and, if it exists, `group`. What a daemon that died left there is replaced;
/// what is served is not.
///
/// # Errors
/// The socket is taken, or cannot be made.
pub fn listen(path: &Path, group: &str) -> Result<Listener, ServeError> {
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
    Ok(Listener(At::Unix(listener)))
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

/// Speaks HTTP on a connection until the other side hangs up.
pub(super) async fn speak<F>(connection: impl Connection, answer: impl Fn(Request<Body>) -> F)
where
    F: Future<Output = Response<Body>> + Send,
{
    let answer = service_fn(|request: Request<Incoming>| {
        let answered = answer(request.map(Body::new));
        async move { Ok::<_, Infallible>(answered.await) }
    });
    if let Err(error) = http().serve_connection(TokioIo::new(connection), answer).with_upgrades().await {
        debug!(%error, "a manager's connection to the Docker API ended early");
    }
}

fn http() -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).half_close(true);
    http
}

/// Serves until `stop`, then lets open answers end.
pub async fn serve(api: Arc<Api>, listener: Listener, stop: CancellationToken) {
    let permits = Arc::new(Semaphore::new(listener.places()));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Some((accepted, permit)) = accept(&listener, &permits, &stop).await else { break };
        let (api, stop) = (Arc::clone(&api), stop.clone());
        connections.spawn(async move {
            match accepted {
                Accepted::Unix(stream) => connection(api, stream, stop).await,
                Accepted::Tcp(stranger) => {
                    if let Some(stream) = stranger.admit().await {
                        connection(api, stream, stop).await;
                    }
                }
            }
            drop(permit);
        });
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
    listener: &Listener,
    permits: &Arc<Semaphore>,
    stop: &CancellationToken,
) -> Option<(Accepted, OwnedSemaphorePermit)> {
    let next = async {
        let permit = Arc::clone(permits).acquire_owned().await.ok()?;
        loop {
            match listener.accept().await {
                Ok(accepted) => return Some((accepted, permit)),
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

async fn connection(api: Arc<Api>, stream: impl Connection, stop: CancellationToken) {
    let answer = service_fn(move |request: Request<Incoming>| {
        let api = Arc::clone(&api);
        async move { Ok::<_, Infallible>(api.answer(request.map(Body::new)).await) }
    });
    let connection = http().serve_connection(TokioIo::new(stream), answer).with_upgrades();
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
}
