//! Ways to managers, and whether this one can be worked with.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::settings::{Known, Settings};
use crate::agent::{Managers, Way};
use crate::cluster::raft::Raft;
use crate::cluster::rpc::{self, Link, Peers, Reach, Refusal, async_trait};

/// Says whether this manager can be worked with.
pub(super) struct Serving {
    pub(super) raft: Raft,
}

#[async_trait]
impl rpc::Health for Serving {
    async fn serving(&self) -> bool {
        let status = self.raft.status();
        status.leader.is_some() && status.stopped.is_none()
    }
}

/// The managers that are known, on disk too.
pub(super) struct Book {
    peers: Arc<Peers>,
    path: PathBuf,
    settings: Mutex<Settings>,
}

impl Book {
    pub(super) fn new(peers: Arc<Peers>, path: PathBuf, settings: Settings) -> Self {
        Self { peers, path, settings: Mutex::new(settings) }
    }

    pub(super) fn settings(&self) -> Settings {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes what is kept.
    pub(super) fn keep(&self, change: impl FnOnce(&mut Settings)) {
        let mut settings = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        let before = settings.clone();
        change(&mut settings);
        if *settings != before
            && let Err(error) = settings.save(&self.path)
        {
            tracing::warn!(error = &error as &dyn std::error::Error, "the place in the swarm is not kept");
        }
    }

    /// For log and API: where managers are.
    pub(super) fn reaches(&self) -> Vec<Reach> {
        let known = self.settings().managers;
        known
            .into_iter()
            .filter_map(|known| Some(Reach { node: known.node?, address: known.address, leader: known.leader }))
            .collect()
    }
}

impl Managers for Book {
    fn known(&self) -> Vec<Way> {
        let mut known = self.settings().managers;
        known.sort_by_key(|known| !known.leader);
        known.into_iter().map(|Known { node, address, .. }| Way { node, address }).collect()
    }

    fn learn(&self, managers: Vec<Reach>) {
        if !managers.is_empty() {
            self.keep(|settings| settings.managers = managers.iter().map(Known::from).collect());
        }
    }

    fn link(&self, to: &Way) -> Result<Link, Refusal> {
        self.peers.to(&to.address, to.node)
    }
}

/// As it is dialled: the port of managers, unless the user gave one.
pub(super) fn with_port(remote: &str, port: u16) -> String {
    if remote.parse::<SocketAddr>().is_ok() {
        return remote.to_owned();
    }
    match remote.parse::<std::net::IpAddr>() {
        Ok(address) => SocketAddr::new(address, port).to_string(),
        Err(_) if remote.contains(':') => remote.to_owned(),
        Err(_) => format!("{remote}:{port}"),
    }
}
