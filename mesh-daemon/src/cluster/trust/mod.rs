//! Getting, giving and renewing certificates, over the wire.

mod attempts;
mod authority;
mod found;
mod join;
mod keeper;
mod renew;
#[cfg(test)]
mod tests;

pub use authority::{Authority, Newcomer, Recorded, Registry, Trusted};
pub use found::{FoundError, found};
pub use join::{JoinError, Joined, join};
pub use keeper::{Keeper, KeeperError, LockedNode, Opened};
pub use renew::{RenewError, Renewal};
