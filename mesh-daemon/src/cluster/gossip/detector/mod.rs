//! The state machine of membership: foca, its timers, the seal, the notices.
//!
//! Packets, time and chance come in, packets go out; nothing here waits or reads a clock.

mod absence;
mod exchange;
mod outcome;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use foca::{AccumulatingRuntime, BroadcastHandler, Codec as _, Foca, PostcardCodec, Timer};
use rand::rngs::StdRng;
use rand::seq::IteratorRandom as _;

use super::agenda::{Agenda, Event};
use super::frame::{About, Belief, Entry, Frame, Sync};
use super::health::Health;
use super::member::{Identity, Members, Peer};
use super::notices::{Fact, FactError, Gone, Heard, Notice, Notices};
use super::seal::{KeyRing, Me, Rejected, Seal};
use super::timing::Timing;
use super::{KeyRingError, Liveness, MAX_MEMBERS, Member, NodeKey, TOLD_DIRECTLY, sync};
use absence::Absences;
use outcome::Spread;

pub use absence::{MAX_ABSENCE, Place};
pub use exchange::Exchange;

/// How many exchanges in a row are put off while news still comes in.
const MOST_PUT_OFF: u32 = 4;
/// How many forgotten nodes are kept out.
const MAX_OUTCASTS: usize = 256;
/// How many silent nodes are spoken to at once.
const ANNOUNCED_TO: usize = 3;

/// What is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transmit {
    /// A datagram.
    Datagram {
        /// To whom.
        to: SocketAddr,
        /// What.
        packet: Vec<u8>,
    },
    /// An exchange is due with the node that listens there.
    Exchange {
        /// With whom.
        with: SocketAddr,
    },
    /// A node is missed: is its place held? As long as [`Detector::is_missed`], what is found goes to
    /// [`Detector::knocked`].
    Knock {
        /// Which.
        node: NodeKey,
        /// In which of its generations.
        generation: u64,
        /// Where its socket was.
        at: SocketAddr,
    },
}

/// How often things happened since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets that were heard.
    pub received: u64,
    /// Packets that were sent.
    pub sent: u64,
    /// Packets that were not heard, by reason.
    pub rejected: HashMap<Rejected, u64>,
    /// Probes that nobody answered.
    pub probes_failed: u64,
    /// Times this process did not run when it should have.
    pub stalls: u64,
    /// Times others asked this node to object to being suspected.
    pub accused: u64,
    /// Times this node came back from being declared dead.
    pub rejoined: u64,
    /// Notices for which there was no room, or that make no sense.
    pub notices_refused: u64,
    /// Exchanges that were begun or answered.
    pub exchanges: u64,
    /// Steps that the protocol refused.
    pub protocol_errors: u64,
    /// How far this node distrusts itself: 0 is well, 4 the worst.
    pub health: u32,
}

type Protocol = Foca<Identity, PostcardCodec, StdRng, Rumours>;
type Effects = AccumulatingRuntime<Identity>;

/// The part of foca that takes notices in.
struct Rumours {
    notices: Arc<Mutex<Board>>,
}

/// The notices, and what foca cannot pass on to who hears them.
#[derive(Default)]
struct Board {
    notices: Notices,
    now: Duration,
    refused: u64,
}

/// A notice that cannot be read.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("a notice that cannot be read")]
struct Unreadable;

impl BroadcastHandler<Identity> for Rumours {
    type Key = About;
    type Error = Unreadable;

    fn receive_item(&mut self, data: &[u8], _sender: Option<&Identity>) -> Result<Option<About>, Unreadable> {
        let notice = Notice::from_bytes(data).ok_or(Unreadable)?;
        let mut board = lock(&self.notices);
        let now = board.now;
        match board.notices.hear(&notice, now) {
            Heard::New => {
                let age = (notice.life, notice.number);
                Ok(Some(About { origin: notice.origin, topic: notice.fact.topic(), age }))
            }
            Heard::Known => Ok(None),
            Heard::Refused => {
                board.refused += 1;
                Ok(None)
            }
        }
    }
}

fn lock(board: &Mutex<Board>) -> MutexGuard<'_, Board> {
    board.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One node's view of who is alive. See [the module](super).
