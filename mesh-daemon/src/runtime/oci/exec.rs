//! One more program in a container: by a user, or as a probe of its health.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::Stdio;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use super::control::{Control, code_of, said};
use crate::runtime::health::{OUTPUT_BYTES, Probed};
use crate::runtime::{ContainerId, ExecSession, Output, RuntimeError, Size, Stream};

/// Sizes of a terminal that wait to be set.
const SIZES: usize = 8;
const PIECE: usize = 16 << 10;

/// An exec, ready to start: the process file is written.
pub(super) struct Ready {
    pub(super) control: Control,
    pub(super) id: ContainerId,
    /// The process, as the runtime specification has it. Removed at the end.
    pub(super) process: PathBuf,
    pub(super) pid_file: PathBuf,
    /// What the OCI runtime itself has to say.
    pub(super) words: PathBuf,
}

impl Ready {
    fn command(&self) -> Command {
        let mut command = Command::new(&self.control.program);
        command.args(self.control.prefix()).arg("--log").arg(&self.words).arg("exec");
        command.arg("--process").arg(&self.process).arg("--pid-file").arg(&self.pid_file);
        command
    }

    fn failed(&self, source: io::Error) -> RuntimeError {
        RuntimeError::Program { program: self.control.program.clone(), source }
    }

    /// The exit code; of a program that did not start, the one that Docker gives it.
    async fn end(self, mut child: Child) -> Result<i32, RuntimeError> {
        use std::os::unix::process::ExitStatusExt as _;
        let status = child.wait().await.map_err(|source| self.failed(source))?;
        let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(255);
        let started = self.pid_file.exists();
        let words = tokio::fs::read_to_string(&self.words).await.unwrap_or_default();
        for file in [&self.process, &self.pid_file, &self.words] {
            let _ = tokio::fs::remove_file(file).await;
        }
        if started || code == 0 {
            return Ok(code);
        }
        match code_of(&said(&words)) {
            128 => Err(RuntimeError::Refused { act: "exec", id: self.id.clone(), said: said(&words) }),
            code => Ok(code),
        }
    }

    /// Starts with pipes, or on a terminal of this size.
    pub(super) fn start(self, stdin: bool, tty: Option<Size>) -> Result<ExecSession, RuntimeError> {
        match tty {
            Some(size) => self.on_terminal(size),
            None => self.on_pipes(stdin),
        }
    }

    fn on_pipes(self, stdin: bool) -> Result<ExecSession, RuntimeError> {
        let mut command = self.command();
        command.arg(&self.id.0).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.stdin(if stdin { Stdio::piped() } else { Stdio::null() });
        let mut child = command.spawn().map_err(|source| self.failed(source))?;
        let stdout = child.stdout.take().map(|from| pieces(from, Stream::Stdout));
        let stderr = child.stderr.take().map(|from| pieces(from, Stream::Stderr));
        let output = stream::select_all(stdout.into_iter().chain(stderr)).boxed();
        let input = child.stdin.take().map(|input| Box::pin(input) as Pin<Box<dyn AsyncWrite + Send>>);
        let (resize, _) = mpsc::channel(1);
        Ok(ExecSession { input, output, resize, exit: Box::pin(self.end(child)) })
    }

