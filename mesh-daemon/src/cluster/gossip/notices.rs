//! What nodes tell each other without asking a manager, and how all come to know the same.
//!
//! A node numbers what it says within a life. Notices travel as rumours, which may be lost; so each
//! node also keeps, of every origin, the number up to which nothing is missing, and compares it with
//! others now and then ([`Mark`]). Of facts that replace each other only the latest is kept.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::MAX_MEMBERS;
use super::member::{NodeKey, TaskKey};

/// How many bytes a node may tell about itself.
pub const MAX_METADATA: usize = 256;
/// How long a task is known to be gone: by then managers have said so too.
const GONE_FOR: Duration = Duration::from_mins(10);
/// How many tasks of one node are known to be gone; the oldest makes room.
const MAX_GONE: usize = 4096;
/// How many notices there are in all; what is beyond is refused and counted.
const MAX_NOTICES: usize = 65_536;

/// What a node has to tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fact {
    /// A task of this node is gone: nothing should be sent to it.
    Gone(TaskKey),
    /// Whether the tasks of this node are moving away.
    Draining(bool),
    /// What this node tells about itself, in words of the caller's.
    Metadata(Vec<u8>),
}

/// A fact that is not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FactError {
    /// Packets must not be filled by it.
    #[error("membership: {length} bytes of metadata; at most {MAX_METADATA} are told")]
    MetadataTooLong {
        /// How long it is.
        length: usize,
    },
    /// The numbers of this life are used up.
    #[error("membership: this node has told all it can in one life: restart it")]
    OutOfNumbers,
}

/// Tasks that are gone, and the node each was on.
pub type Gone = BTreeMap<TaskKey, NodeKey>;

/// A fact, and which of its origin's it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Notice {
    pub(super) origin: NodeKey,
    pub(super) life: u64,
    pub(super) number: u32,
    pub(super) fact: Fact,
}

/// Of one origin's life, everything up to a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    pub(super) origin: NodeKey,
    pub(super) life: u64,
    pub(super) complete: u32,
}

/// Which facts replace each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Topic {
    Gone(TaskKey),
    Draining,
    Metadata,
}

impl Fact {
    pub(super) fn topic(&self) -> Topic {
        match self {
            Self::Gone(task) => Topic::Gone(*task),
            Self::Draining(_) => Topic::Draining,
            Self::Metadata(_) => Topic::Metadata,
        }
    }

    /// # Errors
    ///
    /// It is too long to be told.
    pub(super) fn check(&self) -> Result<(), FactError> {
        match self {
            Self::Metadata(bytes) if bytes.len() > MAX_METADATA => {
                Err(FactError::MetadataTooLong { length: bytes.len() })
            }
            Self::Gone(_) | Self::Draining(_) | Self::Metadata(_) => Ok(()),
        }
    }
}

/// What one node said in its latest life.
#[derive(Debug, Default)]
struct Said {
    life: u64,
    complete: u32,
    gone: BTreeMap<u32, (TaskKey, Duration)>,
    draining: Option<(u32, bool)>,
    metadata: Option<(u32, Arc<[u8]>)>,
}

/// What became of a notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    New,
    Known,
    Refused,
}

/// All that was told by all nodes, this one included.
#[derive(Debug, Default)]
pub(super) struct Notices {
    said: HashMap<NodeKey, Said>,
    count: usize,
    /// Grows with every change.
    changes: u64,
}

impl Notices {
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// Takes in a notice heard at this time.
    pub(super) fn hear(&mut self, notice: &Notice, now: Duration) -> Heard {
        if notice.fact.check().is_err() || notice.number == 0 {
            return Heard::Refused;
        }
        let full = self.count >= MAX_NOTICES;
        let room = self.said.len() < MAX_MEMBERS || self.said.contains_key(&notice.origin);
        if full || !room {
            return Heard::Refused;
        }
        let said = self.said.entry(notice.origin).or_default();
        if notice.life < said.life {
            return Heard::Known;
        }
        self.count -= said.count();
        if notice.life > said.life {
            *said = Said { life: notice.life, ..Said::default() };
        }
        let heard = said.hear(notice, now);
        self.count += said.count();
        self.changes += u64::from(heard == Heard::New);
        heard
    }

    /// Another node has all of these, and has just told what was missing here.
    pub(super) fn complete(&mut self, marks: &[Mark]) {
        for mark in marks {
            if !self.said.contains_key(&mark.origin) && self.said.len() >= MAX_MEMBERS {
                continue;
            }
            let said = self.said.entry(mark.origin).or_default();
            if mark.life > said.life {
                self.count -= said.count();
                *said = Said { life: mark.life, ..Said::default() };
            }
            if mark.life == said.life {
                said.complete = said.complete.max(mark.complete);
                said.advance();
            }
        }
    }

