//! Begins a swarm anew: from what one manager has, after the others are lost, or from a backup.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::settings::{Known, Settings};
use super::{Node, NodeError, State, place};
use crate::api::Restore;
use crate::cluster::backup::{self, BackupError};
use crate::cluster::ca::{NodeFiles, UnlockKey};
use crate::cluster::raft::{Disk, DiskError, Member, Remains};
use crate::cluster::trust::{self, Keeper};
use crate::model::cluster::Cluster;
use crate::model::id::NodeId;
use crate::model::node::{ManagerStatus, Node as Object, Reachability, Role};
use crate::store::{Local, Store, Tx};

/// Whoever still reads the old log lets go of it within this time.
const LET_GO: Duration = Duration::from_secs(10);
/// Between two attempts to open it.
const AGAIN: Duration = Duration::from_millis(100);

impl Node {
    /// Goes on alone with what this manager has: the others are no nodes of the swarm any more. Whatever comes of it,
    /// the node goes on: as it was, if it cannot be.
    pub(super) async fn begin_anew(&mut self, advertise: &str) -> Result<NodeId, NodeError> {
        let member = match std::mem::replace(&mut self.state, State::Outside) {
            State::Member(member) if member.manager.is_some() => member,
            other => {
                self.state = other;
                return Err(NodeError::NotManager);
            }
        };
        let (keeper, mut settings) = (Arc::clone(&member.keeper), member.book.settings());
        let own = keeper.credentials().own().node;
        let advertise = match advertise {
            "" => Ok(settings.advertise),
            given => place::choose(given, self.base.ports.management),
        };
        member.stop().await;
        let begun = match advertise {
            Ok(advertise) => {
                settings.advertise = advertise;
                self.revive(&keeper, own, settings).await
            }
            Err(error) => Err(error.into()),
        };
        self.enter(keeper).await?;
        begun?;
        self.until_it_leads().await;
        Ok(own)
    }

    /// Begins the swarm of a backup again, with this node as its only manager. A machine at the address of a manager of
    /// the backup is that manager again, so that workers find and believe it. Nothing stays if it fails.
    pub(super) async fn restore(&mut self, restore: Restore) -> Result<NodeId, NodeError> {
        self.is_outside()?;
        let restored = self.restored(restore).await;
        if restored.is_err() {
            self.forget().await;
        }
        restored
    }

    async fn restored(&mut self, restore: Restore) -> Result<NodeId, NodeError> {
        let (clock, port) = (self.base.clocks.wall.clone(), self.base.ports.management);
        let advertise = place::choose(&restore.advertise_addr, port)?;
        let key = restore.unlock_key.as_deref().map(str::parse::<UnlockKey>).transpose();
        let key = key.map_err(BackupError::from)?;
        let remains = blocking(move || Ok(backup::read(&restore.backup, key.as_ref())?)).await?;
        let view = remains.replica.view();
        let cluster = view.cluster().ok_or(BackupError::Foreign)?;
        let is_at = |node: &&Arc<Object>| node.manager.as_ref().is_some_and(|manager| manager.addr == advertise);
        let own = view.nodes().iter().find(is_at).map_or_else(|| NodeId::random(&mut rand::rng()), |node| node.id);
        let joined = trust::found_again(&cluster.root_ca, cluster.id, own, cluster.spec.ca.node_cert_expiry, &clock)?;
        let mut node = Object::new(own, Role::Manager);
        node.certificate = joined.to_record().unwrap_or_default();
        let raft_id = cluster.last_raft_id + 1;
        node.manager =
            Some(ManagerStatus { raft_id, addr: advertise, leader: true, reachability: Reachability::Reachable });
        let keeper = Keeper::adopt(NodeFiles::new(self.base.paths.swarm()), joined, clock)?;
        let settings = Settings {
            listen: place::listen(&restore.listen_addr, advertise)?,
            advertise,
            data_path: place::data_path(&restore.data_path_addr, advertise)?,
            data_path_port: Some(cluster.data_path_port),
            raft_id: Some(raft_id),
            life: 0,
            managers: vec![Known { node: Some(own), address: advertise.to_string(), leader: true }],
        };
        let (epoch, keeper) = (rand::random(), Arc::new(keeper));
        let now = (self.base.clocks.store)();
        self.amend(&remains, |tx| {
            appoint(tx, &node)?;
            stand_alone(tx, own, advertise, now)
        })
        .await?;
        let disk = self.open_log(&keeper).await?;
        blocking(move || Ok(remains.begin(&disk, raft_id, Member { node_id: own, addr: advertise }, epoch)?)).await?;
        settings.save(&self.base.paths.settings())?;
        self.enter(keeper).await?;
        self.until_it_leads().await;
        Ok(own)
    }

