//! The bed itself: what the other tests take for granted is proved here.

mod lifetime;
mod programs;
mod wire;

use std::net::IpAddr;

use harness::clients::{Ping, ping};
use harness::{Bed, Host, Plan};

/// A bed, or a failed test: never a skipped one.
#[track_caller]
fn bed(plan: &Plan) -> Bed {
    Bed::new(plan).unwrap_or_else(|error| panic!("{error:#}"))
}

/// Both addresses of a machine.
fn addresses(host: &Host) -> [IpAddr; 2] {
    [host.ip4.into(), host.ip6.into()]
}

#[track_caller]
fn assert_reaches(from: &Host, to: impl Into<IpAddr>, how: &Ping) {
    let to = to.into();
    let pinged = ping(&from.ns, to, how).unwrap();
    assert!(pinged.is_whole(), "{} to {to}: {}", from.name, pinged.said);
}
