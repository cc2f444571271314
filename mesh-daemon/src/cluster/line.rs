//! Between the log and the wire: what [`raft`](super::raft) asks goes over [`rpc`](super::rpc), and comes in
//! by it. The log knows no sockets, the wire no log.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::ca::Peer;
use super::raft::{Member, RaftId, Transport, TransportError};
use super::rpc::{Code, Peers, Raft, Refusal, async_trait};
use crate::store::Pending;

/// Questions of the log are of this kind; others are for later versions.
const QUESTION: u32 = 1;
/// Callers give up by themselves, at the latest when a snapshot is not in force by now.
const AT_MOST: Duration = Duration::from_secs(150);

/// Carries the log's questions to other managers.
#[derive(Clone)]
pub struct Line {
    peers: Arc<Peers>,
}

impl Line {
    /// By these connections.
    pub fn new(peers: Arc<Peers>) -> Self {
        Self { peers }
    }
}

impl Transport for Line {
    fn call(&self, _: RaftId, member: &Member, question: Bytes) -> Pending<'_, Result<Bytes, TransportError>> {
        let (addr, node) = (member.addr.to_string(), member.node_id);
        Box::pin(async move {
            let asked = async { self.peers.to(&addr, Some(node))?.raft(QUESTION, question, AT_MOST).await };
            asked.await.map_err(|refusal| {
                let why = refusal.text.clone();
                if refusal.was_never_sent() {
                    TransportError::Unreached { addr, why }
                } else {
                    TransportError::Lost { addr, why }
                }
            })
        })
    }
}

#[async_trait]
impl Raft for super::raft::Raft {
    async fn call(&self, _: Peer, kind: u32, body: Bytes) -> Result<Bytes, Refusal> {
        if kind != QUESTION {
            return Err(Refusal::new(Code::Unimplemented, format!("this version knows no question of kind {kind}")));
        }
        Ok(self.handle(&body).await)
    }
}
