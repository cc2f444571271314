//! The one thing that `--tc clsact` has no kernel help for: taking a filter off again.

use harness::clients::{Ping, ping};
use harness::meshd::{State, TaskSpec};
use harness::{Host, Plan};

use super::cluster;

fn two_tasks() -> State {
    State { tasks: vec![TaskSpec::new("one", 0, 2), TaskSpec::new("two", 1, 3)], ..State::default() }
}

/// Filters of ours, by their priority.
fn filters(host: &Host, link: &str) -> usize {
    let shown = host.ns.run(["tc", "filter", "show", "dev", link, "ingress"]).unwrap().stdout;
    shown.lines().filter(|line| line.contains("pref 28005 ") && line.contains("handle 0x7368")).count()
}

#[test]
fn a_link_that_leaves_the_file_loses_its_filter() {
    let mut cluster = cluster(&Plan::default(), two_tasks(), &["--tc", "clsact"]);
    let host = cluster.bed.nodes[0].clone();
    assert_eq!((filters(&host, "eth0"), filters(&host, "v-one")), (1, 1));
    let mut state = cluster.state.clone();
    state.tasks.remove(0);
    cluster.apply(state).unwrap();
    assert_eq!((filters(&host, "eth0"), filters(&host, "v-one")), (1, 0));
}

/// Either way of attaching is given up for the other by a restart.
#[test]
fn a_restart_changes_the_way_of_attaching_and_leaves_one() {
    let mut cluster = cluster(&Plan::default(), two_tasks(), &["--tc", "clsact"]);
    let host = cluster.bed.nodes[0].clone();
    let pinned =
        |cluster: &harness::meshd::Cluster| harness::meshd::files_below(&cluster.meshd[0].pins.join("links")).len();
    assert_eq!((filters(&host, "eth0"), filters(&host, "v-one"), pinned(&cluster)), (1, 1, 1));
    for (arguments, expected) in [(vec![], (0, 0, 6)), (vec!["--tc", "clsact"], (1, 1, 1))] {
        cluster.meshd[0].terminate().unwrap();
        cluster.meshd[0].arguments = arguments.into_iter().map(str::to_owned).collect();
        cluster.meshd[0].start().unwrap();
        assert_eq!((filters(&host, "eth0"), filters(&host, "v-one"), pinned(&cluster)), expected);
        let pinged = ping(&cluster.tasks[0].ns, cluster.state.tasks[1].addresses()[0], &Ping::default()).unwrap();
        assert!(pinged.is_whole(), "{}", pinged.said);
    }
}
