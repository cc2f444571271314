//! A runtime around another, which tells what becomes of containers and images: whoever listens hears of each step
//! once, whoever asked for it.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use oci_client::Reference;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinSet;

use super::images::{Credentials, Described, ImageSummary};
use super::turns::Turns;
use super::{
    Answer, Container, ContainerId, Description, Exec, ExecSession, Exit, Health, LogQuery, LogStream, NetworkOrder,
    Runtime, RuntimeError, Started, State, Stats, Status,
};

/// How far a listener may lag behind before it loses steps.
const LAG: usize = 1024;
/// A container that is removed while it runs ends within this time, or its removal says why not.
const END: Duration = Duration::from_secs(10);

/// What has become of a container or an image.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Of a container, as it was then.
    Container(Box<Status>, Act),
    /// Of an image, by this name.
    Image(String, ImageAct),
}

/// What a container did, or was done to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// It was made.
    Created,
    /// It runs.
    Started,
    /// It got this signal.
    Killed(String),
    /// It has ended, with this code.
    Died(i32),
    /// It was stopped, and has ended.
    Stopped,
    /// Its check says otherwise than before.
    Health(Health),
    /// It is gone.
    Removed,
}

/// What was done to an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageAct {
    /// Fetched from its registry.
    Pulled,
    /// Taken from an archive.
    Loaded,
    /// Forgotten by this name.
    Untagged,
}

/// A runtime that tells.
pub struct Told {
    inner: Arc<dyn Runtime>,
    steps: broadcast::Sender<Step>,
    /// Those that were seen to run: the end of each is told once.
    running: Arc<Mutex<BTreeSet<ContainerId>>>,
    /// What is told of a container stands behind its end, also where another saw that.
    turns: Turns,
    /// One for each container of `followed`.
    followers: Mutex<JoinSet<()>>,
    /// Whose health is followed, until it is known no more: however many ask for it, a change is told once.
    followed: Arc<Mutex<BTreeSet<ContainerId>>>,
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Told {
    /// Tells what `inner` does.
    #[must_use]
    pub fn new(inner: Arc<dyn Runtime>) -> Self {
        let steps = broadcast::Sender::new(LAG);
        let (turns, followers) = (Turns::default(), Mutex::default());
        Self { inner, steps, running: Arc::default(), turns, followers, followed: Arc::default() }
    }

    /// What happens from now on.
    #[must_use]
    pub fn listen(&self) -> broadcast::Receiver<Step> {
        self.steps.subscribe()
    }

    fn running(&self) -> MutexGuard<'_, BTreeSet<ContainerId>> {
        lock(&self.running)
    }

    fn tell(&self, step: Step) {
        // It fails if nobody listens.
        let _ = self.steps.send(step);
    }

    async fn tell_of(&self, id: &ContainerId, act: Act) {
        // One that is gone by now is told of by who removed it.
        if let Ok(status) = self.inner.inspect(id).await {
            self.tell(Step::Container(Box::new(status), act));
        }
    }

    /// Of an earlier daemon's container nobody here has seen the start.
    async fn adopt(&self, id: &ContainerId) {
        if !self.running().contains(id)
            && let Ok(Status { state: State::Running { .. }, .. }) = self.inner.inspect(id).await
        {
            self.running().insert(id.clone());
        }
    }

    async fn died(&self, id: &ContainerId, exit: &Exit) {
        let _turn = self.turns.take(&id.0).await;
        let first = self.running().remove(id);
        if first {
            self.tell_of(id, Act::Died(exit.code)).await;
        }
    }

    /// Ends one that is to be removed, as a step of its own: who listens hears how it ended before it is gone.
    async fn end(&self, id: &ContainerId) {
        self.adopt(id).await;
        // One that cannot be killed, or does not end, is the removal's to fail for.
        if self.running().contains(id)
            && self.kill(id, "KILL").await.is_ok()
            && let Ok(Ok(exit)) = tokio::time::timeout(END, self.inner.wait(id)).await
        {
            self.died(id, &exit).await;
        }
    }

    /// The names that images have here.
    async fn names(&self) -> BTreeSet<String> {
        let images = self.inner.images().await.unwrap_or_default();
        images.into_iter().flat_map(|image| image.names).collect()
    }

    async fn make(&self, container: &Container) -> Result<ContainerId, RuntimeError> {
        let image = &container.spec.image;
        let whole = image.parse::<Reference>().map_or_else(|_| image.clone(), |reference| reference.whole());
        let was_here = self.names().await.contains(&whole);
        let id = self.inner.prepare(container).await?;
        if !was_here && self.names().await.contains(&whole) {
            self.tell(Step::Image(image.clone(), ImageAct::Pulled));
        }
        if let Ok(status) = self.inner.inspect(&id).await
            && status.state == State::Created
        {
            self.tell(Step::Container(Box::new(status), Act::Created));
        }
        Ok(id)
    }

    async fn follow(&self, id: &ContainerId) -> Result<watch::Receiver<Health>, RuntimeError> {
        let health = self.inner.health(id).await?;
        if !lock(&self.followed).insert(id.clone()) {
            return Ok(health);
        }
        let mut seen = health.clone();
        let (inner, steps, id) = (Arc::clone(&self.inner), self.steps.clone(), id.clone());
        let followed = Arc::clone(&self.followed);
        let follower = async move {
            let mut last = seen.borrow_and_update().clone();
            while seen.changed().await.is_ok() {
                let now = seen.borrow_and_update().clone();
                if std::mem::discriminant(&now) != std::mem::discriminant(&last)
                    && now != Health::Starting
                    && let Ok(status) = inner.inspect(&id).await
                {
                    let _ = steps.send(Step::Container(Box::new(status), Act::Health(now.clone())));
                }
                last = now;
            }
            lock(&followed).remove(&id);
        };
        let mut followers = lock(&self.followers);
        while followers.try_join_next().is_some() {}
        followers.spawn(follower);
        Ok(health)
    }
}

