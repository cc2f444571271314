//! The small process beside each container: `meshd shim`.
//!
//! It starts the container by the OCI runtime, is the parent of its first process, writes its output to
//! files, and in the end its exit code. So a daemon may stop and come back: containers, output and exit
//! codes are not lost. It speaks to the daemon by files alone, and by being alive: see
//! `Directory::alive`. Synchronous, and small, since there is one for each container.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, PipeReader, Read, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use jiff::Timestamp;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitStatus, wait};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::cgroup::Hierarchies;
use super::control::{code_of, said};
use super::logs::{LINE_BYTES, Limits, Writer};
use super::record::{self, Directory, Running};
use crate::runtime::{Exit, RuntimeError, Stream};

/// What a shim says when its container runs; otherwise, why it does not.
pub(super) const STARTED: &str = "started";

/// What a shim is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) program: PathBuf,
    pub(super) state: PathBuf,
    pub(super) id: String,
    /// The container's control group.
    pub(super) group: String,
    pub(super) tty: bool,
    /// Whether its input is held open.
    pub(super) stdin: bool,
    pub(super) log: Option<Limits>,
}

/// Runs a container to its end. Writes one line to standard output when it runs, or why it does not.
///
/// # Errors
/// The files of the container cannot be read or written.
pub fn run(directory: &Path, clock: fn() -> Timestamp) -> Result<(), RuntimeError> {
    let shim = Shim { directory: Directory { path: directory.to_owned() }, clock };
    shim.run()
}

struct Shim {
    directory: Directory,
    clock: fn() -> Timestamp,
}

/// The ends of a container's input and output that stay with us.
struct Ends {
    outputs: Vec<(Stream, Box<dyn Read + Send>)>,
    /// Held open, so that the container never reads the end of its input.
    _input: Option<OwnedFd>,
}

impl Shim {
    fn run(&self) -> Result<(), RuntimeError> {
        // Whoever stops the daemon's process group does not mean us. Ours alone already: fine.
        let _ = nix::unistd::setsid();
        let mut ignored = SigSet::empty();
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGPIPE] {
            ignored.add(signal);
        }
        let system = |what| move |errno: nix::Error| RuntimeError::file(what, &self.directory.path)(errno.into());
        // Children start without this mask: std sees to it.
        ignored.thread_block().map_err(system("hold back signals of the shim of"))?;
        let _alive = self.show_life()?;
        // The container's first process becomes our child when the OCI runtime ends.
        nix::sys::prctl::set_child_subreaper(true).map_err(system("become the parent of the processes of"))?;
        let order_file = self.directory.shim();
        let order: Order = record::read(&order_file)?
            .ok_or_else(|| RuntimeError::file("read", &order_file)(io::ErrorKind::NotFound.into()))?;
        match self.start(&order) {
            Ok((pid, ends)) => self.attend(&order, pid, ends),
            Err(error) => self.give_up(&order, &error),
        }
    }

    /// The lock comes before the FIFO, so that at our end it goes first: whoever then opens a FIFO
    /// without a writer finds the lock free.
    fn show_life(&self) -> Result<(File, File), RuntimeError> {
        let (lock_path, alive_path) = (self.directory.lock(), self.directory.alive());
        let lock = File::create(&lock_path).map_err(RuntimeError::file("make", &lock_path))?;
        lock.try_lock().map_err(|error| RuntimeError::file("lock", &lock_path)(error.into()))?;
        let fifo = File::options().read(true).write(true).open(&alive_path);
        Ok((lock, fifo.map_err(RuntimeError::file("open", &alive_path))?))
    }

    fn start(&self, order: &Order) -> Result<(u32, Ends), String> {
        let (child, ends) = self.spawn(order)?;
        let status = child.1;
        let mut ends = ends;
        if !status {
            // Its words went where the container's would have gone.
            let mut words = String::new();
            if let Some((_, reader)) = ends.outputs.last_mut() {
                let _ = reader.take(64 << 10).read_to_string(&mut words);
            }
            return Err(said(&words));
        }
        let pid_file = self.directory.path.join("pid");
        let pid = fs::read_to_string(&pid_file).ok().and_then(|text| text.trim().parse().ok());
        let pid = pid.ok_or_else(|| format!("the OCI runtime left no number in {}", pid_file.display()))?;
        Ok((pid, ends))
    }

    /// Has the OCI runtime start the container, and waits until that is done; says whether it went well.
    fn spawn(&self, order: &Order) -> Result<((Child, bool), Ends), String> {
        let text = |error: io::Error| error.to_string();
        let mut command = Command::new(&order.program);
        command.arg("--root").arg(&order.state).args(["run", "--detach", "--bundle"]).arg(self.directory.bundle());
        command.arg("--pid-file").arg(self.directory.path.join("pid"));
        let (stderr, stderr_end) = io::pipe().map_err(text)?;
        command.stderr(stderr_end);
        if order.tty {
            return self.spawn_on_terminal(order, command, stderr);
        }
        let (stdout, stdout_end) = io::pipe().map_err(text)?;
        command.stdout(stdout_end);
        let input = if order.stdin {
            let (theirs, ours) = io::pipe().map_err(text)?;
            command.stdin(theirs);
            Some(OwnedFd::from(ours))
        } else {
            command.stdin(Stdio::null());
            None
        };
        command.arg(&order.id);
        let mut child = command.spawn().map_err(|error| format!("start {}: {error}", order.program.display()))?;
        // With it go our copies of the container's ends.
        drop(command);
        let well = child.wait().map_err(text)?.success();
        let outputs: Vec<(Stream, Box<dyn Read + Send>)> =
            vec![(Stream::Stdout, Box::new(stdout)), (Stream::Stderr, Box::new(stderr))];
        Ok(((child, well), Ends { outputs, _input: input }))
    }

    /// The OCI runtime makes the terminal, and sends our end of it over a socket.
    fn spawn_on_terminal(
        &self,
        order: &Order,
        mut command: Command,
        stderr: PipeReader,
    ) -> Result<((Child, bool), Ends), String> {
        let text = |error: io::Error| error.to_string();
        // In a directory of its own with a short name: the path of a socket has at most 107 bytes.
        let socket = std::env::temp_dir().join(format!("mesh-shim-{}", std::process::id()));
        let _ = fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).map_err(text)?;
        command.arg("--console-socket").arg(&socket).arg(&order.id).stdin(Stdio::null()).stdout(Stdio::null());
        let spawned = command.spawn();
        drop(command);
        let waited = spawned.and_then(|mut child| child.wait().map(|status| (child, status.success())));
        let terminal = match &waited {
            // It sends before it ends, so there is somebody to accept.
            Ok((_, true)) => receive_terminal(&listener).map(Some),
            _ => Ok(None),
        };
        let _ = fs::remove_file(&socket);
        let (child, well) = waited.map_err(|error| format!("start {}: {error}", order.program.display()))?;
        let outputs: Vec<(Stream, Box<dyn Read + Send>)> = match terminal.map_err(text)? {
            Some(terminal) => vec![(Stream::Stdout, Box::new(File::from(terminal)))],
            None => vec![(Stream::Stderr, Box::new(stderr))],
        };
        Ok(((child, well), Ends { outputs, _input: None }))
    }

    /// Looks after a container that runs, to its end.
    fn attend(&self, order: &Order, pid: u32, ends: Ends) -> Result<(), RuntimeError> {
        record::write(&self.directory.running(), &Running { pid, since: (self.clock)() })?;
        tell(STARTED);
        let writer = order.log.map(|limits| Writer::open(self.directory.logs(), limits)).transpose();
        // A log that cannot be written is no reason to stop a container.
        let writer = Arc::new(Mutex::new(writer.ok().flatten()));
        let Ends { outputs, _input } = ends;
        let readers: Vec<JoinHandle<()>> = outputs
            .into_iter()
            .map(|(stream, from)| {
                let (writer, clock) = (writer.clone(), self.clock);
                std::thread::spawn(move || copy(from, stream, &writer, clock))
            })
            .collect();
        let code = wait_for(pid);
        // Before the group goes.
        let oom_killed = Hierarchies::look().oom_killed(&order.group);
        delete(order);
        // All that could write has ended, so all readers come to an end.
        for reader in readers {
            let _ = reader.join();
        }
        let exit = Exit { code, oom_killed, error: None, at: (self.clock)() };
        record::write(&self.directory.exit(), &exit)
    }

    fn give_up(&self, order: &Order, why: &str) -> Result<(), RuntimeError> {
        delete(order);
        let exit = Exit { code: code_of(why), oom_killed: false, error: Some(why.to_owned()), at: (self.clock)() };
        record::write(&self.directory.exit(), &exit)?;
        tell(why);
        Ok(())
    }
}

