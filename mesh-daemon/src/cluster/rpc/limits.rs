//! How much, how many, how long, on the wire.

use std::time::Duration;

/// The longest message, but for those below: a transaction of the store is at most 1.5 MiB.
pub const MAX_MESSAGE: usize = 4 * 1024 * 1024;
/// The longest message of consensus, which carries several transactions. Who sends more splits it.
pub const MAX_RAFT_MESSAGE: usize = 16 * 1024 * 1024;
/// The longest message of who has no certificate yet.
pub const MAX_TRUST_MESSAGE: usize = 64 * 1024;
/// Headers of a call.
pub(super) const MAX_HEADERS: u32 = 16 * 1024;
/// Calls and streams at once on a connection; more wait in the caller.
pub(super) const MAX_STREAMS: u32 = 1024;
/// The same, of who has no certificate.
pub(super) const MAX_GUEST_STREAMS: u32 = 4;

/// Connections at once; a new one beyond is closed. Five thousand nodes have a session each, and some more.
pub(super) const MAX_CONNECTIONS: usize = 16 * 1024;
/// Connections at once of which nobody has shown a certificate that is good; a new one beyond is closed.
pub(super) const MAX_GUESTS: usize = 512;
/// The same, from one address (of IPv6: one /64), so that nobody takes all the places.
pub(super) const MAX_GUESTS_OF_ADDRESS: usize = 32;

/// A handshake that takes longer is given up.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(5);
/// A connection without a good certificate ends after this.
pub(super) const GUEST_STAY: Duration = Duration::from_secs(30);
/// How often a connection's certificate is held against the cluster's list again.
pub(super) const RECHECK: Duration = Duration::from_secs(1);
/// A call that is not a stream is given up after this, whatever its caller thinks.
pub(super) const CALL: Duration = Duration::from_secs(60);
/// Dialling, with the handshake.
pub(super) const DIAL: Duration = Duration::from_secs(5);

/// How long a connection may be silent before it is asked whether it is alive, and how long it may take to
/// answer. After a partition heals, an old connection would otherwise time out call after call.
pub(super) const KEEPALIVE: Duration = Duration::from_secs(1);
pub(super) const KEEPALIVE_ANSWER: Duration = Duration::from_secs(2);

/// After a failed attempt to dial, the next one waits: this long at first, twice as long each time, at most so
/// long. Calls in between fail at once.
pub(super) const REDIAL_FIRST: Duration = Duration::from_millis(50);
pub(super) const REDIAL_LAST: Duration = Duration::from_secs(1);

/// Addresses that connections are kept to; the one that was not used for longest makes room.
pub(super) const MAX_PEERS: usize = 256;
