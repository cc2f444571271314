//! The loads that every candidate carries, and what they cost the machine.

use std::io::{Read as _, Write as _};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use harness::Netns;
use harness::clients::iperf3;

use super::beds::{Candidate, ECHO, HTTP, IPERF};
use crate::Effort;

/// Time for an answer on a busy machine.
const LIMIT: Duration = Duration::from_secs(10);
/// Bytes of a request and of its answer.
const MESSAGE: usize = 64;

/// One round of one candidate. Rates are in Gbit/s, times in µs.
pub(super) struct Figures {
    pub(super) one_flow: f64,
    pub(super) eight_flows: f64,
    /// ns of processor time, of all processors, for each KiB of the eight flows.
    pub(super) cpu_per_kib: f64,
    pub(super) rr_p50: f64,
    pub(super) rr_p99: f64,
    pub(super) connections: f64,
    /// µs of processor time for each.
    pub(super) cpu_per_connection: f64,
}

pub(super) fn measure(candidate: &Candidate, effort: Effort) -> Result<Figures> {
    let seconds = effort.of(2, 1).to_string();
    let tcp = |flows: &str| {
        let target = candidate.at(IPERF);
        iperf3(&candidate.from, target.ip(), target.port(), &["-t", &seconds, "-P", flows])
    };
    let one_flow = tcp("1").context("iperf3, one flow")?.bits_per_second / 1e9;
    let before = busy()?;
    let eight = tcp("8").context("iperf3, eight flows")?;
    let cpu_per_kib = (busy()? - before).as_nanos() as f64 / (eight.received as f64 / 1024.0);
    let mut round_trips = round_trips(candidate, effort.of(4000, 1000)).context("round trips")?;
    round_trips.sort_unstable();
    let at =
        |share: usize| round_trips.get(round_trips.len() * share / 100).map_or(0.0, |time| time.as_secs_f64() * 1e6);
    let before = busy()?;
    let (done, took) = short_requests(candidate, &seconds).context("wrk")?;
    let cpu = busy()? - before;
    Ok(Figures {
        one_flow,
        eight_flows: eight.bits_per_second / 1e9,
        cpu_per_kib,
        rr_p50: at(50),
        rr_p99: at(99),
        connections: done / took,
        cpu_per_connection: cpu.as_secs_f64() * 1e6 / done,
    })
}

/// One request at a time on one connection.
fn round_trips(candidate: &Candidate, count: usize) -> Result<Vec<Duration>> {
    let target = candidate.at(ECHO);
    candidate.from.enter(|| -> Result<_> {
        let mut stream = TcpStream::connect_timeout(&target, LIMIT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LIMIT))?;
        let mut answer = [0; MESSAGE];
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            let start = Instant::now();
            stream.write_all(&[b'?'; MESSAGE])?;
            stream.read_exact(&mut answer)?;
            times.push(start.elapsed());
        }
        Ok(times)
    })?
}

/// Requests on a connection each, eight at a time: how many, and in how many seconds.
fn short_requests(candidate: &Candidate, seconds: &str) -> Result<(f64, f64)> {
    let url = format!("http://{}/", candidate.at(HTTP));
    let duration = format!("{seconds}s");
    let argv = ["wrk", "-t", "1", "-c", "8", "-d", &duration, "-H", "Connection: close", "--latency", &url];
    let said = candidate.from.run(argv)?.stdout;
    let done =
        said.lines().find_map(|line| line.trim().split_once(" requests in ")).context("wrk counts no requests")?;
    ensure!(!said.contains("Non-2xx"), "an answer was no success:\n{said}");
    ensure!(!said.contains("Socket errors"), "a connection failed:\n{said}");
    let rate = said.lines().find_map(|line| line.strip_prefix("Requests/sec:")).context("wrk gives no rate")?;
    let (done, rate): (f64, f64) = (done.0.parse()?, rate.trim().parse()?);
    Ok((done, done / rate))
}

/// Time that the processors have worked since the machine started.
///
/// proc_stat(5): user, nice, system, idle, iowait, irq, softirq, steal, in units of USER_HZ (100 a second).
fn busy() -> Result<Duration> {
    let stat = std::fs::read_to_string("/proc/stat").context("read /proc/stat")?;
    let line = stat.lines().next().context("/proc/stat is empty")?;
    let fields: Vec<u64> = line.split_whitespace().skip(1).map(str::parse).collect::<Result<_, _>>()?;
    let ticks: u64 = [0, 1, 2, 5, 6].iter().filter_map(|&at| fields.get(at)).sum();
    Ok(Duration::from_millis(ticks * 10))
}

/// A server that sends back what it gets; ends when dropped.
pub(super) struct Echo {
    address: SocketAddr,
    ns: Netns,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    pub(super) fn start(ns: &Netns, port: u16) -> Result<Self> {
        let listener = ns.enter(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)))??;
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if seen.load(Ordering::Relaxed) {
                    return;
                }
                // A client that goes away ends its round, not the server.
                let _ended = stream.and_then(|stream| echo(&stream));
            }
        });
        Ok(Self { address: (Ipv6Addr::LOCALHOST, port).into(), ns: ns.clone(), stop, thread: Some(thread) })
    }
}

fn echo(mut stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut message = [0; MESSAGE];
    loop {
        stream.read_exact(&mut message)?;
        stream.write_all(&message)?;
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // A connection wakes it. Where none can be made it is left asleep, till the process ends.
        let woken = self.ns.enter(|| TcpStream::connect_timeout(&self.address, LIMIT));
        if let (Ok(Ok(_)), Some(thread)) = (woken, self.thread.take()) {
            let _joined = thread.join();
        }
    }
}