pub struct Detector {
    me: Me,
    timing: Timing,
    protocol: Protocol,
    effects: Effects,
    agenda: Agenda,
    health: Health,
    seal: Seal,
    board: Arc<Mutex<Board>>,
    chance: StdRng,
    known: HashMap<NodeKey, SocketAddr>,
    /// Nodes that were forgotten; the first of too many is taken for a stranger again.
    outcasts: VecDeque<NodeKey>,
    out: Vec<Transmit>,
    counters: Counters,
    heard_at: Duration,
    exchanged_at: Option<Duration>,
    told: u32,
    /// The timer at work is the one that declares a suspect dead.
    deciding: bool,
    members: Arc<Members>,
    gone: Arc<Gone>,
    /// The views may be out of date.
    stale: bool,
    /// The change of the notices that the views have.
    drawn_at: u64,
    suspects: u64,
    /// Members that do not answer.
    absences: Absences,
    /// Somebody may have become absent, or be back.
    unseen: bool,
    /// The last doubt that was objected to: generation and incarnation.
    objected_to: Option<(u64, u16)>,
    /// What this node knew when it last said so.
    hinted: Option<u64>,
    /// How many exchanges in a row were put off.
    put_off: u32,
}

impl Detector {
    /// A detector that knows nobody. Time is counted from here on; `address` is where the others
    /// reach this node.
    ///
    /// # Errors
    ///
    /// No key of the ring can be used.
    pub fn new(
        me: Me,
        address: SocketAddr,
        timing: Timing,
        ring: KeyRing,
        mut chance: StdRng,
    ) -> Result<Self, KeyRingError> {
        let identity = Identity { node: me.node, address, generation: me.life };
        let seal = Seal::new(me, ring, &mut chance)?;
        let board = Arc::new(Mutex::new(Board::default()));
        let rumours = Rumours { notices: Arc::clone(&board) };
        let fork = rand::SeedableRng::from_rng(&mut chance);
        let protocol = Foca::with_custom_broadcast(identity, timing.to_foca(), fork, PostcardCodec, rumours);
        let mut agenda = Agenda::default();
        agenda.add(Duration::ZERO, Event::Announce);
        agenda.add(timing.sync_interval, Event::Hint);
        Ok(Self {
            me,
            timing,
            protocol,
            effects: Effects::new(),
            agenda,
            health: Health::default(),
            seal,
            board,
            chance,
            known: HashMap::new(),
            outcasts: VecDeque::new(),
            out: Vec::new(),
            counters: Counters::default(),
            heard_at: Duration::ZERO,
            exchanged_at: None,
            told: 0,
            deciding: false,
            members: Arc::default(),
            gone: Arc::default(),
            stale: false,
            drawn_at: 0,
            suspects: 0,
            absences: Absences::new(),
            unseen: false,
            objected_to: None,
            hinted: None,
            put_off: 0,
        })
    }

    /// Takes in a datagram.
    pub fn receive(&mut self, packet: &[u8], now: Duration) {
        if let Err(rejected) = self.hear(packet, now) {
            *self.counters.rejected.entry(rejected).or_default() += 1;
        }
        self.settle(now);
    }

    /// Does what is due. If this process did not run for long, everything is put off by as much:
    /// what the others sent in the meantime has to be read first.
    pub fn tick(&mut self, now: Duration) {
        let late = self.agenda.next().map_or(Duration::ZERO, |at| now.saturating_sub(at));
        if late > self.timing.probe_period {
            self.counters.stalls += 1;
            self.health.stalled();
            self.agenda.shift(late + self.timing.probe_timeout);
            return;
        }
        while let Some(event) = self.agenda.pop_due(now) {
            self.fire(event, now);
            self.settle(now);
        }
    }

    /// When [`Detector::tick`] is to be called next.
    pub fn deadline(&self) -> Option<Duration> {
        self.agenda.next()
    }

    /// What is to be sent; to be taken after each call.
    pub fn transmits(&mut self) -> Vec<Transmit> {
        std::mem::take(&mut self.out)
    }

    /// Takes in what a manager knows of other nodes. Those it knows to be alive are members at
    /// once, the others are spoken to until they answer.
    pub fn introduce(&mut self, peers: &[Peer], now: Duration) {
        for peer in peers.iter().filter(|peer| peer.node != self.me.node) {
            self.outcasts.retain(|outcast| *outcast != peer.node);
            if self.known.len() < MAX_MEMBERS || self.known.contains_key(&peer.node) {
                self.known.insert(peer.node, peer.address);
            }
        }
        let alive = peers.iter().filter_map(|peer| {
            let id = Identity { node: peer.node, address: peer.address, generation: peer.generation? };
            Some(Entry { id, incarnation: 0, state: Belief::Alive })
        });
        let alive: Vec<_> = alive.filter(|entry| entry.id.node != self.me.node).collect();
        self.absorb(alive, Spread::Silently);
        self.agenda.set(now, Event::Announce);
        self.settle(now);
    }

    /// Forgets a node that is no longer of the cluster, and does not hear it until it is introduced
    /// again.
    pub fn forget(&mut self, node: NodeKey, now: Duration) {
        self.known.remove(&node);
        if self.outcasts.len() == MAX_OUTCASTS {
            self.outcasts.pop_front();
        }
        self.outcasts.push_back(node);
        self.stale = true;
        if let Some(id) = self.identity_of(node) {
            self.absorb(vec![Entry { id, incarnation: 0, state: Belief::Down }], Spread::Silently);
            let done = self.protocol.handle_timer(Timer::RemoveDown(id), &mut self.effects);
            self.count(done);
        }
        lock(&self.board).notices.forget(node);
        self.seal.forget(node);
        self.settle(now);
    }

