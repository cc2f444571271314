//! Members that do not answer: is somebody keeping their place?
//!
//! A daemon that ends, crashes or hangs leaves its tasks running and its packet path in force. Beside it a
//! holder has its listening socket, so that the kernel there takes connections as long as one of the two
//! lives. Whoever misses a member knocks: a connection that is taken says that the machine and its processes
//! are there and the daemon is *away*; one that is refused, or not answered, says that they are not. The knock
//! begins with the suspicion, so that the death of a machine is not believed later for it.

use std::collections::BTreeMap;
use std::time::Duration;

use foca::State;

use super::{Detector, Event, Identity, Liveness, NodeKey, TOLD_DIRECTLY, Transmit};

/// So long a member that the protocol holds for dead is doubted only, until a knock is answered: the holder's
/// kernel answers within a round trip.
const PATIENCE: Duration = Duration::from_millis(250);
/// Who has been away for longer is dead, whoever keeps its place: a daemon that hangs keeps its own.
pub const MAX_ABSENCE: Duration = Duration::from_secs(120);
/// How many places are knocked at, at a time; who is missed beyond that is taken for dead unasked.
const MAX_KNOCKS: usize = 64;

/// What a knock has brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Not answered yet.
    Asked,
    /// Somebody has the socket.
    Held,
    /// Nobody has: refused, or silence.
    Empty,
}

/// A member that does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Absence {
    generation: u64,
    place: Place,
    /// The protocol holds it for dead, and the end of its absence is set.
    down: bool,
    /// No knock changes anything any more: it has been away for too long, or it said good-bye.
    over: bool,
}

/// The members that do not answer.
pub(super) type Absences = BTreeMap<NodeKey, Absence>;

impl Detector {
    /// Begins to knock where somebody is missed, and forgets who is back.
    pub(super) fn see_absent(&mut self, now: Duration) {
        if !std::mem::take(&mut self.unseen) {
            return;
        }
        // Among many a suspicion is a rumour to all, and most are groundless: there only death is asked about.
        let asks_early = self.protocol.num_members() <= TOLD_DIRECTLY;
        let missed = |state: State| state == State::Down || (state == State::Suspect && asks_early);
        let absent: BTreeMap<NodeKey, (Identity, State)> = self
            .others()
            .filter(|member| missed(member.state()))
            .map(|member| (member.id().node, (*member.id(), member.state())))
            .collect();
        self.absences
            .retain(|node, absence| absent.get(node).is_some_and(|(id, _)| id.generation == absence.generation));
        let mut knocks = self.absences.values().filter(|absence| !absence.over).count();
        for (node, (id, state)) in absent {
            let generation = id.generation;
            let absence = *self.absences.entry(node).or_insert_with(|| {
                let over = knocks >= MAX_KNOCKS;
                if !over {
                    knocks += 1;
                    self.out.push(Transmit::Knock { node, generation, at: id.address });
                    self.agenda.add(now + PATIENCE, Event::Unanswered(node, generation));
                }
                let place = if over { Place::Empty } else { Place::Asked };
                Absence { generation, place, down: false, over }
            });
            if state == State::Down && !absence.down {
                self.absences.insert(node, Absence { down: true, ..absence });
                if !absence.over {
                    self.agenda.add(now + MAX_ABSENCE, Event::Overdue(node, generation));
                }
            }
        }
    }

    /// A node has said good-bye: there is nothing to ask.
    pub(super) fn has_left(&mut self, id: Identity) {
        let absence = Absence { generation: id.generation, place: Place::Empty, down: true, over: true };
        self.absences.insert(id.node, absence);
    }

    /// Whether knocks at this one's place are still of use.
    pub fn is_missed(&self, node: NodeKey, generation: u64) -> bool {
        self.absences.get(&node).is_some_and(|absence| absence.generation == generation && !absence.over)
    }

    /// What a knock has brought.
    pub fn knocked(&mut self, node: NodeKey, generation: u64, place: Place) {
        if self.is_missed(node, generation)
            && let Some(absence) = self.absences.get_mut(&node)
        {
            self.stale |= absence.place != place;
            absence.place = place;
        }
    }

    pub(super) fn unanswered(&mut self, node: NodeKey, generation: u64) {
        let asked = |absence: &Absence| absence.generation == generation && absence.place == Place::Asked;
        if self.absences.get(&node).is_some_and(asked) {
            self.knocked(node, generation, Place::Empty);
        }
    }

    pub(super) fn overdue(&mut self, node: NodeKey, generation: u64) {
        self.knocked(node, generation, Place::Empty);
        if let Some(absence) = self.absences.get_mut(&node).filter(|absence| absence.generation == generation) {
            absence.over = true;
        }
    }

    /// What is believed of a member.
    pub(super) fn liveness(&self, member: &foca::Member<Identity>) -> Liveness {
        let id = member.id();
        let absence = self.absences.get(&id.node).filter(|absence| absence.generation == id.generation);
        match (member.state(), absence.map(|absence| absence.place)) {
            (State::Down, Some(Place::Held)) => Liveness::Away,
            (State::Down, Some(Place::Asked)) => Liveness::Suspect,
            (State::Down, Some(Place::Empty) | None) => Liveness::Down,
            (State::Suspect, _) => Liveness::Suspect,
            (State::Alive, _) => Liveness::Alive,
        }
    }
}
