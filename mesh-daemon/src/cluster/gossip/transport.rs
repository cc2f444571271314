//! The sockets of membership, and the task that drives a [`Detector`] by them.
//!
//! Packets that lie in the socket are read before timers are looked at: what a timer would conclude
//! from silence may have been said already.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::detector::{Counters, Detector, Exchange, Transmit};
use super::knock::Knocker;
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
/// So many connections wait to be taken: one of each node that misses this one, and then some.
const BACKLOG: u32 = 1024;
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

pub(super) struct Shared {
    detector: Mutex<Detector>,
    start: Instant,
    wake: Notify,
    members: watch::Sender<Arc<Members>>,
    gone: watch::Sender<Arc<Gone>>,
}

impl Shared {
    pub(super) fn detector(&self) -> MutexGuard<'_, Detector> {
        self.detector.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Something was learnt: it is to be shown.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
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

    /// See [`Detector::leave`].
    pub fn leave(&self) {
        self.with(Detector::leave);
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
    /// Takes the sockets: UDP and TCP at one address. The one of TCP is shared with the process that held the
    /// node's place until now; two daemons would meet at UDP's.
    ///
    /// # Errors
    ///
    /// One of them cannot be had.
    pub async fn bind(address: SocketAddr, detector: Detector) -> Result<Self, GossipError> {
        let failed = |transport| move |source| GossipError::Listen { transport, address, source };
        let udp = UdpSocket::bind(address).await.map_err(failed("udp"))?;
        // The same port for both, also where the caller left the choice to the kernel.
        let address = udp.local_addr().map_err(failed("udp"))?;
        let tcp = listen(address).map_err(failed("tcp"))?;
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

    /// Its listening socket once more, for who keeps the node's place while this process is away.
    ///
    /// # Errors
    ///
    /// There are too many open files.
    pub fn place(&self) -> io::Result<OwnedFd> {
        self.tcp.as_fd().try_clone_to_owned()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes part until `stop`. It ends without a word, unless [`Handle::leave`] came before: the node's place
    /// may be kept.
    ///
    /// # Errors
    ///
    /// The socket broke.
    pub async fn run(self, stop: CancellationToken) -> Result<(), GossipError> {
        let (mut asked, mut served, mut knocks) = (JoinSet::new(), JoinSet::new(), JoinSet::new());
        loop {
            self.read()?;
            let deadline = {
                let mut detector = self.shared.detector();
                detector.tick(self.shared.now());
                detector.deadline()
            };
            self.flush(&mut asked, &mut knocks);
            let due = deadline.map_or_else(|| Instant::now() + PATIENCE, |at| self.shared.start + at);
            tokio::select! {
                () = stop.cancelled() => break,
                ready = self.udp.readable() => ready.map_err(|source| self.broken(source))?,
                () = self.shared.wake.notified() => {}
                () = sleep_until(due) => {}
                Some(_) = asked.join_next() => {}
                Some(_) = served.join_next() => {}
                Some(_) = knocks.join_next() => {}
                accepted = self.tcp.accept(), if served.len() < EXCHANGES => self.accept(accepted, &mut served),
            }
        }
        self.flush(&mut asked, &mut knocks);
        asked.shutdown().await;
        served.shutdown().await;
        knocks.shutdown().await;
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
    fn flush(&self, asked: &mut JoinSet<()>, knocks: &mut JoinSet<()>) {
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
                // The detector bounds their number.
                Transmit::Knock { node, generation, at } => {
                    let knocker = Knocker { shared: Arc::clone(&self.shared), node, generation, at };
                    knocks.spawn(knocker.run());
                }
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

/// A listening socket that another may have too: whoever keeps this node's place goes when this one is there.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
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
    if asked.is_empty() {
        // Somebody knocked: that it is taken is the answer.
        return Ok(());
    }
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
