//! One node's session: what it says is taken in, what it should know is sent.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::sync::{mpsc, watch};

use super::{Inner, MAX_PIECE_ITEMS};
use crate::cluster::ca;
use crate::cluster::rpc::{Code, Downward, Reach, Refusal, Stream, Upward};
use crate::model::assignment::{Batch, OwnNode, Report};
use crate::model::cluster::Cluster;
use crate::model::id::NodeId;
use crate::model::node::TlsDescription;
use crate::store::Tables;

/// Pieces of assignments aim at so many bytes.
const PIECE_BYTES: usize = 1 << 20;

/// What a node was told of its trust, and what it had announced by then: certificates are looked into only when one
/// of them changes.
struct Trust {
    roots: Bytes,
    tls: TlsDescription,
    renew: bool,
}

/// A session, as its own stream of what goes down.
pub(super) struct Session {
    inner: Arc<Inner>,
    node: NodeId,
    number: u64,
    up: Stream<Upward>,
    changed: watch::Receiver<u64>,
    invitations: mpsc::Receiver<Downward>,
    leading: watch::Receiver<Option<u64>>,
    outbox: VecDeque<Downward>,
    sent: u64,
    managers: Vec<Reach>,
    own: Option<Bytes>,
    keys: Option<Bytes>,
    trust: Option<Trust>,
}

impl Session {
    pub(super) fn new(
        inner: Arc<Inner>,
        node: NodeId,
        number: u64,
        up: Stream<Upward>,
        invitations: mpsc::Receiver<Downward>,
        since: u64,
    ) -> Self {
        let (changed, leading) = (inner.changed.subscribe(), inner.leading.clone());
        let welcome = Downward::Welcome { session: inner.name(), heartbeat_ms: inner.heartbeat_ms() };
        let mut session = Self {
            inner,
            node,
            number,
            up,
            changed,
            invitations,
            leading,
            outbox: VecDeque::from([welcome]),
            sent: since,
            managers: Vec::new(),
            own: None,
            keys: None,
            trust: None,
        };
        session.tell();
        session
    }

    /// As a stream that ends with the session.
    pub(super) fn into_stream(self) -> Stream<Downward> {
        futures_util::stream::unfold(Some(self), |session| async move {
            let mut session = session?;
            match session.next().await {
                Ok(Some(down)) => Some((Ok(down), Some(session))),
                Ok(None) => None,
                Err(refusal) => Some((Err(refusal), None)),
            }
        })
        .boxed()
    }

    async fn next(&mut self) -> Result<Option<Downward>, Refusal> {
        loop {
            if let Some(down) = self.outbox.pop_front() {
                return Ok(Some(down));
            }
            tokio::select! {
                said = self.up.next() => match said {
                    None => return Ok(None),
                    Some(said) => self.hear(said?).await?,
                },
                changed = self.changed.changed() => {
                    changed.map_err(|_| Refusal::new(Code::Unavailable, "this manager stops"))?;
                    self.tell();
                }
                invitation = self.invitations.recv() => match invitation {
                    Some(invitation) => self.outbox.push_back(invitation),
                    // The node has begun another session.
                    None => return Err(Refusal::new(Code::Aborted, "another session of this node has begun")),
                },
                moved = self.leading.changed() => {
                    if moved.is_err() || self.leading.borrow().is_none() {
                        return Err(self.inner.not_leading());
                    }
                }
            }
        }
    }

    async fn hear(&mut self, said: Upward) -> Result<(), Refusal> {
        self.inner.heard(self.node, self.number);
        match said {
            Upward::Heartbeat => {}
            Upward::Applied(version) => self.inner.applied(self.node, self.number, version),
            Upward::Statuses { batch, body } => {
                let report: Report = read(&body, "statuses")?;
                self.inner.report(self.node, report).await?;
                self.outbox.push_back(Downward::StatusesTaken(batch));
            }
            Upward::Description(body) => self.inner.announce(self.node, read(&body, "description")?).await?,
            Upward::Hello(_) => return Err(Refusal::new(Code::InvalidArgument, "a session begins once")),
        }
        Ok(())
    }

