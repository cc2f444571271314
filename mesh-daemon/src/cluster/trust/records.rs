//! The registry that a manager's store is.

use super::authority::{Newcomer, Recorded, Registry, Trusted};
use crate::cluster::ca::{self, Peer};
use crate::cluster::rpc::{Code, Refusal, async_trait};
use crate::model::cluster::Cluster;
use crate::model::id::NodeId;
use crate::model::node::{Certificate, Node};
use crate::store::{Error, Store, Tx};

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
        let issued = node.certificate.certificate.clone();
        let update = |tx: &mut Tx| {
            of_the_root_that_stays(tx, &issued)?;
            tx.create(node.clone())
        };
        self.update(update).await.map_err(refuse)
    }

    async fn renewed(&self, node: NodeId, certificate: Certificate) -> Result<(), Refusal> {
        let update = |tx: &mut Tx| {
            of_the_root_that_stays(tx, &certificate.certificate)?;
            tx.modify::<Node>(node, |node| node.certificate = certificate.clone())
        };
        self.update(update).await.map_err(refuse)
    }
}

/// A manager that lags may not know that the root is being rotated: what it signs by then would soon be worth
/// nothing, and the rotation does not wait for a node that is not recorded yet.
fn of_the_root_that_stays(tx: &mut Tx, issued: &str) -> Result<(), Error> {
    let Some(cluster) = tx.cluster().cloned() else { return Ok(()) };
    let leaf = pem::parse(issued).ok().and_then(|leaf| Peer::from_certificate(leaf.contents()).ok());
    if !leaf.is_some_and(|leaf| ca::is_current(&cluster.root_ca, &leaf)) {
        return Err(Error::Refused(
            "the root is being rotated, and this manager did not know yet: ask again".to_owned(),
        ));
    }
    tx.require::<Cluster>(cluster.id)
}

fn refuse(error: Error) -> Refusal {
    let code = match &error {
        Error::NotFound { .. } => Code::NotFound,
        Error::OutOfSequence | Error::Rejected(_) | Error::Refused(_) => Code::Aborted,
        Error::Propose(_) => Code::Unavailable,
        Error::TooManyChanges | Error::TooManyBytes { .. } | Error::Encode { .. } => Code::Internal,
    };
    Refusal::new(code, error.to_string())
}
