//! The tasks of this node: begins a life for each that is told of, and gives each its orders.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::life::{Life, Order, Shared};
use crate::model::assignment::Assigned;
use crate::model::id::TaskId;
use crate::runtime::{ContainerId, RuntimeError, State};

/// The lives of this node's tasks.
pub(super) struct Worker {
    shared: Arc<Shared>,
    lives: BTreeMap<TaskId, watch::Sender<Order>>,
    running: JoinSet<TaskId>,
    /// Containers of an earlier daemon that no task has claimed yet.
    found: HashMap<TaskId, (ContainerId, State)>,
}

impl Worker {
    /// Looks which containers are there already.
    pub(super) async fn new(shared: Arc<Shared>) -> Result<Self, RuntimeError> {
        let found = shared.runtime.list().await?;
        let found = found.into_iter().filter_map(|status| Some((status.task?, (status.id, status.state)))).collect();
        Ok(Self { shared, lives: BTreeMap::new(), running: JoinSet::new(), found })
    }

    /// Tasks whose containers run from before: their links are there, and will be found.
    pub(super) fn running_before(&self, tasks: &BTreeMap<TaskId, Assigned>) -> BTreeSet<TaskId> {
        let running = self.found.iter().filter(|(_, (_, state))| matches!(state, State::Running { .. }));
        running.map(|(task, _)| *task).filter(|task| tasks.contains_key(task)).collect()
    }

    /// Follows what the node is told. `complete` says that this is all: containers without a task go.
    pub(super) fn follow(&mut self, tasks: &BTreeMap<TaskId, Assigned>, complete: bool) {
        for (id, assigned) in tasks {
            match self.lives.get(id) {
                Some(orders) => {
                    orders.send_if_modified(|order| {
                        let same = matches!(order, Order::Be(before) if **before == *assigned);
                        if !same {
                            *order = Order::Be(Arc::new(assigned.clone()));
                        }
                        !same
                    });
                }
                None => self.begin(*id, Order::Be(Arc::new(assigned.clone()))),
            }
        }
        for (id, orders) in &self.lives {
            if !tasks.contains_key(id) {
                orders.send_replace(Order::Gone);
            }
        }
        if complete {
            let strays: Vec<_> = self.found.keys().filter(|id| !tasks.contains_key(id)).copied().collect();
            for id in strays {
                tracing::info!(task = %id, "a container whose task is gone");
                self.begin(id, Order::Gone);
            }
        }
    }

    fn begin(&mut self, id: TaskId, order: Order) {
        let (orders, receiver) = watch::channel(order);
        let life = Life::new(Arc::clone(&self.shared), id, receiver);
        let found = self.found.remove(&id);
        self.running.spawn(async move {
            life.run(found).await;
            id
        });
        self.lives.insert(id, orders);
    }

    /// Waits until a life has ended, and forgets it; never returns while there is none.
    pub(super) async fn reap(&mut self) {
        match self.running.join_next().await {
            Some(Ok(id)) => drop(self.lives.remove(&id)),
            Some(Err(error)) if error.is_panic() => tracing::error!(%error, "the life of a task broke off"),
            Some(Err(_)) => {}
            None => std::future::pending().await,
        }
    }
}
