//! What passed an interface, by tcpdump, as a pcap file.
//!
//! The file goes when the capture is dropped, unless the thread is panicking (the test failed) or
//! `MESH_KEEP` is set: then it stays and its path is printed.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;
use tempfile::NamedTempFile;

use crate::netns::Netns;
use crate::process::{POLL, Proc};

/// Time for tcpdump to start, to answer and to end.
const TCPDUMP_LIMIT: Duration = Duration::from_secs(10);

/// A running or stopped capture.
#[derive(Debug)]
pub struct Capture {
    tcpdump: Option<Proc>,
    file: Option<NamedTempFile>,
    what: String,
    /// How many statistics tcpdump has printed.
    asked: usize,
}

impl Capture {
    /// Starts to capture both directions of an interface; `filter` is tcpdump's, or empty.
    pub fn start(ns: &Netns, interface: &str, filter: &str) -> Result<Self> {
        let directory = directory();
        std::fs::create_dir_all(&directory).with_context(|| format!("making {}", directory.display()))?;
        let prefix = format!("{}-{interface}-", ns.name());
        let file = tempfile::Builder::new().prefix(&prefix).suffix(".pcap").tempfile_in(&directory)?;
        let path = file.path().to_string_lossy().into_owned();
        // -Z root: tcpdump would give up root and then cannot write where root's files are.
        let mut argv = vec!["tcpdump", "-n", "-U", "--immediate-mode", "-s", "0", "-B", "16384", "-Z", "root"];
        argv.extend(["-i", interface, "-w", &path]);
        argv.extend(filter.split_ascii_whitespace());
        let mut tcpdump = ns.spawn(argv)?;
        tcpdump.wait_line("listening on", TCPDUMP_LIMIT)?;
        let what = format!("{interface} of {}", ns.name());
        Ok(Self { tcpdump: Some(tcpdump), file: Some(file), what, asked: 0 })
    }

    /// The pcap file.
    pub fn path(&self) -> Result<&Path> {
        self.file.as_ref().map(NamedTempFile::path).context("the capture has no file")
    }

    /// Every frame that has passed so far.
    pub fn frames(&mut self) -> Result<Vec<Vec<u8>>> {
        self.settle()?;
        let path = self.path()?;
        crate::pcap::read(&std::fs::read(path).with_context(|| format!("reading {}", path.display()))?)
    }

    /// Waits until the frames so far satisfy a condition, and returns them.
    pub fn wait_for(&mut self, limit: Duration, enough: impl Fn(&[Vec<u8>]) -> bool) -> Result<Vec<Vec<u8>>> {
        let deadline = Instant::now() + limit;
        loop {
            let frames = self.frames()?;
            if enough(&frames) {
                return Ok(frames);
            }
            if Instant::now() >= deadline {
                let seen: String = frames.iter().map(|frame| format!("{}\n\n", crate::describe(frame))).collect();
                bail!(
                    "the capture on {} did not see it in {limit:?}; it saw {} frames:\n{seen}",
                    self.what,
                    frames.len()
                );
            }
            std::thread::sleep(POLL);
        }
    }

    /// Ends the capture and returns every frame.
    pub fn stop(&mut self) -> Result<Vec<Vec<u8>>> {
        let frames = self.frames()?;
        if let Some(tcpdump) = self.tcpdump.take() {
            tcpdump.signal(Signal::SIGINT)?;
            tcpdump.wait(TCPDUMP_LIMIT)?;
        }
        Ok(frames)
    }

    /// Waits until tcpdump has written what the kernel has given it.
    fn settle(&mut self) -> Result<()> {
        let Some(tcpdump) = &mut self.tcpdump else { return Ok(()) };
        let deadline = Instant::now() + TCPDUMP_LIMIT;
        let mut last = None;
        loop {
            tcpdump.signal(Signal::SIGUSR1)?;
            self.asked += 1;
            let statistics = loop {
                let said = tcpdump.stderr()?;
                if let Some(numbers) = said.lines().filter_map(statistics).nth(self.asked - 1) {
                    break numbers;
                }
                ensure!(tcpdump.is_running()?, "tcpdump on {} has ended: {said}", self.what);
                ensure!(Instant::now() < deadline, "tcpdump on {} does not answer: {said}", self.what);
                std::thread::sleep(POLL);
            };
            ensure!(statistics.dropped == 0, "tcpdump on {} lost {} frames", self.what, statistics.dropped);
            // On `lo` the kernel counts each frame twice and tcpdump writes it once: there, to stand
            // still is to have settled.
            if statistics.captured >= statistics.received || last.as_ref() == Some(&statistics) {
                return Ok(());
            }
            last = Some(statistics);
            std::thread::sleep(POLL);
            ensure!(Instant::now() < deadline, "tcpdump on {} does not catch up", self.what);
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let keep = std::thread::panicking() || std::env::var_os("MESH_KEEP").is_some();
        if !keep {
            return;
        }
        // What the kernel still holds belongs to the evidence; if tcpdump is gone, so be it.
        let _ = self.stop();
        let Some(kept) = self.file.take().and_then(|file| file.keep().ok()) else { return };
        #[expect(clippy::print_stderr, reason = "the one way to tell who reads the failed test")]
        {
            eprintln!("capture of {} kept: {}", self.what, kept.1.display());
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Statistics {
    captured: u64,
    received: u64,
    dropped: u64,
}

/// `tcpdump: 3 packets captured, 3 packets received by filter, 0 packets dropped by kernel`.
fn statistics(line: &str) -> Option<Statistics> {
    let numbers = line.strip_prefix("tcpdump: ")?.split(", ");
    let mut numbers = numbers.map(|part| part.split(' ').next()?.parse().ok());
    let mut next = || numbers.next().flatten();
    Some(Statistics { captured: next()?, received: next()?, dropped: next()? })
}

/// `MESH_ARTIFACTS`, else a directory among the temporary files.
fn directory() -> PathBuf {
    std::env::var_os("MESH_ARTIFACTS").map_or_else(|| std::env::temp_dir().join("mesh-captures"), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::{Statistics, statistics};

    #[test]
    fn statistics_are_read_from_what_tcpdump_prints() {
        let line = "tcpdump: 3 packets captured, 12 packets received by filter, 1 packet dropped by kernel";
        assert_eq!(statistics(line), Some(Statistics { captured: 3, received: 12, dropped: 1 }));
        assert_eq!(
            statistics("tcpdump: listening on eth0, link-type EN10MB (Ethernet), snapshot length 262144 bytes"),
            None
        );
    }
}
