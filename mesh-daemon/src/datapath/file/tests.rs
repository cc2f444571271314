//! Wrong files, and what is said about each: line, field and problem.

use std::path::Path;

use super::parse;

const GOOD: &str = r#"[node]
name = "a"
uplinks = ["eth0"]
vtep = "192.0.2.1"
ingress_vni = 4096

[[nodes]]
name = "b"
vtep = "192.0.2.2"

[[networks]]
name = "net"
vni = 5000

[[services]]
name = "web"
network = "net"
vips = ["10.1.0.100"]
ports = [{ published = 80, target = 8080 }]

[[endpoints]]
network = "net"
node = "a"
link = "v-web"
mac = "02:42:0a:01:00:02"
addresses = ["10.1.0.2"]
service = "web"
"#;

/// `GOOD` with one text replaced is refused with an error that has all of `said`.
#[track_caller]
fn refused(from: &str, to: &str, said: &[&str]) {
    assert!(GOOD.contains(from), "{from:?} is not in the good file");
    let error = parse(Path::new("node.toml"), &GOOD.replacen(from, to, 1)).expect_err("a wrong file").to_string();
    for part in said {
        assert!(error.contains(part), "{part:?} is not in: {error}");
    }
}

#[test]
fn the_good_file_is_read() {
    assert!(parse(Path::new("node.toml"), GOOD).is_ok());
}

#[test]
fn a_wrong_shape_is_refused_with_its_line() {
    refused("[node]", "[node", &["node.toml", "line 1"]);
    refused("vni = 5000", "vni = \"many\"", &["line 13", "vni"]);
    refused("vni = 5000", "vin = 5000", &["line 13", "vin"]);
    refused("vtep = \"192.0.2.1\"", "vtep = \"192.0.2\"", &["line 4", "vtep"]);
    refused("vtep = \"192.0.2.1\"\n", "", &["node", "vtep"]);
    refused("02:42:0a:01:00:02", "02:42:0a", &["line 25", "link-layer address"]);
    refused("published = 80", "published = 65536", &["line 19", "65536"]);
}

#[test]
fn a_contradiction_is_refused_with_line_and_field() {
    refused("uplinks = [\"eth0\"]", "uplinks = []", &["line 3: node.uplinks", "no interface"]);
    refused("name = \"b\"", "name = \"a\"", &["line 8: nodes[0].name", "another node"]);
    refused("192.0.2.2", "192.0.2.1", &["line 9: nodes[0].vtep", "another node"]);
    refused("192.0.2.2", "fd00::2", &["line 9: nodes[0].vtep", "family"]);
    refused("vni = 5000", "vni = 16777216", &["line 13: networks[0].vni", "1..16777215"]);
    refused("vni = 5000", "vni = 5000\nmtu = 100", &["line 14: networks[0].mtu", "1280"]);
    refused("network = \"net\"", "network = \"nat\"", &["line 17: services[0].network", "no network"]);
    refused("target = 8080", "target = 0", &["line 19: services[0].ports", "must not be 0"]);
    refused("ingress_vni = 4096\n", "", &["services[0].ports", "ingress_vni"]);
    refused("node = \"a\"", "node = \"c\"", &["line 23: endpoints[0].node", "no node \"c\""]);
    refused("link = \"v-web\"\n", "", &["endpoints[0].link", "needs its interface"]);
    refused("node = \"a\"", "node = \"b\"", &["line 24: endpoints[0].link", "only tasks of this node"]);
    refused("02:42:0a:01:00:02", "03:42:0a:01:00:02", &["line 25: endpoints[0].mac", "unicast"]);
    refused("02:42:0a:01:00:02", "02:42:6d:65:73:68", &["line 25: endpoints[0].mac", "router"]);
    refused("[\"10.1.0.2\"]", "[]", &["line 26: endpoints[0].addresses", "needs one"]);
    refused("[\"10.1.0.2\"]", "[\"10.1.0.2\", \"10.1.0.3\"]", &["endpoints[0].addresses", "family"]);
    refused("[\"10.1.0.2\"]", "[\"224.0.0.1\"]", &["endpoints[0].addresses", "no address of a host"]);
    refused("service = \"web\"", "service = \"wob\"", &["line 27: endpoints[0].service", "no service"]);
}

#[test]
fn fields_on_balancing_are_checked() {
    let service = |more: &str, said: &[&str]| {
        refused("ports = [{ published", &format!("{more}\nports = [{{ published"), said);
    };
    service("balancing = \"random\"", &["line 19", "balancing", "round-robin", "least-connections", "prefer-local"]);
    service("slots = 100", &["line 19", "services[0].slots", "100 is no power of two in 64..65536"]);
    service("slots = 32", &["services[0].slots"]);
    service("slots = 131072", &["services[0].slots"]);
    service("affinity_seconds = 60", &["line 19", "services[0].affinity_seconds", "balancing = \"client\""]);
    service("balancing = \"client\"\naffinity_seconds = 0", &["line 20", "0 is not in 1..604800"]);
    service("new_flows_per_second = 0", &["line 19", "services[0].new_flows_per_second", "nobody"]);
    let task = |more: &str, said: &[&str]| refused("service = \"web\"", &format!("service = \"web\"\n{more}"), said);
    task("weight = 0", &["line 28", "endpoints[0].weight", "0 is not in 1..256", "drain"]);
    task("weight = 257", &["line 28", "endpoints[0].weight"]);
    task("drain_until = 1764000000", &["line 28", "endpoints[0].drain_until", "draining = true"]);
}
