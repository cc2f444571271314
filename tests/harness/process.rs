//! Programs run by tests: bounded in time, output captured, gone when dropped.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::netns::{Netns, Transport};

/// How often a condition of the outside world is looked at again.
pub(crate) const POLL: Duration = Duration::from_millis(2);

/// Time limit of a command that sets none.
const RUN_LIMIT: Duration = Duration::from_secs(60);

/// A command that has not been started.
#[derive(Debug)]
pub struct Cmd {
    netns: Option<Netns>,
    argv: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    dir: Option<PathBuf>,
    input: Option<Vec<u8>>,
    limit: Duration,
}

/// What a finished command said.
#[derive(Clone, Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Cmd {
    /// A command to run in a namespace, or where the test runs if there is none.
    pub(crate) fn new(netns: Option<Netns>, argv: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        let argv = argv.into_iter().map(|argument| argument.as_ref().to_owned()).collect();
        Self { netns, argv, env: Vec::new(), dir: None, input: None, limit: RUN_LIMIT }
    }

    /// Adds an environment variable.
    #[must_use]
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((key.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Sets the working directory.
    #[must_use]
    pub fn dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.dir = Some(dir.as_ref().to_owned());
        self
    }

    /// Gives it something to read; without, its standard input is empty.
    #[must_use]
    pub fn input(mut self, input: &[u8]) -> Self {
        self.input = Some(input.to_owned());
        self
    }

    /// Sets how long [`run`](Self::run) and [`attempt`](Self::attempt) wait.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs it to its end; a failed command is an error with its output.
    pub fn run(self) -> Result<Output> {
        let text = self.text();
        let output = self.attempt()?;
        ensure!(output.status.success(), "`{text}` failed, {output}");
        Ok(output)
    }

    /// Runs it to its end, however it ends.
    pub fn attempt(self) -> Result<Output> {
        let limit = self.limit;
        self.spawn()?.wait(limit)
    }

    /// Starts it.
    pub fn spawn(self) -> Result<Proc> {
        let text = self.text();
        self.start(&text).with_context(|| format!("starting `{text}`"))
    }

    fn start(&self, text: &str) -> Result<Proc> {
        let [program, arguments @ ..] = self.argv.as_slice() else { bail!("an empty command") };
        let stdout = tempfile::tempfile()?;
        let stderr = tempfile::tempfile()?;
        let mut command = Command::new(program);
        command.args(arguments).envs(self.env.iter().map(|(key, value)| (key, value)));
        command.stdin(self.stdin()?).stdout(stdout.try_clone()?).stderr(stderr.try_clone()?);
        // Its own process group, so that its children end with it.
        command.process_group(0);
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        let child = match &self.netns {
            Some(netns) => netns.enter(|| command.spawn())??,
            None => command.spawn()?,
        };
        Ok(Proc { child, text: text.to_owned(), stdout, stderr })
    }

    fn stdin(&self) -> Result<Stdio> {
        let Some(input) = &self.input else { return Ok(Stdio::null()) };
        let mut file = tempfile::tempfile()?;
        file.write_all(input)?;
        file.rewind()?;
        Ok(Stdio::from(file))
    }

    fn text(&self) -> String {
        let words: Vec<_> = self.argv.iter().map(|word| word.to_string_lossy()).collect();
        let place = self.netns.as_ref().map(|netns| format!(" in {}", netns.name())).unwrap_or_default();
        format!("{}{place}", words.join(" "))
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}\n--- stdout\n{}\n--- stderr\n{}\n---",
            self.status,
            self.stdout.trim_end(),
            self.stderr.trim_end()
        )
    }
}

impl Output {
    /// Was it ended by this signal?
    pub fn killed_by(&self, signal: Signal) -> bool {
        self.status.signal() == Some(signal as i32)
    }
}

/// A running program, alone in its process group; the whole group is killed on drop.
#[derive(Debug)]
pub struct Proc {
    child: Child,
    text: String,
    stdout: File,
    stderr: File,
}

impl Proc {
    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has written to standard output so far.
    pub fn stdout(&self) -> Result<String> {
        read_all(&self.stdout)
    }

    /// What it has written to standard error so far.
    pub fn stderr(&self) -> Result<String> {
        read_all(&self.stderr)
    }

    /// Waits for a line with `needle` on either output, and returns it; an error if the program
    /// ends first.
    pub fn wait_line(&mut self, needle: &str, limit: Duration) -> Result<String> {
        let deadline = Instant::now() + limit;
        loop {
            // Looked at before the output is read, so that a last line is not missed.
            let ended = self.child.try_wait()?;
            for output in [self.stdout()?, self.stderr()?] {
                if let Some(line) = output.lines().find(|line| line.contains(needle)) {
                    return Ok(line.to_owned());
                }
            }
            if let Some(status) = ended {
                bail!("`{}` ended before it said {needle:?}, {}", self.text, self.so_far(status)?);
            }
            ensure!(
                Instant::now() < deadline,
                "`{}` did not say {needle:?} in {limit:?}, {}",
                self.text,
                self.so_far(ExitStatus::default())?
            );
            std::thread::sleep(POLL);
        }
    }

    /// Waits until something listens on a port of `ns`; an error if the program ends first.
    pub fn wait_listening(&mut self, ns: &Netns, transport: Transport, port: u16, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        while !ns.is_listening(transport, port)? {
            if let Some(status) = self.child.try_wait()? {
                bail!(
                    "`{}` ended before it listened on {transport:?} port {port}, {}",
                    self.text,
                    self.so_far(status)?
                );
            }
            ensure!(
                Instant::now() < deadline,
                "`{}` does not listen on {transport:?} port {port} after {limit:?}",
                self.text
            );
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// Is it still running?
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Sends a signal to it and its children.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        killpg(self.group()?, signal).with_context(|| format!("sending {signal} to `{}`", self.text))
    }

    /// Waits for its end; at the limit it is killed and the wait is an error.
    pub fn wait(mut self, limit: Duration) -> Result<Output> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return self.so_far(status);
            }
            if Instant::now() >= deadline {
                let output = self.so_far(ExitStatus::default())?;
                bail!("`{}` did not end in {limit:?}; it said:\n{}\n{}", self.text, output.stdout, output.stderr);
            }
            std::thread::sleep(POLL);
        }
    }

    /// Sends SIGTERM and waits for the end.
    pub fn terminate(self, limit: Duration) -> Result<Output> {
        self.signal(Signal::SIGTERM)?;
        self.wait(limit)
    }

    fn so_far(&self, status: ExitStatus) -> Result<Output> {
        Ok(Output { status, stdout: self.stdout()?, stderr: self.stderr()? })
    }

    fn group(&self) -> Result<Pid> {
        Ok(Pid::from_raw(i32::try_from(self.child.id()).context("a process id is not an i32")?))
    }
}

impl Drop for Proc {
    fn drop(&mut self) {
        // The group outlives its leader while a child of it runs; if all are gone, ESRCH is fine.
        if let Ok(group) = self.group() {
            let _ = killpg(group, Signal::SIGKILL);
        }
        let _ = self.child.wait();
    }
}

/// A file from its start, without moving the offset that the writer shares.
fn read_all(file: &File) -> Result<String> {
    let mut bytes = vec![0; usize::try_from(file.metadata()?.len())?];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], u64::try_from(filled)?)? {
            0 => break,
            read => filled += read,
        }
    }
    bytes.truncate(filled);
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
