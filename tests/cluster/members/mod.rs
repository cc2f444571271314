//! Membership: detectors on a simulated network, from a seed that a failing test prints.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and shows times"
)]

mod net;

use std::time::Duration;

use mesh_daemon::cluster::gossip::{Fact, Liveness, MAX_ABSENCE, Rejected, TaskKey};
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

#[test]
fn a_daemon_that_is_away_is_waited_for_as_long_as_its_place_is_held() {
    for nodes in [2, 3, 5, 20] {
        let mut net = Net::joined(nodes, 59);
        net.go_away(0);
        net.never_called_dead(0, 30 * SECOND);
        assert!(net.all_believe(0, Liveness::Away), "{nodes} nodes");
        // It comes back in time: nobody has noticed.
        let life = 2;
        net.restart(0, life);
        let all: Vec<_> = (0..nodes).map(|node| peer(node, None)).collect();
        net.act(0, |detector, now| detector.introduce(&all, now));
        assert!(net.run_until(3 * SECOND, Net::all_alive).is_some(), "{nodes} nodes");
        // It goes again, and then its machine does.
        net.go_away(0);
        net.never_called_dead(0, 5 * SECOND);
        net.kill(0);
        let took = net.run_until(10 * SECOND, |net| net.all_believe(0, Liveness::Down));
        assert!(took.is_some_and(|took| took < SECOND), "{nodes} nodes: {took:?}");
    }
}

#[test]
fn a_node_whose_processes_all_end_is_dead_although_its_kernel_answers() {
    for nodes in [2, 3, 5, 20] {
        let mut net = Net::joined(nodes, 61);
        net.end(0);
        let took = net.run_until(10 * SECOND, |net| net.all_believe(0, Liveness::Down));
        assert!(took.is_some_and(|took| took < SECOND), "{nodes} nodes: {took:?}");
    }
}

#[test]
fn a_daemon_that_hangs_for_too_long_is_dead() {
    let mut net = Net::joined(5, 67);
    net.stop(0);
    net.never_called_dead(0, MAX_ABSENCE);
    assert!(net.run_until(5 * SECOND, |net| net.all_believe(0, Liveness::Down)).is_some());
    net.go_on(0);
    assert!(net.run_until(5 * SECOND, Net::all_alive).is_some(), "and back");
}

#[test]
fn a_cut_between_two_or_one_way_kills_nobody() {
    type Cut = fn(usize, usize) -> bool;
    let cuts: [(&str, Cut); 3] = [
        ("0 does not reach 1", |from, to| (from, to) != (0, 1)),
        ("0 and 1 do not reach each other", |from, to| (from.min(to), from.max(to)) != (0, 1)),
        ("0 does not reach three of the others", |from, to| from != 0 || to > 3),
    ];
    for (what, passes) in cuts {
        for nodes in [5, 20] {
            let mut net = Net::joined(nodes, 7);
            net.passes = Box::new(passes);
            net.never_down(20 * SECOND, what);
        }
    }
}

#[test]
fn a_node_whose_packets_all_get_lost_is_dead_to_all_and_comes_back() {
    let mut net = Net::joined(5, 3);
    net.passes = Box::new(|from, _| from != 0);
    assert!(net.run_until(2 * SECOND, |net| net.all_believe(0, Liveness::Down)).is_some());
    net.passes = Box::new(|_, _| true);
    assert!(net.run_until(5 * SECOND, Net::all_alive).is_some(), "and back");
    assert!(net.nodes[0].generation() > 1, "as somebody else");
}

#[test]
fn a_twentieth_of_all_packets_lost_kills_nobody() {
    for nodes in [3, 5, 20] {
        let mut net = Net::joined(nodes, 11);
        net.loss = 0.05;
        net.never_down(30 * SECOND, "5 % loss");
    }
}

#[test]
fn a_link_that_comes_and_goes_kills_nobody() {
    for (up, down) in [(200 * MS, 200 * MS), (1000 * MS, 300 * MS), (50 * MS, 100 * MS)] {
        let mut net = Net::joined(10, 5);
        for _ in 0..20 {
            net.passes = Box::new(|from, to| from != 0 && to != 0);
            net.never_down(down, "a link that is down");
            net.passes = Box::new(|_, _| true);
            net.never_down(up, "a link that is up");
        }
    }
}

