//! Makes, joins, unlocks and leaves a swarm.

use std::time::Duration;

use super::manager::gossip_key;
use super::member::Member;
use super::settings::{Known, Settings};
use super::wire::with_port;
use super::{Node, NodeError, State, place};
use crate::api::{Init, Join};
use crate::cluster::ca::NodeFiles;
use crate::cluster::trust::{self, Keeper, KeeperError};
use crate::model::cluster::{Cluster, RootCa};
use crate::model::id::{ClusterId, NetworkId, NodeId};
use crate::model::meta::{Annotations, Labels};
use crate::model::network::{Network, NetworkSpec};
use crate::model::node::{Engine, Node as Object, NodeDescription, Plugin, Role};
use crate::model::resources::{GenericResource, Platform, Resources};
use crate::runtime::Runtime;
use crate::store::Tx;

/// Each of the two calls of joining has so long.
const JOIN: Duration = Duration::from_secs(5);
/// Who joins as a manager is one within this time, or goes on becoming one.
const BECOME: Duration = Duration::from_secs(20);
/// The first number of a manager.
const FIRST: u64 = 1;

impl Node {
    pub(super) async fn init(&mut self, init: Init) -> Result<NodeId, NodeError> {
        if init.force_new_cluster && !matches!(self.state, State::Outside) {
            return self.begin_anew(&init.advertise_addr).await;
        }
        self.is_outside()?;
        let base = std::sync::Arc::clone(&self.base);
        let port = base.ports.management;
        let advertise = place::choose(&init.advertise_addr, port)?;
        let settings = Settings {
            listen: place::listen(&init.listen_addr, advertise)?,
            advertise,
            data_path: place::data_path(&init.data_path_addr, advertise)?,
            data_path_port: Some(init.data_path_port),
            raft_id: Some(FIRST),
            life: 0,
            managers: Vec::new(),
        };
        let (cluster_id, node_id) = (ClusterId::random(&mut rand::rng()), NodeId::random(&mut rand::rng()));
        let life = init.spec.ca.node_cert_expiry;
        let (root_ca, joined) = trust::found(cluster_id, node_id, life, &base.clocks.wall)?;
        let certificate = joined.to_record().unwrap_or_default();
        let keeper = Keeper::adopt(NodeFiles::new(base.paths.swarm()), joined, base.clocks.wall.clone())?;
        let mut cluster = Cluster::new(cluster_id);
        cluster.root_ca = RootCa { last_forced_rotation: init.spec.ca.force_rotate, ..root_ca };
        cluster.data_path_port = init.data_path_port;
        cluster.subnet_size = init.subnet_size;
        cluster.last_raft_id = FIRST;
        cluster.shared_keys = vec![gossip_key(1, (base.clocks.store)())];
        if !init.default_address_pools.is_empty() {
            cluster.default_address_pools.clone_from(&init.default_address_pools);
        }
        cluster.spec = init.spec;
        let mut own = Object::new(node_id, Role::Manager);
        own.certificate = certificate;
        own.spec.availability = init.availability;
        own.manager = Some(crate::model::node::ManagerStatus {
            raft_id: FIRST,
            addr: advertise,
            leader: true,
            reachability: crate::model::node::Reachability::Reachable,
        });
        let made = self.found(keeper, settings, cluster, own).await;
        if made.is_err() {
            // Nothing of it stays: the next attempt is a first one.
            self.forget().await;
        }
        made.map(|()| node_id)
    }

    async fn found(
        &mut self,
        keeper: Keeper,
        settings: Settings,
        cluster: Cluster,
        own: Object,
    ) -> Result<(), NodeError> {
        let advertise = settings.advertise;
        let node_id = own.id;
        let mut member =
            Member::start(std::sync::Arc::clone(&self.base), std::sync::Arc::new(keeper), settings).await?;
        let manager = member.manage(FIRST).await?;
        manager.found(node_id, advertise, rand::random()).await?;
        manager.store.update(|tx| begin(tx, &cluster, &own)).await?;
        member.book.keep(|settings| {
            settings.managers = vec![Known { node: Some(node_id), address: advertise.to_string(), leader: true }];
        });
        self.state = State::Member(Box::new(member));
        Ok(())
    }

    /// Who asked may have done so before another's command was done.
    pub(super) fn is_outside(&self) -> Result<(), NodeError> {
        if matches!(self.state, State::Outside) { Ok(()) } else { Err(NodeError::InSwarm) }
    }

