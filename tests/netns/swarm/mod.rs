//! The cluster as its user sees it: real nodes, the real docker CLI, real containers, a client outside.

mod disk;
mod doctor;
mod engine;
mod failure;
mod images;
mod membership;
mod meshctl;
mod place;
mod recovery;
mod service;
mod trust;
mod update;
mod way_out;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use harness::clients::{Seen, ask};
use harness::image::{Image, ImagePlan};
use harness::nodes::{Nodes, Runs};
use harness::{Bed, Plan, Transport, image};

/// The image that all tasks are made of; it is in each node's store.
const IMAGE: &str = "whoami:1";
/// Where its program listens.
const TARGET: u16 = 7000;
/// Tables that follow a change of the store are equal within this time on a busy machine.
const AGREE: Duration = Duration::from_secs(20);
/// Requests among which every one of a few tasks is met.
const ENOUGH: usize = 200;

/// One cluster at a time: its nodes tell by time who is alive, and the machine has few cores.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `whoami`, with a shell to check it by.
fn image() -> anyhow::Result<Image> {
    let busybox = std::fs::read("/bin/busybox").context("busybox-static is installed")?;
    let whoami = std::fs::read(image::static_whoami()?)?;
    let file = |name: &str, content: &[u8]| (name.to_owned(), content.to_vec(), 0o755);
    Image::pack(&ImagePlan {
        reference: IMAGE.to_owned(),
        files: vec![file("whoami", &whoami), file("bin/sh", &busybox), file("bin/nc", &busybox)],
        entrypoint: vec!["/whoami".to_owned()],
        env: vec!["PATH=/bin".to_owned()],
        exposed_ports: vec!["7000/tcp".to_owned()],
    })
}

/// So many nodes and one client; they are in no swarm.
#[track_caller]
fn nodes(count: u8) -> Nodes {
    let started = image().and_then(|image| Nodes::start(&plan(count), &image));
    started.unwrap_or_else(|error| panic!("{error:#}"))
}

fn plan(nodes: u8) -> Plan {
    Plan { nodes, clients: 1, ..Plan::default() }
}

/// A swarm of so many nodes, of which so many are managers.
#[track_caller]
fn swarm(count: u8, managers: usize) -> Nodes {
    formed(nodes(count), managers)
}

/// As [`swarm`]; what each node keeps of the swarm lies on a disk of so many MiB.
#[track_caller]
fn swarm_on_small_disks(count: u8, managers: usize, mib: u32) -> Nodes {
    let bed = Bed::new(&plan(count)).unwrap_or_else(|error| panic!("{error:#}"));
    swarm_on(bed, managers, |_| Runs { disk: Some(mib), ..Runs::default() })
}

#[track_caller]
fn formed(nodes: Nodes, managers: usize) -> Nodes {
    let count = nodes.nodes.len();
    nodes.form(managers).unwrap();
    until_ready(&nodes, count);
    nodes
}

/// A swarm on machines that are there, of which so many are managers.
#[track_caller]
fn swarm_on(bed: Bed, managers: usize, runs: impl Fn(usize) -> Runs) -> Nodes {
    let started = image().and_then(|image| Nodes::start_on(bed, &image, runs));
    formed(started.unwrap_or_else(|error| panic!("{error:#}")), managers)
}

#[track_caller]
fn until_ready(nodes: &Nodes, count: usize) {
    nodes
        .until("all nodes are ready", |nodes| {
            let status = nodes.docker(0, &["node", "ls", "--format", "{{.Status}}"])?;
            Ok(status.lines().filter(|status| *status == "Ready").count() == count)
        })
        .unwrap();
}

/// Asks every node from outside until it was answered for by every one of `tasks`; each answer tells the
/// client's own address.
#[track_caller]
fn assert_served(nodes: &Nodes, port: u16, tasks: &BTreeSet<String>) {
    for node in &nodes.nodes {
        assert_served_by(nodes, node.host.ip4.into(), port, tasks);
    }
}

