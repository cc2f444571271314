//! The sockets of one task's resolver.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::answer::{Reply, Resolver, View};
use super::forward::Transport;

/// How many questions of one task may be with other servers, and how many connections it may have.
/// What is more is answered with an error, or not accepted yet.
const AT_ONCE: usize = 64;
/// How long a connection may be silent.
const SILENCE: Duration = Duration::from_secs(10);
/// The largest question.
const QUESTION: usize = 4096;
/// How long a connection that the system had no room for counts as one, so that failing takes time.
const BREATH: Duration = Duration::from_millis(100);

/// Why a task has no resolver.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// The sockets cannot be used.
    #[error("dns: use the {transport} socket")]
    Socket {
        /// `udp` or `tcp`.
        transport: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// The sockets of a task, bound to [`ADDRESS`](super::ADDRESS) in its namespace.
#[derive(Debug)]
pub struct Sockets {
    /// For datagrams.
    pub udp: std::net::UdpSocket,
    /// For what is too long for them.
    pub tcp: std::net::TcpListener,
}

/// Answers the questions of one task until `stop`.
///
/// # Errors
///
/// The sockets cannot be used, or broke.
pub async fn serve(
    sockets: Sockets,
    resolver: Arc<Resolver>,
    view: Arc<View>,
    stop: CancellationToken,
) -> Result<(), DnsError> {
    let udp = |source| DnsError::Socket { transport: "udp", source };
    let tcp = |source| DnsError::Socket { transport: "tcp", source };
    sockets.udp.set_nonblocking(true).map_err(udp)?;
    sockets.tcp.set_nonblocking(true).map_err(tcp)?;
    let socket = Arc::new(UdpSocket::from_std(sockets.udp).map_err(udp)?);
    let listener = TcpListener::from_std(sockets.tcp).map_err(tcp)?;
    let task = Task { resolver, view };
    let mut work = JoinSet::new();
    loop {
        let room = work.len() < AT_ONCE;
        tokio::select! {
            () = stop.cancelled() => break,
            readable = socket.readable() => {
                readable.map_err(udp)?;
                task.read(&socket, &mut work).map_err(udp)?;
            }
            accepted = listener.accept(), if room => task.accept(accepted, &mut work),
            Some(_) = work.join_next() => {}
        }
    }
    work.shutdown().await;
    Ok(())
}

#[derive(Clone)]
struct Task {
    resolver: Arc<Resolver>,
    view: Arc<View>,
}

impl Task {
    /// Answers one datagram. The buffer lives as long: an idle task has none.
    fn read(&self, socket: &Arc<UdpSocket>, work: &mut JoinSet<()>) -> io::Result<()> {
        let mut buffer = [0; QUESTION];
        let (length, from) = match socket.try_recv_from(&mut buffer) {
            Ok(received) => received,
            // The asker of an earlier answer is gone, or the datagram was taken back by the kernel.
            Err(error) if is_passing(&error) => return Ok(()),
            Err(error) => return Err(error),
        };
        let question = &buffer[..length];
        match self.resolver.reply(question, &self.view, Transport::Udp) {
            Reply::Now(answer) => send(socket, &answer, from),
            Reply::Nothing => {}
            Reply::Forward if work.len() < AT_ONCE => {
                let (task, socket, question) = (self.clone(), Arc::clone(socket), question.to_vec());
                work.spawn(async move {
                    if let Some(answer) = task.resolver.forward(&question, Transport::Udp).await {
                        send(&socket, &answer, from);
                    }
                });
            }
            Reply::Forward => {
                if let Some(answer) = self.resolver.refuse(question) {
                    send(socket, &answer, from);
                }
            }
        }
        Ok(())
    }

    fn accept(&self, accepted: io::Result<(TcpStream, SocketAddr)>, work: &mut JoinSet<()>) {
        match accepted {
            Ok((stream, _)) => {
                let task = self.clone();
                work.spawn(async move {
                    if let Err(error) = task.converse(stream).await {
                        tracing::trace!(%error, "a connection to the resolver");
                    }
                });
            }
            Err(error) => {
                tracing::debug!(%error, "a connection to the resolver was not accepted");
                work.spawn(tokio::time::sleep(BREATH));
            }
        }
    }

    async fn converse(&self, mut stream: TcpStream) -> io::Result<()> {
        loop {
            let question = timeout(SILENCE, read_message(&mut stream)).await??;
            let answer = match self.resolver.reply(&question, &self.view, Transport::Tcp) {
                Reply::Now(answer) => Some(answer),
                Reply::Nothing => None,
                Reply::Forward => self.resolver.forward(&question, Transport::Tcp).await,
            };
            let Some(answer) = answer else {
                return Ok(()); // who speaks no DNS is hung up on
            };
            let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
            let message = [&length.to_be_bytes(), answer.as_slice()].concat();
            timeout(SILENCE, stream.write_all(&message)).await??;
        }
    }
}

async fn read_message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut message = vec![0; usize::from(length)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

fn send(socket: &UdpSocket, answer: &[u8], to: SocketAddr) {
    if let Err(error) = socket.try_send_to(answer, to) {
        tracing::trace!(%error, %to, "an answer of the resolver was not sent");
    }
}

fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, ConnectionReset, Interrupted, WouldBlock};
    matches!(error.kind(), WouldBlock | Interrupted | ConnectionRefused | ConnectionReset)
}
