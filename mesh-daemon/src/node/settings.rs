//! What a node must know of its swarm before anybody tells it: where it listens, and whom to ask.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cluster::rpc::Reach;
use crate::model::id::NodeId;

/// Why they cannot be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file.
    #[error("{what} {}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Its text.
    #[error("{} is damaged: restore it, or leave the swarm and join again", path.display())]
    Json {
        /// Which.
        path: PathBuf,
        /// Where.
        #[source]
        source: serde_json::Error,
    },
}

/// A node's place in a swarm, as it is kept on disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Settings {
    /// Where this node listens for others, should it be a manager.
    pub(super) listen: SocketAddr,
    /// Where others find it.
    pub(super) advertise: SocketAddr,
    /// Where its tunnels end.
    pub(super) data_path: IpAddr,
    /// The UDP port of tunnels, once it is known: who joins is told it.
    pub(super) data_path_port: Option<u16>,
    /// Its number among managers, if it is one.
    pub(super) raft_id: Option<u64>,
    /// Counts the starts of this node, for membership.
    pub(super) life: u64,
    /// Managers that were seen last.
    pub(super) managers: Vec<Known>,
}

/// A manager that was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Known {
    pub(super) node: Option<NodeId>,
    pub(super) address: String,
    pub(super) leader: bool,
}

impl From<&Reach> for Known {
    fn from(reach: &Reach) -> Self {
        Self { node: Some(reach.node), address: reach.address.clone(), leader: reach.leader }
    }
}

fn file(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> SettingsError + use<> {
    let path = path.to_owned();
    move |source| SettingsError::File { what, path, source }
}

impl Settings {
    pub(super) fn load(path: &Path) -> Result<Option<Self>, SettingsError> {
        match std::fs::read(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(file("read", path)(error)),
            Ok(json) => {
                let read = serde_json::from_slice(&json);
                read.map(Some).map_err(|source| SettingsError::Json { path: path.to_owned(), source })
            }
        }
    }

    /// Keeps them, whole or not at all.
    pub(super) fn save(&self, path: &Path) -> Result<(), SettingsError> {
        let json =
            serde_json::to_vec_pretty(self).map_err(|source| SettingsError::Json { path: path.to_owned(), source })?;
        let new = path.with_extension("new");
        std::fs::write(&new, json).map_err(file("write", &new))?;
        std::fs::File::open(&new).and_then(|written| written.sync_all()).map_err(file("write", &new))?;
        std::fs::rename(&new, path).map_err(file("replace", path))
    }
}
