//! A cluster, its clients, and all that befalls them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use mesh_daemon::cluster::ca::{Cipher, DataKey};
use mesh_daemon::cluster::raft::{Disk, Member, Raft, RaftId, Status, Timing, backup};
use mesh_daemon::model::id::{ConfigId, NodeId, ServiceId};
use mesh_daemon::model::meta::Annotations;
use mesh_daemon::model::payload::{Config, PayloadSpec};
use mesh_daemon::model::service::{Service, ServiceSpec};
use mesh_daemon::store::{Error, Store, View};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::disk::SimDisk;
use super::history::History;
use super::net::Net;
use super::{Chance, seeds, simulate};

/// The cluster's life.
pub(super) const EPOCH: u64 = 42;
/// The one object that all clients write.
pub(super) const REGISTER: ServiceId = ServiceId::from_u128(1);

/// A manager that is up.
pub(super) struct Up {
    pub(super) raft: Raft,
    pub(super) store: Store,
}

/// The whole of it.
pub(super) struct World {
    pub(super) chance: Chance,
    pub(super) net: Net,
    pub(super) disks: BTreeMap<RaftId, SimDisk>,
    pub(super) up: BTreeMap<RaftId, Up>,
    pub(super) timing: Timing,
    born: Instant,
    lives: u64,
    ending: JoinSet<()>,
}

pub(super) fn member(id: RaftId) -> Member {
    let last = u8::try_from(id).unwrap();
    Member { node_id: NodeId::from_u128(id.into()), addr: ([10, 0, 0, last], 2377).into() }
}

pub(super) fn name(id: RaftId) -> PathBuf {
    format!("/var/lib/mesh/{id}/raft.redb").into()
}

pub(super) fn cipher() -> Arc<Cipher> {
    Arc::new(Cipher::new(vec![DataKey::from_bytes([7; 32])]).unwrap())
}

impl World {
    pub(super) fn new(chance: Chance) -> Self {
        let deadline = Duration::from_secs(5);
        let timing = Timing { snapshot_entries: 60, kept_entries: 20, deadline, ..Timing::default() };
        let net = Net::new(chance.clone());
        let (disks, up) = (BTreeMap::new(), BTreeMap::new());
        Self { chance, net, disks, up, timing, born: Instant::now(), lives: 0, ending: JoinSet::new() }
    }

    /// A cluster of so many managers that all have a vote, and the register.
    pub(super) async fn with_voters(chance: Chance, count: u64) -> Self {
        let mut world = Self::new(chance);
        for id in 1..=count {
            world.start(id).await;
        }
        world.up[&1].raft.found(member(1), EPOCH).await.unwrap();
        for id in 2..=count {
            world.up[&1].raft.add(id, member(id)).await.unwrap();
            world.up[&1].raft.promote(id).await.unwrap();
        }
        let spec = ServiceSpec { annotations: Annotations::named("register"), ..ServiceSpec::default() };
        world.up[&1].store.update(|tx| tx.create(Service::new(REGISTER, spec.clone()))).await.unwrap();
        world
    }

    /// Starts a manager on its disk.
    pub(super) async fn start(&mut self, id: RaftId) {
        let disk = self.disks.entry(id).or_insert_with(|| SimDisk::new(self.chance.clone()));
        let handle = disk.open();
        let disk = Disk::simulated(handle.clone(), &name(id), cipher(), Arc::new(handle)).unwrap();
        self.lives += 1;
        let wire = Arc::new(self.net.wire(id, self.lives));
        let raft = Raft::start(id, disk, wire, self.timing.clone()).await.unwrap();
        self.net.plug(raft.clone(), self.lives);
        let store = raft.store(Arc::new(|| Timestamp::UNIX_EPOCH));
        self.up.insert(id, Up { raft, store });
    }

    /// Takes a manager's power.
    pub(super) fn crash(&mut self, id: RaftId) {
        if let Some(up) = self.up.remove(&id) {
            self.net.unplug(id);
            self.disks[&id].crash();
            self.ending.spawn(async move { up.raft.stop().await });
        }
    }

