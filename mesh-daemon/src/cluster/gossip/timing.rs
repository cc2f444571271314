//! How patient the detector is.
//!
//! The defaults are for a LAN. A node's death is known by all after at most: the time until anybody
//! probes it (1.6 periods on average, 4.6 in the slowest hundredth), one period for that probe to
//! fail, and the suspicion. What a healthy node may be silent for is a period and the suspicion;
//! so probes are frequent, and the time saved is given to the suspicion.

use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;

use super::TOLD_DIRECTLY;

/// Room for a packet in an MTU of 1,500 after IPv6, UDP, and what sealing adds.
pub(super) const MAX_PAYLOAD: usize = 1340;

/// What each update is sent along with: 4 log10(n + 1) packets, for as many members as there may be.
const TRANSMISSIONS: NonZeroU8 = NonZeroU8::new(14).unwrap();
const THREE: NonZeroUsize = NonZeroUsize::new(3).unwrap();

/// The knobs of failure detection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// How often one member is probed.
    pub probe_period: Duration,
    /// How long it has for an answer before others are asked to try.
    pub probe_timeout: Duration,
    /// How long a suspect has to object.
    pub suspicion: Duration,
    /// How often what is new is passed on to three members.
    pub gossip_interval: Duration,
    /// How often what is known is compared with one member.
    pub sync_interval: Duration,
    /// How often nodes that are known and not members are spoken to.
    pub announce_interval: Duration,
    /// How long a dead node is remembered.
    pub forget_after: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            probe_period: Duration::from_millis(60),
            probe_timeout: Duration::from_millis(25),
            suspicion: Duration::from_millis(500),
            gossip_interval: Duration::from_millis(100),
            sync_interval: Duration::from_secs(2),
            announce_interval: Duration::from_secs(1),
            forget_after: Duration::from_hours(24),
        }
    }
}

/// A knob at which the detector would not work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TimingError {
    /// A duration is zero, or longer than a week.
    #[error("membership: {knob} is {value:?}: more than 0 and at most 7 days can be used")]
    OutOfRange {
        /// Which.
        knob: &'static str,
        /// What was asked for.
        value: Duration,
    },
    /// Others would be asked for help when it is too late.
    #[error("membership: probe_timeout ({timeout:?}) is not shorter than probe_period ({period:?})")]
    TimeoutNotBelowPeriod {
        /// The timeout.
        timeout: Duration,
        /// The period.
        period: Duration,
    },
}

const WEEK: Duration = Duration::from_hours(7 * 24);

impl Timing {
    /// Whether a detector can run on these.
    ///
    /// # Errors
    ///
    /// The first knob that is wrong.
    pub fn check(&self) -> Result<(), TimingError> {
        let knobs = [
            ("probe_period", self.probe_period),
            ("probe_timeout", self.probe_timeout),
            ("suspicion", self.suspicion),
            ("gossip_interval", self.gossip_interval),
            ("sync_interval", self.sync_interval),
            ("announce_interval", self.announce_interval),
            ("forget_after", self.forget_after),
        ];
        let wrong = knobs.into_iter().find(|(_, value)| value.is_zero() || *value > WEEK);
        if let Some((knob, value)) = wrong {
            return Err(TimingError::OutOfRange { knob, value });
        }
        if self.probe_timeout >= self.probe_period {
            return Err(TimingError::TimeoutNotBelowPeriod { timeout: self.probe_timeout, period: self.probe_period });
        }
        Ok(())
    }

    /// The suspicion among this many members. Beyond those told directly, the suspect hears of it by
    /// rumour, which takes a round more for each doubling.
    pub(super) fn suspicion_among(&self, members: usize) -> Duration {
        let doublings = (members / TOLD_DIRECTLY).checked_ilog2().map_or(0, |whole| whole + 1);
        self.suspicion + self.suspicion * doublings / 4
    }

    /// Between two announcements of one node, so that all together make about as many whatever
    /// their number.
    pub(super) fn announce_among(&self, members: usize) -> Duration {
        const AT_ONCE: usize = 32;
        let share = u32::try_from(members / AT_ONCE).unwrap_or(u32::MAX).max(1);
        self.announce_interval.saturating_mul(share)
    }

    pub(super) fn to_foca(self) -> foca::Config {
        foca::Config {
            probe_period: self.probe_period,
            probe_rtt: self.probe_timeout,
            num_indirect_probes: THREE,
            max_transmissions: TRANSMISSIONS,
            suspect_to_down_after: self.suspicion,
            remove_down_after: Some(self.forget_after),
            max_packet_size: const { NonZeroUsize::new(MAX_PAYLOAD).unwrap() },
            notify_down_members: true,
            // Announcing is the detector's: foca stops when it is alone, which is when it matters.
            periodic_announce: None,
            periodic_announce_to_down_members: None,
            periodic_gossip: Some(foca::PeriodicParams { frequency: self.gossip_interval, num_members: THREE }),
        }
    }
}