    /// Puts what the node does not know yet into the outbox.
    fn tell(&mut self) {
        self.tell_assignments();
        let view = self.inner.store.view();
        let managers = super::managers(&view);
        if managers != self.managers {
            self.managers.clone_from(&managers);
            self.outbox.push_back(Downward::Managers(managers));
        }
        let Some(cluster) = view.cluster() else { return };
        if let Some(node) = view.nodes().get(self.node) {
            let own = write(&OwnNode {
                role: node.role,
                data_path_port: cluster.data_path_port,
                raft_id: node.manager.as_ref().map(|manager| manager.raft_id),
            });
            if self.own.as_ref() != Some(&own) {
                self.own = Some(own.clone());
                self.outbox.push_back(Downward::Node(own));
            }
        }
        self.tell_trust(&view, cluster);
        let keys = write(&cluster.shared_keys);
        if self.keys.as_ref() != Some(&keys) {
            self.keys = Some(keys.clone());
            self.outbox.push_back(Downward::NetworkKeys(keys));
        }
    }

    /// The roots to trust, and whether the node's certificate, as it was announced, is of one that goes.
    fn tell_trust(&mut self, view: &Tables, cluster: &Cluster) {
        let node = view.nodes().get(self.node);
        let Some(description) = node.and_then(|node| node.description.as_ref()) else { return };
        let roots = Bytes::from(ca::roots(&cluster.root_ca));
        if self.trust.as_ref().is_some_and(|told| told.roots == roots && told.tls == description.tls) {
            return;
        }
        let told = self.trust.take().map(|told| (told.roots, told.renew));
        let renew = !ca::has_renewed(&cluster.root_ca, &description.tls);
        // A renewal that was under way may have brought it older roots than it was told.
        let is_astray = description.tls.trust_root.as_bytes() != &roots[..];
        if is_astray || told.as_ref() != Some(&(roots.clone(), renew)) {
            self.outbox.push_back(Downward::Renew { roots: roots.clone(), now: renew });
        }
        self.trust = Some(Trust { roots, tls: description.tls.clone(), renew });
    }

    fn tell_assignments(&mut self) {
        let news = self.inner.news(self.node, self.sent);
        if !news.complete && news.set.is_empty() && news.gone.is_empty() {
            // Nothing of it is for this node, but it has to say that it is as far.
            if news.version > self.sent {
                let body = write(&Batch::default());
                self.outbox.push_back(Downward::Assignments { version: news.version, since: self.sent, body });
                self.sent = news.version;
            }
            return;
        }
        let (mut since, mut batch) = (if news.complete { 0 } else { self.sent }, Batch::default());
        batch.gone = news.gone;
        let mut bytes = 0;
        for item in &news.set {
            let size = serde_json::to_vec(item.as_ref()).map_or(0, |json| json.len());
            if !batch.set.is_empty() && (bytes + size > PIECE_BYTES || batch.set.len() == MAX_PIECE_ITEMS) {
                batch.more = true;
                let body = write(&std::mem::take(&mut batch));
                self.outbox.push_back(Downward::Assignments { version: news.version, since, body });
                (since, bytes) = (news.version, 0);
            }
            bytes += size;
            batch.set.push(item.as_ref().clone());
        }
        self.outbox.push_back(Downward::Assignments { version: news.version, since, body: write(&batch) });
        self.sent = news.version;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.inner.ended(self.node, self.number);
    }
}

fn read<T: serde::de::DeserializeOwned>(body: &[u8], what: &str) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| Refusal::new(Code::InvalidArgument, format!("{what}: {error}")))
}

/// Plain data always has a JSON form; an empty body is what its reader refuses.
fn write(value: &impl serde::Serialize) -> Bytes {
    serde_json::to_vec(value).unwrap_or_default().into()
}
