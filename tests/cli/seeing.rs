//! `meshctl datapath`: what it says when it cannot, and what a first look shows.

use harness::Output;

use super::{Node, RIGHT, assert_says};

fn meshctl(node: &Node, arguments: &[&str]) -> Output {
    let (program, pins) = (harness::program("meshctl").unwrap(), node.pins());
    let argv = [&[program.to_str().unwrap(), "datapath"], arguments].concat();
    node.host().ns.command(argv).env("MESH_PIN_DIR", pins).attempt().unwrap()
}

#[test]
fn without_a_daemon_each_command_says_so() {
    let node = Node::new();
    let file = node.files.path().join("out.pcapng");
    let commands: [&[&str]; 4] = [
        &["status"],
        &["trace", "--seconds", "1"],
        &["explain", "10.0.9.2:1", "10.0.9.100:80"],
        &["capture", "-w", file.to_str().unwrap(), "--seconds", "1"],
    ];
    for command in commands {
        let output = meshctl(&node, command);
        assert_eq!((output.status.code(), output.stdout.as_str()), (Some(1), ""), "{output}");
        assert_eq!(output.stderr.lines().count(), 1, "{output}");
        assert!(output.stderr.contains("is meshd running with this pin directory?"), "{output}");
    }
}

#[test]
fn bad_arguments_are_named() {
    let node = Node::new();
    let rows: [(&[&str], &str); 8] = [
        (&["explain", "10.0.9.2", "10.0.9.100:80"], "invalid value '10.0.9.2' for '<SRC>'"),
        (&["explain", "10.0.9.2:1", "10.0.9.100:80", "sctp"], "invalid value 'sctp' for '[PROTO]'"),
        (&["trace", "--filter", "port"], "filter \"port\" is not KEY=VALUE"),
        (&["trace", "--filter", "reason=Bad"], "there is no drop reason \"Bad\""),
        (&["trace", "--verdicts", "0"], "0 is not in 1.."),
        (&["capture", "--snaplen", "10"], "10 is not in 64..=32768"),
        (&["capture", "--filter", "host=web"], "\"web\" is no IP address"),
        (&["status", "--interval-ms", "1"], "1 is not in 10..=60000"),
    ];
    for (arguments, says) in rows {
        let output = meshctl(&node, arguments);
        assert_eq!((output.status.code(), output.stdout.as_str()), (Some(2), ""), "{output}");
        assert!(output.stderr.contains(says), "{output}");
    }
}

#[test]
fn questions_without_sense_are_answered_with_the_reason() {
    let node = Node::new();
    let mut meshd = node.meshd(RIGHT);
    meshd.start().unwrap();
    let says = |arguments: &[&str], line: &str| assert_says(&meshctl(&node, arguments), line);
    says(&["explain", "10.0.9.2:1", "[fd00::1]:80"], "meshctl: 10.0.9.2 and fd00::1 are of different families");
    says(
        &["explain", "198.51.100.1:1", "192.0.2.1:8080", "--from", "nobody"],
        "meshctl: --from \"nobody\" is neither `underlay`, an interface of this node, the address of a task of this \
         node, nor the VTEP address of a member",
    );
    says(
        &["explain", "198.51.100.1:1", "10.0.9.77:9999", "--from", "192.0.2.2"],
        "meshctl: node 192.0.2.2 would not send this here: no task and no service has this address",
    );
    says(
        &["explain", "198.51.100.1:1", "192.0.2.9:8080", "--from", "192.0.2.2"],
        "meshctl: node 192.0.2.2 would not send this here: the task that its flow belongs to does not run here",
    );
    let output = meshctl(&node, &["status", "--interval-ms", "10"]);
    assert!(output.status.success(), "{output}");
    for heading in ["node", "programs", "maps", "drops: none", "services"] {
        assert!(output.stdout.lines().any(|line| line == heading), "{heading}: {output}");
    }
}
