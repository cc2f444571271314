//! The steps of an exchange with another node, as messages of a stream.

use std::time::Duration;

use super::{Detector, Frame, Heard, MAX_MEMBERS, Rejected, Spread, Sync, lock, sync};

/// The steps of an exchange that go over the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exchange {
    /// The other side asked: what it gets in return.
    Answer,
    /// The other side answered: what it lacks.
    Close,
    /// The other side closed: nothing more is sent.
    Finish,
}

impl Detector {
    /// Begins an exchange: the message to send.
    pub fn open_exchange(&mut self) -> Option<Vec<u8>> {
        self.counters.exchanges += 1;
        let sync = sync::open(self.entries(), &lock(&self.board).notices);
        self.seal.seal(&Frame::Sync(sync).to_bytes()?)
    }

    /// Takes in a message of an exchange: what to send in return.
    ///
    /// # Errors
    ///
    /// It was not heard; nothing is answered to that.
    pub fn continue_exchange(
        &mut self,
        message: &[u8],
        step: Exchange,
        now: Duration,
    ) -> Result<Option<Vec<u8>>, Rejected> {
        let taken = self.take_exchange(message, step, now);
        if let Err(rejected) = &taken {
            *self.counters.rejected.entry(*rejected).or_default() += 1;
        }
        self.settle(now);
        let answer = taken?.and_then(|sync| Frame::Sync(sync).to_bytes());
        Ok(answer.and_then(|bytes| self.seal.seal(&bytes)))
    }

    fn take_exchange(&mut self, message: &[u8], step: Exchange, now: Duration) -> Result<Option<Sync>, Rejected> {
        let (from, text) = self.seal.open(message, now)?;
        if self.outcasts.contains(&from) {
            return Err(Rejected::Outcast);
        }
        let Some(Frame::Sync(sync)) = Frame::from_bytes(&text) else {
            return Err(Rejected::NotUnderstood);
        };
        if sync.members.len() > MAX_MEMBERS {
            return Err(Rejected::TooManyMembers);
        }
        {
            let mut board = lock(&self.board);
            for notice in &sync.notices {
                let refused = board.notices.hear(notice, now) == Heard::Refused;
                board.refused += u64::from(refused);
            }
            board.notices.complete(&sync.then);
        }
        self.absorb(sync.members.clone(), Spread::Silently);
        let board = lock(&self.board);
        Ok(match step {
            Exchange::Answer => {
                self.counters.exchanges += 1;
                Some(sync::answer(self.entries(), &board.notices, &sync))
            }
            Exchange::Close => Some(sync::close(&board.notices, &sync)),
            Exchange::Finish => None,
        })
    }
}
