//! The packet path as tasks, clients and hosts see it: a meshd on every node.

mod balancing;
mod clsact;
mod dial;
mod drain;
mod first_light;
mod interop;
mod mended;
mod published;
mod remove;
mod restart;
mod seeing;
mod vip;
mod way_out;

use std::net::IpAddr;

use harness::clients::{Ping, ping};
use harness::meshd::{Cluster, Meshd, State};
use harness::{Host, Netns, Plan};

/// A cluster, or a failed test: never a skipped one.
#[track_caller]
fn cluster(plan: &Plan, state: State, arguments: &[&str]) -> Cluster {
    Cluster::start(plan, state, arguments).unwrap_or_else(|error| panic!("{error:#}"))
}

/// Both addresses of a machine.
fn addresses(host: &Host) -> [IpAddr; 2] {
    [host.ip4.into(), host.ip6.into()]
}

/// Pings, and loses nothing.
#[track_caller]
fn assert_pings(from: &Netns, to: IpAddr, how: &Ping) {
    let pinged = ping(from, to, how).unwrap();
    assert!(pinged.is_whole(), "{} to {to}: {}", from.name(), pinged.said);
}

/// What a node dropped and why, but for what every Linux says unasked when an interface comes up:
/// IPv6 multicast listener reports.
fn drops(meshd: &Meshd) -> Vec<(String, u64)> {
    let drops = meshd.drops().unwrap();
    drops.into_iter().filter(|(reason, _)| reason != "GroupTraffic").collect()
}

/// No node of the cluster dropped anything.
#[track_caller]
fn assert_no_drops(cluster: &Cluster) {
    for (meshd, host) in cluster.meshd.iter().zip(&cluster.bed.nodes) {
        assert_eq!(drops(meshd), [], "drops on {}", host.name);
    }
}
