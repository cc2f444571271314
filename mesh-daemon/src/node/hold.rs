//! Keeps the node's place while its daemon is away: `meshd hold`.
//!
//! The holder is a small process beside the daemon that has its listening socket of membership too, and takes
//! nothing from it. As long as it lives, the kernel takes connections there, by which other nodes know that
//! this machine and its processes are there ([`crate::cluster::gossip`]). When the daemon has ended, the holder
//! waits for the next one, and ends when that is there, or when the time is over: then nobody has the socket,
//! and all others know at once that the node is given up. What ends all processes of the node ends it too.

use std::io::{self, PipeWriter, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// A holder that is told to go does so within this time.
const GOES: Duration = Duration::from_secs(1);

/// Why a place is not held.
#[derive(Debug, thiserror::Error)]
pub enum HoldError {
    /// The socket by which the next daemon finds the holder.
    #[error("listen on {}", path.display())]
    Listen {
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The process.
    #[error("start the holder of this node's place")]
    Start(#[source] io::Error),
}

/// Is the holder: its input ends with the daemon, its output is the socket that it holds.
///
/// # Errors
/// The next daemon would not find it.
pub fn run(socket: &Path, absence: Duration) -> Result<(), HoldError> {
    // Whoever stops the daemon's process group does not mean us. Ours alone already: fine.
    let _ = nix::unistd::setsid();
    let failed = |source| HoldError::Listen { path: socket.to_owned(), source };
    let _earlier = std::fs::remove_file(socket);
    let listener = UnixListener::bind(socket).map_err(failed)?;
    let (tell, told) = mpsc::channel();
    let by_time = tell.clone();
    std::thread::spawn(move || {
        // Nothing is ever written; an error is an end too.
        let _end = io::stdin().read(&mut [0]);
        std::thread::sleep(absence);
        let _told = by_time.send(None);
    });
    // The next daemon's connection ends with this process.
    std::thread::spawn(move || {
        let next = listener.accept().ok();
        let _told = tell.send(next.map(|(stream, _)| stream));
    });
    let _next: Option<UnixStream> = told.recv().ok().flatten();
    let _gone = std::fs::remove_file(socket);
    Ok(())
}

/// Has the holder of the daemon before this one go, if there is one. May block, for a moment.
pub(super) fn dismiss(socket: &Path) {
    let Ok(mut stream) = UnixStream::connect(socket) else { return };
    if stream.set_read_timeout(Some(GOES)).is_ok() {
        // The end, when it is gone.
        let _end = stream.read(&mut [0]);
    }
}

/// The holder of this daemon's place.
pub(super) struct Holder {
    place: OwnedFd,
    socket: PathBuf,
    absence: Duration,
    running: Option<(Child, PipeWriter)>,
}

impl Holder {
    /// Starts it. A node without one works; but its daemon's end is taken for the node's.
    pub(super) fn start(place: OwnedFd, socket: PathBuf, absence: Duration) -> Self {
        let mut holder = Self { place, socket, absence, running: None };
        holder.keep();
        holder
    }

    /// Starts it again, if it has ended.
    pub(super) fn keep(&mut self) {
        if let Some((child, _)) = &mut self.running
            && matches!(child.try_wait(), Ok(None))
        {
            return;
        }
        match self.begin() {
            Ok(running) => self.running = Some(running),
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "a restart of this daemon will be taken for the node's end"
                );
            }
        }
    }

    fn begin(&self) -> Result<(Child, PipeWriter), HoldError> {
        let (theirs, ours) = io::pipe().map_err(HoldError::Start)?;
        let place = self.place.try_clone().map_err(HoldError::Start)?;
        // The file of this program may have been replaced.
        let mut command = Command::new("/proc/self/exe");
        command.arg0("meshd").arg("hold").arg("--socket").arg(&self.socket);
        command.arg("--seconds").arg(self.absence.as_secs().to_string());
        command.stdin(theirs).stdout(place).stderr(Stdio::null()).current_dir("/");
        Ok((command.spawn().map_err(HoldError::Start)?, ours))
    }

    /// Gives the place up: the node leaves.
    pub(super) fn end(mut self) {
        if let Some((mut child, _)) = self.running.take() {
            // It fails only for one that has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
        let _gone = std::fs::remove_file(&self.socket);
    }
}
