//! Packets are sealed: who has no key reads nothing, and is not heard.
//!
//! A packet is `version, key, node, life, salt, counter` in clear and what is said, by AES-256-GCM.
//! All of the clear part is authenticated. Each life of a node seals with a key of its own, derived
//! from the ring's by HKDF over the clear names, so that counters can be nonces: no two packets
//! share key and nonce, whatever the other nodes do. Counters also say what was heard before.
//!
//! Who holds a ring key is a member and can speak in the name of any: that is what keys are handed
//! out for. A receiver that has just started knows no counters; an old packet shown to it names, at
//! the worst, a node that is dead, and is found out as one.

use std::collections::HashMap;
use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use rand::Rng;

use super::MAX_MEMBERS;
use super::member::NodeKey;

/// How many keys a ring holds: the one in use, the one before, the one to come.
pub const MAX_KEYS: usize = 3;

const VERSION: u8 = 1;
const HEADER: usize = 1 + 4 + 16 + 8 + 4 + 8;
const TAG: usize = 16;
/// How far packets may overtake each other. A power of two.
const WINDOW: u64 = 1024;
const WORDS: usize = (WINDOW / 64) as usize;

/// A key of the ring, by the number that managers gave it.
#[derive(Clone, PartialEq, Eq)]
pub struct RingKey {
    /// Names the key in packets.
    pub number: u32,
    /// The key.
    pub secret: [u8; 32],
}

impl std::fmt::Debug for RingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RingKey").field("number", &self.number).finish_non_exhaustive()
    }
}

/// A ring that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyRingError {
    /// Without keys nothing can be sent.
    #[error("membership: the key ring is empty")]
    Empty,
    /// A key was not retired.
    #[error("membership: {count} keys in the ring; at most {MAX_KEYS} are kept: retire the oldest")]
    TooMany {
        /// How many were given.
        count: usize,
    },
    /// Packets could not say which one is meant.
    #[error("membership: two keys of the ring have the number {number}")]
    Twice {
        /// The number.
        number: u32,
    },
}

/// The keys that are accepted. What is sent is sealed with the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRing {
    keys: Vec<RingKey>,
}

impl KeyRing {
    /// A ring of these keys, the one to seal with first.
    ///
    /// # Errors
    ///
    /// None, more than [`MAX_KEYS`], or two of one number.
    pub fn new(keys: Vec<RingKey>) -> Result<Self, KeyRingError> {
        if keys.is_empty() {
            return Err(KeyRingError::Empty);
        }
        if keys.len() > MAX_KEYS {
            return Err(KeyRingError::TooMany { count: keys.len() });
        }
        let twice = |at: usize| keys[..at].iter().any(|key| key.number == keys[at].number);
        match (0..keys.len()).find(|at| twice(*at)) {
            Some(at) => Err(KeyRingError::Twice { number: keys[at].number }),
            None => Ok(Self { keys }),
        }
    }

    fn get(&self, number: u32) -> Option<&RingKey> {
        self.keys.iter().find(|key| key.number == number)
    }
}

/// Why a packet was not heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rejected {
    /// Too short, or of another version.
    Malformed,
    /// Sealed with a key that is not in the ring.
    UnknownKey,
    /// Not sealed by who holds the key, or changed on the way.
    Forged,
    /// Heard before, or from an earlier life of its sender.
    Replayed,
    /// Our own packet came back.
    Own,
    /// Well sealed, and not understood: another version of mesh.
    NotUnderstood,
    /// Its sender is one node too many.
    TooManyMembers,
    /// Managers took its sender out of the cluster.
    Outcast,
}

/// Who speaks here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Me {
    /// This node.
    pub node: NodeKey,
    /// Larger than in any earlier life of this node: the time in milliseconds, or one more than the
    /// last that was stored, whichever is larger.
    pub life: u64,
}

/// The names a sealing key is derived for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Speaker {
    node: NodeKey,
    life: u64,
    salt: u32,
}

struct Heard {
    speaker: Speaker,
    keys: Vec<(u32, LessSafeKey)>,
    window: Window,
    at: Duration,
}

/// Seals and opens packets for one life of one node.
pub(super) struct Seal {
    me: Speaker,
    ring: KeyRing,
    sealing: LessSafeKey,
    counter: u64,
    heard: HashMap<NodeKey, Heard>,
}

impl Seal {
    /// # Errors
    ///
    /// The first key of the ring cannot be used.
    pub(super) fn new(me: Me, ring: KeyRing, chance: &mut impl Rng) -> Result<Self, KeyRingError> {
        let me = Speaker { node: me.node, life: me.life, salt: chance.next_u32() };
        let first = ring.keys.first().ok_or(KeyRingError::Empty)?;
        let sealing = derive(first, me).ok_or(KeyRingError::Empty)?;
        Ok(Self { me, ring, sealing, counter: 0, heard: HashMap::new() })
    }

    /// Takes another ring: from now on its keys are accepted, and no others.
    pub(super) fn rotate(&mut self, ring: KeyRing) {
        let Some(sealing) = ring.keys.first().and_then(|key| derive(key, self.me)) else {
            return; // a ring is never empty
        };
        self.sealing = sealing;
        self.ring = ring;
        for heard in self.heard.values_mut() {
            // A number may come back with another secret.
            heard.keys.clear();
        }
    }

    pub(super) fn forget(&mut self, node: NodeKey) {
        self.heard.remove(&node);
    }

