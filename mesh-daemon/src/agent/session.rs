//! The link to the managers: one session at a time, with the leader, for as long as the node lives.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::sync::{mpsc, watch};

use super::life::chain;
use super::outbox::Outbox;
use crate::cluster::rpc::{Downward, Hello, Link, Reach, Refusal, Upward};
use crate::model::assignment::{Announcement, Batch};
use crate::model::id::NodeId;

/// So many statuses go in one report.
const REPORT: usize = 1000;
/// Between attempts, at first and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// A manager is given so long to take a session.
const TAKE: Duration = Duration::from_secs(3);
/// So much waits to go up.
const UPWARD_QUEUE: usize = 64;

/// A manager to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// Its node, if it is known: then nobody else is spoken with there.
    pub node: Option<NodeId>,
    /// Host and port.
    pub address: String,
}

/// Finds ways to managers.
pub trait Managers: Send + Sync {
    /// The managers that are known, the likeliest leader first.
    fn known(&self) -> Vec<Way>;

    /// These are the managers now.
    fn learn(&self, managers: Vec<Reach>);

    /// The connection to this one.
    ///
    /// # Errors
    ///
    /// If it cannot be made.
    fn link(&self, to: &Way) -> Result<Link, Refusal>;
}

/// What the session tells the rest of the agent.
#[derive(Debug)]
pub(super) enum Told {
    /// Forget the picture: a complete one follows.
    Anew,
    /// A change of the picture that leads to this version.
    Change(u64, Batch),
    /// What the managers hold of the node itself (JSON).
    Own(Bytes),
    /// Keys of membership (JSON).
    Keys(Bytes),
    /// Roots to trust (PEM), and whether to renew at once.
    Renew(Bytes, bool),
    /// A manager would like a stream.
    Invitation(u64, Bytes, Link),
}

/// Keeps a session until the agent is dropped.
pub(super) struct Session {
    pub(super) managers: Arc<dyn Managers>,
    pub(super) announcement: watch::Receiver<Announcement>,
    pub(super) outbox: Outbox,
    /// The version in force on this node.
    pub(super) applied: watch::Receiver<u64>,
    pub(super) told: mpsc::Sender<Told>,
    /// The session to go on from.
    pub(super) name: String,
    pub(super) version: u64,
}

impl Session {
    /// Tries manager after manager, for ever.
    pub(super) async fn run(mut self) {
        let mut wait = BACKOFF.0;
        let mut said = String::new();
        loop {
            let managers = self.managers.known();
            for manager in &managers {
                let began = tokio::time::Instant::now();
                let refusal = match self.once(manager).await {
                    Ok(()) => "the session ended".to_owned(),
                    Err(refusal) => chain(&refusal),
                };
                if self.told.is_closed() {
                    return;
                }
                if began.elapsed() > BACKOFF.1 {
                    wait = BACKOFF.0;
                }
                // Said once per distinct reason.
                if refusal != said {
                    tracing::info!(manager = manager.address, reason = refusal, "no session with the manager");
                    said = refusal;
                }
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(BACKOFF.1);
        }
    }

    async fn once(&mut self, manager: &Way) -> Result<(), Refusal> {
        let link = self.managers.link(manager)?;
        let (up, sent) = mpsc::channel(UPWARD_QUEUE);
        let description = json(&*self.announcement.borrow_and_update());
        let hello = Hello { description, session: self.name.clone(), version: self.version };
        // There is room: nothing has been sent yet.
        let _queued = up.try_send(Upward::Hello(hello));
        let sent = futures_util::stream::unfold(sent, |mut sent| async move { Some((sent.recv().await?, sent)) });
        let mut down = link.session(sent, TAKE).await?;
        let mut heartbeat = tokio::time::interval(Duration::from_secs(1));
        heartbeat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // What was sent before may be lost.
        let (mut reported, mut said) = (0, 0);
        self.report(&up, &mut reported).await;
        loop {
            tokio::select! {
                next = down.next() => match next {
                    None => return Ok(()),
                    Some(next) => {
                        self.hear(next?, &link, &mut heartbeat).await?;
                        // What did not fit into the report before.
                        self.report(&up, &mut reported).await;
                    }
                },
                _ = heartbeat.tick() => send(&up, Upward::Heartbeat).await,
                () = self.outbox.news() => self.report(&up, &mut reported).await,
                changed = self.applied.changed() => if changed.is_ok() {
                    let version = *self.applied.borrow_and_update();
                    // Versions are counted anew by another leader: one that is ahead is of the one before.
                    if version > said && version <= self.version {
                        said = version;
                        send(&up, Upward::Applied(version)).await;
                    }
                },
                changed = self.announcement.changed() => if changed.is_ok() {
                    let description = json(&*self.announcement.borrow_and_update());
                    send(&up, Upward::Description(description)).await;
                },
            }
        }
    }

    async fn hear(
        &mut self,
        said: Downward,
        link: &Link,
        heartbeat: &mut tokio::time::Interval,
    ) -> Result<(), Refusal> {
        let told = match said {
            Downward::Welcome { session, heartbeat_ms } => {
                if session != self.name {
                    (self.name, self.version) = (session, 0);
                }
                *heartbeat = tokio::time::interval(Duration::from_millis(heartbeat_ms.max(100).into()));
                return Ok(());
            }
            Downward::Assignments { version, since, body } => {
                let batch: Batch = serde_json::from_slice(&body).map_err(|error| {
                    Refusal::new(crate::cluster::rpc::Code::Internal, format!("assignments: {error}"))
                })?;
                if since == 0 && self.told.send(Told::Anew).await.is_err() {
                    return Ok(());
                }
                if !batch.more {
                    self.version = version;
                }
                Told::Change(version, batch)
            }
            Downward::Managers(managers) => {
                self.managers.learn(managers);
                return Ok(());
            }
            Downward::StatusesTaken(number) => {
                self.outbox.taken(number);
                return Ok(());
            }
            Downward::NetworkKeys(body) => Told::Keys(body),
            Downward::Node(body) => Told::Own(body),
            Downward::Renew { roots, now } => Told::Renew(roots, now),
            Downward::Invitation { relay, request } => Told::Invitation(relay, request, link.clone()),
        };
        // The agent is gone: this future is dropped next.
        let _gone = self.told.send(told).await;
        Ok(())
    }

    async fn report(&self, up: &mpsc::Sender<Upward>, reported: &mut u64) {
        while let Some((batch, report)) = self.outbox.report(REPORT) {
            if batch <= *reported {
                return;
            }
            *reported = batch;
            send(up, Upward::Statuses { batch, body: json(&report) }).await;
        }
    }
}

/// A session that ends is noticed by what comes down.
async fn send(up: &mpsc::Sender<Upward>, what: Upward) {
    let _ended = up.send(what).await;
}

fn json(value: &impl serde::Serialize) -> Bytes {
    serde_json::to_vec(value).unwrap_or_default().into()
}
