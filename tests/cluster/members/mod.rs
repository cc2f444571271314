//! Membership: detectors on a simulated network, from a seed that a failing test prints.

mod net;

use std::time::Duration;

use mesh_daemon::cluster::gossip::{Fact, Liveness, Rejected, TaskKey};
use net::{MS, Net, key_of, peer, ring};

const SECOND: Duration = Duration::from_secs(1);

/// How long it took until all survivors knew of a death, slowest last.
fn detection(nodes: usize, runs: u64) -> Vec<Duration> {
    let time = |seed| {
        let mut net = Net::joined(nodes, seed);
        net.run_for(Duration::from_millis(seed * 37 % 500));
        net.kill(0);
        let took = net.run_until(10 * SECOND, |net| net.all_believe(0, Liveness::Down));
        took.unwrap_or_else(|| panic!("seed {seed}: a dead node was not found"))
    };
    let mut times: Vec<_> = (0..runs).map(time).collect();
    times.sort();
    times
}

fn print(what: &str, times: &[Duration]) {
    let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize];
    println!("{what}: median {:?}, p90 {:?}, p99 {:?}, worst {:?}", at(0.5), at(0.9), at(0.99), at(1.0));
}

#[test]
fn a_killed_node_is_known_dead_by_all_within_a_second() {
    for (nodes, runs) in [(2, 50), (3, 100), (5, 100), (20, 50), (50, 30)] {
        let times = detection(nodes, runs);
        print(&format!("{nodes} nodes, {runs} deaths"), &times);
        let within = times.iter().filter(|time| **time < SECOND).count();
        assert!(within * 100 >= times.len() * 99, "{nodes} nodes: {within} of {runs} within a second");
    }
}
