//! Founds a cluster: its root, its tokens, and the first manager's own certificate.

use std::time::Duration;

use thiserror::Error;

use super::join::Joined;
use crate::cluster::ca::{self, KeepError, Keys, Subject, TrustError};
use crate::cluster::clock::Clock;
use crate::model::cluster::RootCa;
use crate::model::id::{ClusterId, NodeId};
use crate::model::node::Role;

/// Why a cluster was not founded.
#[derive(Debug, Error)]
pub enum FoundError {
    /// Its root was not made, or did not sign.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The first manager's key was not made.
    #[error(transparent)]
    Key(#[from] KeepError),
}

/// The trust of a new cluster, for its store, and what its first manager gets of it.
///
/// # Errors
/// If keys cannot be made.
pub fn found(cluster: ClusterId, node: NodeId, life: Duration, clock: &Clock) -> Result<(RootCa, Joined), FoundError> {
    let trust = ca::found(clock.now())?;
    let joined = found_again(&trust, cluster, node, life, clock)?;
    Ok((trust, joined))
}

/// What the first manager gets of a cluster whose trust there is already: of a backup.
///
/// # Errors
/// If keys cannot be made, or the root's key is not there.
pub fn found_again(
    trust: &RootCa,
    cluster: ClusterId,
    node: NodeId,
    life: Duration,
    clock: &Clock,
) -> Result<Joined, FoundError> {
    let (key, csr) = Keys::request()?;
    let to = Subject { node, role: Role::Manager, cluster };
    let chain = ca::issue(trust, &csr, &to, clock.now(), life)?;
    Ok(Joined { keys: Keys { chain, key, data_keys: Vec::new() }, roots: ca::roots(trust) })
}
