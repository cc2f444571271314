//! Questions that are not ours go to the servers the node itself uses, as they came, and so do the
//! answers. Nothing is kept.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// How many questions of this node may be under way; as in Docker.
const CONCURRENT: usize = 1024;
/// How many servers are asked, one after the other; as resolvers do.
const MAX_SERVERS: usize = 3;
/// How long a server has. A C library asks again after five seconds.
const PATIENCE: Duration = Duration::from_millis(1500);
const PORT: u16 = 53;
/// The largest answer that is taken by datagram.
const DATAGRAM: usize = 4096;
const ID: usize = 2;

/// How a question came, and so is forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

/// Servers that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// The file cannot be read.
    #[error("dns: read {path}")]
    Read {
        /// Which.
        path: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It names no server.
    #[error("dns: {path} names no server: add a line `nameserver ADDRESS`")]
    NoServer {
        /// Which.
        path: String,
    },
}

/// Why a question was not answered.
#[derive(Debug, thiserror::Error)]
pub(super) enum ForwardError {
    #[error("no other server is known")]
    NoServer,
    #[error("{CONCURRENT} questions are under way")]
    Busy,
    #[error("no server answered; the last, {server}, {why}")]
    Unanswered { server: SocketAddr, why: String },
}

/// The servers that a file in the form of /etc/resolv.conf names.
///
/// # Errors
///
/// It cannot be read, or names none.
pub fn upstreams(path: &str) -> Result<Vec<SocketAddr>, UpstreamError> {
    let text = std::fs::read(path).map_err(|source| UpstreamError::Read { path: path.to_owned(), source })?;
    let (config, _) = hickory_resolver::system_conf::parse_resolv_conf(text)
        .map_err(|_| UpstreamError::NoServer { path: path.to_owned() })?;
    let servers: Vec<_> = config.name_servers().iter().map(|server| SocketAddr::new(server.ip, PORT)).collect();
    if servers.is_empty() {
        return Err(UpstreamError::NoServer { path: path.to_owned() });
    }
    Ok(servers)
}

/// Asks other servers.
pub struct Forwarder {
    servers: Vec<SocketAddr>,
    patience: Duration,
    under_way: Semaphore,
}

impl Forwarder {
    /// Asks these, in their order; at most three.
    pub fn new(servers: Vec<SocketAddr>) -> Self {
        Self::with_patience(servers, PATIENCE)
    }

    pub(super) fn with_patience(mut servers: Vec<SocketAddr>, patience: Duration) -> Self {
        servers.truncate(MAX_SERVERS);
        Self { servers, patience, under_way: Semaphore::new(CONCURRENT) }
    }

    pub(super) async fn ask(&self, question: &[u8], transport: Transport) -> Result<Vec<u8>, ForwardError> {
        let _room = self.under_way.try_acquire().map_err(|_| ForwardError::Busy)?;
        let mut last = ForwardError::NoServer;
        for server in &self.servers {
            let asked = async {
                match transport {
                    Transport::Udp => by_udp(*server, question).await,
                    Transport::Tcp => by_tcp(*server, question).await,
                }
            };
            match timeout(self.patience, asked).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => last = ForwardError::Unanswered { server: *server, why: error.to_string() },
                Err(_) => last = ForwardError::Unanswered { server: *server, why: "was silent".to_owned() },
            }
        }
        Err(last)
    }
}

/// From a port of its own, which the kernel chooses; so an answer to another question, or one from
/// who cannot see this one, does not pass (RFC 5452 section 9.2).
async fn by_udp(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let any = match server.ip() {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut answer = vec![0; DATAGRAM];
    loop {
        let length = socket.recv(&mut answer).await?;
        if is_answer(question, &answer[..length]) {
            answer.truncate(length);
            return Ok(answer);
        }
    }
}

async fn by_tcp(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    let mut message = length.to_be_bytes().to_vec();
    message.extend(question);
    stream.write_all(&message).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    if !is_answer(question, &answer) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "answered another question"));
    }
    Ok(answer)
}

fn is_answer(question: &[u8], answer: &[u8]) -> bool {
    const HEADER: usize = 12;
    const IS_ANSWER: u8 = 0x80;
    answer.len() >= HEADER && answer[..ID] == question[..ID] && answer[2] & IS_ANSWER != 0
}
