//! Real clients, run in a namespace, with what they say as numbers.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::netns::{Netns, Transport};

/// How a ping is sent.
#[derive(Clone, Debug)]
pub struct Ping {
    /// Echo requests.
    pub count: u32,
    /// Bytes behind the ICMP header.
    pub size: u32,
    /// Forbids fragmentation, by the sender too.
    pub dont_fragment: bool,
    /// Between two requests, milliseconds.
    pub interval_ms: u32,
    /// For the last reply, milliseconds.
    pub wait_ms: u32,
}

impl Default for Ping {
    fn default() -> Self {
        Self { count: 3, size: 56, dont_fragment: false, interval_ms: 5, wait_ms: 1000 }
    }
}

/// What came of a ping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinged {
    /// Requests sent.
    pub sent: u32,
    /// Replies received.
    pub received: u32,
    /// Everything ping said, for the errors it names.
    pub said: String,
}

impl Pinged {
    /// Did every request get its reply?
    pub fn is_whole(&self) -> bool {
        self.sent > 0 && self.received == self.sent
    }
}

/// Pings an address.
pub fn ping(ns: &Netns, target: impl Into<IpAddr>, ping: &Ping) -> Result<Pinged> {
    let target = target.into().to_string();
    let seconds = |ms: u32| format!("{}.{:03}", ms / 1000, ms % 1000);
    let (count, size) = (ping.count.to_string(), ping.size.to_string());
    let (interval, wait) = (seconds(ping.interval_ms), seconds(ping.wait_ms));
    let mut argv = vec!["ping", "-n", "-c", &count, "-s", &size, "-i", &interval, "-W", &wait];
    if ping.dont_fragment {
        argv.extend(["-M", "do"]);
    }
    argv.push(&target);
    let output = ns.command(argv).env("LC_ALL", "C").attempt()?;
    let said = format!("{}{}", output.stdout, output.stderr);
    let numbers = said.lines().find_map(|line| {
        let (sent, rest) = line.split_once(" packets transmitted, ")?;
        Some((sent.parse().ok()?, rest.split(' ').next()?.parse().ok()?))
    });
    let (sent, received) = numbers.with_context(|| format!("ping counted nothing, {output}"))?;
    Ok(Pinged { sent, received, said })
}

/// An HTTP response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Everything behind the headers.
    pub body: String,
    /// Connections opened for it: 0 if an earlier one was reused.
    pub connects: u32,
}

/// Fetches with curl; `more` are further arguments, e.g. `["--local-port", "4000"]`.
pub fn curl(ns: &Netns, url: &str, more: &[&str]) -> Result<Response> {
    let format = "\n%{http_code} %{num_connects}";
    let mut argv = vec!["curl", "-gsS", "--noproxy", "*", "--max-time", "10", "-w", format];
    argv.extend(more);
    argv.push(url);
    let output = ns.run(argv)?;
    let (body, numbers) = output.stdout.rsplit_once('\n').context("curl says nothing")?;
    let (status, connects) = numbers.split_once(' ').context("curl gives no numbers")?;
    Ok(Response { status: status.parse()?, body: body.to_owned(), connects: connects.parse()? })
}

/// `http://ADDRESS:PORT/`, with brackets where IPv6 needs them.
pub fn url(address: impl Into<IpAddr>, port: u16) -> String {
    format!("http://{}/", SocketAddr::new(address.into(), port))
}

/// What iperf3 measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Iperf3 {
    /// Bytes that left the sender.
    pub sent: u64,
    /// Bytes that had reached the receiver when the test ended: less than were sent if it ended by
    /// an amount (`-n`), the rest being on its way.
    pub received: u64,
    /// At the receiver.
    pub bits_per_second: f64,
    /// TCP segments sent again.
    pub retransmits: u64,
    /// Datagrams that did not arrive (UDP).
    pub lost_datagrams: u64,
    /// Datagrams sent (UDP).
    pub datagrams: u64,
}