impl Runtime for Told {
    fn description(&self) -> Description {
        self.inner.description()
    }

    fn network_order(&self) -> NetworkOrder {
        self.inner.network_order()
    }

    fn prepare<'a>(&'a self, container: &'a Container) -> Answer<'a, ContainerId> {
        Box::pin(self.make(container))
    }

    fn start<'a>(&'a self, id: &'a ContainerId) -> Answer<'a, Started> {
        Box::pin(async move {
            self.adopt(id).await;
            let started = self.inner.start(id).await?;
            let first = self.running().insert(id.clone());
            if first {
                self.tell_of(id, Act::Started).await;
            }
            Ok(started)
        })
    }

    fn wait<'a>(&'a self, id: &'a ContainerId) -> Answer<'a, Exit> {
        Box::pin(async move {
            self.adopt(id).await;
            let exit = self.inner.wait(id).await?;
            self.died(id, &exit).await;
            Ok(exit)
        })
    }

    fn shutdown<'a>(&'a self, id: &'a ContainerId, grace: Option<Duration>) -> Answer<'a, Exit> {
        Box::pin(async move {
            self.adopt(id).await;
            let ran = self.running().contains(id);
            let exit = self.inner.shutdown(id, grace).await?;
            self.died(id, &exit).await;
            if ran {
                self.tell_of(id, Act::Stopped).await;
            }
            Ok(exit)
        })
    }

    fn kill<'a>(&'a self, id: &'a ContainerId, signal: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            self.inner.kill(id, signal).await?;
            self.tell_of(id, Act::Killed(signal.to_owned())).await;
            Ok(())
        })
    }

    fn remove<'a>(&'a self, id: &'a ContainerId) -> Answer<'a, ()> {
        Box::pin(async move {
            self.end(id).await;
            let _turn = self.turns.take(&id.0).await;
            let last = self.inner.inspect(id).await;
            // Who waits for its end may come to tell of it when it is gone.
            if let Ok(Status { state: State::Exited(exit), .. }) = &last
                && self.running().remove(id)
            {
                self.tell_of(id, Act::Died(exit.code)).await;
            }
            self.inner.remove(id).await?;
            self.running().remove(id);
            if let Ok(status) = last {
                self.tell(Step::Container(Box::new(status), Act::Removed));
            }
            Ok(())
        })
    }

    fn inspect<'a>(&'a self, id: &'a ContainerId) -> Answer<'a, Status> {
        self.inner.inspect(id)
    }

    fn list(&self) -> Answer<'_, Vec<Status>> {
        self.inner.list()
    }

    fn health<'a>(&'a self, id: &'a ContainerId) -> Answer<'a, watch::Receiver<Health>> {
        Box::pin(self.follow(id))
    }

    fn logs<'a>(&'a self, id: &'a ContainerId, query: LogQuery) -> Answer<'a, LogStream> {
        self.inner.logs(id, query)
    }

    fn stats<'a>(&'a self, id: &'a ContainerId) -> Answer<'a, Stats> {
        self.inner.stats(id)
    }

    fn exec<'a>(&'a self, id: &'a ContainerId, exec: Exec) -> Answer<'a, ExecSession> {
        self.inner.exec(id, exec)
    }

    fn images(&self) -> Answer<'_, Vec<ImageSummary>> {
        self.inner.images()
    }

    fn describe<'a>(&'a self, reference: &'a str, credentials: &'a Credentials) -> Answer<'a, Described> {
        self.inner.describe(reference, credentials)
    }

    fn leave(&self) -> Answer<'_, ()> {
        Box::pin(async move {
            let all = self.inner.list().await.unwrap_or_default();
            self.inner.leave().await?;
            self.running().clear();
            for one in all {
                self.tell(Step::Container(Box::new(one), Act::Removed));
            }
            Ok(())
        })
    }

    fn pull<'a>(&'a self, reference: &'a str, credentials: &'a Credentials) -> Answer<'a, ()> {
        Box::pin(async move {
            self.inner.pull(reference, credentials).await?;
            self.tell(Step::Image(reference.to_owned(), ImageAct::Pulled));
            Ok(())
        })
    }

    fn load<'a>(&'a self, archive: &'a Path) -> Answer<'a, Vec<String>> {
        Box::pin(async move {
            let names = self.inner.load(archive).await?;
            for name in &names {
                self.tell(Step::Image(name.clone(), ImageAct::Loaded));
            }
            Ok(names)
        })
    }

    fn remove_image<'a>(&'a self, reference: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            self.inner.remove_image(reference).await?;
            self.tell(Step::Image(reference.to_owned(), ImageAct::Untagged));
            Ok(())
        })
    }

    fn collect_images(&self) -> Answer<'_, Vec<String>> {
        Box::pin(async move {
            let names = self.inner.collect_images().await?;
            for name in &names {
                self.tell(Step::Image(name.clone(), ImageAct::Untagged));
            }
            Ok(names)
        })
    }
}