    /// Takes other keys.
    pub fn rotate(&mut self, ring: KeyRing) {
        self.seal.rotate(ring);
    }

    /// Tells all members of something.
    ///
    /// # Errors
    ///
    /// It is too long.
    pub fn tell(&mut self, fact: Fact, now: Duration) -> Result<(), FactError> {
        fact.check()?;
        let number = self.told.checked_add(1).ok_or(FactError::OutOfNumbers)?;
        self.told = number;
        let notice = Notice { origin: self.me.node, life: self.me.life, number, fact };
        if let Some(bytes) = notice.to_bytes() {
            lock(&self.board).now = now;
            let added = self.protocol.add_broadcast(&bytes).map(drop);
            self.count(added);
        }
        if self.protocol.num_members() <= TOLD_DIRECTLY {
            self.tell_all(&Frame::Notice(notice));
        }
        let spread = self.protocol.broadcast(&mut self.effects);
        self.count(spread);
        self.settle(now);
        Ok(())
    }

    /// Says good-bye: this node will not be back. The detector is of no use afterwards.
    pub fn leave(&mut self, now: Duration) {
        let entry = Entry { id: *self.protocol.identity(), incarnation: 0, state: Belief::Down };
        if self.protocol.num_members() <= TOLD_DIRECTLY {
            self.tell_all(&Frame::News(entry));
        }
        let left = self.protocol.leave_cluster(&mut self.effects);
        self.count(left);
        self.settle(now);
        self.stop();
    }

    /// All nodes known. Another value after each change.
    pub fn members(&mut self) -> Arc<Members> {
        self.refresh();
        Arc::clone(&self.members)
    }

    /// All tasks known to be gone. Another value after each change.
    pub fn gone(&mut self) -> Arc<Gone> {
        self.refresh();
        Arc::clone(&self.gone)
    }

    /// How often what happened.
    pub fn counters(&self) -> Counters {
        Counters { health: self.health.score(), notices_refused: lock(&self.board).refused, ..self.counters.clone() }
    }

    /// The generation this node lives in now: what managers tell the others.
    pub fn generation(&self) -> u64 {
        self.protocol.identity().generation
    }

    fn hear(&mut self, packet: &[u8], now: Duration) -> Result<(), Rejected> {
        let (from, text) = self.seal.open(packet, now)?;
        if self.outcasts.contains(&from) {
            return Err(Rejected::Outcast);
        }
        let frame = Frame::from_bytes(&text).ok_or(Rejected::NotUnderstood)?;
        self.counters.received += 1;
        self.heard_at = now;
        lock(&self.board).now = now;
        match frame {
            Frame::Protocol(data) => self.hear_protocol(from, &data)?,
            Frame::Accuse(entry) => {
                if entry.id == *self.protocol.identity() && entry.state == Belief::Suspect {
                    self.counters.accused += 1;
                    self.health.accused();
                    self.absorb(vec![entry], Spread::AsRumour);
                    self.object(from, entry);
                }
            }
            Frame::News(entry) => {
                self.absorb(vec![entry], Spread::AsRumour);
                if entry.id.node == from && entry.state == Belief::Down {
                    self.has_left(entry.id);
                }
            }
            Frame::Notice(notice) => {
                // As if it had been heard as a rumour, so that it is passed on.
                let bytes = notice.to_bytes().ok_or(Rejected::NotUnderstood)?;
                let added = self.protocol.add_broadcast(&bytes).map(drop);
                self.count(added);
            }
            Frame::Hint(theirs) => self.compare(from, theirs, now),
            Frame::Sync(_) => return Err(Rejected::NotUnderstood),
        }
        Ok(())
    }

    fn hear_protocol(&mut self, from: NodeKey, data: &[u8]) -> Result<(), Rejected> {
        let header: foca::Header<Identity> =
            PostcardCodec.decode_header(Bytes::copy_from_slice(data)).map_err(|_| Rejected::NotUnderstood)?;
        if header.src.node != from {
            return Err(Rejected::Forged);
        }
        let is_new = || !self.protocol.iter_membership_state().any(|member| member.id().node == from);
        if self.protocol.iter_membership_state().len() >= MAX_MEMBERS && is_new() {
            return Err(Rejected::TooManyMembers);
        }
        let done = self.protocol.handle_data(data, &mut self.effects);
        self.count(done);
        Ok(())
    }