/// Runs `iperf3 -c`; `more` are further arguments, e.g. `["-t", "2", "-R"]` or `["-n", "10M"]`.
pub fn iperf3(ns: &Netns, target: impl Into<IpAddr>, port: u16, more: &[&str]) -> Result<Iperf3> {
    let (target, port) = (target.into().to_string(), port.to_string());
    let mut argv = vec!["iperf3", "-J", "-c", &target, "-p", &port, "--connect-timeout", "3000"];
    argv.extend(more);
    let output = ns.command(argv).attempt()?;
    let json: Value =
        serde_json::from_str(&output.stdout).with_context(|| format!("reading iperf3's JSON, {output}"))?;
    ensure!(json["error"].is_null(), "iperf3: {}", json["error"]);
    let end = &json["end"];
    let number = |path: &str| end.pointer(path).and_then(Value::as_f64);
    let count = |path: &str| end.pointer(path).and_then(Value::as_u64);
    let udp = end["sum_received"].is_null() || !end["sum"]["lost_packets"].is_null();
    let (lost_datagrams, datagrams) = (count("/sum/lost_packets").unwrap_or(0), count("/sum/packets").unwrap_or(0));
    let sent = count(if udp { "/sum/bytes" } else { "/sum_sent/bytes" }).context("iperf3 counts no bytes sent")?;
    // iperf3 3.12 has no received bytes for UDP: what was sent, less the share that was lost.
    let received = match (udp, datagrams) {
        (false, _) => count("/sum_received/bytes").context("iperf3 counts no bytes received")?,
        (true, 0) => 0,
        (true, _) => sent / datagrams * (datagrams - lost_datagrams.min(datagrams)),
    };
    let rate = if udp { "/sum/bits_per_second" } else { "/sum_received/bits_per_second" };
    Ok(Iperf3 {
        sent,
        received,
        bits_per_second: number(rate).context("iperf3 gives no rate")?,
        retransmits: count("/sum_sent/retransmits").unwrap_or(0),
        lost_datagrams,
        datagrams,
    })
}

/// Sends bytes with nc and returns what came back until a second of silence or the end.
pub fn nc(ns: &Netns, transport: Transport, target: impl Into<IpAddr>, port: u16, bytes: &[u8]) -> Result<String> {
    let (target, port) = (target.into().to_string(), port.to_string());
    let argv = match transport {
        Transport::Tcp => vec!["nc", "-nN", "-w", "5", &target, &port],
        Transport::Udp => vec!["nc", "-nu", "-w", "1", &target, &port],
    };
    Ok(ns.command(argv).input(bytes).run()?.stdout)
}

/// How a client looks from the server: the answer of `whoami`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The server's name.
    pub name: String,
    /// The client as the server saw it.
    pub peer: SocketAddr,
    /// The client as it saw itself.
    pub sent_from: Option<SocketAddr>,
    /// Which answer of this server it was, counted from 1.
    pub seq: u64,
    /// What the server heard: the line, or the path of the URL.
    pub said: String,
}

/// Asks `whoami` once, on a connection or socket of its own.
pub fn ask(ns: &Netns, transport: Transport, target: impl Into<IpAddr>, port: u16) -> Result<Seen> {
    const LIMIT: Duration = Duration::from_secs(3);
    let target = SocketAddr::new(target.into(), port);
    let asked = || -> Result<Seen> {
        let (line, own) = match transport {
            Transport::Tcp => {
                let mut stream = TcpStream::connect_timeout(&target, LIMIT)?;
                stream.set_read_timeout(Some(LIMIT))?;
                stream.write_all(b"hello\n")?;
                let mut line = String::new();
                BufReader::new(&stream).read_line(&mut line)?;
                (line, stream.local_addr()?)
            }
            Transport::Udp => {
                let any: IpAddr =
                    if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
                let socket = UdpSocket::bind((any, 0))?;
                socket.connect(target)?;
                socket.set_read_timeout(Some(LIMIT))?;
                socket.send(b"hello")?;
                let mut datagram = [0; 2048];
                let length = socket.recv(&mut datagram)?;
                (String::from_utf8_lossy(&datagram[..length]).into_owned(), socket.local_addr()?)
            }
        };
        Ok(Seen { sent_from: Some(own), ..seen(&line)? })
    };
    ns.enter(asked)?.with_context(|| format!("asking whoami at {target} over {transport:?} from {}", ns.name()))
}

/// Asks `whoami` over HTTP, with curl.
pub fn ask_http(ns: &Netns, target: impl Into<IpAddr>, port: u16) -> Result<Seen> {
    let response = curl(ns, &url(target, port), &[])?;
    ensure!(response.status == 200, "whoami answers with {}", response.status);
    seen(&response.body)
}

/// Reads a line of `whoami`.
pub fn seen(line: &str) -> Result<Seen> {
    let json: Value = serde_json::from_str(line).with_context(|| format!("reading whoami's answer {line:?}"))?;
    let text = |field: &str| json[field].as_str().map(str::to_owned).with_context(|| format!("no {field} in {line:?}"));
    let port = json["port"].as_u64().and_then(|port| u16::try_from(port).ok()).context("no port")?;
    let seq = json["seq"].as_u64().context("no seq")?;
    let peer = SocketAddr::new(text("peer")?.parse()?, port);
    Ok(Seen { name: text("name")?, peer, sent_from: None, seq, said: text("said")? })
}
