//! The sockets of membership, and the task that drives a [`Detector`] by them.
//!
//! Packets that lie in the socket are read before timers are looked at: what a timer would conclude
//! from silence may have been said already.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::detector::{Counters, Detector, Exchange, Transmit};
use super::member::{Members, NodeKey, Peer};
use super::notices::{Fact, FactError, Gone};
use super::seal::KeyRing;

/// How many packets are read in a row before timers have their turn.
const READ_AT_ONCE: usize = 256;
/// Larger than any packet; what is longer is cut, and then does not authenticate.
const PACKET: usize = 2048;
/// How many exchanges of each direction run at a time; more wait. Who holds
/// connections without a key takes no place from those that this node begins.
const EXCHANGES: usize = 4;
/// How long an exchange may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a connection that the system had no room for counts as one, so that failing takes time.
const BREATH: Duration = Duration::from_millis(100);
/// How long a message of an exchange may be.
const MAX_MESSAGE: usize = 4 << 20;
/// What is read before a message has authenticated is never more than what arrived; this is how
/// much room is made at a time.
const CHUNK: usize = 64 << 10;

/// Why membership does not work.
#[derive(Debug, thiserror::Error)]
pub enum GossipError {
    /// The port is taken, or the address is not this node's.
    #[error("membership: listen on {transport} {address}")]
    Listen {
        /// `udp` or `tcp`.
        transport: &'static str,
        /// Where.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The socket broke.
    #[error("membership: receive on udp {address}")]
    Receive {
        /// Where.
        address: SocketAddr,
        /// How.
        #[source]
        source: io::Error,
    },
}

struct Shared {
    detector: Mutex<Detector>,
    start: Instant,
    wake: Notify,
    members: watch::Sender<Arc<Members>>,
    gone: watch::Sender<Arc<Gone>>,
}

impl Shared {
    fn detector(&self) -> MutexGuard<'_, Detector> {
        self.detector.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }
}

/// What the rest of the daemon holds of membership. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

impl Handle {
    /// The nodes known, as they change. Only the latest value is kept.
    pub fn members(&self) -> watch::Receiver<Arc<Members>> {
        self.shared.members.subscribe()
    }

    /// The tasks known to be gone, as they change. Only the latest value is kept.
    pub fn gone(&self) -> watch::Receiver<Arc<Gone>> {
        self.shared.gone.subscribe()
    }

    /// See [`Detector::introduce`].
    pub fn introduce(&self, peers: &[Peer]) {
        self.with(|detector, now| detector.introduce(peers, now));
    }

    /// See [`Detector::forget`].
    pub fn forget(&self, node: NodeKey) {
        self.with(|detector, now| detector.forget(node, now));
    }

    /// See [`Detector::rotate`].
    pub fn rotate(&self, ring: KeyRing) {
        self.with(|detector, _| detector.rotate(ring));
    }

    /// See [`Detector::tell`].
    ///
    /// # Errors
    ///
    /// It is too long.
    pub fn tell(&self, fact: Fact) -> Result<(), FactError> {
        self.with(|detector, now| detector.tell(fact, now))
    }

    /// See [`Detector::counters`].
    pub fn counters(&self) -> Counters {
        self.shared.detector().counters()
    }

    /// See [`Detector::generation`].
    pub fn generation(&self) -> u64 {
        self.shared.detector().generation()
    }

    fn with<T>(&self, act: impl FnOnce(&mut Detector, Duration) -> T) -> T {
        let now = self.shared.now();
        let done = act(&mut self.shared.detector(), now);
        self.shared.wake.notify_one();
        done
    }
}

/// The sockets of one node's membership.
pub struct Endpoint {
    shared: Arc<Shared>,
    udp: Arc<UdpSocket>,
    tcp: TcpListener,
    address: SocketAddr,
}

impl Endpoint {
    /// Takes the sockets: UDP and TCP at one address.
    ///
    /// # Errors
    ///
    /// One of them cannot be had.
    pub async fn bind(address: SocketAddr, detector: Detector) -> Result<Self, GossipError> {
        let failed = |transport| move |source| GossipError::Listen { transport, address, source };
        let udp = UdpSocket::bind(address).await.map_err(failed("udp"))?;
        // The same port for both, also where the caller left the choice to the kernel.
        let address = udp.local_addr().map_err(failed("udp"))?;
        let tcp = TcpListener::bind(address).await.map_err(failed("tcp"))?;
        let shared = Shared {
            detector: Mutex::new(detector),
            start: Instant::now(),
            wake: Notify::new(),
            members: watch::Sender::default(),
            gone: watch::Sender::default(),
        };
        Ok(Self { shared: Arc::new(shared), udp: Arc::new(udp), tcp, address })
    }