    pub(super) fn marks(&self) -> Vec<Mark> {
        let mark =
            |(origin, said): (&NodeKey, &Said)| Mark { origin: *origin, life: said.life, complete: said.complete };
        self.said.iter().map(mark).collect()
    }

    /// What is known here and not to who has these marks, and the marks it will have then. At most
    /// so many notices; origins that do not fit whole are left for the next time.
    pub(super) fn beyond(&self, marks: &[Mark], limit: usize) -> (Vec<Notice>, Vec<Mark>) {
        let has: HashMap<NodeKey, (u64, u32)> =
            marks.iter().map(|mark| (mark.origin, (mark.life, mark.complete))).collect();
        let (mut notices, mut reached) = (Vec::new(), Vec::new());
        for (origin, said) in &self.said {
            let after = match has.get(origin) {
                Some((life, _)) if *life > said.life => continue,
                Some((life, complete)) if *life == said.life => *complete,
                Some(_) | None => 0,
            };
            let before = notices.len();
            notices.extend(said.after(*origin, after));
            if notices.len() > limit {
                notices.truncate(before);
                break;
            }
            reached.push(Mark { origin: *origin, life: said.life, complete: said.complete });
        }
        (notices, reached)
    }

    /// Drops what is too old to matter.
    pub(super) fn expire(&mut self, now: Duration) {
        for said in self.said.values_mut() {
            let before = said.gone.len();
            said.gone.retain(|_, (_, at)| now.saturating_sub(*at) < GONE_FOR);
            self.count -= before - said.gone.len();
            self.changes += u64::from(before != said.gone.len());
        }
    }

    pub(super) fn forget(&mut self, origin: NodeKey) {
        if let Some(said) = self.said.remove(&origin) {
            self.count -= said.count();
            self.changes += 1;
        }
    }

    pub(super) fn gone(&self) -> Gone {
        let of = |(origin, said): (&NodeKey, &Said)| {
            let origin = *origin;
            said.gone.values().map(move |(task, _)| (*task, origin)).collect::<Vec<_>>()
        };
        self.said.iter().flat_map(of).collect()
    }

    pub(super) fn is_draining(&self, node: NodeKey) -> bool {
        self.said.get(&node).and_then(|said| said.draining).is_some_and(|(_, draining)| draining)
    }

    pub(super) fn metadata(&self, node: NodeKey) -> Arc<[u8]> {
        let metadata = self.said.get(&node).and_then(|said| said.metadata.as_ref());
        metadata.map_or_else(|| Arc::from([]), |(_, bytes)| Arc::clone(bytes))
    }
}

impl Said {
    fn count(&self) -> usize {
        self.gone.len() + usize::from(self.draining.is_some()) + usize::from(self.metadata.is_some())
    }

    fn hear(&mut self, notice: &Notice, now: Duration) -> Heard {
        let number = notice.number;
        let known = match &notice.fact {
            Fact::Gone(_) => number <= self.complete || self.gone.contains_key(&number),
            Fact::Draining(_) => self.draining.is_some_and(|(latest, _)| number <= latest),
            Fact::Metadata(_) => self.metadata.as_ref().is_some_and(|(latest, _)| number <= *latest),
        };
        if known {
            return Heard::Known;
        }
        match &notice.fact {
            Fact::Gone(task) => {
                self.gone.insert(number, (*task, now));
                if self.gone.len() > MAX_GONE {
                    self.gone.pop_first();
                }
            }
            Fact::Draining(draining) => self.draining = Some((number, *draining)),
            Fact::Metadata(bytes) => self.metadata = Some((number, bytes.as_slice().into())),
        }
        self.advance();
        Heard::New
    }

    /// Nothing is missing up to the first number that was not heard.
    fn advance(&mut self) {
        let has = |number| {
            self.gone.contains_key(&number)
                || self.draining.is_some_and(|(latest, _)| latest == number)
                || self.metadata.as_ref().is_some_and(|(latest, _)| *latest == number)
        };
        while let Some(next) = self.complete.checked_add(1).filter(|next| has(*next)) {
            self.complete = next;
        }
    }

    fn after(&self, origin: NodeKey, after: u32) -> Vec<Notice> {
        let notice = |number, fact| Notice { origin, life: self.life, number, fact };
        let gone =
            self.gone.range(after.saturating_add(1)..).map(|(number, (task, _))| notice(*number, Fact::Gone(*task)));
        let draining = self.draining.map(|(number, draining)| notice(number, Fact::Draining(draining)));
        let metadata = self.metadata.as_ref().map(|(number, bytes)| notice(*number, Fact::Metadata(bytes.to_vec())));
        gone.chain(draining).chain(metadata).filter(|notice| notice.number > after).collect()
    }
}