    /// Seals a text. None never happens with texts of less than a gigabyte.
    pub(super) fn seal(&mut self, text: &[u8]) -> Option<Vec<u8>> {
        self.counter = self.counter.checked_add(1)?;
        let mut packet = Vec::with_capacity(HEADER + text.len() + TAG);
        packet.push(VERSION);
        packet.extend(self.ring.keys.first()?.number.to_be_bytes());
        packet.extend(self.me.node.0.to_be_bytes());
        packet.extend(self.me.life.to_be_bytes());
        packet.extend(self.me.salt.to_be_bytes());
        packet.extend(self.counter.to_be_bytes());
        let mut body = text.to_vec();
        self.sealing.seal_in_place_append_tag(nonce(self.counter), Aad::from(&packet), &mut body).ok()?;
        packet.extend(body);
        Some(packet)
    }

    /// Opens a packet: who sealed it, and what it says.
    pub(super) fn open(&mut self, packet: &[u8], now: Duration) -> Result<(NodeKey, Vec<u8>), Rejected> {
        let (clear, body) = packet.split_at_checked(HEADER).ok_or(Rejected::Malformed)?;
        let (number, speaker, counter) = read_header(clear).ok_or(Rejected::Malformed)?;
        if speaker.node == self.me.node {
            return Err(Rejected::Own);
        }
        let key = self.ring.get(number).ok_or(Rejected::UnknownKey)?;
        let open = |with: &LessSafeKey| {
            let mut text = body.to_vec();
            let length = with.open_in_place(nonce(counter), Aad::from(clear), &mut text).ok()?.len();
            text.truncate(length);
            Some(text)
        };
        if let Some(heard) = self.heard.get_mut(&speaker.node).filter(|heard| heard.speaker == speaker) {
            if !heard.window.is_new(counter) {
                return Err(Rejected::Replayed);
            }
            if !heard.keys.iter().any(|(known, _)| *known == number) {
                heard.keys.push((number, derive(key, speaker).ok_or(Rejected::Forged)?));
            }
            let with = heard.keys.iter().find(|(known, _)| *known == number).ok_or(Rejected::UnknownKey)?;
            let text = open(&with.1).ok_or(Rejected::Forged)?;
            heard.window.mark(counter);
            heard.at = now;
            return Ok((speaker.node, text));
        }
        let with = derive(key, speaker).ok_or(Rejected::Forged)?;
        // Nothing is remembered of who only claims to be somebody.
        let text = open(&with).ok_or(Rejected::Forged)?;
        if self.heard.get(&speaker.node).is_some_and(|heard| heard.speaker.life >= speaker.life) {
            return Err(Rejected::Replayed);
        }
        self.make_room(speaker.node);
        let mut window = Window::default();
        window.mark(counter);
        self.heard.insert(speaker.node, Heard { speaker, keys: vec![(number, with)], window, at: now });
        Ok((speaker.node, text))
    }

    /// Forgets who was silent longest, if there is no room for one more.
    fn make_room(&mut self, node: NodeKey) {
        if self.heard.len() < MAX_MEMBERS || self.heard.contains_key(&node) {
            return;
        }
        let silent = self.heard.iter().min_by_key(|(_, heard)| heard.at).map(|(node, _)| *node);
        if let Some(silent) = silent {
            self.heard.remove(&silent);
        }
    }
}

fn read_header(clear: &[u8]) -> Option<(u32, Speaker, u64)> {
    let (version, rest) = clear.split_first()?;
    let (number, rest) = rest.split_first_chunk()?;
    let (node, rest) = rest.split_first_chunk()?;
    let (life, rest) = rest.split_first_chunk()?;
    let (salt, rest) = rest.split_first_chunk()?;
    let (counter, _) = rest.split_first_chunk()?;
    let speaker = Speaker {
        node: NodeKey(u128::from_be_bytes(*node)),
        life: u64::from_be_bytes(*life),
        salt: u32::from_be_bytes(*salt),
    };
    (*version == VERSION).then_some((u32::from_be_bytes(*number), speaker, u64::from_be_bytes(*counter)))
}

fn derive(key: &RingKey, speaker: Speaker) -> Option<LessSafeKey> {
    let names = [
        b"mesh membership 1".as_slice(),
        &speaker.node.0.to_be_bytes(),
        &speaker.life.to_be_bytes(),
        &speaker.salt.to_be_bytes(),
    ];
    let secret = Salt::new(HKDF_SHA256, &[]).extract(&key.secret);
    let key = secret.expand(&names, &AES_256_GCM).ok()?;
    Some(LessSafeKey::new(UnboundKey::from(key)))
}

/// Unique under a sealing key, since a counter is used once.
fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&counter.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

/// Which counters were heard (RFC 6479): those above the highest less [`WINDOW`] are remembered one
/// by one, those below count as heard.
#[derive(Debug, Default)]
struct Window {
    highest: u64,
    seen: [u64; WORDS],
}

impl Window {
    fn is_new(&self, counter: u64) -> bool {
        if counter > self.highest {
            return true;
        }
        self.highest - counter < WINDOW - 64 && self.seen[word(counter)] & bit(counter) == 0
    }

    fn mark(&mut self, counter: u64) {
        if counter > self.highest {
            let fresh = (counter / 64 - self.highest / 64).min(WORDS as u64);
            for step in 1..=fresh {
                self.seen[word((self.highest / 64 + step) * 64)] = 0;
            }
            self.highest = counter;
        }
        self.seen[word(counter)] |= bit(counter);
    }
}

fn word(counter: u64) -> usize {
    (counter / 64 % WORDS as u64) as usize
}

fn bit(counter: u64) -> u64 {
    1 << (counter % 64)
}