#[track_caller]
fn assert_served_by(nodes: &Nodes, entry: IpAddr, port: u16, tasks: &BTreeSet<String>) {
    let client = &nodes.bed.clients[0];
    let mut met = BTreeSet::new();
    for _ in 0..ENOUGH {
        let Seen { name, peer, .. } = ask(&client.ns, Transport::Tcp, entry, port).unwrap();
        assert_eq!(peer.ip(), IpAddr::from(client.ip4), "{name} was asked at {entry}");
        met.insert(name);
        if met == *tasks {
            return;
        }
    }
    panic!("{entry}:{port} is answered by {met:?}, not by {tasks:?}");
}

/// Requests from outside while something else happens, one after the other, at each of some nodes in turn.
struct Traffic {
    stop: std::sync::Arc<std::sync::atomic::AtomicBool>,
    asking: std::thread::JoinHandle<(usize, Vec<String>)>,
}

impl Traffic {
    fn begin(nodes: &Nodes, entries: &[usize], port: u16) -> Self {
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (client, stopped) = (nodes.bed.clients[0].ns.clone(), std::sync::Arc::clone(&stop));
        let entries: Vec<_> = entries.iter().map(|entry| nodes.nodes[*entry].host.ip4).collect();
        let asking = std::thread::spawn(move || {
            let (mut asked, mut lost) = (0, Vec::new());
            for entry in entries.iter().cycle() {
                if stopped.load(std::sync::atomic::Ordering::Relaxed) {
                    break;
                }
                asked += 1;
                if let Err(error) = ask(&client, Transport::Tcp, *entry, port) {
                    lost.push(format!("request {asked} at {entry}: {error:#}"));
                }
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            (asked, lost)
        });
        Self { stop, asking }
    }

    /// Ends it: all must have been answered.
    #[track_caller]
    fn assert_whole(self) {
        self.stop.store(true, std::sync::atomic::Ordering::Relaxed);
        let (asked, lost) = self.asking.join().unwrap();
        assert!(asked > 0 && lost.is_empty(), "of {asked} requests were lost: {lost:#?}");
        println!("{asked} requests were answered meanwhile");
    }
}

/// The identities of the tasks of a service that are wanted, and of all containers' processes.
fn identities(nodes: &Nodes, at: usize, service: &str) -> (Vec<String>, Vec<i32>) {
    let wanted = ["service", "ps", service, "-q", "--no-trunc", "--filter", "desired-state=running"];
    let mut ids: Vec<_> = nodes.docker(at, &wanted).unwrap().lines().map(str::to_owned).collect();
    ids.sort();
    let spaces = nodes.nodes.iter().map(|node| node.spaces().unwrap());
    let mut processes: Vec<_> = spaces.flat_map(|spaces| harness::nodes::inside(&spaces).unwrap()).collect();
    processes.sort_unstable();
    (ids, processes)
}

/// All nodes that run agree soon with each other and with the managers; how long that took.
#[track_caller]
fn agree(nodes: &Nodes, at: usize) -> Duration {
    nodes.agree(at, AGREE).unwrap_or_else(|error| panic!("{error:#}"))
}

/// What [`names`] are made of: `docker service create` with this has the image name itself after its slot.
const NAMED: [&str; 2] = ["--hostname", "{{.Task.Slot}}"];

/// The names that tasks of the first so many slots answer with.
fn names(slots: u32) -> BTreeSet<String> {
    (1..=slots).map(|slot| slot.to_string()).collect()
}

/// Does every node answer for these tasks, and for no other?
fn is_served(nodes: &Nodes, entries: &[usize], port: u16, tasks: &BTreeSet<String>) -> bool {
    let client = &nodes.bed.clients[0].ns;
    entries.iter().all(|entry| {
        let entry = nodes.nodes[*entry].host.ip4;
        let asked = (0..24).map(|_| ask(client, Transport::Tcp, entry, port).map(|seen| seen.name));
        asked.collect::<Result<BTreeSet<_>, _>>().is_ok_and(|met| met.is_subset(tasks))
    })
}
