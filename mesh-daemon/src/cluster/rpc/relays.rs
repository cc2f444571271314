//! The manager's side of relays: invites a node to a stream, and waits for it to come.
//!
//! A node listens on nothing. A manager that wants its logs, or to run something in a task of it, sends an
//! invitation in the node's session; the node opens a stream with the invitation's number.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::face::Stream;
use super::refusal::{Code, Refusal};
use crate::cluster::ca::Peer;
use crate::model::id::NodeId;

/// Invitations that nobody has come to yet.
const MAX_WAITING: usize = 1024;

/// The invitations of a manager.
#[derive(Clone)]
pub struct Relays {
    waiting: Arc<Mutex<HashMap<u64, Waiting>>>,
    draw: Arc<dyn Fn() -> u64 + Send + Sync>,
}

struct Waiting {
    node: NodeId,
    met: oneshot::Sender<Arrival>,
}

/// A node has come: what it sends, and where to put what it should get.
struct Arrival {
    up: Stream<Bytes>,
    down: oneshot::Sender<Stream<Bytes>>,
}

/// An invitation; it is withdrawn when this is dropped.
pub struct Invited {
    relays: Relays,
    number: u64,
    met: oneshot::Receiver<Arrival>,
}

impl Relays {
    /// None yet. `draw` gives numbers by chance: a node that comes late must not meet another's invitation.
    pub fn new(draw: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self { waiting: Arc::default(), draw: Arc::new(draw) }
    }

    /// Prepares for a node to come. The caller sends the number in the node's session.
    ///
    /// # Errors
    /// If too many invitations are waiting.
    pub fn invite(&self, node: NodeId) -> Result<Invited, Refusal> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= MAX_WAITING {
            return Err(Refusal::new(Code::ResourceExhausted, format!("{MAX_WAITING} streams to nodes are waiting")));
        }
        let mut number = (self.draw)();
        while waiting.contains_key(&number) {
            number = number.wrapping_add(1);
        }
        let (sender, met) = oneshot::channel();
        waiting.insert(number, Waiting { node, met: sender });
        Ok(Invited { relays: self.clone(), number, met })
    }

    /// A node comes to an invitation. What it sends is `up`; what it should get is the answer.
    ///
    /// # Errors
    /// If it was not invited, or is too late.
    pub async fn open(&self, from: Peer, relay: u64, up: Stream<Bytes>) -> Result<Stream<Bytes>, Refusal> {
        let gone = || Refusal::new(Code::NotFound, "no such invitation, or no longer");
        let waiting = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            match waiting.get(&relay) {
                Some(invitation) if invitation.node == from.node => waiting.remove(&relay),
                // Another node's is as good as none.
                _ => None,
            }
        };
        let (down, answer) = oneshot::channel();
        waiting.ok_or_else(gone)?.met.send(Arrival { up, down }).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }
}

impl Invited {
    /// To send to the node.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Waits for the node; sends it `down`, and returns what it sends.
    ///
    /// # Errors
    /// If it does not come in time.
    pub async fn meet(mut self, down: Stream<Bytes>, deadline: Duration) -> Result<Stream<Bytes>, Refusal> {
        let late =
            || Refusal::new(Code::Unavailable, format!("the node has not opened the stream within {deadline:?}"));
        let arrival = timeout(deadline, &mut self.met).await.map_err(|_| late())?.map_err(|_| late())?;
        arrival.down.send(down).map_err(|_| Refusal::new(Code::Unavailable, "the node has closed the stream"))?;
        Ok(arrival.up)
    }
}

impl Drop for Invited {
    fn drop(&mut self) {
        self.relays.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.number);
    }
}
