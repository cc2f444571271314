//! A network of detectors: one queue of events on a clock of its own, all chance from one seed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::time::Duration;

use mesh_daemon::cluster::gossip::{
    Detector, Exchange, KeyRing, Liveness, Me, NodeKey, Peer, Place, RingKey, Timing, Transmit,
};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

pub(crate) const MS: Duration = Duration::from_millis(1);

/// What is on its way, or to be done.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Packet { to: usize, packet: Vec<u8> },
    Tick(usize),
    Exchange { from: usize, with: usize },
    Knock { from: usize, at: usize, generation: u64 },
}

/// Which packets get through, from node to node.
type Rule = Box<dyn Fn(usize, usize) -> bool>;

pub(crate) struct Net {
    pub(crate) nodes: Vec<Detector>,
    /// A node that does not run: its packets and timers wait (stopped), or are lost (away, ended, killed).
    runs: Vec<Run>,
    queue: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    /// For each node, the tick that is in the queue.
    ticks: Vec<Option<Duration>>,
    held: Vec<Vec<Vec<u8>>>,
    count: u64,
    pub(crate) now: Duration,
    chance: StdRng,
    pub(crate) loss: f64,
    pub(crate) passes: Rule,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Run {
    Runs,
    Stopped,
    /// Its daemon has ended, and its place is held.
    Away,
    /// All its processes have ended: its kernel refuses.
    Ended,
    /// Its machine is off.
    Killed,
}

pub(crate) fn ring(numbers: &[u32]) -> KeyRing {
    let key = |number: &u32| RingKey { number: *number, secret: [*number as u8; 32] };
    KeyRing::new(numbers.iter().map(key).collect()).unwrap()
}

pub(crate) fn key_of(node: usize) -> NodeKey {
    NodeKey(node as u128 + 1)
}

pub(crate) fn address_of(node: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, (node >> 8) as u8, node as u8], 7946))
}

fn node_at(address: SocketAddr) -> usize {
    let SocketAddr::V4(address) = address else { panic!("{address}: not of this net") };
    let [_, _, high, low] = address.ip().octets();
    usize::from(high) << 8 | usize::from(low)
}

pub(crate) fn peer(node: usize, generation: Option<u64>) -> Peer {
    Peer { node: key_of(node), address: address_of(node), generation }
}

impl Net {
    /// So many nodes, none of which knows another.
    pub(crate) fn new(nodes: usize, seed: u64) -> Self {
        let mut chance = StdRng::seed_from_u64(seed);
        let detector = |node| {
            let me = Me { node: key_of(node), life: 1 };
            let fork = StdRng::from_rng(&mut chance);
            Detector::new(me, address_of(node), Timing::default(), ring(&[1]), fork).unwrap()
        };
        let detectors: Vec<_> = (0..nodes).map(detector).collect();
        let mut net = Self {
            nodes: detectors,
            runs: vec![Run::Runs; nodes],
            queue: BinaryHeap::new(),
            ticks: vec![None; nodes],
            held: vec![Vec::new(); nodes],
            count: 0,
            now: Duration::ZERO,
            chance,
            loss: 0.0,
            passes: Box::new(|_, _| true),
        };
        (0..nodes).for_each(|node| net.settle(node));
        net
    }

    /// So many nodes that know each other from a manager's list, and have had a second to begin.
    pub(crate) fn joined(nodes: usize, seed: u64) -> Self {
        let mut net = Self::new(nodes, seed);
        let all: Vec<_> = (0..nodes).map(|node| peer(node, Some(1))).collect();
        for node in 0..nodes {
            net.act(node, |detector, now| detector.introduce(&all, now));
        }
        net.run_for(1000 * MS);
        assert!(net.all_alive(), "a cluster that was introduced is a cluster");
        net
    }

    pub(crate) fn act<T>(&mut self, node: usize, act: impl FnOnce(&mut Detector, Duration) -> T) -> T {
        let done = act(&mut self.nodes[node], self.now);
        self.settle(node);
        done
    }

