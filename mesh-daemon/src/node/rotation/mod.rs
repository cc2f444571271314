//! Ends a rotation of the root: the leader's affair.
//!
//! It begins with the user's word (`api`); the dispatcher tells nodes to renew, and they announce what they got. When
//! every node that can still come has a certificate of the new root, that root stands alone, with new join tokens.
//! All of it rests on what the store has, so that another leader goes on where this one was.

use jiff::Timestamp;

use crate::cluster::ca;
use crate::model::cluster::Cluster;
use crate::model::node::Node;
use crate::store::{Clock, Error, Notice, Rejection, Store, Tables};

/// After a change was not written, until the next try.
const AGAIN: std::time::Duration = std::time::Duration::from_secs(1);
/// How often it looks although nothing has changed: certificates end by themselves.
const LOOK: std::time::Duration = std::time::Duration::from_secs(60);

/// Runs while this manager leads.
///
/// # Errors
///
/// If another leads now.
pub(super) async fn lead(store: &Store, term: u64, clock: &Clock) -> Result<(), Error> {
    let (mut view, mut watch) = store.watch();
    loop {
        if is_done(&view, clock()) {
            match finish(store, term, clock).await {
                Ok(()) => tracing::info!("the root is rotated: the new one stands alone"),
                Err(error @ Error::Rejected(Rejection::TermEnded { .. })) => return Err(error),
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "the rotation of the root was not ended");
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
        match tokio::time::timeout(LOOK, watch.next()).await {
            Ok(None) => return Ok(()),
            Ok(Some(Notice::Transaction(transaction))) => view = std::sync::Arc::clone(&transaction.view),
            Ok(Some(Notice::Resync)) | Err(_) => (view, watch) = store.watch(),
        }
    }
}

/// Whether a root is being rotated, and nobody is waited for any more.
pub(super) fn is_done(view: &Tables, now: Timestamp) -> bool {
    let Some(cluster) = view.cluster().filter(|cluster| cluster.root_ca.rotation.is_some()) else { return false };
    !view.nodes().iter().any(|node| is_awaited(cluster, node, now))
}

/// Whether a node has yet to renew. One whose certificate has ended cannot come back with it.
fn is_awaited(cluster: &Cluster, node: &Node, now: Timestamp) -> bool {
    let has_ended = node.certificate.not_after.is_some_and(|end| end < now);
    let tls = node.description.as_ref().map(|description| &description.tls);
    !has_ended && tls.is_none_or(|tls| !ca::has_renewed(&cluster.root_ca, tls))
}

async fn finish(store: &Store, term: u64, clock: &Clock) -> Result<(), Error> {
    let done = store.update_fenced(Some(term), |tx| {
        // Another may have begun in the place of the one that was done.
        let Some(cluster) = tx.cluster().filter(|_| is_done(tx, clock())) else { return Ok(()) };
        let mut cluster = Cluster::clone(cluster);
        ca::finish_rotation(&mut cluster.root_ca).map_err(|error| Error::Refused(error.to_string()))?;
        tx.update(cluster)
    });
    done.await
}

#[cfg(test)]
mod tests;