    fn on_terminal(self, size: Size) -> Result<ExecSession, RuntimeError> {
        let copy_of = |fd: &OwnedFd| fd.try_clone().map_err(|source| self.failed(source));
        let (ours, theirs) = terminal(size).map_err(|source| self.failed(source))?;
        let mut command = self.command();
        command.arg(&self.id.0).stdin(copy_of(&theirs)?).stdout(copy_of(&theirs)?).stderr(theirs);
        let child = command.spawn().map_err(|source| self.failed(source))?;
        // With it go our copies of the program's end.
        drop(command);
        let runtime = child.id();
        // A terminal is read and written as a pipe is.
        let screen = pipe::Receiver::from_owned_fd_unchecked(copy_of(&ours)?).map_err(|source| self.failed(source))?;
        let keys = pipe::Sender::from_owned_fd_unchecked(copy_of(&ours)?).map_err(|source| self.failed(source))?;
        let (resize, mut sizes) = mpsc::channel(SIZES);
        let ended = async move {
            let end = self.end(child);
            tokio::pin!(end);
            loop {
                tokio::select! {
                    code = &mut end => return code,
                    Some(size) = sizes.recv() => {
                        // A terminal that is gone has no size.
                        let _ = tcsetwinsize(&ours, window(size));
                        if let Some(pid) = runtime {
                            // The OCI runtime passes the size on when it is told of a change.
                            let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGWINCH);
                        }
                    }
                }
            }
        };
        let output = pieces(screen, Stream::Stdout);
        Ok(ExecSession { input: Some(Box::pin(keys)), output, resize, exit: Box::pin(ended) })
    }

    /// Runs a probe to its end; what it wrote comes back. One that takes too long is killed.
    pub(super) async fn probe(self, limit: std::time::Duration) -> Probed {
        let pid_file = self.pid_file.clone();
        let failed = |error: String| Probed { well: false, output: error };
        let mut session = match self.on_pipes(false) {
            Ok(session) => session,
            Err(error) => return failed(error.to_string()),
        };
        let mut output = BytesMut::new();
        let run = async {
            while let Some(piece) = session.output.next().await {
                let room = OUTPUT_BYTES.saturating_sub(output.len());
                let bytes = piece.map(|piece| piece.bytes).unwrap_or_default();
                output.extend_from_slice(&bytes[..bytes.len().min(room)]);
            }
            session.exit.await
        };
        let ended = tokio::time::timeout(limit, run).await;
        let text = String::from_utf8_lossy(&output).into_owned();
        match ended {
            Ok(Ok(code)) => Probed { well: code == 0, output: text },
            Ok(Err(error)) => failed(error.to_string()),
            Err(_) => {
                let pid = std::fs::read_to_string(&pid_file).ok().and_then(|pid| pid.trim().parse().ok());
                if let Some(pid) = pid {
                    // It may have ended this moment.
                    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                }
                let _ = std::fs::remove_file(&pid_file);
                failed(format!("Health check exceeded timeout ({} s): {text}", limit.as_secs_f64()))
            }
        }
    }
}

/// What a program reads as its standard configuration when it is one more in a container.
pub(super) fn process_of(configuration: &Value) -> &Value {
    &configuration["process"]
}

fn window(size: Size) -> Winsize {
    Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 }
}

/// A terminal: our end, which does not block, and the program's.
fn terminal(size: Size) -> io::Result<(OwnedFd, OwnedFd)> {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&ours)?;
    unlockpt(&ours)?;
    let name = ptsname(&ours, Vec::new())?;
    use rustix::fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl, open};
    let theirs = open(name.as_c_str(), OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
    tcsetwinsize(&ours, window(size))?;
    fcntl_setfl(&ours, fcntl_getfl(&ours)? | OFlags::NONBLOCK)?;
    Ok((ours, theirs))
}

/// What comes from a program, as it comes.
fn pieces(from: impl AsyncRead + Send + 'static, stream: Stream) -> BoxStream<'static, io::Result<Output>> {
    let next = move |mut from: Pin<Box<dyn AsyncRead + Send>>| async move {
        let mut buffer = BytesMut::with_capacity(PIECE);
        match from.read_buf(&mut buffer).await {
            Ok(0) => None,
            // That is how a terminal ends.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => None,
            Ok(_) => Some((Ok(Output { stream, bytes: Bytes::from(buffer) }), from)),
            Err(error) => Some((Err(error), Box::pin(tokio::io::empty()) as Pin<Box<dyn AsyncRead + Send>>)),
        }
    };
    stream::unfold(Box::pin(from) as Pin<Box<dyn AsyncRead + Send>>, next).boxed()
}
