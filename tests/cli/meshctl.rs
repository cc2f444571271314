//! `meshctl maps dump`: what it prints, and what it says when it cannot.

use harness::Output;
use serde_json::Value;

use super::{Node, RIGHT};

const NAMES: [&str; 19] = [
    "LOCALS",
    "ROUTES",
    "NODE",
    "NODES",
    "VTEPS",
    "NETWORKS",
    "ENDPOINTS",
    "NEIGHBOURS",
    "LINKS",
    "SERVICES",
    "SLOTS",
    "BACKENDS",
    "FLOWS",
    "COUNTERS",
    "DROPS",
    "LABELS",
    "LIVE",
    "PACE",
    "TALLIES",
];

fn meshctl(node: &Node, arguments: &[&str]) -> Output {
    let program = harness::program("meshctl").unwrap();
    let argv = [&[program.to_str().unwrap()], arguments].concat();
    node.host().ns.command(argv).attempt().unwrap()
}

#[test]
fn a_map_that_is_none_is_answered_with_those_that_are() {
    let node = Node::new();
    let output = meshctl(&node, &["maps", "dump", "nosuch"]);
    assert_eq!((output.status.code(), output.stdout.as_str()), (Some(1), ""), "{output}");
    let (said, names) = output.stderr.trim_end().split_once("; the maps are ").unwrap();
    assert_eq!(said, "meshctl: there is no map \"nosuch\"");
    let mut names: Vec<_> = names.split(", ").collect();
    let mut known = NAMES.to_vec();
    names.sort_unstable();
    known.sort_unstable();
    assert_eq!(names, known);
}

#[test]
fn a_pin_directory_of_no_daemon_is_named() {
    let node = Node::new();
    let pins = node.pins();
    let output = meshctl(&node, &["maps", "dump", "NODES", "--pin-dir", &pins.to_string_lossy()]);
    let says = "is meshd running with this pin directory?";
    assert_eq!((output.status.code(), output.stdout.as_str()), (Some(1), ""), "{output}");
    assert_eq!(output.stderr.lines().count(), 1, "{output}");
    assert!(output.stderr.starts_with(&format!("meshctl: open the pinned map {}", pins.display())), "{output}");
    assert!(output.stderr.contains(says), "{output}");
}

#[test]
fn a_map_is_printed_as_a_table_and_as_json() {
    let node = Node::new();
    let mut meshd = node.meshd(RIGHT);
    meshd.start().unwrap();
    let pins = node.pins();
    let pins = pins.to_str().unwrap();
    // Whatever the case of the name.
    for name in ["NETWORKS", "networks"] {
        let output = meshctl(&node, &["maps", "dump", name, "--pin-dir", pins]);
        let lines: Vec<_> = output.stdout.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
        let expected = [
            vec!["NETWORKS:", "2", "elements"],
            vec!["VNI", "MTU", "FLAGS"],
            vec!["77", "1450", "0"],
            vec!["4096", "1450", "1"],
        ];
        assert_eq!(lines[0], expected[0], "{output}");
        assert_eq!(lines[2..], expected[2..], "{output}");
    }
    let output = meshctl(&node, &["maps", "dump", "VTEPS", "-o", "json", "--pin-dir", pins]);
    let json: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(json["VTEPS"][0]["addr"], "192.0.2.2", "{output}");
    let waits = meshd.log().unwrap();
    assert!(waits.contains("interface v-one of a task in network net does not exist"), "{waits}");
    assert!(waits.contains("node node2 at 192.0.2.2 has no resolved next hop"), "{waits}");
}
