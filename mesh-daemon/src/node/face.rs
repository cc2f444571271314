//! The node, as the Docker API sees it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::BoxStream;
use jiff::Timestamp;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::relay::{self, Wanted, Ways};
use super::{Base, doctor, logs, runtime};
use crate::api::{
    Cluster, Connection, Doing, Error, Init, Join, Local, LogLine, LogOptions, Restore, RuntimeFacts, wire,
};
use crate::doctor::Finding;
use crate::model::id::{NodeId, TaskId};
use crate::runtime::{Runtime, Step, Told};
use crate::store::Store;

/// What the API asks the node to do.
pub(super) enum Command {
    Init(Box<Init>, oneshot::Sender<Result<NodeId, Error>>),
    Join(Join, oneshot::Sender<Result<(), Error>>),
    Leave(oneshot::Sender<Result<(), Error>>),
    Restore(Box<Restore>, oneshot::Sender<Result<NodeId, Error>>),
    Unlock(String, oneshot::Sender<Result<(), Error>>),
}

/// What the API holds.
pub(super) struct Face {
    pub(super) base: Arc<Base>,
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) local: watch::Receiver<Local>,
    pub(super) ways: watch::Receiver<Option<Ways>>,
}

/// A node is given so long to do as it is told.
const PATIENCE: Duration = Duration::from_secs(60);

impl Face {
    fn ways(&self) -> Result<Ways, Error> {
        self.ways.borrow().clone().ok_or_else(|| Error::internal("this node is not a manager"))
    }

    fn ask<T: Send + 'static>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Command,
    ) -> Doing<'_, T> {
        let (answer, answered) = oneshot::channel();
        let command = command(answer);
        Box::pin(async move {
            let stopping = || Error::internal("this node stops");
            self.commands.send(command).await.map_err(|_| stopping())?;
            let answer = tokio::time::timeout(PATIENCE, answered).await;
            answer.map_err(|_| Error::internal(format!("not done within {PATIENCE:?}")))?.map_err(|_| stopping())?
        })
    }
}

impl Cluster for Face {
    fn now(&self) -> Timestamp {
        (self.base.clocks.store)()
    }

    fn random(&self) -> u128 {
        rand::random()
    }

    fn local(&self) -> Local {
        self.local.borrow().clone()
    }

    fn stores(&self) -> watch::Receiver<Option<Store>> {
        self.base.stores.subscribe()
    }

    fn runtime(&self) -> RuntimeFacts {
        runtime::facts(self.base.runtime.as_ref(), &self.base.paths.root)
    }

    fn init(&self, init: Init) -> Doing<'_, NodeId> {
        self.ask(|answer| Command::Init(Box::new(init), answer))
    }

    fn join(&self, join: Join) -> Doing<'_, ()> {
        self.ask(|answer| Command::Join(join, answer))
    }

    fn leave(&self) -> Doing<'_, ()> {
        self.ask(Command::Leave)
    }

    fn restore(&self, restore: Restore) -> Doing<'_, NodeId> {
        self.ask(|answer| Command::Restore(Box::new(restore), answer))
    }

    fn unlock(&self, key: String) -> Doing<'_, ()> {
        self.ask(|answer| Command::Unlock(key, answer))
    }

    fn logs(&self, task: TaskId, options: LogOptions) -> Doing<'_, BoxStream<'static, LogLine>> {
        Box::pin(async move {
            let view = self.base.stores.borrow().as_ref().map(Store::view);
            let node = view.and_then(|view| view.tasks().get(task).and_then(|task| task.node_id));
            let node = node.ok_or_else(|| Error::internal(format!("task {task} has no node yet")))?;
            let wanted = Wanted::Logs(logs::Wanted::new(task, &options));
            let nothing = Box::pin(futures_util::stream::pending());
            let pieces = self.ways()?.stream(node, &wanted, nothing).await;
            Ok(logs::decode(pieces.map_err(|refusal| Error::unavailable(refusal.text))?))
        })
    }

    fn reach(&self, node: NodeId) -> Doing<'_, Box<dyn Connection>> {
        Box::pin(async move {
            let joined = relay::to_containers(&self.ways()?, node).await;
            joined.map_err(|refusal| Error::unavailable(refusal.text))
        })
    }

    fn image(&self, _: String, _: Option<String>) -> Doing<'_, Option<wire::Distribution>> {
        // The runtime pins an image when it fetches it; what a registry says is not asked here.
        Box::pin(async { Ok(None) })
    }

    fn doctor(&self) -> Doing<'_, Vec<Finding>> {
        Box::pin(async move {
            let examiner = self.base.examiner.borrow().clone();
            let Some(examiner) = examiner else { return Ok(doctor::alone(self.base.packets.pins.clone()).await) };
            let (store, ways) = (self.base.stores.borrow().clone(), self.ways.borrow().clone());
            Ok(match (store, ways) {
                (Some(store), Some(ways)) => examiner.all(&store.view(), &ways).await,
                _ => examiner.alone().await,
            })
        })
    }

    fn containers(&self) -> Arc<dyn Runtime> {
        Arc::<Told>::clone(&self.base.told)
    }

    fn steps(&self) -> broadcast::Receiver<Step> {
        self.base.told.listen()
    }

    fn engine(&self) -> Option<PathBuf> {
        None
    }
}