    pub(super) fn statuses(&self) -> impl Iterator<Item = Status> {
        self.up.values().map(|up| up.raft.status())
    }

    /// Who leads: the one of the highest term, if several think so.
    pub(super) fn leader(&self) -> Option<RaftId> {
        self.statuses().filter(|it| it.leads().is_some()).max_by_key(|it| it.term).map(|it| it.id)
    }

    pub(super) async fn wait_for_leader(&self) -> RaftId {
        self.wait("a leader", |world| world.leader().is_some()).await;
        self.leader().unwrap()
    }

    pub(super) async fn wait(&self, what: &str, is: impl Fn(&Self) -> bool) {
        let looking = async {
            while !is(self) {
                sleep(Duration::from_millis(10)).await;
            }
        };
        let found = timeout(Duration::from_secs(60), looking).await;
        let statuses: Vec<_> = self.statuses().collect();
        assert!(found.is_ok(), "no {what} in a minute: {statuses:#?}");
    }

    /// Waits until all managers have the same, and agree who leads; returns it.
    pub(super) async fn converge(&self) -> View {
        self.wait("agreement", |world| {
            let statuses: Vec<_> = world.statuses().collect();
            let first = &statuses[0];
            first.leader.is_some()
                && statuses.iter().all(|it| {
                    it.leader == first.leader
                        && it.applied == first.last
                        && it.last == first.last
                        && it.voters == first.voters
                })
        })
        .await;
        let contents = |view: &View| {
            let mut bytes = Vec::new();
            backup(view, &mut bytes).unwrap();
            String::from_utf8(bytes).unwrap()
        };
        let views: Vec<View> = self.up.values().map(|up| up.store.view()).collect();
        assert!(views.iter().all(|view| contents(view) == contents(&views[0])), "managers differ");
        views[0].clone()
    }
}

pub(super) fn config(number: u128) -> Config {
    let annotations = Annotations::named(format!("op{number}"));
    Config::new(ConfigId::from_u128(number), PayloadSpec { annotations, ..PayloadSpec::default() })
}

/// Writes the register, and an object of its own so that the write can be found again; returns its version.
pub(super) async fn write(store: &Store, number: u128) -> Result<u64, Error> {
    let run = |tx: &mut mesh_daemon::store::Tx| {
        tx.create(config(number))?;
        tx.modify::<Service>(REGISTER, |register| register.allocation_error = format!("op{number}"))
    };
    store.update(run).await?;
    let unseen = || Error::Refused("it has happened, but this manager does not show it".to_owned());
    store.view().configs().get(ConfigId::from_u128(number)).map(|it| it.meta.version.0).ok_or_else(unseen)
}

fn value(view: &View) -> String {
    view.services().get(REGISTER).map_or(String::new(), |register| register.allocation_error.clone())
}

/// One client: writes and reads at whichever manager, until the time is over.
async fn client(world: Arc<tokio::sync::Mutex<World>>, history: Arc<Mutex<History>>, number: u128, until: Instant) {
    let start = world.lock().await.born;
    let chance = world.lock().await.chance.clone();
    let mut count = 0;
    while Instant::now() < until {
        sleep(Duration::from_millis(chance.of(1..200))).await;
        let store = {
            let world = world.lock().await;
            let ids: Vec<_> = world.up.keys().copied().collect();
            let id = chance.pick(&ids);
            id.map(|id| (id, world.up[&id].store.clone()))
        };
        let Some((at, store)) = store else { continue };
        let began = start.elapsed();
        let reads = chance.percent(30);
        if reads {
            if let Ok(view) = store.fresh_view().await {
                history.lock().unwrap().read(began, start.elapsed(), (at, view.version().0), value(&view));
            }
            continue;
        }
        count += 1;
        let operation = number * 1_000_000 + count;
        match write(&store, operation).await {
            Ok(version) => {
                let mut history = history.lock().unwrap();
                history.wrote(began, start.elapsed(), (at, version), format!("op{operation}"));
            }
            Err(Error::Rejected(_)) => {} // surely not happened: others were faster, again and again
            Err(_) => history.lock().unwrap().unknown += 1,
        }
    }
}

