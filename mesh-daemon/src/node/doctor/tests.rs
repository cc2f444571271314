use std::collections::BTreeMap;

use super::{Report, clock, tunnels};
use crate::doctor::Level;

/// A node that heard packets of these lengths from nodes of these numbers.
fn report(number: u8, heard: Option<&[(u8, u32)]>) -> Report {
    let vtep = |number: u8| std::net::IpAddr::from([192, 0, 2, number]);
    Report {
        hostname: format!("node{number}"),
        findings: Vec::new(),
        vtep: vtep(number),
        mtu: 1500,
        sent_to: (1..=9).map(vtep).collect(),
        heard: heard.map(|heard| heard.iter().map(|(from, length)| (vtep(*from), *length)).collect::<BTreeMap<_, _>>()),
        now: jiff::Timestamp::UNIX_EPOCH,
    }
}

#[test]
fn every_pair_of_nodes_is_seen_in_both_directions() {
    let reports = [
        report(1, Some(&[(2, 1514), (3, 1514)])),
        report(2, Some(&[(1, 1514), (3, 106)])),
        report(3, Some(&[(2, 1514)])),
        report(4, None),
    ];
    let found: Vec<_> = tunnels(&reports, &[])
        .into_iter()
        .map(|finding| (finding.node, finding.check, finding.level, finding.found))
        .collect();
    let row =
        |node: &str, check: &str, level, found: &str| (node.to_owned(), check.to_owned(), level, found.to_owned());
    let expected = vec![
        row("node1", "tunnels", Level::Broken, "nothing comes from node4 (192.0.2.4)"),
        row("node2", "path mtu", Level::Broken, "packets of 1500 bytes do not come from node3 (192.0.2.3)"),
        row("node2", "tunnels", Level::Broken, "nothing comes from node4 (192.0.2.4)"),
        row("node3", "tunnels", Level::Broken, "nothing comes from node1 (192.0.2.1)"),
        row("node3", "tunnels", Level::Broken, "nothing comes from node4 (192.0.2.4)"),
        row("node4", "tunnels", Level::Warning, "nobody could listen for them"),
    ];
    assert_eq!(found, expected);
    let good = tunnels(&[report(1, Some(&[(2, 1514)])), report(2, Some(&[(1, 1518)]))], &[]);
    assert!(good.len() == 2 && good.iter().all(|finding| finding.level == Level::Ok), "{good:?}");
    assert!(tunnels(&[report(1, Some(&[]))], &[]).is_empty(), "one node has nobody to hear");
    // A path that bears too little loses the report as well; what came of the probes says why.
    let silent = [("node2".to_owned(), std::net::IpAddr::from([192, 0, 2, 2]))];
    let lost = tunnels(&[report(1, Some(&[(2, 106)]))], &silent);
    assert_eq!((lost.len(), lost[0].check.as_str()), (1, "path mtu"));
}

#[test]
fn clocks_that_differ_are_told_whichever_is_ahead() {
    let at = |seconds: i64| jiff::Timestamp::from_second(seconds).unwrap();
    for (leader, theirs, level) in
        [(100, 100, Level::Ok), (101, 100, Level::Ok), (100, 90, Level::Warning), (90, 100, Level::Warning)]
    {
        assert_eq!(clock(at(leader), at(theirs)).level, level, "{leader} and {theirs}");
    }
}
