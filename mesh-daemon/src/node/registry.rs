//! What the cluster has recorded of its trust and its nodes, from the store.

use crate::cluster::rpc::{Code, Refusal, async_trait};
use crate::cluster::trust::{Newcomer, Recorded, Registry, Trusted};
use crate::model::id::NodeId;
use crate::model::node::{Certificate, Node};
use crate::store::{Error, Store};

/// The store, as the certificate authority sees it.
pub(super) struct Records {
    pub(super) store: Store,
}

#[async_trait]
impl Registry for Records {
    fn trusted(&self) -> Result<Trusted, Refusal> {
        let view = self.store.view();
        let cluster =
            view.cluster().ok_or_else(|| Refusal::new(Code::Unavailable, "this manager has not caught up"))?;
        let ca = cluster.root_ca.clone();
        Ok(Trusted { cluster: cluster.id, ca, life: cluster.spec.ca.node_cert_expiry })
    }

    fn node(&self, node: NodeId) -> Recorded {
        let view = self.store.view();
        if let Some(node) = view.nodes().get(node) {
            return Recorded::Known(node.spec.role);
        }
        let removed = view.cluster().is_some_and(|cluster| cluster.removed_nodes.iter().any(|it| it.node_id == node));
        if removed { Recorded::Removed } else { Recorded::Unknown }
    }

    async fn admit(&self, newcomer: Newcomer) -> Result<(), Refusal> {
        let mut node = Node::new(newcomer.node, newcomer.role);
        node.spec.availability = newcomer.availability;
        node.status.addr = newcomer.from.ip().to_string();
        node.certificate = newcomer.certificate;
        self.store.update(|tx| tx.create(node.clone())).await.map_err(refused)
    }

    async fn renewed(&self, node: NodeId, certificate: Certificate) -> Result<(), Refusal> {
        let role = certificate.role;
        let done = self.store.update(|tx| {
            tx.modify::<Node>(node, |node| {
                node.certificate = certificate.clone();
                node.role = role;
            })
        });
        done.await.map_err(refused)
    }
}

fn refused(error: Error) -> Refusal {
    match error {
        Error::Propose(error) => Refusal::new(Code::Unavailable, error.to_string()),
        error => Refusal::new(Code::Aborted, error.to_string()),
    }
}
