//! Files that are no desired state: the message names file, line and field.

use super::{Node, RIGHT, assert_says};

/// A file that is [`RIGHT`] but for one text, and what meshd says of it behind the file's name.
struct Wrong {
    replace: &'static str,
    by: &'static str,
    says: &'static str,
}

const fn wrong(replace: &'static str, by: &'static str, says: &'static str) -> Wrong {
    Wrong { replace, by, says }
}

const CONTRADICTIONS: &[Wrong] = &[
    wrong("uplinks = [\"eth0\"]", "uplinks = []", ", line 3: node.uplinks: names no interface"),
    wrong("ingress_vni = 4096", "vxlan_port = 0", ", line 5: node.vxlan_port: must not be 0"),
    wrong("ingress_vni = 4096\n", "", ", line 18: services[0].ports: published ports need node.ingress_vni"),
    wrong("name = \"node2\"", "name = \"node1\"", ", line 8: nodes[0].name: \"node1\" is the name of another node too"),
    wrong(
        "vtep = \"192.0.2.2\"",
        "vtep = \"192.0.2.1\"",
        ", line 9: nodes[0].vtep: 192.0.2.1 is the address of another node too",
    ),
    wrong(
        "vtep = \"192.0.2.2\"",
        "vtep = \"fd00::2\"",
        ", line 9: nodes[0].vtep: fd00::2 is not of the family of this node's 192.0.2.1",
    ),
    wrong("vni = 77", "vni = 0", ", line 13: networks[0].vni: 0 is not in 1..16777215"),
    wrong("vni = 77", "vni = 16777216", ", line 13: networks[0].vni: 16777216 is not in 1..16777215"),
    wrong("vni = 77", "vni = 77\nmtu = 1000", ", line 14: networks[0].mtu: 1000 is not in 1280..65535"),
    wrong(
        "vni = 77",
        "vni = 77\n[[networks]]\nname = \"net\"\nvni = 78",
        ", line 15: networks[1].name: \"net\" is the name of another network too",
    ),
    wrong(
        "vni = 77",
        "vni = 77\n[[networks]]\nname = \"other\"\nvni = 77",
        ", line 16: networks[1].vni: 77 is the identifier of another network too",
    ),
    wrong(
        "name = \"web\"\nnetwork = \"net\"",
        "name = \"web\"\nnetwork = \"nat\"",
        ", line 17: services[0].network: there is no network \"nat\"",
    ),
    wrong("published = 8080", "published = 0", ", line 19: services[0].ports: a port must not be 0"),
    wrong(
        "ports = [",
        "ports = [{ published = 8080, target = 81 }, ",
        ", line 19: services[0].ports: 8080 is published by another service too",
    ),
    wrong(
        "vips = [\"10.0.9.100\"]",
        "vips = [\"10.0.9.100\", \"10.0.9.100\"]",
        ", line 18: services[0].vips: 10.0.9.100 is a VIP of another service too",
    ),
    wrong("node = \"node2\"", "node = \"node3\"", ", line 31: endpoints[1].node: there is no node \"node3\""),
    wrong(
        "network = \"net\"\nnode = \"node2\"",
        "network = \"nat\"\nnode = \"node2\"",
        ", line 30: endpoints[1].network: there is no network \"nat\"",
    ),
    wrong(
        "addresses = [\"10.0.9.3\"]\nservice = \"web\"",
        "addresses = [\"10.0.9.3\"]\nservice = \"wob\"",
        ", line 34: endpoints[1].service: there is no service \"wob\"",
    ),
    wrong("link = \"v-one\"\n", "", ", line 21: endpoints[0].link: a task of this node needs its interface"),
    wrong(
        "node = \"node2\"",
        "node = \"node2\"\nlink = \"v-two\"",
        ", line 32: endpoints[1].link: only tasks of this node have one",
    ),
    wrong(
        "addresses = [\"10.0.9.3\"]",
        "addresses = [\"10.0.9.2\"]",
        ", line 33: endpoints[1].addresses: 10.0.9.2 is the address of another task of the network too",
    ),
    wrong("addresses = [\"10.0.9.3\"]", "addresses = []", ", line 33: endpoints[1].addresses: a task needs one"),
    wrong(
        "addresses = [\"10.0.9.3\"]",
        "addresses = [\"10.0.9.3\", \"10.0.9.4\"]",
        ", line 33: endpoints[1].addresses: more than one address of a family",
    ),
    wrong(
        "addresses = [\"10.0.9.3\"]",
        "addresses = [\"127.0.0.1\"]",
        ", line 33: endpoints[1].addresses: 127.0.0.1 is no address of a host",
    ),
    wrong(
        "02:42:0a:00:09:03",
        "03:42:0a:00:09:03",
        ", line 32: endpoints[1].mac: must be a unicast address, and not the router's",
    ),
    wrong(
        "02:42:0a:00:09:03",
        "02:42:0a:00:09:02",
        ", line 32: endpoints[1].mac: is that of another task with published ports too",
    ),
];

#[test]
fn a_contradiction_is_named_with_file_line_and_field() {
    let node = Node::new();
    for Wrong { replace, by, says } in CONTRADICTIONS {
        assert_eq!(RIGHT.matches(replace).count(), 1, "{replace:?}");
        node.meshd(&RIGHT.replace(replace, by));
        assert_says(&node.run_behind(&[]), &format!("meshd: {}{says}", node.file().display()));
    }
    node.assert_untouched();
}

/// What the reader of TOML refuses: the line, and what it stumbled over.
const SHAPES: &[(&str, &str, &[&str])] = &[
    ("[node]", "[node", &["line 1", "unclosed table"]),
    ("vni = 77", "vni = 77\ncolour = 1", &["line 14", "unknown field `colour`"]),
    ("vni = 77", "vni = \"many\"", &["line 13", "invalid type: string \"many\"", "u32"]),
    ("vni = 77\n", "", &["missing field `vni`"]),
    ("vtep = \"192.0.2.1\"", "vtep = \"192.0.2\"", &["line 4", "invalid IP address syntax"]),
    ("02:42:0a:00:09:03", "02:42", &["line 32", "\"02:42\" is no link-layer address like 02:42:0a:00:00:02"]),
    ("target = 80", "target = 70000", &["line 19", "70000", "u16"]),
    (
        "published = 8080",
        "protocol = \"sctp\", published = 8080",
        &["line 19", "unknown variant `sctp`", "`tcp` or `udp`"],
    ),
];

#[test]
fn a_file_of_another_shape_is_named_with_its_line() {
    let node = Node::new();
    for (replace, by, says) in SHAPES {
        assert_eq!(RIGHT.matches(replace).count(), 1, "{replace:?}");
        node.meshd(&RIGHT.replace(replace, by));
        let output = node.run_behind(&[]);
        assert_eq!((output.status.code(), output.stdout.as_str()), (Some(1), ""), "{output}");
        let start = format!("meshd: {}", node.file().display());
        assert!(output.stderr.starts_with(&start), "{output}");
        assert_eq!(output.stderr.lines().count(), 1, "{output}");
        for part in *says {
            assert!(output.stderr.contains(part), "{part:?} is not in {output}");
        }
    }
    node.assert_untouched();
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let node = Node::new();
    node.meshd(RIGHT);
    std::fs::remove_file(node.file()).unwrap();
    let file = node.file().display().to_string();
    assert_says(&node.run_behind(&[]), &format!("meshd: read {file}: No such file or directory (os error 2)"));
    std::fs::create_dir(node.file()).unwrap();
    assert_says(&node.run_behind(&[]), &format!("meshd: read {file}: Is a directory (os error 21)"));
    node.assert_untouched();
}
