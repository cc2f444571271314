//! Whether nodes are there: from their sessions, from membership, and from how long they have said nothing.

use std::time::Duration;

use crate::model::node::{Node, NodeState};

/// A session that broke is waited for so long.
const RETURN: Duration = Duration::from_secs(2);
/// A node that membership holds for dead, and whose session has been silent for so long, is. Two heartbeats,
/// and room for a machine that is busy: membership alone errs within a second there.
const SILENCE: Duration = Duration::from_millis(2500);
/// So many heartbeats may be missed in a row.
const MISSED: u32 = 3;
/// Nodes are given so long to come to a new leader.
const ARRIVAL: Duration = Duration::from_secs(6);
/// What membership hears is there: that its session is silent, or takes its time, is then a matter of busy machines.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is known of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Signs {
    /// Whether it has a session.
    pub(super) connected: bool,
    /// How long ago it was heard in a session, or its session ended; None: it has had none with this leader.
    pub(super) heard: Option<Duration>,
    /// Whether membership holds it for dead.
    pub(super) dead: bool,
    /// Whether membership hears it.
    pub(super) alive: bool,
    /// Whether membership says that its daemon is away, and will be back.
    pub(super) away: bool,
    /// How long this manager has led.
    pub(super) leading: Duration,
    /// The time between its heartbeats.
    pub(super) heartbeat: Duration,
}

/// What the node's state becomes, and why; None: it stays.
pub(super) fn judge(node: &Node, signs: Signs) -> Option<(NodeState, &'static str)> {
    let patience = if signs.alive { PATIENCE } else { Duration::ZERO };
    let now = match signs.heard {
        Some(heard) if signs.connected && heard < SILENCE => (NodeState::Ready, ""),
        // Its tasks run and its packet path is in force: as long as its place is held it is what it was.
        _ if signs.away => return None,
        Some(heard) if signs.dead && heard >= SILENCE => (NodeState::Down, "membership reports the node dead"),
        Some(heard) if signs.connected && heard <= patience.max(signs.heartbeat * MISSED) => (NodeState::Ready, ""),
        Some(_) if signs.connected => (NodeState::Down, "heartbeat failure"),
        Some(heard) if heard < patience.max(RETURN) => return None,
        Some(_) => (NodeState::Down, "heartbeat failure: the session ended"),
        None if signs.dead => (NodeState::Down, "membership reports the node dead"),
        None if signs.leading < patience.max(ARRIVAL) => return None,
        None => (NodeState::Down, "the node has not come to the leader"),
    };
    (now.0 != node.status.state).then_some(now)
}
