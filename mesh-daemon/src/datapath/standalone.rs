//! The packet path without a cluster: follows a file.
//!
//! A file with an error changes nothing: the state in force stays until the file is right again.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::{error, info};

use super::attach::TcMode;
use super::file::{self, FileError};
use super::reconcile::{Clock, Datapath, DatapathError};
use super::status::{self, Status, StatusError};
use super::{Desired, Pins};

/// How often the file and the kernel are looked at.
const PERIOD: Duration = Duration::from_millis(500);

/// Following a file ended.
#[derive(Debug, thiserror::Error)]
pub enum StandaloneError {
    /// The first read of the file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The packet path.
    #[error(transparent)]
    Datapath(#[from] DatapathError),
    /// Signals.
    #[error("wait for signals")]
    Signal(#[source] std::io::Error),
}

/// Makes the kernel follow `path` until SIGTERM or SIGINT. The packet path stays in place then:
/// packets flow on, and the next start adopts it.
///
/// # Errors
/// The file is wrong at the start, or the packet path cannot be made.
pub async fn run(
    path: PathBuf,
    pins: Pins,
    tc: TcMode,
    clock: Clock,
    status: Option<PathBuf>,
) -> Result<(), StandaloneError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(StandaloneError::Signal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(StandaloneError::Signal)?;
    let mut version = Version::of(&path);
    let mut desired = file::read(&path)?;
    let mut datapath = Datapath::start(pins, tc, clock, &desired).await?;
    let mut told = datapath.watch();
    told.mark_changed();
    info!(file = %path.display(), "ready");
    let mut ticks = tokio::time::interval(PERIOD);
    let (mut failed, mut untold): (Option<String>, Option<String>) = (None, None);
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = ticks.tick() => {}
        }
        follow(&path, &mut version, &mut desired);
        // Said once per distinct error, not twice a second.
        let outcome = datapath.reconcile(&desired).await.err().map(|error| chain(&error));
        if let Some(text) = &outcome
            && outcome != failed
        {
            error!("{text}");
        }
        let written = tell(&mut told, status.as_deref()).err().map(|error| chain(&error));
        if let Some(text) = &written
            && written != untold
        {
            error!("{text}");
        }
        (failed, untold) = (outcome, written);
    }
    info!("stops; the packet path stays in place");
    Ok(())
}

/// Writes the status if it changed, and again if it could not be written.
fn tell(told: &mut watch::Receiver<Status>, path: Option<&Path>) -> Result<(), StatusError> {
    let (Some(path), Ok(true)) = (path, told.has_changed()) else { return Ok(()) };
    let status = told.borrow_and_update().clone();
    status::write(&status, path).inspect_err(|_| told.mark_changed())
}

/// Reads the file again if it changed.
fn follow(path: &Path, version: &mut Option<Version>, desired: &mut Desired) {
    let now = Version::of(path);
    if now == *version {
        return;
    }
    *version = now;
    match file::read(path) {
        Ok(new) => {
            info!(file = %path.display(), "read again");
            *desired = new;
        }
        Err(error) => error!("{}; the state in force stays", chain(&error)),
    }
}

/// An error with all its sources on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(error.source(), |error| error.source());
    sources.fold(error.to_string(), |text, source| format!("{text}: {source}"))
}

/// Tells one content of a file from another without reading it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Version {
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Version {
    fn of(path: &Path) -> Option<Self> {
        let meta = fs::metadata(path).ok()?;
        Some(Self { inode: meta.ino(), size: meta.size(), modified: (meta.mtime(), meta.mtime_nsec()) })
    }
}
