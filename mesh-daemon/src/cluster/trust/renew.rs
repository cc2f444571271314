//! Keeps a node's certificate good: renews it between 50 and 80 % of its life, or at once when a manager says
//! so, and tries again as long as it takes.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::keeper::{Keeper, KeeperError};
use crate::cluster::ca::{KeepError, Keys, renew_at, retry_after};
use crate::cluster::clock::Clock;
use crate::cluster::rpc::{Granted, Peers, Reach, Refusal};

/// A call to one manager.
const CALL: Duration = Duration::from_secs(5);
/// The wall clock is looked at this often, since it may jump.
const LOOK: Duration = Duration::from_secs(60);

/// Why a certificate was not renewed.
#[derive(Debug, Error)]
pub enum RenewError {
    /// No manager is known.
    #[error("no manager is known to renew the certificate at")]
    NoManager,
    /// None gave one; this is what the last said.
    #[error("renew the certificate at {address}")]
    Refused {
        /// Who was asked last.
        address: String,
        /// What it said.
        #[source]
        source: Refusal,
    },
    /// A key was not made.
    #[error(transparent)]
    Key(#[from] KeepError),
    /// What was given does not serve, or was not written.
    #[error("take the new certificate into use")]
    Keep(#[source] KeeperError),
    /// What was given is not text.
    #[error("the certificate that {address} gave is not PEM")]
    Answer {
        /// Who gave it.
        address: String,
    },
}

/// The renewing of one node's certificate.
pub struct Renewal {
    keeper: Arc<Keeper>,
    peers: Arc<Peers>,
    managers: Box<dyn Fn() -> Vec<Reach> + Send + Sync>,
    chance: Box<dyn Fn() -> f64 + Send + Sync>,
    clock: Clock,
    now: Notify,
}

impl Renewal {
    /// Renews what the keeper holds. `managers` says whom to ask; `chance` draws from 0 to 1.
    pub fn new(
        keeper: Arc<Keeper>,
        peers: Arc<Peers>,
        clock: Clock,
        managers: impl Fn() -> Vec<Reach> + Send + Sync + 'static,
        chance: impl Fn() -> f64 + Send + Sync + 'static,
    ) -> Self {
        Self { keeper, peers, managers: Box::new(managers), chance: Box::new(chance), clock, now: Notify::new() }
    }

    /// A manager said: at once.
    pub fn at_once(&self) {
        self.now.notify_one();
    }

    /// Renews until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        let mut failed = 0;
        let mut chance = (self.chance)();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.now.notified(), if failed == 0 => {}
                () = self.due(chance), if failed == 0 => {}
                () = tokio::time::sleep(retry_after(failed)), if failed > 0 => {}
            }
            match self.renew().await {
                Ok(()) => {
                    failed = 0;
                    chance = (self.chance)();
                    tracing::info!("certificate renewed");
                }
                Err(error) => {
                    failed += 1;
                    tracing::warn!(error = &error as &dyn std::error::Error, failed, "certificate not renewed");
                }
            }
        }
    }

    async fn due(&self, chance: f64) {
        let at = renew_at(&self.keeper.credentials().own(), chance);
        while let Ok(left) = at.duration_since(self.clock.now()) {
            tokio::time::sleep(left.min(LOOK)).await;
        }
    }

    /// Renews now, at the first manager that answers. The leader is asked first: another may not know yet that the
    /// root is being rotated.
    ///
    /// # Errors
    /// If none gives a certificate, or it cannot be taken into use; then the old one stays.
    pub async fn renew(&self) -> Result<(), RenewError> {
        let (key, csr) = Keys::request()?;
        let mut last = RenewError::NoManager;
        let mut managers = (self.managers)();
        managers.sort_by_key(|manager| !manager.leader);
        for Reach { node, address, .. } in managers {
            let asked = async { self.peers.to(&address, Some(node))?.renew(&csr, CALL).await };
            match asked.await {
                Ok(granted) => return self.take(key, granted, address).await,
                Err(source) => last = RenewError::Refused { address, source },
            }
        }
        Err(last)
    }

    async fn take(&self, key: String, granted: Granted, address: String) -> Result<(), RenewError> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec());
        let (Ok(chain), Ok(roots)) = (text(&granted.chain), text(&granted.roots)) else {
            return Err(RenewError::Answer { address });
        };
        let keeper = self.keeper.clone();
        let taken = tokio::task::spawn_blocking(move || keeper.renewed(&key, &chain, &roots)).await;
        match taken {
            Ok(taken) => taken.map_err(RenewError::Keep),
            // The runtime is shutting down: the next start renews.
            Err(_) => Ok(()),
        }
    }
}
