//! How names resolve for tasks.
//!
//! A task asks 127.0.0.11 in its own network namespace; its node answers. What it may see are the
//! names of its networks, and no others:
//!
//! | name | answer |
//! |---|---|
//! | service, and its aliases | its VIPs; without a VIP (`dnsrr`) the addresses of its healthy tasks |
//! | `tasks.SERVICE` | the addresses of its healthy tasks |
//! | container, host name, and aliases of a task | the addresses of the task |
//! | any of these, and `.NETWORK` | the same, in that network alone |
//! | an address, in reverse | `NAME.NETWORK` |
//!
//! A name with a single label that is not known does not exist: nothing of the cluster leaks to
//! others' servers. All other names are forwarded as they came.
//!
//! - [`Zone`] holds the names of all networks, once for the node; who knows what should run changes
//!   it name by name.
//! - [`Resolver`] answers one message; it has no socket but those of [`Forwarder`].
//! - [`serve`] drives the sockets of one task. They are opened in its namespace, by who makes it.

mod answer;
mod forward;
mod server;
mod zone;

#[cfg(test)]
mod tests;

pub use answer::{Counters, Resolver, View};
pub use forward::{Forwarder, UpstreamError, upstreams};
pub use server::{DnsError, Sockets, serve};
pub use zone::{Host, NetworkKey, Owner, Service, Subnet, Zone, ZoneError};

/// Where a task finds its resolver, in its own namespace; as in Docker.
pub const ADDRESS: std::net::SocketAddr =
    std::net::SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 11)), 53);