    /// What the rest of the daemon needs.
    pub fn handle(&self) -> Handle {
        Handle { shared: Arc::clone(&self.shared) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes part until `stop`, then says good-bye.
    ///
    /// # Errors
    ///
    /// The socket broke.
    pub async fn run(self, stop: CancellationToken) -> Result<(), GossipError> {
        let (mut asked, mut served) = (JoinSet::new(), JoinSet::new());
        loop {
            self.read()?;
            let deadline = {
                let mut detector = self.shared.detector();
                detector.tick(self.shared.now());
                detector.deadline()
            };
            self.flush(&mut asked);
            let due = deadline.map_or_else(|| Instant::now() + PATIENCE, |at| self.shared.start + at);
            tokio::select! {
                () = stop.cancelled() => break,
                ready = self.udp.readable() => ready.map_err(|source| self.broken(source))?,
                () = self.shared.wake.notified() => {}
                () = sleep_until(due) => {}
                Some(_) = asked.join_next() => {}
                Some(_) = served.join_next() => {}
                accepted = self.tcp.accept(), if served.len() < EXCHANGES => self.accept(accepted, &mut served),
            }
        }
        self.shared.detector().leave(self.shared.now());
        self.flush(&mut asked);
        asked.shutdown().await;
        served.shutdown().await;
        Ok(())
    }

    fn broken(&self, source: io::Error) -> GossipError {
        GossipError::Receive { address: self.address, source }
    }

    fn read(&self) -> Result<(), GossipError> {
        let mut packet = [0; PACKET];
        for _ in 0..READ_AT_ONCE {
            match self.udp.try_recv_from(&mut packet) {
                Ok((length, _)) => self.shared.detector().receive(&packet[..length], self.shared.now()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // An earlier packet met a closed port: that is for the detector to find out.
                Err(error) if is_of_a_peer(&error) => {}
                Err(source) => return Err(self.broken(source)),
            }
        }
        Ok(())
    }

    /// Sends what is to be sent, and shows what has changed.
    fn flush(&self, asked: &mut JoinSet<()>) {
        let (transmits, members, gone) = {
            let mut detector = self.shared.detector();
            (detector.transmits(), detector.members(), detector.gone())
        };
        for transmit in transmits {
            match transmit {
                Transmit::Datagram { to, packet } => {
                    // A packet that does not fit into the socket is lost as on the wire.
                    if let Err(error) = self.udp.try_send_to(&packet, to) {
                        tracing::trace!(%error, %to, "a packet of membership was not sent");
                    }
                }
                Transmit::Exchange { with } if asked.len() < EXCHANGES => {
                    let shared = Arc::clone(&self.shared);
                    asked.spawn(async move { finish(timeout(PATIENCE, ask(&shared, with)).await, with, &shared) });
                }
                Transmit::Exchange { .. } => {}
            }
        }
        publish(&self.shared.members, members);
        publish(&self.shared.gone, gone);
    }

    fn accept(&self, accepted: io::Result<(TcpStream, SocketAddr)>, served: &mut JoinSet<()>) {
        match accepted {
            Ok((stream, from)) => {
                let shared = Arc::clone(&self.shared);
                served.spawn(async move { finish(timeout(PATIENCE, serve(&shared, stream)).await, from, &shared) });
            }
            Err(error) => {
                tracing::debug!(%error, "an exchange of membership was not accepted");
                served.spawn(tokio::time::sleep(BREATH));
            }
        }
    }
}

fn publish<T: PartialEq>(to: &watch::Sender<Arc<T>>, value: Arc<T>) {
    to.send_if_modified(|shown| {
        let changed = !Arc::ptr_eq(shown, &value);
        *shown = value;
        changed
    });
}

fn is_of_a_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, ConnectionReset, HostUnreachable, Interrupted, NetworkUnreachable};
    matches!(error.kind(), ConnectionRefused | ConnectionReset | HostUnreachable | NetworkUnreachable | Interrupted)
}

fn finish(done: Result<io::Result<()>, tokio::time::error::Elapsed>, with: SocketAddr, shared: &Shared) {
    match done {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, %with, "an exchange of membership"),
        Err(_) => tracing::debug!(%with, "an exchange of membership took too long"),
    }
    shared.wake.notify_one();
}

async fn ask(shared: &Shared, with: SocketAddr) -> io::Result<()> {
    let opening = shared.detector().open_exchange();
    let Some(opening) = opening else {
        return Ok(());
    };
    let mut stream = TcpStream::connect(with).await?;
    write(&mut stream, &opening).await?;
    let answer = read(&mut stream).await?;
    let closing = take(shared, &answer, Exchange::Close)?;
    write(&mut stream, &closing.unwrap_or_default()).await
}

async fn serve(shared: &Shared, mut stream: TcpStream) -> io::Result<()> {
    let asked = read(&mut stream).await?;
    let answer = take(shared, &asked, Exchange::Answer)?;
    write(&mut stream, &answer.unwrap_or_default()).await?;
    let closing = read(&mut stream).await?;
    take(shared, &closing, Exchange::Finish).map(drop)
}

fn take(shared: &Shared, message: &[u8], step: Exchange) -> io::Result<Option<Vec<u8>>> {
    let now = shared.now();
    let taken = shared.detector().continue_exchange(message, step, now);
    taken.map_err(|rejected| io::Error::new(io::ErrorKind::InvalidData, format!("rejected: {rejected:?}")))
}

async fn write(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u32::try_from(message.len()).map_err(io::Error::other)?;
    stream.write_all(&length.to_be_bytes()).await?;
    stream.write_all(message).await
}

async fn read(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = stream.read_u32().await? as usize;
    if length > MAX_MESSAGE {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{length} bytes announced")));
    }
    let mut message = Vec::new();
    while message.len() < length {
        let before = message.len();
        message.resize(length.min(before + CHUNK), 0);
        stream.read_exact(&mut message[before..]).await?;
    }
    Ok(message)
}
