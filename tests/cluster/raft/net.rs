//! Wires between managers: late, lossy, doubling, cut in one direction or both.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use mesh_daemon::cluster::raft::{Member, Raft, RaftId, Transport, TransportError};
use mesh_daemon::store::Pending;
use tokio::time::sleep;

use super::Chance;

#[derive(Default)]
struct State {
    /// Who is there, in which life.
    managers: BTreeMap<RaftId, (u64, Raft)>,
    /// From whom to whom nothing comes through.
    cut: BTreeSet<(RaftId, RaftId)>,
    /// Of a hundred messages, so many are lost.
    loss: u64,
    /// Of a hundred questions, so many come twice.
    twice: u64,
    /// A message takes at most so long.
    late_ms: u64,
}

/// The network.
#[derive(Clone)]
pub(super) struct Net {
    state: Arc<Mutex<State>>,
    chance: Chance,
}

/// A manager's end of the network, in one life.
pub(super) struct Wire {
    net: Net,
    from: RaftId,
    life: u64,
}

impl Net {
    pub(super) fn new(chance: Chance) -> Self {
        let state = State { late_ms: 2, ..State::default() };
        Self { state: Arc::new(Mutex::new(state)), chance }
    }

    pub(super) fn wire(&self, from: RaftId, life: u64) -> Wire {
        Wire { net: self.clone(), from, life }
    }

    pub(super) fn plug(&self, raft: Raft, life: u64) {
        self.state.lock().unwrap().managers.insert(raft.id(), (life, raft));
    }

    pub(super) fn unplug(&self, id: RaftId) {
        self.state.lock().unwrap().managers.remove(&id);
    }

    pub(super) fn weather(&self, loss: u64, twice: u64, late_ms: u64) {
        let mut state = self.state.lock().unwrap();
        (state.loss, state.twice, state.late_ms) = (loss, twice, late_ms);
    }

    pub(super) fn cut(&self, from: RaftId, to: RaftId) {
        self.state.lock().unwrap().cut.insert((from, to));
    }

    pub(super) fn heal(&self) {
        self.state.lock().unwrap().cut.clear();
    }

    fn delay(&self) -> Duration {
        let late_ms = self.state.lock().unwrap().late_ms;
        Duration::from_micros(self.chance.of(100..late_ms * 1000))
    }

    /// Whether a message comes through now.
    fn passes(&self, from: RaftId, to: RaftId) -> bool {
        let (cut, loss) = {
            let state = self.state.lock().unwrap();
            (state.cut.contains(&(from, to)), state.loss)
        };
        !cut && !self.chance.percent(loss)
    }

    fn manager(&self, id: RaftId) -> Option<Raft> {
        self.state.lock().unwrap().managers.get(&id).map(|(_, raft)| raft.clone())
    }

    fn lives(&self, id: RaftId, life: u64) -> bool {
        self.state.lock().unwrap().managers.get(&id).is_some_and(|(there, _)| *there == life)
    }
}

impl Transport for Wire {
    fn call(&self, target: RaftId, member: &Member, question: Bytes) -> Pending<'_, Result<Bytes, TransportError>> {
        let addr = member.addr.to_string();
        Box::pin(async move {
            let net = &self.net;
            sleep(net.delay()).await;
            if !net.lives(self.from, self.life) || !net.passes(self.from, target) {
                return std::future::pending().await; // a lost packet: nobody says so
            }
            let Some(there) = net.manager(target) else {
                return Err(TransportError::Unreached { addr, why: "connection refused".to_owned() });
            };
            let twice = net.state.lock().unwrap().twice;
            if net.chance.percent(twice) {
                there.handle(&question).await;
            }
            let answer = there.handle(&question).await;
            sleep(net.delay()).await;
            // Who has crashed in between does not answer.
            if net.manager(target).is_none() {
                return Err(TransportError::Lost { addr, why: "connection reset".to_owned() });
            }
            if !net.passes(target, self.from) {
                return std::future::pending().await;
            }
            Ok(answer)
        })
    }
}