    /// It is gone without a word.
    pub(crate) fn kill(&mut self, node: usize) {
        self.runs[node] = Run::Killed;
    }

    /// Its daemon is gone without a word; its holder is there.
    pub(crate) fn go_away(&mut self, node: usize) {
        self.runs[node] = Run::Away;
    }

    /// All its processes are gone.
    pub(crate) fn end(&mut self, node: usize) {
        self.runs[node] = Run::Ended;
    }

    /// It does not run, and what it is sent lies in its socket.
    pub(crate) fn stop(&mut self, node: usize) {
        self.runs[node] = Run::Stopped;
    }

    pub(crate) fn go_on(&mut self, node: usize) {
        self.runs[node] = Run::Runs;
        // As the transport does: the socket first, then the timers.
        for packet in std::mem::take(&mut self.held[node]) {
            self.nodes[node].receive(&packet, self.now);
        }
        self.nodes[node].tick(self.now);
        self.ticks[node] = None;
        self.settle(node);
    }

    pub(crate) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.step(end) {}
        self.now = end;
    }

    /// Runs until the condition holds, and says how long that took; None if it took too long.
    pub(crate) fn run_until(&mut self, limit: Duration, mut holds: impl FnMut(&mut Self) -> bool) -> Option<Duration> {
        let start = self.now;
        // To look at a large cluster takes longer than to run it.
        let step = if self.nodes.len() > 100 { 100 * MS } else { 5 * MS };
        while self.now < start + limit {
            self.run_for(step);
            if holds(self) {
                return Some(self.now - start);
            }
        }
        None
    }

    pub(crate) fn belief(&mut self, of: usize, about: usize) -> Option<Liveness> {
        self.nodes[of].members().get(&key_of(about)).map(|member| member.liveness)
    }

    pub(crate) fn running(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|node| self.runs[*node] == Run::Runs).collect()
    }

    /// Every running node believes this of that one.
    pub(crate) fn all_believe(&mut self, about: usize, liveness: Liveness) -> bool {
        let others = self.running().into_iter().filter(|node| *node != about).collect::<Vec<_>>();
        others.into_iter().all(|node| self.belief(node, about) == Some(liveness))
    }

    /// Nobody is missing or doubted anywhere.
    pub(crate) fn all_alive(&mut self) -> bool {
        let count = self.nodes.len() - 1;
        self.nodes.iter_mut().all(|node| {
            let members = node.members();
            members.len() == count && members.values().all(|member| member.liveness == Liveness::Alive)
        })
    }

    /// Runs for this long; no running node may believe a running one dead.
    pub(crate) fn never_down(&mut self, time: Duration, what: &str) {
        let end = self.now + time;
        while self.now < end {
            self.run_for((20 * MS).min(end - self.now));
            for node in self.running() {
                let down = |(about, member): (&NodeKey, &mesh_daemon::cluster::gossip::Member)| {
                    (member.liveness == Liveness::Down).then_some(*about)
                };
                let dead = self.nodes[node].members().iter().find_map(down);
                assert_eq!(dead, None, "{what}: of {} nodes, {node} believes one dead", self.nodes.len());
            }
        }
    }

    /// Runs for this long; nobody may believe that one dead.
    pub(crate) fn never_called_dead(&mut self, about: usize, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.run_for((20 * MS).min(end - self.now));
            for node in self.running() {
                assert_ne!(self.belief(node, about), Some(Liveness::Down), "{node} believes {about} dead");
            }
        }
    }

    /// The process of a node is killed, and started again.
    pub(crate) fn restart(&mut self, node: usize, life: u64) {
        let me = Me { node: key_of(node), life };
        let fork = StdRng::from_rng(&mut self.chance);
        let timing = Timing::default();
        self.nodes[node] = Detector::new(me, address_of(node), timing, ring(&[1]), fork).unwrap();
        self.ticks[node] = None;
        self.runs[node] = Run::Runs;
        self.settle(node);
    }

    pub(crate) fn total_sent(&self) -> u64 {
        self.nodes.iter().map(|node| node.counters().sent).sum()
    }

    fn step(&mut self, end: Duration) -> bool {
        if self.queue.peek().is_none_or(|Reverse((at, ..))| *at > end) {
            return false;
        }
        let Some(Reverse((at, _, event))) = self.queue.pop() else { return false };
        self.now = at;
        match event {
            Event::Packet { to, packet } => match self.runs[to] {
                Run::Runs => {
                    self.nodes[to].receive(&packet, at);
                    self.settle(to);
                }
                Run::Stopped => self.held[to].push(packet),
                Run::Away | Run::Ended | Run::Killed => {}
            },
            Event::Tick(node) if self.runs[node] == Run::Runs && self.ticks[node] == Some(at) => {
                self.ticks[node] = None;
                self.nodes[node].tick(at);
                self.settle(node);
            }
            Event::Tick(_) => {}
            Event::Exchange { from, with } => self.exchange(from, with),
            Event::Knock { from, at, generation } => self.knock(from, at, generation),
        }
        true
    }

    /// Takes what a node has to send, and sets its clock.
    fn settle(&mut self, node: usize) {
        for transmit in self.nodes[node].transmits() {
            match transmit {
                Transmit::Datagram { to, packet } => self.send(node, node_at(to), packet),
                Transmit::Exchange { with } => {
                    let event = Event::Exchange { from: node, with: node_at(with) };
                    self.add(self.now + MS, event);
                }
                Transmit::Knock { generation, at, .. } => {
                    let event = Event::Knock { from: node, at: node_at(at), generation };
                    self.add(self.now + MS, event);
                }
            }
        }
        let due = self.nodes[node].deadline();
        if let Some(at) = due.filter(|at| self.ticks[node].is_none_or(|set| *at < set)) {
            self.ticks[node] = Some(at.max(self.now));
            self.add(at.max(self.now), Event::Tick(node));
        }
    }

    fn send(&mut self, from: usize, to: usize, packet: Vec<u8>) {
        if !(self.passes)(from, to) || self.chance.random_bool(self.loss) {
            return;
        }
        let latency = Duration::from_micros(self.chance.random_range(200..800));
        self.add(self.now + latency, Event::Packet { to, packet });
    }

    /// TCP: all three steps, or nothing.
    fn exchange(&mut self, from: usize, with: usize) {
        let open = (self.passes)(from, with) && (self.passes)(with, from);
        let there = self.runs.get(with) == Some(&Run::Runs) && self.runs[from] == Run::Runs;
        if !open || !there {
            return;
        }
        let now = self.now;
        let Some(asked) = self.nodes[from].open_exchange() else { return };
        let answer = self.nodes[with].continue_exchange(&asked, Exchange::Answer, now);
        if let Ok(Some(answer)) = answer {
            let closing = self.nodes[from].continue_exchange(&answer, Exchange::Close, now).unwrap().unwrap();
            self.nodes[with].continue_exchange(&closing, Exchange::Finish, now).unwrap();
        }
        self.settle(from);
        self.settle(with);
    }

    /// As a connection that stays, and says every 100 ms whether it is still there.
    fn knock(&mut self, from: usize, at: usize, generation: u64) {
        if self.runs[from] != Run::Runs || !self.nodes[from].is_missed(key_of(at), generation) {
            return;
        }
        let open = (self.passes)(from, at) && (self.passes)(at, from);
        match self.runs[at] {
            Run::Runs | Run::Stopped | Run::Away if open => {
                self.nodes[from].knocked(key_of(at), generation, Place::Held);
            }
            Run::Ended if open => self.nodes[from].knocked(key_of(at), generation, Place::Empty),
            // Silence: the first knock is given up by the detector, a later one after its connection broke.
            _ if self.nodes[from].members()[&key_of(at)].liveness == Liveness::Away => {
                self.nodes[from].knocked(key_of(at), generation, Place::Empty);
            }
            _ => {}
        }
        self.add(self.now + 100 * MS, Event::Knock { from, at, generation });
        self.settle(from);
    }

    fn add(&mut self, at: Duration, event: Event) {
        self.count += 1;
        self.queue.push(Reverse((at, self.count, event)));
    }
}
