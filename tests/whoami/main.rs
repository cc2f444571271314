//! A service that tells its clients how they look from here.
//!
//! One port, TCP and UDP, IPv4 and IPv6: a line over TCP or a datagram gets one JSON line back, a
//! first line that is an HTTP request gets HTTP/1.1. It needs only std, so that it links statically
//! into an image with nothing else in it. It never trusts its clients: connections, lines and idle
//! time have limits.

mod answer;
mod http;
mod shutdown;

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use answer::Answers;

const USAGE: &str = "whoami [--name NAME] [--port PORT] [--max-connections N] [--idle-ms MS]";
/// Longest line and longest header line.
const LINE_MAX: u64 = 4096;
/// How long an end waits for clients.
const DRAIN_LIMIT: Duration = Duration::from_secs(2);
/// Longest datagram over IP.
const DATAGRAM_MAX: usize = 65_536;

struct Config {
    name: String,
    port: u16,
    max_connections: usize,
    idle: Duration,
}

struct Server {
    answers: Answers,
    max_connections: usize,
    idle: Duration,
    connections: AtomicUsize,
    /// It is to end: clients on kept connections are told with their next answer.
    closing: AtomicBool,
}

fn main() -> ExitCode {
    match Config::from_arguments(std::env::args().skip(1)).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "whoami: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(config: Config) -> io::Result<()> {
    let shutdown = shutdown::listen()?;
    let (tcp, udp) = bind(config.port)?;
    let server = Arc::new(Server {
        answers: Answers::new(config.name),
        max_connections: config.max_connections,
        idle: config.idle,
        connections: AtomicUsize::new(0),
        closing: AtomicBool::new(false),
    });
    let port = tcp.local_addr()?.port();
    let (datagrams, streams) = (Arc::clone(&server), Arc::clone(&server));
    std::thread::Builder::new().name("udp".into()).spawn(move || datagrams.serve_udp(&udp))?;
    std::thread::Builder::new().name("tcp".into()).spawn(move || streams.serve_tcp(&tcp))?;
    writeln!(io::stdout(), "whoami listens on port {port}")?;
    shutdown.wait()?;
    server.finish();
    Ok(())
}

/// Both families on one socket each, or IPv4 alone where there is no IPv6.
fn bind(port: u16) -> io::Result<(TcpListener, UdpSocket)> {
    let on = |address: IpAddr| -> io::Result<_> {
        let tcp = TcpListener::bind((address, port))?;
        let udp = UdpSocket::bind((address, tcp.local_addr()?.port()))?;
        Ok((tcp, udp))
    };
    on(Ipv6Addr::UNSPECIFIED.into()).or_else(|_| on(Ipv4Addr::UNSPECIFIED.into()))
}

impl Config {
    fn from_arguments(mut arguments: impl Iterator<Item = String>) -> io::Result<Self> {
        let mut config = Self { name: hostname(), port: 7000, max_connections: 256, idle: Duration::from_secs(10) };
        while let Some(flag) = arguments.next() {
            let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, format!("{what}\nusage: {USAGE}"));
            let value = arguments.next().ok_or_else(|| wrong(&format!("{flag} needs a value, or is unknown")))?;
            let number = || value.parse::<u64>().map_err(|_| wrong(&format!("{flag} needs a number, not {value:?}")));
            match flag.as_str() {
                "--name" => config.name = value,
                "--port" => config.port = value.parse().map_err(|_| wrong("--port needs a port"))?,
                "--max-connections" => {
                    config.max_connections = usize::try_from(number()?).map_err(|_| wrong("too many"))?
                }
                "--idle-ms" => config.idle = Duration::from_millis(number()?.max(1)),
                _ => return Err(wrong(&format!("unknown flag {flag}"))),
            }
        }
        Ok(config)
    }
}

fn hostname() -> String {
    let read =
        std::fs::read_to_string("/proc/sys/kernel/hostname").or_else(|_| std::fs::read_to_string("/etc/hostname"));
    read.map_or_else(|_| "unknown".to_owned(), |name| name.trim().to_owned())
}

impl Server {
    /// Tells clients that it ends, and waits until they have gone; those that stay silent do not hold it up for long.
    fn finish(&self) {
        self.closing.store(true, Ordering::SeqCst);
        let deadline = Instant::now() + DRAIN_LIMIT;
        while self.connections.load(Ordering::SeqCst) > 0 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn serve_udp(&self, socket: &UdpSocket) {
        let mut datagram = vec![0; DATAGRAM_MAX];
        loop {
            // An error belongs to an earlier reply (port unreachable): the next datagram may be fine.
            let Ok((length, peer)) = socket.recv_from(&mut datagram) else { continue };
            let said = String::from_utf8_lossy(&datagram[..length]).into_owned();
            let reply = self.answers.reply("udp", peer, None, said.trim_end());
            let _ = socket.send_to(reply.as_bytes(), peer);
        }
    }

    fn serve_tcp(self: &Arc<Self>, listener: &TcpListener) {
        loop {
            let Ok((mut stream, peer)) = listener.accept() else {
                // Out of file descriptors, most likely: existing connections will give some back.
                std::thread::sleep(Duration::from_millis(10));
                continue;
            };
            if self.connections.fetch_add(1, Ordering::SeqCst) >= self.max_connections {
                self.connections.fetch_sub(1, Ordering::SeqCst);
                let _ = stream.write_all(b"{\"error\":\"too many connections\"}\n");
                continue;
            }
            let server = Arc::clone(self);
            let spawned = std::thread::Builder::new().spawn(move || {
                // A client that goes away or stays silent ends its own connection only.
                let _ = server.serve_stream(&stream, peer);
                server.connections.fetch_sub(1, Ordering::SeqCst);
            });
            if spawned.is_err() {
                self.connections.fetch_sub(1, Ordering::SeqCst);
            }
        }
    }

    fn serve_stream(&self, stream: &TcpStream, peer: SocketAddr) -> io::Result<()> {
        stream.set_read_timeout(Some(self.idle))?;
        stream.set_write_timeout(Some(self.idle))?;
        stream.set_nodelay(true)?;
        let local = stream.local_addr().ok();
        let mut reader = BufReader::new(stream);
        while let Some(line) = read_line(&mut reader)? {
            if http::is_request(&line) {
                let ask = |path: &str| self.answers.reply("http", peer, local, path);
                let closing = || self.closing.load(Ordering::SeqCst);
                if !http::serve(&line, &mut reader, stream, ask, closing)? {
                    return Ok(());
                }
            } else {
                let mut to = stream;
                to.write_all(self.answers.reply("tcp", peer, local, &line).as_bytes())?;
            }
        }
        Ok(())
    }
}

/// The next line without its end; `None` at the end of the stream.
fn read_line(reader: &mut BufReader<&TcpStream>) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    reader.by_ref().take(LINE_MAX).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    // At the end of the stream the last line may lack its end; otherwise it was cut by the limit.
    if line.last() != Some(&b'\n') && !reader.fill_buf()?.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the line is too long"));
    }
    Ok(Some(String::from_utf8_lossy(&line).trim_end().to_owned()))
}
