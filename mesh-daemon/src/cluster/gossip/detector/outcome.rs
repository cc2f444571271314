//! What becomes of a step of the protocol: packets are sealed, timers set, views drawn.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use foca::{OwnedNotification, Timer};
use rand::RngExt as _;
use rand::seq::IteratorRandom as _;

use super::{
    Agenda, Belief, Detector, Entry, Event, Frame, Identity, Member, Members, NodeKey, TOLD_DIRECTLY, Transmit, lock,
};

/// How many members ask a suspect to object in one period.
const PRESSED_BY: u32 = 8;

/// Whether what was learnt is passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spread {
    AsRumour,
    Silently,
}

impl Detector {
    /// Carries out what the protocol asked for.
    pub(super) fn settle(&mut self, now: Duration) {
        while let Some((to, data)) = self.effects.to_send() {
            self.send(to.address, &Frame::Protocol(data.to_vec()));
        }
        while let Some((after, timer)) = self.effects.to_schedule() {
            self.schedule(after, timer, now);
        }
        while let Some(notification) = self.effects.to_notify() {
            self.stale = true;
            // Among many, most of what happens is that somebody comes who was not missed.
            self.unseen |= matches!(notification, OwnedNotification::MemberDown(_)) || !self.absences.is_empty();
            self.notice(notification);
        }
        self.see_absent(now);
    }

    fn notice(&mut self, notification: OwnedNotification<Identity>) {
        match notification {
            // Where all are told, nobody waits for the rumour.
            OwnedNotification::MemberDown(id) if self.deciding && self.protocol.num_members() <= TOLD_DIRECTLY => {
                self.tell_all(&Frame::News(Entry { id, incarnation: 0, state: Belief::Down }));
            }
            OwnedNotification::Rejoin(_) => self.counters.rejoined += 1,
            OwnedNotification::MemberUp(_)
            | OwnedNotification::MemberDown(_)
            | OwnedNotification::Rename(..)
            | OwnedNotification::Active
            | OwnedNotification::Idle
            | OwnedNotification::Defunct => {}
        }
    }

    fn schedule(&mut self, after: Duration, timer: Timer<Identity>, now: Duration) {
        let after = match &timer {
            Timer::ProbeRandomMember(_) | Timer::SendIndirectProbe { .. } => self.health.stretch(after),
            Timer::ChangeSuspectToDown { member_id, incarnation, .. } => {
                self.probe_failed(*member_id, *incarnation, now);
                self.health.stretch(self.timing.suspicion_among(self.protocol.num_members()))
            }
            Timer::PeriodicAnnounce(_)
            | Timer::PeriodicAnnounceDown(_)
            | Timer::PeriodicGossip(_)
            | Timer::RemoveDown(_) => after,
        };
        self.agenda.add(now.saturating_add(after), Event::Protocol(timer));
    }

    /// Nobody answered for a member. If nobody was heard at all, it is rather this node that is cut
    /// off; where there are only two, nobody can tell.
    fn probe_failed(&mut self, id: Identity, incarnation: u16, now: Duration) {
        self.counters.probes_failed += 1;
        let deaf = now.saturating_sub(self.heard_at) > 3 * self.timing.probe_period;
        if deaf && self.protocol.num_members() > 1 {
            self.health.deaf();
        }
        self.send(id.address, &Frame::Accuse(Entry { id, incarnation, state: Belief::Suspect }));
    }

    pub(super) fn send(&mut self, to: SocketAddr, frame: &Frame) {
        if let Some(packet) = frame.to_bytes().and_then(|text| self.seal.seal(&text)) {
            self.counters.sent += 1;
            self.out.push(Transmit::Datagram { to, packet });
        }
    }

    pub(super) fn tell_all(&mut self, frame: &Frame) {
        let all: Vec<_> = self.protocol.iter_members().map(|member| member.id().address).collect();
        for to in all {
            self.send(to, frame);
        }
    }

    pub(super) fn absorb(&mut self, entries: Vec<Entry>, spread: Spread) {
        // The protocol looks through all members for each entry: it is only asked what is news.
        let known: HashMap<NodeKey, Entry> =
            self.protocol.iter_membership_state().map(|member| (member.id().node, member.into())).collect();
        let mut room = super::MAX_MEMBERS.saturating_sub(known.len());
        let is_news = |entry: &Entry| match known.get(&entry.id.node) {
            Some(before) => before != entry,
            None => {
                let fits = room > 0;
                room -= usize::from(fits);
                fits
            }
        };
        let entries: Vec<_> = entries.into_iter().filter(is_news).collect();
        let updates = entries.into_iter().map(foca::Member::from);
        let done = self.protocol.apply_many(updates, spread == Spread::AsRumour, &mut self.effects);
        self.count(done);
    }

    pub(super) fn count(&mut self, done: Result<(), foca::Error>) {
        if let Err(error) = done {
            tracing::debug!(%error, "a step of the membership protocol");
            self.counters.protocol_errors += 1;
        }
    }

    /// Draws the views anew, if anything in them may have changed.
    pub(super) fn refresh(&mut self) {
        let board = lock(&self.board);
        let told = board.notices.changes();
        if !self.stale && told == self.drawn_at {
            return;
        }
        let member = |member: &foca::Member<Identity>| {
            let id = member.id();
            let view = Member {
                address: id.address,
                generation: id.generation,
                liveness: self.liveness(member),
                draining: board.notices.is_draining(id.node),
                metadata: board.notices.metadata(id.node),
            };
            (id.node, view)
        };
        let members: Members = self.others().map(member).collect();
        if members != *self.members {
            self.members = Arc::new(members);
        }
        if told != self.drawn_at {
            let gone = board.notices.gone();
            if gone != *self.gone {
                self.gone = Arc::new(gone);
            }
        }
        self.stale = false;
        self.drawn_at = told;
    }

    /// Asks one of the suspects to object. The protocol leaves that to rumour; but if the rumour
    /// misses the suspect, and who began it changed its mind or died, the doubt would stay for ever.
    /// All members together ask about as often whatever their number.
    pub(super) fn press_suspect(&mut self) {
        let members = u32::try_from(self.protocol.num_members()).unwrap_or(u32::MAX);
        if self.suspects == 0 || !self.chance.random_ratio(PRESSED_BY.min(members), members.max(1)) {
            return;
        }
        let suspects = self.protocol.iter_members().filter(|member| member.state() == foca::State::Suspect);
        if let Some(entry) = suspects.map(Entry::from).choose(&mut self.chance) {
            self.send(entry.id.address, &Frame::Accuse(entry));
        }
    }

    /// Who is suspected is not announced by the protocol: it is looked up, as one number.
    pub(super) fn see_suspects(&mut self) {
        let mark = |member: &foca::Member<Identity>| match member.state() {
            foca::State::Suspect => (member.id().node.0 as u64) | 1,
            foca::State::Alive | foca::State::Down => 0,
        };
        let suspects = self.protocol.iter_membership_state().map(mark).fold(0, u64::wrapping_add);
        self.stale |= suspects != self.suspects;
        self.unseen |= suspects != self.suspects;
        self.suspects = suspects;
    }

    pub(super) fn stop(&mut self) {
        self.agenda = Agenda::default();
    }
}