/// One line to whoever started us; it may be gone.
fn tell(line: &str) {
    let mut out = io::stdout();
    let _ = writeln!(out, "{}", line.replace('\n', " ")).and_then(|()| out.flush());
}

fn delete(order: &Order) {
    let mut command = Command::new(&order.program);
    command.arg("--root").arg(&order.state).args(["delete", "--force", &order.id]);
    // It says so where there is nothing left to delete.
    let _ = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
}

/// Reaps all children until the container's first process has ended; its exit code.
fn wait_for(pid: u32) -> i32 {
    let first = Pid::from_raw(pid.cast_signed());
    loop {
        match wait() {
            Ok(WaitStatus::Exited(child, code)) if child == first => return code,
            Ok(WaitStatus::Signaled(child, signal, _)) if child == first => return 128 + signal as i32,
            Ok(_) | Err(nix::Error::EINTR) => {}
            // No child is left: it was not ours, or another reaped it.
            Err(_) => return 255,
        }
    }
}

/// Copies lines, until the end of what is written.
fn copy(from: Box<dyn Read + Send>, stream: Stream, writer: &Mutex<Option<Writer>>, clock: fn() -> Timestamp) {
    let mut from = BufReader::with_capacity(LINE_BYTES, from);
    let mut line = Vec::new();
    loop {
        line.clear();
        // The end of a terminal is an error, as the end of a pipe is none.
        match from.by_ref().take(LINE_BYTES as u64).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        if let Some(writer) = writer.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            // A full disk loses lines, and never holds up a container.
            let _ = writer.write(clock(), stream, &line);
        }
    }
}

/// Takes the file descriptor that comes over the socket.
fn receive_terminal(listener: &UnixListener) -> io::Result<OwnedFd> {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    let (connection, _) = listener.accept()?;
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut name = [0; 4096];
    recvmsg(&connection, &mut [io::IoSliceMut::new(&mut name)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let sent = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut files) => files.next(),
        _ => None,
    });
    sent.ok_or_else(|| io::Error::other("the OCI runtime sent no terminal"))
}
