//! The states of a task, and who may move it from one to another.
//!
//! A state only grows. [`Actor::may_move`] is the one table of transitions; a controller that wants
//! another step than it grants has a fault.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a task stands, in the order in which a task goes through them. The numbers are those of
/// SwarmKit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u16)]
pub enum TaskState {
    /// Made by an orchestrator; has no addresses yet.
    #[default]
    New = 0,
    /// Has all that the cluster must give it; waits for a node.
    Pending = 64,
    /// Given to a node, which does not know yet.
    Assigned = 192,
    /// The node has taken it.
    Accepted = 256,
    /// The node fetches the image and makes the container.
    Preparing = 320,
    /// Made; waits to be wanted running.
    Ready = 384,
    /// Started, not yet healthy.
    Starting = 448,
    /// Runs and is healthy.
    Running = 512,
    /// Ended by itself with success.
    Complete = 576,
    /// Ended because the cluster wanted so.
    Shutdown = 640,
    /// Ended with an error.
    Failed = 704,
    /// Could not be started on its node.
    Rejected = 768,
    /// Only wanted, never reached: to be removed with its slot.
    Remove = 800,
    /// Its node has been away for so long that nobody waits for it.
    Orphaned = 832,
}

impl TaskState {
    /// Every state, in order.
    pub const ALL: [Self; 14] = [
        Self::New,
        Self::Pending,
        Self::Assigned,
        Self::Accepted,
        Self::Preparing,
        Self::Ready,
        Self::Starting,
        Self::Running,
        Self::Complete,
        Self::Shutdown,
        Self::Failed,
        Self::Rejected,
        Self::Remove,
        Self::Orphaned,
    ];

    /// As Docker's API writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Pending => "pending",
            Self::Assigned => "assigned",
            Self::Accepted => "accepted",
            Self::Preparing => "preparing",
            Self::Ready => "ready",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Complete => "complete",
            Self::Shutdown => "shutdown",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
            Self::Remove => "remove",
            Self::Orphaned => "orphaned",
        }
    }

    /// Whether the task will never run again.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        self > Self::Running
    }

    /// Whether the node has the task or should: from here its agent moves it.
    #[must_use]
    pub fn is_on_node(self) -> bool {
        (Self::Assigned..=Self::Running).contains(&self)
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Who moves tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Actor {
    /// Makes tasks, wants them running, stopped or removed.
    Orchestrator,
    /// Gives a task its addresses and ports.
    Allocator,
    /// Gives a task its node.
    Scheduler,
    /// The task's node: carries it out and reports.
    Agent,
    /// Takes a task from a node that no longer fits it.
    Enforcer,
    /// Gives up the tasks of a node that is gone.
    Dispatcher,
}

impl Actor {
    /// Every actor.
    pub const ALL: [Self; 6] =
        [Self::Orchestrator, Self::Allocator, Self::Scheduler, Self::Agent, Self::Enforcer, Self::Dispatcher];

    /// Whether this actor may move the observed state of a task so. An agent may report several
    /// steps as one, since reports are batched. To stay is no move.
    #[must_use]
    pub fn may_move(self, from: TaskState, to: TaskState) -> bool {
        use TaskState::{Assigned, New, Orphaned, Pending, Rejected};
        match self {
            Self::Orchestrator => false, // it makes tasks in `New`, and from then on only wants
            Self::Allocator => (from, to) == (New, Pending),
            Self::Scheduler => (from, to) == (Pending, Assigned),
            Self::Agent => from.is_on_node() && from < to && to <= Rejected,
            Self::Enforcer => from.is_on_node() && to == Rejected,
            Self::Dispatcher => from.is_on_node() && to == Orphaned,
        }
    }

    /// Whether this actor may change what is wanted of a task so.
    #[must_use]
    pub fn may_want(self, from: TaskState, to: TaskState) -> bool {
        use TaskState::{Complete, Ready, Remove, Running, Shutdown};
        match self {
            Self::Orchestrator => from < to && matches!(to, Ready | Running | Complete | Shutdown | Remove),
            Self::Allocator | Self::Scheduler | Self::Agent | Self::Enforcer | Self::Dispatcher => false,
        }
    }
}