#[test]
fn a_node_that_was_stopped_blames_nobody_else() {
    for pause in [300 * MS, 3 * SECOND, 60 * SECOND] {
        let mut net = Net::joined(5, 13);
        net.stop(0);
        net.run_for(pause);
        net.go_on(0);
        for _ in 0..400 {
            net.run_for(5 * MS);
            for other in 1..5 {
                assert_ne!(net.belief(0, other), Some(Liveness::Down), "stopped for {pause:?}");
                let others = (1..5).filter(|about| *about != other).collect::<Vec<_>>();
                assert!(others.into_iter().all(|about| net.belief(other, about) == Some(Liveness::Alive)));
            }
        }
        assert!(net.all_alive(), "stopped for {pause:?}");
        assert_eq!(net.nodes[0].counters().stalls, 1);
    }
}

#[test]
fn a_partition_splits_the_members_and_heals() {
    for (nodes, left) in [(5, 2), (20, 10), (50, 25)] {
        let mut net = Net::joined(nodes, 17);
        net.passes = Box::new(move |from, to| (from < left) == (to < left));
        let apart = |net: &mut Net| (left..nodes).all(|node| net.belief(0, node) == Some(Liveness::Down));
        let split = net.run_until(30 * SECOND, apart);
        net.run_for(10 * SECOND);
        net.passes = Box::new(|_, _| true);
        let healed = net.run_until(30 * SECOND, Net::all_alive);
        println!("{nodes} nodes, {left} cut off: apart after {split:?}, together after {healed:?}");
        assert!(split.is_some() && healed.is_some_and(|took| took < 10 * SECOND), "{nodes}: {split:?} {healed:?}");
    }
}

#[test]
fn nodes_that_know_one_address_each_become_a_cluster_despite_loss() {
    let mut net = Net::new(20, 19);
    net.loss = 0.2;
    for node in 1..20 {
        net.act(node, |detector, now| detector.introduce(&[peer(0, None)], now));
    }
    let took = net.run_until(20 * SECOND, Net::all_alive);
    println!("20 nodes from one seed at 20 % loss: {took:?}");
    assert!(took.is_some());
}

#[test]
fn what_a_node_tells_reaches_all_even_when_rumours_are_lost() {
    let mut net = Net::joined(30, 23);
    net.loss = 0.4;
    for task in 0..200 {
        net.act(task % 30, |detector, now| detector.tell(Fact::Gone(TaskKey(task as u128)), now).unwrap());
        net.run_for(MS);
    }
    net.act(3, |detector, now| detector.tell(Fact::Draining(true), now).unwrap());
    net.act(3, |detector, now| detector.tell(Fact::Metadata(b"eth0".to_vec()), now).unwrap());
    net.loss = 0.0;
    let known = |net: &mut Net| {
        (0..30).all(|node| net.nodes[node].gone().len() == 200)
            && (0..30).filter(|node| *node != 3).all(|node| {
                let members = net.nodes[node].members();
                members[&key_of(3)].draining && *members[&key_of(3)].metadata == *b"eth0"
            })
    };
    assert!(net.run_until(20 * SECOND, known).is_some());
}

#[test]
fn that_a_task_is_gone_is_known_by_all_at_once_where_they_are_few() {
    let mut net = Net::joined(50, 29);
    net.act(7, |detector, now| detector.tell(Fact::Gone(TaskKey(1)), now).unwrap());
    let took = net.run_until(SECOND, |net| net.nodes.iter_mut().all(|node| node.gone().len() == 1));
    assert!(took.is_some_and(|took| took <= 5 * MS), "{took:?}");
}

