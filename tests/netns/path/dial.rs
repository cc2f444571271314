//! Clients with plain sockets: many short requests, one long connection, and how a refusal arrives.

use std::io::{self, BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use harness::clients::{Seen, ask, seen};
use harness::{Netns, Transport};

/// For an answer that should be there in a millisecond, on a machine that may be busy.
const LIMIT: Duration = Duration::from_secs(10);
/// How long a client may wait for the news that nobody is there.
const AT_ONCE: Duration = Duration::from_secs(1);

/// A datagram that nobody answers.
const DATAGRAM: [u8; 64] = [b'?'; 64];

/// How many times whoever chooses at random among two is asked until both were met: that one is
/// missed by chance in 64 has a probability of 2^-63.
const ENOUGH: usize = 64;

/// Asks until every one of `names` has answered; each answer tells the client's true address.
#[track_caller]
pub(crate) fn assert_reaches_all(
    from: &Netns,
    transport: Transport,
    to: IpAddr,
    port: u16,
    own: IpAddr,
    names: &[&str],
) {
    let mut missing = names.to_vec();
    for _ in 0..ENOUGH {
        let seen = ask(from, transport, to, port).unwrap();
        assert_eq!(Some(seen.peer), seen.sent_from, "{transport:?} to {to}: {seen:?}");
        assert_eq!(seen.peer.ip(), own);
        assert!(names.contains(&seen.name.as_str()), "{} is none of {names:?}", seen.name);
        missing.retain(|name| *name != seen.name);
        if missing.is_empty() {
            return;
        }
    }
    panic!("{transport:?} to {to}, port {port}: {missing:?} were never reached");
}

/// Fetches by HTTP, each time on a connection of its own; says which requests failed, and how.
pub(crate) fn failed_requests(from: &Netns, to: IpAddr, port: u16, count: usize) -> Vec<String> {
    let once = || -> io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&SocketAddr::new(to, port), LIMIT)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: mesh\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    let wrong = |index: usize| match once() {
        Ok(text) if text.starts_with("HTTP/1.1 200 ") && text.contains("\"name\"") => None,
        Ok(text) => Some(format!("request {index}: {text:?}")),
        Err(error) => Some(format!("request {index}: {error}")),
    };
    from.enter(|| (0..count).filter_map(wrong).collect()).unwrap()
}

/// A TCP connection attempt is refused, at once.
#[track_caller]
pub(crate) fn assert_tcp_refused(from: &Netns, to: IpAddr, port: u16) {
    let start = Instant::now();
    let error = from.enter(|| TcpStream::connect_timeout(&SocketAddr::new(to, port), LIMIT)).unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "TCP to {to}, port {port}: {error}");
    assert!(start.elapsed() < AT_ONCE, "TCP to {to}, port {port} was refused after {:?}", start.elapsed());
}

/// A datagram gets "port unreachable", at once. One may be lost, as datagrams may; not three.
#[track_caller]
pub(crate) fn assert_udp_refused(from: &Netns, to: IpAddr, port: u16) {
    let attempt = || -> io::Result<usize> {
        let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect((to, port))?;
        socket.set_read_timeout(Some(AT_ONCE))?;
        socket.send(&DATAGRAM)?;
        socket.recv(&mut [0; 64])
    };
    let kind = || from.enter(attempt).unwrap().unwrap_err().kind();
    assert!((0..3).any(|_| kind() == ErrorKind::ConnectionRefused), "UDP to {to}, port {port} meets with silence");
}

/// A connection to `whoami` that stays open.
pub(crate) struct Long {
    stream: BufReader<TcpStream>,
    /// Who answers.
    pub(crate) name: String,
}

impl Long {
    #[track_caller]
    pub(crate) fn open(from: &Netns, to: IpAddr, port: u16) -> Self {
        let stream = from.enter(|| TcpStream::connect_timeout(&SocketAddr::new(to, port), LIMIT)).unwrap().unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut long = Self { stream: BufReader::new(stream), name: String::new() };
        long.name = long.ask().unwrap().name;
        long
    }

    /// One more question on the same connection.
    pub(crate) fn ask(&mut self) -> io::Result<Seen> {
        self.stream.get_mut().write_all(b"still there?\n")?;
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        seen(&line).map_err(|error| io::Error::other(format!("{error:#}")))
    }
}

/// A socket that sends datagrams to `whoami`.
pub(crate) struct Datagrams {
    socket: UdpSocket,
}

impl Datagrams {
    #[track_caller]
    pub(crate) fn open(from: &Netns, to: IpAddr, port: u16) -> Self {
        let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = from.enter(|| UdpSocket::bind((any, 0))).unwrap().unwrap();
        socket.connect((to, port)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        Self { socket }
    }

    /// Asks once; who answered, if somebody did.
    pub(crate) fn ask(&mut self) -> Option<String> {
        self.socket.send(b"still there?").ok()?;
        let mut datagram = [0; 2048];
        let length = self.socket.recv(&mut datagram).ok()?;
        Some(seen(&String::from_utf8_lossy(&datagram[..length])).ok()?.name)
    }
}
