//! Streams between the manager that a user asks and the node that has the task.
//!
//! Nodes listen on nothing, and each has its one session with the leader: so a manager has the leader invite the
//! node, and what they say to each other goes through the leader. A stream carries the output of a task, or a
//! connection to the node's Docker API, of which only containers can be asked there.

use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::io::{CopyToBytes, SinkWriter, StreamReader};
use tokio_util::sync::PollSender;

use super::{Base, doctor, logs};
use crate::api::Connection;
use crate::cluster::raft::Raft;
use crate::cluster::rpc::{Code, Link, Peers, Refusal, Stream};
use crate::manager::dispatcher::Dispatcher;
use crate::model::id::NodeId;

/// A node opens a stream, and a leader joins one to it, within this time.
const WAIT: Duration = Duration::from_secs(6);
/// Pieces of a connection that wait to be sent.
const PIECES: usize = 16;

/// What a manager would like of a node.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Wanted {
    /// What a task wrote.
    Logs(logs::Wanted),
    /// Its report on itself and on its ways to others.
    Doctor,
    /// A connection to the Docker API.
    Containers,
}

/// From a manager to every node.
#[derive(Clone)]
pub(super) struct Ways {
    dispatcher: Dispatcher,
    raft: Raft,
    peers: Arc<Peers>,
}

impl Ways {
    pub(super) fn new(dispatcher: Dispatcher, raft: Raft, peers: Arc<Peers>) -> Self {
        Self { dispatcher, raft, peers }
    }

    /// Has a node open a stream: `down` is sent to it, what it sends is returned.
    ///
    /// # Errors
    ///
    /// Nobody leads, or the node does not come.
    pub(super) async fn stream(
        &self,
        node: NodeId,
        wanted: &Wanted,
        down: Stream<Bytes>,
    ) -> Result<Stream<Bytes>, Refusal> {
        let encoded = serde_json::to_vec(wanted).map_err(|error| Refusal::new(Code::Internal, error.to_string()))?;
        let status = self.raft.status();
        if status.is_leader {
            return self.dispatcher.stream(node, encoded.into(), down).await;
        }
        let leader = status.leader.and_then(|leader| status.voters.get(&leader));
        let leader = leader.ok_or_else(|| {
            Refusal::new(Code::Unavailable, format!("node {node} is reached by the leader, and no manager leads now"))
        })?;
        self.peers.to(&leader.addr.to_string(), Some(leader.node_id))?.reach(node, encoded.into(), down, WAIT).await
    }
}

/// A connection to the Docker API of another node.
///
/// # Errors
///
/// As [`Ways::stream`].
pub(super) async fn to_containers(ways: &Ways, node: NodeId) -> Result<Box<dyn Connection>, Refusal> {
    let (outgoing, down) = channel();
    let up = ways.stream(node, &Wanted::Containers, down).await?;
    Ok(Box::new(connection(up, outgoing)))
}

/// Comes to an invitation, and gives what it asks for.
pub(super) async fn answer(base: Arc<Base>, number: u64, request: Bytes, link: Link) {
    let answered = match serde_json::from_slice(&request) {
        Ok(Wanted::Logs(wanted)) => {
            let up = logs::written(base.runtime.as_ref(), wanted).await;
            link.relay(number, up, WAIT).await.map(|down| (down, None))
        }
        Ok(Wanted::Doctor) => {
            let examiner = base.examiner.borrow().clone();
            let up = examiner.map_or_else(|| futures_util::stream::empty().boxed(), doctor::reported);
            link.relay(number, up, WAIT).await.map(|down| (down, None))
        }
        Ok(Wanted::Containers) => {
            let (outgoing, up) = channel();
            link.relay(number, up, WAIT).await.map(|down| (down, Some(outgoing)))
        }
        Err(error) => {
            let text = format!("the request is not understood: {error}");
            let up = futures_util::stream::iter([Err(Refusal::new(Code::InvalidArgument, text))]).boxed();
            link.relay(number, up, WAIT).await.map(|down| (down, None))
        }
    };
    match answered {
        // Lasts until the manager has enough.
        Ok((mut down, None)) => while down.next().await.is_some() {},
        Ok((down, Some(outgoing))) => {
            if let Some(api) = base.api.get().and_then(Weak::upgrade) {
                api.serve_manager(connection(down, outgoing)).await;
            }
        }
        Err(error) => tracing::debug!(error = &error as &dyn std::error::Error, "a stream to a manager ended"),
    }
}

/// What is written to the one comes out of the other.
fn channel() -> (mpsc::Sender<Bytes>, Stream<Bytes>) {
    let (outgoing, pieces) = mpsc::channel(PIECES);
    (outgoing, ReceiverStream::new(pieces).map(Ok).boxed())
}

/// Two streams as one connection: its end of input is the end of `from`, its shutdown that of `to`.
fn connection(from: Stream<Bytes>, to: mpsc::Sender<Bytes>) -> impl Connection {
    let reader = StreamReader::new(from.map(|piece| piece.map_err(io::Error::other)));
    let sink = PollSender::new(to).sink_map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe));
    tokio::io::join(reader, SinkWriter::new(CopyToBytes::new(sink)))
}
