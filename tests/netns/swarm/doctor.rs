//! `meshctl doctor`, where all is well and where it is not.

use harness::nodes::Nodes;
use serde_json::Value;

use super::{nodes, turn};

/// What it says at a node, and whether it found all in order.
fn doctor(nodes: &Nodes, at: usize) -> (Vec<Value>, bool) {
    let output = nodes.nodes[at].meshctl_command(&["doctor", "-o", "json"]).unwrap().attempt().unwrap();
    let findings: Value = serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output}"));
    (findings.as_array().unwrap().clone(), output.status.success())
}

/// The findings of a level: node, check, what was found.
fn of_level(findings: &[Value], level: &str) -> Vec<(String, String, String)> {
    let text = |finding: &Value, name: &str| finding[name].as_str().unwrap_or_default().to_owned();
    let rows = findings.iter().filter(|finding| finding["level"] == level);
    rows.map(|it| (text(it, "node"), text(it, "check"), text(it, "found"))).collect()
}

#[track_caller]
fn assert_found(findings: &[Value], node: &str, check: &str, found: &str) {
    let broken = of_level(findings, "broken");
    assert!(broken.iter().any(|it| it.0 == node && it.1 == check && it.2.contains(found)), "{broken:#?}");
    assert!(
        findings.iter().filter(|it| it["level"] == "broken").all(|it| it["fix"] != ""),
        "each says what to do: {findings:#?}"
    );
}

#[test]
fn each_thing_that_is_broken_between_nodes_is_named_with_what_to_do() {
    let _turn = turn();
    let mut nodes = nodes(3);
    let (alone, good) = doctor(&nodes, 0);
    assert!(good && alone.iter().any(|finding| finding["check"] == "runtime"), "{alone:#?}");
    assert_eq!(of_level(&alone, "broken"), []);
    nodes.form(1).unwrap();
    nodes
        .until("all is well", |nodes| {
            let (findings, good) = doctor(nodes, 0);
            let tunnels = of_level(&findings, "ok").into_iter().filter(|it| it.1 == "tunnels").count();
            anyhow::ensure!(good && tunnels == 3, "{findings:#?}");
            Ok(true)
        })
        .unwrap();
    let table = nodes.nodes[0].meshctl(&["doctor"]).unwrap();
    assert!(table.starts_with("NODE") && table.contains("come from all 2 other nodes, in full size"), "{table}");
    // A worker looks at itself, and says so.
    let (own, good) = doctor(&nodes, 1);
    assert!(good && of_level(&own, "warning").iter().any(|it| it.1 == "scope"), "{own:#?}");
    assert!(of_level(&own, "ok").iter().any(|it| it.1 == "2377/tcp"), "{own:#?}");

    // A path that bears less than its ends think, and a node where everything has ended.
    let port = nodes.nodes[1].host.port.clone();
    nodes.bed.wire.ip(&[format!("link set {port} mtu 1400")]).unwrap();
    nodes.nodes[2].kill_all().unwrap();
    nodes
        .until("it is down", |nodes| {
            Ok(nodes.docker(0, &["node", "inspect", "node3", "--format", "{{.Status.State}}"])? == "down")
        })
        .unwrap();
    let (findings, good) = doctor(&nodes, 0);
    assert!(!good);
    assert_found(&findings, "node3", "node", "down");
    assert_found(&findings, "node1", "7946/tcp", &format!("{}:7946", nodes.nodes[2].host.ip4));
    assert_found(&findings, "node1", "path mtu", "packets of 1500 bytes do not come from node2");

    let (findings, good) = doctor(&nodes, 2);
    assert!(!good, "without a daemon");
    let broken = of_level(&findings, "broken");
    assert!(broken.len() == 1 && broken[0].1 == "daemon", "{broken:#?}");
}