    /// Changes the objects before the swarm begins: a leader would look for the managers that are lost.
    async fn amend(
        &self,
        remains: &Remains,
        change: impl Fn(&mut Tx) -> Result<(), crate::store::Error>,
    ) -> Result<(), NodeError> {
        let replica = remains.replica.clone();
        let store = Store::new(replica.clone(), Arc::new(Local::new(replica)), Arc::clone(&self.base.clocks.store));
        Ok(store.update(change).await?)
    }

    async fn revive(&self, keeper: &Arc<Keeper>, own: NodeId, mut settings: Settings) -> Result<(), NodeError> {
        let raft_id = settings.raft_id.ok_or(NodeError::NotManager)?;
        settings.managers = vec![Known { node: Some(own), address: settings.advertise.to_string(), leader: true }];
        let (addr, epoch) = (settings.advertise, rand::random());
        let disk = self.open_log(keeper).await?;
        let log = disk.clone();
        let remains = blocking(move || Ok(Remains::of_log(&log)?)).await?;
        let now = (self.base.clocks.store)();
        self.amend(&remains, |tx| stand_alone(tx, own, addr, now)).await?;
        blocking(move || Ok(remains.begin(&disk, raft_id, Member { node_id: own, addr }, epoch)?)).await?;
        Ok(settings.save(&self.base.paths.settings())?)
    }

    /// Opens the log once nobody has it any more.
    async fn open_log(&self, keeper: &Arc<Keeper>) -> Result<Disk, NodeError> {
        let deadline = tokio::time::Instant::now() + LET_GO;
        loop {
            let (path, keeper) = (self.base.paths.log(), Arc::clone(keeper));
            let open = move || -> Result<Disk, NodeError> { Ok(Disk::open(&path, keeper.cipher()?)?) };
            match blocking(open).await {
                Err(NodeError::Disk(DiskError::Locked { .. })) if tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(AGAIN).await;
                }
                opened => return opened,
            }
        }
    }

    /// So that whoever asked can go on with it.
    async fn until_it_leads(&self) {
        let State::Member(member) = &self.state else { return };
        if let Some(manager) = &member.manager {
            let leads = async { manager.raft.watch().until(|status| status.leads().is_some()).await };
            // If it takes longer, that is for who goes on to see.
            let _late = tokio::time::timeout(LET_GO, leads).await;
        }
    }
}

/// Waits for the disk.
async fn blocking<T: Send + 'static>(
    what: impl FnOnce() -> Result<T, NodeError> + Send + 'static,
) -> Result<T, NodeError> {
    tokio::task::spawn_blocking(what).await.map_err(|_| NodeError::Stopping)?
}

/// Makes this node a manager: the one of this id, if there is one, else another.
fn appoint(tx: &mut Tx, node: &Object) -> Result<(), crate::store::Error> {
    let raft_id = node.manager.as_ref().map_or(0, |manager| manager.raft_id);
    if let Some(cluster) = tx.cluster().map(|cluster| cluster.id) {
        tx.modify::<Cluster>(cluster, |cluster| cluster.last_raft_id = raft_id)?;
    }
    if tx.nodes().get(node.id).is_none() {
        return tx.create(node.clone());
    }
    tx.modify::<Object>(node.id, |there| {
        (there.role, there.spec.role) = (Role::Manager, Role::Manager);
        there.manager.clone_from(&node.manager);
        there.certificate.clone_from(&node.certificate);
    })
}

/// One manager is left, at this address; the others are removed, as by `docker node rm --force`.
fn stand_alone(tx: &mut Tx, own: NodeId, addr: SocketAddr, now: jiff::Timestamp) -> Result<(), crate::store::Error> {
    let others: Vec<_> =
        tx.nodes().iter().filter(|node| node.id != own && node.manager.is_some()).map(Arc::clone).collect();
    if let Some(cluster) = tx.cluster().map(|cluster| cluster.id) {
        tx.modify::<Cluster>(cluster, |cluster| others.iter().for_each(|node| cluster.remember_removed(node, now)))?;
    }
    others.iter().try_for_each(|node| tx.remove::<Object>(node.id))?;
    tx.modify::<Object>(own, |node| {
        node.manager = node.manager.take().map(|manager| ManagerStatus { addr, leader: true, ..manager });
    })
}
