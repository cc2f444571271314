//! How long answers take, of both with the same services: a ratio that is printed and asserts nothing, for the
//! machine is shared and our build is not optimised.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

/// What clients ask most.
const PATHS: [&str; 6] =
    ["/_ping", "/v1.41/services?status=true", "/v1.41/nodes", "/v1.41/tasks", "/v1.41/networks", "/v1.41/info"];

/// Of each the median of so many.
const ROUNDS: usize = 41;

fn once(socket: &Path, path: &str) -> Result<Duration> {
    let begun = Instant::now();
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    ensure!(answer.starts_with(b"HTTP/1.1 200"), "{path}: {}", String::from_utf8_lossy(&answer));
    Ok(begun.elapsed())
}

fn median(socket: &Path, path: &str) -> Result<Duration> {
    let mut all = (0..ROUNDS).map(|_| once(socket, path)).collect::<Result<Vec<_>>>()?;
    all.sort();
    all.get(ROUNDS / 2).copied().context("no round")
}

/// Asks both, and prints.
pub(crate) fn compare(theirs: &Path, ours: &Path) -> Result<()> {
    println!("median latency of {ROUNDS} requests: dockerd, mesh, ratio");
    for path in PATHS {
        let (theirs, ours) = (median(theirs, path)?, median(ours, path)?);
        let ratio = ours.as_secs_f64() / theirs.as_secs_f64();
        println!(
            "  {path:<32} {:>8.2} ms {:>8.2} ms  {ratio:.2}",
            theirs.as_secs_f64() * 1e3,
            ours.as_secs_f64() * 1e3
        );
    }
    Ok(())
}
