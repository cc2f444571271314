//! What of a container lies on disk, and what that says of its state.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::model::id::TaskId;
use crate::model::meta::Labels;
use crate::runtime::health::Check;
use crate::runtime::images::Digest;
use crate::runtime::{ContainerId, Exit, RuntimeError, State};

/// The directory of a container.
#[derive(Clone, Debug)]
pub(super) struct Directory {
    pub(super) path: PathBuf,
}

/// A container as it was prepared. Holds nothing secret.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) id: ContainerId,
    pub(super) task: TaskId,
    pub(super) name: String,
    pub(super) labels: Labels,
    pub(super) image: String,
    pub(super) image_id: Digest,
    pub(super) manifest: Digest,
    pub(super) command: Vec<String>,
    #[serde(default)]
    pub(super) ports: Vec<String>,
    #[serde(default)]
    pub(super) tty: bool,
    pub(super) created: Timestamp,
    pub(super) stop_signal: String,
    pub(super) grace_ms: u64,
    pub(super) check: Option<Check>,
    pub(super) netns: Option<PathBuf>,
    /// Volumes that go with it.
    pub(super) volumes: Vec<String>,
}

/// What a shim says when its container runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Running {
    pub(super) pid: u32,
    pub(super) since: Timestamp,
}

/// How far a container is, as far as files can say it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Known.
    Is(State),
    /// It was started, and the shim that watched it is gone without a word.
    Lost,
}

impl Directory {
    pub(super) fn record(&self) -> PathBuf {
        self.path.join("record.json")
    }
    pub(super) fn bundle(&self) -> PathBuf {
        self.path.join("bundle")
    }
    pub(super) fn configuration(&self) -> PathBuf {
        self.path.join("bundle/config.json")
    }
    pub(super) fn rootfs(&self) -> PathBuf {
        self.path.join("bundle/rootfs")
    }
    /// What the container changes of its image.
    pub(super) fn upper(&self) -> PathBuf {
        self.path.join("upper")
    }
    pub(super) fn work(&self) -> PathBuf {
        self.path.join("work")
    }
    /// Memory with its secrets, configs, hosts and resolv.conf.
    pub(super) fn files(&self) -> PathBuf {
        self.path.join("files")
    }
    pub(super) fn logs(&self) -> PathBuf {
        self.path.join("log")
    }
    pub(super) fn shim(&self) -> PathBuf {
        self.path.join("shim.json")
    }
    pub(super) fn running(&self) -> PathBuf {
        self.path.join("running.json")
    }
    pub(super) fn exit(&self) -> PathBuf {
        self.path.join("exit.json")
    }
    /// Locked by the shim for as long as it lives.
    pub(super) fn lock(&self) -> PathBuf {
        self.path.join("lock")
    }
    /// A FIFO that the shim holds open; its readers see the end of it.
    pub(super) fn alive(&self) -> PathBuf {
        self.path.join("alive")
    }

    /// The phase: an exit that was told, else what the shim's lock and its word say.
    pub(super) fn phase(&self) -> Result<Phase, RuntimeError> {
        let shim_lives = self.shim_lives()?;
        if let Some(exit) = read(&self.exit())? {
            return Ok(Phase::Is(State::Exited(exit)));
        }
        match (read::<Running>(&self.running())?, shim_lives) {
            (Some(Running { pid, since }), true) => Ok(Phase::Is(State::Running { pid, since })),
            (None, false) if !self.shim().exists() => Ok(Phase::Is(State::Created)),
            // Between its start and its word.
            (None, true) => Ok(Phase::Is(State::Created)),
            (_, false) => Ok(Phase::Lost),
        }
    }

    fn shim_lives(&self) -> Result<bool, RuntimeError> {
        let path = self.lock();
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(RuntimeError::file("open", &path)(error)),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(RuntimeError::file("lock", &path)(error)),
        }
    }
}

/// Reads a file of ours; None if there is none.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, RuntimeError> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|source| RuntimeError::Json { what: path.display().to_string(), source }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(RuntimeError::file("read", path)(error)),
    }
}

/// Writes a file so that a reader sees all of it or nothing.
pub(super) fn write(path: &Path, value: &impl Serialize) -> Result<(), RuntimeError> {
    let json = |source| RuntimeError::Json { what: path.display().to_string(), source };
    let bytes = serde_json::to_vec(value).map_err(json)?;
    let next = path.with_extension("next");
    fs::write(&next, bytes).and_then(|()| fs::rename(&next, path)).map_err(RuntimeError::file("write", path))
}

/// How a container ended whose shim cannot say it.
pub(super) fn lost(at: Timestamp) -> Exit {
    let error = Some("it was lost sight of: its shim was killed, or the node was restarted".to_owned());
    Exit { code: 137, oom_killed: false, error, at }
}