#[test]
fn who_has_another_key_is_not_heard_and_is_counted() {
    let mut net = Net::joined(3, 31);
    net.nodes[2].rotate(ring(&[9]));
    // It runs, as its kernel shows: it is waited for.
    assert!(net.run_until(3 * SECOND, |net| net.belief(0, 2) == Some(Liveness::Away)).is_some());
    assert!(net.nodes[0].counters().rejected[&Rejected::UnknownKey] > 0);
    assert_eq!(net.belief(0, 1), Some(Liveness::Alive));
    net.nodes[2].rotate(ring(&[1]));
    assert!(net.run_until(10 * SECOND, Net::all_alive).is_some());
}

#[test]
fn keys_are_replaced_one_node_at_a_time_without_a_doubt() {
    let mut net = Net::joined(5, 37);
    for step in [ring(&[1, 2]), ring(&[2, 1]), ring(&[2])] {
        for node in 0..5 {
            net.nodes[node].rotate(step.clone());
            net.never_down(300 * MS, "rotation");
        }
    }
    assert!((0..5).all(|node| net.nodes[node].counters().rejected.is_empty()));
}

#[test]
fn who_leaves_is_gone_for_the_others_at_once() {
    let mut net = Net::joined(5, 41);
    net.act(2, |detector, now| detector.leave(now));
    // Its kernel refuses what is sent to it afterwards, and nobody asks.
    net.go_away(2);
    let took = net.run_until(SECOND, |net| net.all_believe(2, Liveness::Down));
    assert!(took.is_some_and(|took| took <= 5 * MS), "{took:?}");
    for node in [0, 1, 3, 4] {
        net.act(node, |detector, now| detector.forget(key_of(2), now));
    }
    net.run_for(5 * SECOND);
    assert!([0, 1, 3, 4].iter().all(|node| net.belief(*node, 2).is_none()), "and forgotten if managers say so");
}

#[test]
fn a_node_that_starts_anew_is_a_member_at_once_and_old_packets_are_not_heard() {
    let mut net = Net::joined(5, 43);
    net.restart(0, 2);
    let all: Vec<_> = (0..5).map(|node| peer(node, Some(1))).collect();
    net.act(0, |detector, now| detector.introduce(&all, now));
    let known = |net: &mut Net| (1..5).all(|node| net.nodes[node].members()[&key_of(0)].generation == 2);
    assert!(net.run_until(SECOND, known).is_some());
    assert!(net.all_alive());
    assert!(net.nodes[1].counters().rejected.is_empty());
}

#[test]
fn a_hundred_nodes_that_know_three_become_a_cluster() {
    let mut net = Net::new(100, 47);
    let managers: Vec<_> = (0..3).map(|node| peer(node, None)).collect();
    for node in 0..100 {
        net.act(node, |detector, now| detector.introduce(&managers, now));
    }
    let took = net.run_until(30 * SECOND, Net::all_alive);
    println!("100 nodes from three seeds: {took:?}");
    assert!(took.is_some_and(|took| took < 5 * SECOND), "{took:?}");
    net.run_for(3 * SECOND);
    let sent = net.total_sent();
    net.run_for(2 * SECOND);
    let rate = (net.total_sent() - sent) / 2 / 100;
    println!("100 nodes at rest: {rate} packets a second each");
    assert!(rate < 40, "{rate} packets a second each, at rest");
}

/// The list that managers hand out holds all but ten; those know one node.
#[test]
fn a_thousand_nodes_are_a_cluster_take_others_in_and_find_a_death() {
    const NODES: usize = 1000;
    const LATE: usize = 10;
    let mut net = Net::new(NODES, 53);
    let list: Vec<_> = (0..NODES - LATE).map(|node| peer(node, Some(1))).collect();
    for node in 0..NODES {
        let known =
            if node < NODES - LATE { list.as_slice() } else { &list[node + LATE - NODES..=node + LATE - NODES] };
        net.act(node, |detector, now| detector.introduce(known, now));
    }
    let took = net.run_until(10 * SECOND, Net::all_alive);
    println!("{NODES} nodes, {LATE} of them late: {took:?}");
    assert!(took.is_some(), "{took:?}");
    net.kill(500);
    let found = net.run_until(10 * SECOND, |net| net.all_believe(500, Liveness::Down));
    println!("{NODES} nodes: a death is known by all after {found:?}");
    assert!(found.is_some_and(|took| took < 3 * SECOND), "{found:?}");
}
