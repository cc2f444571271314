//! Requests by hand over a unix socket, as clients make them, and how long answers take.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

/// A request that takes longer has failed.
const LIMIT: Duration = Duration::from_secs(60);

fn connect(socket: &Path) -> Result<UnixStream> {
    let stream = UnixStream::connect(socket).with_context(|| format!("connecting to {}", socket.display()))?;
    stream.set_read_timeout(Some(LIMIT))?;
    Ok(stream)
}

/// A connection for one request, and the whole answer; how long both took.
pub(super) fn get(socket: &Path, path: &str) -> Result<Duration> {
    let begun = Instant::now();
    let mut stream = connect(socket)?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let took = begun.elapsed();
    ensure!(answer.starts_with(b"HTTP/1.1 200"), "{path}: {}", String::from_utf8_lossy(&answer));
    Ok(took)
}

/// The body of an answer that names its length.
pub(super) fn body(socket: &Path, path: &str) -> Result<String> {
    let mut stream = connect(socket)?;
    // HTTP/1.0 knows no chunks.
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: d\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").with_context(|| format!("{path}: no answer"))?;
    Ok(body.to_owned())
}

/// What `docker service ls` asks: a ping to learn the version, then the list, on one connection.
fn service_ls(socket: &Path) -> Result<()> {
    let mut stream = connect(socket)?;
    stream.write_all(b"HEAD /_ping HTTP/1.1\r\nHost: d\r\n\r\n")?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        ensure!(reader.read_line(&mut line)? > 0, "hung up on a ping");
    }
    stream.write_all(b"GET /v1.41/services?status=true HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    reader.read_to_end(&mut answer)?;
    ensure!(answer.starts_with(b"HTTP/1.1 200"), "service ls: {}", String::from_utf8_lossy(&answer));
    Ok(())
}

/// So many `docker service ls` at once, without the programs; how long each waited.
pub(super) fn crowd(socket: &Path, clients: usize) -> Result<Vec<Duration>> {
    at_once(clients, |_| service_ls(socket))
}

/// Follows the output of each of these tasks, all begun at once; how long each waited for its first byte, and the
/// streams, which go on.
pub(super) fn follow(socket: &Path, tasks: &[String]) -> Result<(Vec<Duration>, Vec<UnixStream>)> {
    let streams = std::sync::Mutex::new(Vec::new());
    let waited = at_once(tasks.len(), |number| {
        let mut stream = connect(socket)?;
        let task = &tasks[number];
        let head = format!("GET /v1.41/tasks/{task}/logs?stdout=1&follow=1 HTTP/1.1\r\nHost: d\r\n\r\n");
        stream.write_all(head.as_bytes())?;
        let mut seen = Vec::new();
        let mut buffer = [0; 1024];
        while !seen.windows(OUTPUT.len()).any(|part| part == OUTPUT) {
            match stream.read(&mut buffer)? {
                0 => bail!("task {task} has no output: {}", String::from_utf8_lossy(&seen)),
                read => seen.extend_from_slice(&buffer[..read]),
            }
        }
        streams.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(stream);
        Ok(())
    })?;
    Ok((waited, streams.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)))
}

/// What every task says.
pub(super) const OUTPUT: &[u8] = b"here-i-am";

/// The same from so many threads at once; how long each took.
fn at_once(clients: usize, act: impl Fn(usize) -> Result<()> + Sync) -> Result<Vec<Duration>> {
    let start = Barrier::new(clients);
    std::thread::scope(|scope| {
        let client = |number| {
            let (start, act) = (&start, &act);
            scope.spawn(move || {
                start.wait();
                let begun = Instant::now();
                act(number).map(|()| begun.elapsed())
            })
        };
        let threads: Vec<_> = (0..clients).map(client).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, Result<Duration>>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().map(join).collect()
    })
}