    pub(super) async fn join(&mut self, join: Join) -> Result<(), NodeError> {
        self.is_outside()?;
        let base = std::sync::Arc::clone(&self.base);
        let port = base.ports.management;
        let advertise = place::choose(&join.advertise_addr, port)?;
        let remotes: Vec<_> = join.remotes.iter().map(|remote| with_port(remote, port)).collect();
        let availability = match join.availability {
            crate::model::node::Availability::Active => "active",
            crate::model::node::Availability::Pause => "pause",
            crate::model::node::Availability::Drain => "drain",
        };
        let joined = trust::join(&remotes, &join.token, availability, &base.clocks.wall, JOIN).await?;
        let managers: Vec<_> =
            remotes.into_iter().map(|address| Known { node: None, address, leader: false }).collect();
        let settings = Settings {
            listen: place::listen(&join.listen_addr, advertise)?,
            advertise,
            data_path: place::data_path(&join.data_path_addr, advertise)?,
            data_path_port: None,
            raft_id: None,
            life: 0,
            managers,
        };
        let keeper = Keeper::adopt(NodeFiles::new(base.paths.swarm()), joined, base.clocks.wall.clone())?;
        let role = keeper.credentials().own().role;
        let started = async {
            let mut member = Member::start(std::sync::Arc::clone(&base), std::sync::Arc::new(keeper), settings).await?;
            let deadline = tokio::time::Instant::now() + BECOME;
            while role == Role::Manager && member.manager.is_none() {
                let Ok(event) = tokio::time::timeout_at(deadline, member.next()).await else { break };
                member.act(event?).await?;
            }
            Ok(member)
        };
        match started.await {
            Ok(member) => {
                self.state = State::Member(Box::new(member));
                Ok(())
            }
            Err(error) => {
                self.forget().await;
                Err(error)
            }
        }
    }

    pub(super) async fn unlock(&mut self, key: &str) -> Result<(), NodeError> {
        let State::Locked(locked) = &self.state else { return Err(KeeperError::NotLocked.into()) };
        let key = key.parse().map_err(|error| NodeError::Keeper(KeeperError::Unlock(error)))?;
        let keeper = locked.unlock(&key)?;
        self.enter(std::sync::Arc::new(keeper)).await
    }

    /// Leaves: the node's tasks, its packet path and everything it kept of the swarm go.
    pub(super) async fn leave(&mut self) -> Result<(), NodeError> {
        if let State::Member(member) = std::mem::replace(&mut self.state, State::Outside) {
            member.part().await;
        }
        self.forget().await;
        Ok(())
    }

    pub(super) async fn forget(&mut self) {
        let base = &self.base;
        if let State::Member(member) = std::mem::replace(&mut self.state, State::Outside) {
            member.part().await;
        }
        if let Err(error) = base.told.leave().await {
            tracing::warn!(error = &error as &dyn std::error::Error, "containers stay behind");
        }
        let spaces = std::fs::read_dir(base.paths.namespaces()).into_iter().flatten().flatten();
        let spaces: Vec<_> = spaces.collect();
        let tasks = spaces.iter().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        if let Err(error) = crate::agent::remove_links(&tasks.collect::<Vec<_>>()).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "links of tasks stay behind");
        }
        for entry in spaces {
            if let Err(error) = crate::runtime::netns::remove(&entry.path()) {
                tracing::warn!(error = &error as &dyn std::error::Error, "a network namespace stays behind");
            }
        }
        if let Err(error) = crate::datapath::reconcile::remove(&base.packets.pins).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "the packet path stays behind");
        }
        if let Err(error) = NodeFiles::new(base.paths.swarm()).remove() {
            tracing::warn!(error = &error as &dyn std::error::Error, "keys stay behind");
        }
        for path in [base.paths.settings(), base.paths.log(), base.paths.picture()] {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    tracing::warn!(path = %path.display(), %error, "stays behind");
                }
                _ => {}
            }
        }
    }
}

/// The first objects of a swarm.
fn begin(tx: &mut Tx, cluster: &Cluster, own: &Object) -> Result<(), crate::store::Error> {
    tx.create(cluster.clone())?;
    tx.create(own.clone())?;
    let annotations = Annotations::named("ingress");
    let spec = NetworkSpec { annotations, ingress: true, ..NetworkSpec::default() };
    tx.create(Network::new(NetworkId::from_u128(own.id.to_u128().rotate_left(64)), spec))
}

/// What this node says of itself.
pub(super) fn description(runtime: &dyn Runtime, generic: Vec<GenericResource>) -> NodeDescription {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kibibytes = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.trim().parse::<i64>().ok());
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let plugin = |kind: &str, name: &str| Plugin { kind: kind.to_owned(), name: name.to_owned() };
    NodeDescription {
        hostname: place::hostname(),
        platform: Platform { architecture: std::env::consts::ARCH.to_owned(), os: "linux".to_owned() },
        resources: Resources {
            nano_cpus: i64::try_from(cpus).unwrap_or(1) * 1_000_000_000,
            memory_bytes: kibibytes.unwrap_or(0) * 1024,
            generic,
        },
        engine: Engine {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            labels: Labels::from([("mesh.runtime".to_owned(), runtime.description().engine)]),
            plugins: vec![plugin("Log", "json-file"), plugin("Network", "overlay"), plugin("Volume", "local")],
        },
        tls: Default::default(),
    }
}
