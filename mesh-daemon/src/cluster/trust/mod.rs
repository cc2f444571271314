//! Getting, giving and renewing certificates, over the wire.
//!
//! [`found()`] and [`join()`] are how a node gets its first one, [`Keeper`] owns it from then on, [`Renewal`] keeps it
//! good. [`Authority`] gives them, on each manager, by what a [`Registry`] has recorded: the store.

mod attempts;
mod authority;
mod found;
mod join;
mod keeper;
mod records;
mod renew;
#[cfg(test)]
mod tests;

pub use authority::{Authority, Newcomer, Recorded, Registry, Trusted};
pub use found::{FoundError, found, found_again};
pub use join::{JoinError, Joined, join};
pub use keeper::{Keeper, KeeperError, LockedNode, Opened};
pub use renew::{RenewError, Renewal};