/// Does one thing to the cluster.
async fn disturb(world: &mut World) {
    let chance = world.chance.clone();
    let roll = chance.of(0..12);
    let all: Vec<RaftId> = world.disks.keys().copied().collect();
    let one = chance.pick(&all).unwrap();
    let other = chance.pick(&all).unwrap();
    match roll {
        0 => {
            let mut side = all.clone();
            chance.shuffle(&mut side);
            let (left, right) = side.split_at(all.len() / 2);
            for (a, b) in left.iter().flat_map(|a| right.iter().map(move |b| (*a, *b))) {
                world.net.cut(a, b);
                world.net.cut(b, a);
            }
        }
        1 => world.net.cut(one, other),
        2 => {
            world.net.cut(one, other);
            world.net.cut(other, one);
        }
        3 => all.iter().for_each(|id| world.net.cut(one, *id)),
        4 | 5 => world.net.heal(),
        6 => world.crash(one),
        7 => {
            let leader = world.leader().unwrap_or(one);
            world.crash(leader);
        }
        8 => world.net.weather(10, 10, 60),
        9 => world.net.weather(0, 0, 2),
        10 => world.disks[&one].slow(80),
        _ => world.disks.values().for_each(|disk| disk.slow(0)),
    }
    // Who is down comes back, sooner or later.
    let down: Vec<RaftId> = all.into_iter().filter(|id| !world.up.contains_key(id)).collect();
    for id in down {
        if chance.percent(50) {
            world.start(id).await;
        }
    }
}

/// Plays one seed to its end.
async fn play(chance: Chance) -> (usize, usize) {
    let voters = chance.of(1..3) * 2 + 1;
    let world = World::with_voters(chance.clone(), voters).await;
    let world = Arc::new(tokio::sync::Mutex::new(world));
    let history = Arc::new(Mutex::new(History::default()));
    let until = Instant::now() + Duration::from_secs(12);
    let mut clients = JoinSet::new();
    for number in 1..=4 {
        clients.spawn(client(Arc::clone(&world), Arc::clone(&history), number, until));
    }
    while Instant::now() < until {
        sleep(Duration::from_millis(chance.of(50..800))).await;
        let mut world = world.lock().await;
        disturb(&mut world).await;
        for (term, id) in world.statuses().filter_map(|it| it.leads().map(|term| (term, it.id))) {
            history.lock().unwrap().leads(term, id);
        }
    }
    {
        let mut world = world.lock().await;
        world.net.heal();
        world.net.weather(0, 0, 2);
        world.disks.values().for_each(|disk| disk.slow(0));
        let all: Vec<RaftId> = world.disks.keys().copied().collect();
        for id in all.into_iter().filter(|id| !world.up.contains_key(id)).collect::<Vec<_>>() {
            world.start(id).await;
        }
    }
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
    let world = world.lock().await;
    let view = world.converge().await;
    let history = history.lock().unwrap();
    let values: BTreeMap<u64, String> =
        view.configs().iter().map(|it| (it.meta.version.0, it.spec.annotations.name.clone())).collect();
    for (version, value) in history.acknowledged() {
        assert_eq!(values.get(&version).map(String::as_str), Some(value), "an acknowledged write is lost");
    }
    history.check(&values);
    (history.writes(), history.unknown)
}

#[test]
fn raft_managers_lose_no_acknowledged_write_and_agree_again_whatever_befalls_them() {
    let (mut runs, mut writes, mut unknown) = (0, 0, 0);
    for seed in seeds(Duration::from_secs(25)) {
        simulate(seed, |chance| async {
            let (done, open) = play(chance).await;
            (runs, writes, unknown) = (runs + 1, writes + done, unknown + open);
        });
    }
    println!("{runs} seeds, {writes} writes acknowledged, {unknown} of unknown outcome");
    assert!(writes > 10 * runs, "the clusters hardly worked: {writes} writes in {runs} runs");
}
