//! A load that never ceases: clients outside who ask a published port of every node in turn, on connections of
//! their own and on connections that are kept, and remember each request that failed.
//!
//! No port of the client is used towards two nodes: a task sees the client's own address, and could not tell two
//! such connections apart (`PortTaken`). Real clients have an address each.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, setsockopt, socket, sockopt};
use nix::sys::time::TimeVal;

use crate::netns::Netns;

/// A request that takes longer has failed.
const LIMIT: Duration = Duration::from_secs(5);
/// Between two requests of a client: the machine has other things to do.
const PAUSE: Duration = Duration::from_millis(2);
/// The ports of clients, which are dealt out to pairs of a client and a node.
const PORTS: std::ops::Range<u16> = 10_000..60_000;
/// Failures that are remembered in words.
const REMEMBERED: usize = 20;

/// How a client connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Connection {
    /// Anew for each request.
    Short,
    /// Once, and again when the server says that it closes.
    Kept,
}

/// A running load.
pub struct Load {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    clients: Vec<(Connection, JoinHandle<Failed>)>,
}

/// What failed of a client.
#[derive(Default)]
struct Failed {
    requests: u64,
    /// The first of them, in words.
    words: Vec<String>,
}

/// What came of it.
#[derive(Debug)]
pub struct Loaded {
    /// Requests made.
    pub asked: u64,
    /// Those that failed on connections of their own, in words; of many the first.
    pub short: Vec<String>,
    /// Those that failed on connections that were kept, likewise.
    pub kept: Vec<String>,
    /// How many connections that were kept were lost.
    pub lost: u64,
}

impl Load {
    /// Begins, with so many clients of each kind, who ask these addresses.
    ///
    /// # Errors
    /// The namespace cannot be entered.
    pub fn start(from: &Netns, to: &[Ipv4Addr], port: u16, clients: usize) -> Result<Self> {
        ensure!(!to.is_empty(), "nobody to be asked");
        let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let begun = Instant::now();
        let mut running = Vec::new();
        for (number, kind) in [Connection::Short, Connection::Kept].into_iter().cycle().take(2 * clients).enumerate() {
            let share = PORTS.len() / (2 * clients * to.len());
            let targets = (0..to.len()).map(|at| {
                let first = PORTS.start + u16::try_from((number * to.len() + at) * share)?;
                let ports = first..first + u16::try_from(share)?;
                Ok(Target { address: SocketAddrV4::new(to[at], port), next: ports.start, ports, kept: None })
            });
            let mut targets = targets.collect::<Result<Vec<_>>>()?;
            targets.rotate_left(number / 2 % to.len());
            let (stop, asked) = (Arc::clone(&stop), Arc::clone(&asked));
            let client = move || follow(kind, &mut targets, begun, &stop, &asked);
            running.push((kind, from.enter(|| std::thread::spawn(client))?));
        }
        Ok(Self { stop, asked, clients: running })
    }

    /// How many requests were made so far.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// Ends, and tells.
    pub fn end(mut self) -> Loaded {
        self.stop.store(true, Ordering::Relaxed);
        let mut loaded = Loaded { asked: 0, short: Vec::new(), kept: Vec::new(), lost: 0 };
        for (kind, client) in self.clients.drain(..) {
            let panicked = || Failed { requests: 1, words: vec!["a client panicked".to_owned()] };
            let failed = client.join().unwrap_or_else(|_| panicked());
            match kind {
                Connection::Short => loaded.short.extend(failed.words),
                Connection::Kept => {
                    loaded.lost += failed.requests;
                    loaded.kept.extend(failed.words);
                }
            }
        }
        loaded.asked = self.asked();
        loaded
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Loaded {
    /// An error that names what failed, if anything did or too little was asked.
    ///
    /// # Errors
    /// See there.
    pub fn check(&self, at_least: u64) -> Result<()> {
        self.check_short(at_least)?;
        ensure!(self.kept.is_empty(), "of {} requests these failed:\n{}", self.asked, self.kept.join("\n"));
        Ok(())
    }

    /// As [`Loaded::check`], of connections that are not kept.
    ///
    /// # Errors
    /// See there.
    pub fn check_short(&self, at_least: u64) -> Result<()> {
        ensure!(self.short.is_empty(), "of {} requests these failed:\n{}", self.asked, self.short.join("\n"));
        ensure!(self.asked >= at_least, "only {} requests were made", self.asked);
        Ok(())
    }
}

/// A node as one client asks it.
struct Target {
    address: SocketAddrV4,
    /// The client's own, towards this node.
    ports: std::ops::Range<u16>,
    next: u16,
    kept: Option<BufReader<TcpStream>>,
}

impl Target {
    fn connect(&mut self) -> Result<TcpStream> {
        let stream = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        setsockopt(&stream, sockopt::ReuseAddr, &true)?;
        let limit = TimeVal::new(LIMIT.as_secs().cast_signed(), 0);
        // Of the connection too.
        setsockopt(&stream, sockopt::SendTimeout, &limit)?;
        setsockopt(&stream, sockopt::ReceiveTimeout, &limit)?;
        // A port may rest yet from what was asked before the load began.
        let bound = (0..self.ports.len()).find_map(|_| {
            let own = SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, self.next));
            self.next = if self.next + 1 < self.ports.end { self.next + 1 } else { self.ports.start };
            bind(stream.as_raw_fd(), &own).ok()
        });
        bound.context("every port of the client is taken")?;
        connect(stream.as_raw_fd(), &SockaddrIn::from(self.address))?;
        let stream = TcpStream::from(stream);
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

fn follow(kind: Connection, targets: &mut [Target], begun: Instant, stop: &AtomicBool, asked: &AtomicU64) -> Failed {
    let mut failed = Failed::default();
    for number in 0_usize.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let count = targets.len();
        let target = &mut targets[number % count];
        let since = begun.elapsed();
        asked.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = ask(kind, target) {
            target.kept = None;
            failed.requests += 1;
            if failed.words.len() < REMEMBERED {
                failed.words.push(format!("{since:.2?}: {kind:?} to {}: {error:#}", target.address.ip()));
            }
        }
        std::thread::sleep(PAUSE);
    }
    failed
}

/// One request of HTTP.
fn ask(kind: Connection, target: &mut Target) -> Result<()> {
    if target.kept.is_none() {
        target.kept = Some(BufReader::new(target.connect()?));
    }
    let Some(stream) = &mut target.kept else { bail!("no connection") };
    let connection = if kind == Connection::Short { "close" } else { "keep-alive" };
    let request = format!("GET / HTTP/1.1\r\nHost: test\r\nConnection: {connection}\r\n\r\n");
    stream.get_mut().write_all(request.as_bytes())?;
    let (mut length, mut closes) = (0, false);
    let mut line = String::new();
    for number in 0.. {
        line.clear();
        if stream.read_line(&mut line)? == 0 {
            bail!("the connection ended in the answer, line {number}");
        }
        let text = line.trim_end().to_ascii_lowercase();
        if number == 0 {
            ensure!(text == "http/1.1 200 ok", "answered {text:?}");
        }
        if let Some(value) = text.strip_prefix("content-length: ") {
            length = value.parse()?;
        }
        closes |= text == "connection: close";
        if text.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    if closes {
        target.kept = None;
    }
    Ok(())
}