    /// Answers an accuser at once: any packet says that this node lives, and in which incarnation.
    /// The accuser may be whom it does not reach; so all are told, once in an incarnation.
    fn object(&mut self, accuser: NodeKey, accusation: Entry) {
        let doubted = (accusation.id.generation, accusation.incarnation);
        let news = self.objected_to.is_none_or(|before| before < doubted);
        if let Some(incarnation) = accusation.incarnation.checked_add(1).filter(|_| news) {
            self.objected_to = Some(doubted);
            if self.protocol.num_members() <= TOLD_DIRECTLY {
                self.tell_all(&Frame::News(Entry { incarnation, state: Belief::Alive, ..accusation }));
            }
        }
        if let Some(id) = self.identity_of(accuser) {
            let sent = self.protocol.announce(id, &mut self.effects);
            self.count(sent);
        }
    }

    /// Asks for an exchange with a member that knows something else.
    fn compare(&mut self, from: NodeKey, theirs: u64, now: Duration) {
        let recent = self.exchanged_at.is_some_and(|at| now.saturating_sub(at) < self.timing.sync_interval / 4);
        let ours = self.fingerprint();
        if theirs == ours || recent {
            return;
        }
        // Among many, what rumours are still bringing is not worth an exchange; but neither is it
        // waited for without end.
        let moving = self.hinted != Some(ours) && self.protocol.num_members() > TOLD_DIRECTLY;
        if moving && self.put_off < MOST_PUT_OFF {
            self.put_off += 1;
            return;
        }
        self.put_off = 0;
        if let Some(id) = self.identity_of(from) {
            self.exchanged_at = Some(now);
            self.out.push(Transmit::Exchange { with: id.address });
        }
    }

    fn fire(&mut self, event: Event, now: Duration) {
        lock(&self.board).now = now;
        match event {
            Event::Protocol(timer) => {
                self.deciding = matches!(timer, Timer::ChangeSuspectToDown { .. });
                let failed = self.counters.probes_failed;
                let probes = matches!(timer, Timer::ProbeRandomMember(_));
                let done = self.protocol.handle_timer(timer, &mut self.effects);
                self.count(done);
                self.settle(now);
                self.deciding = false;
                if probes && self.counters.probes_failed == failed {
                    self.health.heard();
                }
                if probes {
                    self.see_suspects();
                    self.press_suspect();
                }
            }
            Event::Announce => {
                self.announce();
                let due = now + self.timing.announce_among(self.protocol.num_members());
                self.agenda.set(due, Event::Announce);
            }
            Event::Unanswered(node, generation) => self.unanswered(node, generation),
            Event::Overdue(node, generation) => self.overdue(node, generation),
            Event::Hint => {
                lock(&self.board).notices.expire(now);
                let ours = self.fingerprint();
                self.hinted = Some(ours);
                let hint = Frame::Hint(ours);
                let chosen = self.protocol.iter_members().choose(&mut self.chance).map(|member| member.id().address);
                if let Some(to) = chosen {
                    self.send(to, &hint);
                }
                self.agenda.add(now + self.timing.sync_interval, Event::Hint);
            }
        }
    }

    /// Speaks to some of the nodes that are known and silent: an announcement may have been lost, a
    /// partition may be over.
    fn announce(&mut self) {
        let mut silent = self.known.clone();
        for member in self.others() {
            match member.state() {
                foca::State::Down => silent.insert(member.id().node, member.id().address),
                foca::State::Alive | foca::State::Suspect => silent.remove(&member.id().node),
            };
        }
        for (node, address) in silent.into_iter().sample(&mut self.chance, ANNOUNCED_TO) {
            // Whom an announcement is for is decided by the node alone.
            let id = Identity { node, address, generation: 0 };
            let sent = self.protocol.announce(id, &mut self.effects);
            self.count(sent);
        }
    }

    fn identity_of(&self, node: NodeKey) -> Option<Identity> {
        self.protocol.iter_membership_state().map(|member| *member.id()).find(|id| id.node == node)
    }

    fn fingerprint(&self) -> u64 {
        let marks = lock(&self.board).notices.marks();
        let alive = self.protocol.iter_members().map(foca::Member::id);
        sync::fingerprint(alive.chain([self.protocol.identity()]), &marks)
    }

    fn entries(&self) -> Vec<Entry> {
        let me = Entry { id: *self.protocol.identity(), incarnation: 0, state: Belief::Alive };
        self.others().map(Entry::from).chain([me]).collect()
    }

    /// All that the protocol knows but earlier selves of this node, and nodes that were forgotten: a
    /// rumour of their death may come late.
    fn others(&self) -> impl Iterator<Item = &foca::Member<Identity>> {
        let other = |node: NodeKey| node != self.me.node && !self.outcasts.contains(&node);
        self.protocol.iter_membership_state().filter(move |member| other(member.id().node))
    }
}
