//! The registry that a manager's store is.

use super::authority::{Newcomer, Recorded, Registry, Trusted};
use crate::cluster::rpc::{Code, Refusal, async_trait};
use crate::model::id::NodeId;
use crate::model::node::{Certificate, Node};
use crate::store::{Error, Store};

/// Nodes and trust as the store has them.
#[async_trait]
impl Registry for Store {
    fn trusted(&self) -> Result<Trusted, Refusal> {
        let view = self.view();
        let missing = || Refusal::new(Code::Unavailable, "this manager does not know its cluster yet");
        let cluster = view.cluster().ok_or_else(missing)?;
        let life = cluster.spec.ca.node_cert_expiry;
        Ok(Trusted { cluster: cluster.id, ca: cluster.root_ca.clone(), life })
    }

    fn node(&self, node: NodeId) -> Recorded {
        let view = self.view();
        let removed =
            |node| view.cluster().is_some_and(|cluster| cluster.removed_nodes.iter().any(|it| it.node_id == node));
        match view.nodes().get(node) {
            Some(known) => Recorded::Known(known.role),
            None if removed(node) => Recorded::Removed,
            None => Recorded::Unknown,
        }
    }

    async fn admit(&self, newcomer: Newcomer) -> Result<(), Refusal> {
        let mut node = Node::new(newcomer.node, newcomer.role);
        node.spec.availability = newcomer.availability;
        node.certificate = newcomer.certificate;
        node.status.addr = newcomer.from.ip().to_canonical().to_string();
        self.update(|tx| tx.create(node.clone())).await.map_err(refuse)
    }

    async fn renewed(&self, node: NodeId, certificate: Certificate) -> Result<(), Refusal> {
        let update = |tx: &mut crate::store::Tx| tx.modify::<Node>(node, |node| node.certificate = certificate.clone());
        self.update(update).await.map_err(refuse)
    }
}

fn refuse(error: Error) -> Refusal {
    let code = match &error {
        Error::NotFound { .. } => Code::NotFound,
        Error::OutOfSequence | Error::Rejected(_) => Code::Aborted,
        Error::Propose(_) => Code::Unavailable,
        Error::TooManyChanges | Error::TooManyBytes { .. } | Error::Encode { .. } | Error::Refused(_) => Code::Internal,
    };
    Refusal::new(code, error.to_string())
}
