//! What is refused before a service is written: the checks of Swarm's managers, in their order and
//! words. Pure; what needs the other objects is in [`super::conflicts`].

use std::collections::{BTreeMap, BTreeSet};

use oci_client::Reference;

use crate::api::error::{Code, Error};
use crate::api::wire::{
    ContainerSpec, EndpointSpec, Labels, Mount, Placement, ResourceRequirements, Resources, ServiceSpec, TaskSpec,
};
use crate::model::service::{AFFINITY_LABEL, BALANCING_LABEL, BALANCINGS, REBALANCE_LABEL, RETURN_LABEL, RETURN_PATHS};

/// The longest name of a service.
const MAX_NAME: usize = 63;

/// The longest time between two moves of a service's tasks, in seconds: a day.
const MAX_REBALANCE: u32 = 86_400;

/// The longest time for which a silent client keeps its task, in seconds: a week.
const MAX_AFFINITY: u32 = 604_800;

/// Labels whose value is a word; docs/design/labels.md says what each does.
const WORDS: [(&str, &[&str]); 2] = [(BALANCING_LABEL, BALANCINGS), (RETURN_LABEL, RETURN_PATHS)];

/// The least memory that can be reserved or allowed.
const MIN_MEMORY: i64 = 4 << 20;

/// The least share of a processor: a thousandth.
const MIN_NANO_CPUS: i64 = 1_000_000;

pub(super) fn spec(spec: &ServiceSpec) -> Result<(), Error> {
    name(&spec.name)?;
    labels(&spec.labels)?;
    task(&spec.task_template)?;
    if let Some(endpoint) = &spec.endpoint_spec {
        self::endpoint(endpoint)?;
    }
    Ok(())
}

/// What labels ask for is understood, or it is an error: nobody would miss a task that does not move.
fn labels(labels: &Labels) -> Result<(), Error> {
    for (label, words) in WORDS {
        if let Some(word) = labels.get(label).filter(|word| !words.contains(&word.as_str())) {
            return Err(Error::invalid(format!("label {label} must be one of {}, not {word:?}", words.join(", "))));
        }
    }
    for (label, most) in [(REBALANCE_LABEL, MAX_REBALANCE), (AFFINITY_LABEL, MAX_AFFINITY)] {
        match labels.get(label).map(|text| text.parse::<u32>()) {
            None => {}
            Some(Ok(seconds)) if (1..=most).contains(&seconds) => {}
            Some(_) => return Err(Error::invalid(format!("label {label} must be from 1 to {most}"))),
        }
    }
    Ok(())
}

/// Names of services are names in DNS.
fn name(name: &str) -> Result<(), Error> {
    if name.is_empty() {
        return Err(Error::invalid("meta: name must be provided"));
    }
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    let inner = bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    if !(inner && edge(bytes.first()) && edge(bytes.last())) {
        return Err(Error::invalid("name must be valid as a DNS name component"));
    }
    if name.len() > MAX_NAME {
        return Err(Error::invalid("name must be 63 characters or fewer"));
    }
    Ok(())
}

fn task(task: &TaskSpec) -> Result<(), Error> {
    if let Some(resources) = &task.resources {
        self::resources(resources)?;
    }
    if let Some(placement) = &task.placement {
        constraints(placement)?;
    }
    match &task.container_spec {
        Some(container) => self::container(container),
        None => Err(Error::invalid("TaskSpec: missing runtime")),
    }
}

fn resources(requirements: &ResourceRequirements) -> Result<(), Error> {
    for resources in [&requirements.limits, &requirements.reservations].into_iter().flatten() {
        let Resources { nano_cpus, memory_bytes, pids, .. } = resources;
        if *memory_bytes != 0 && *memory_bytes < MIN_MEMORY {
            return Err(Error::invalid(format!("invalid memory value {memory_bytes}: Must be at least 4MiB")));
        }
        if *nano_cpus != 0 && *nano_cpus < MIN_NANO_CPUS {
            #[expect(clippy::cast_precision_loss, reason = "below a million, for people")]
            let cpus = *nano_cpus as f64 / 1e9;
            return Err(Error::invalid(format!("invalid cpu value {cpus}: Must be at least 0.001")));
        }
        if *pids < 0 {
            return Err(Error::invalid(format!("invalid pids value {pids}: it cannot be negative")));
        }
    }
    Ok(())
}

/// The syntax of constraints; whether a node fits is the scheduler's question.
fn constraints(placement: &Placement) -> Result<(), Error> {
    let wrong = |desc: String| Err(Error::Rpc { code: Code::Unknown, desc });
    for constraint in &placement.constraints {
        let Some((key, value)) = constraint.split_once("==").or_else(|| constraint.split_once("!=")) else {
            return wrong("constraint expected one operator from ==, !=".to_owned());
        };
        let (key, value) = (key.trim(), value.trim());
        let first = key.bytes().next();
        let is_key = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if key.len() < 2 || !key.bytes().all(is_key) || !first.is_some_and(|c| c.is_ascii_alphabetic() || c == b'_') {
            return wrong(format!("key '{key}' is invalid"));
        }
        let is_value = |letter: char| {
            letter.is_ascii_alphanumeric() || letter.is_whitespace() || ":-_.*()?+[]\\^$|/".contains(letter)
        };
        if value.is_empty() || !value.chars().all(is_value) {
            return wrong(format!("value '{value}' is invalid"));
        }
    }
    Ok(())
}

fn container(container: &ContainerSpec) -> Result<(), Error> {
    let image = &container.image;
    if image.is_empty() {
        return Err(Error::invalid("ContainerSpec: image reference must be provided"));
    }
    if image.parse::<Reference>().is_err() {
        return Err(Error::invalid(format!("ContainerSpec: \"{image}\" is not a valid repository/tag")));
    }
    mounts(&container.mounts)?;
    for server in container.dns_config.iter().flat_map(|dns| &dns.nameservers) {
        if server.parse::<std::net::IpAddr>().is_err() {
            return Err(Error::invalid(format!("ContainerSpec: {server} is not an ip address")));
        }
    }
    let secrets = container.secrets.iter().filter_map(|secret| Some((&secret.secret_name, secret.file.as_ref()?)));
    targets("secret", secrets.map(|(name, file)| (name.as_str(), file.name.as_str())))?;
    let configs = container.configs.iter().filter_map(|config| Some((&config.config_name, config.file.as_ref()?)));
    targets("config", configs.map(|(name, file)| (name.as_str(), file.name.as_str())))
}

fn mounts(mounts: &[Mount]) -> Result<(), Error> {
    let mut seen = BTreeSet::new();
    for mount in mounts {
        if !seen.insert(&mount.target) {
            return Err(Error::invalid(format!("ContainerSpec: duplicate mount point: {}", mount.target)));
        }
        // No node has them, so that no task of the service would ever run.
        if matches!(mount.kind.as_str(), "npipe" | "cluster") {
            return Err(Error::invalid(format!(
                "ContainerSpec: mounts of type {} are not carried: use volume, bind or tmpfs at {}",
                mount.kind, mount.target
            )));
        }
    }
    Ok(())
}

fn targets<'a>(what: &str, files: impl Iterator<Item = (&'a str, &'a str)>) -> Result<(), Error> {
    let mut seen = BTreeMap::new();
    for (name, target) in files {
        if target.is_empty() {
            return Err(Error::invalid(format!("malformed {what} reference, no target provided")));
        }
        if let Some(other) = seen.insert(target, name) {
            let desc = format!("{what} references '{other}' and '{name}' have a conflicting target: '{target}'");
            return Err(Error::invalid(desc));
        }
    }
    Ok(())
}

fn endpoint(endpoint: &EndpointSpec) -> Result<(), Error> {
    let mut seen = BTreeSet::new();
    for port in &endpoint.ports {
        let ingress = port.publish_mode != "host";
        if ingress && endpoint.mode == "dnsrr" {
            let desc = "EndpointSpec: port published with ingress mode can't be used with dnsrr mode";
            return Err(Error::invalid(desc));
        }
        if port.target_port == 0 {
            return Err(Error::invalid("EndpointSpec: a port needs a target port"));
        }
        let protocol = if port.protocol.is_empty() { "tcp" } else { &port.protocol };
        // Never a port that nothing answers at.
        if protocol == "sctp" {
            return Err(Error::invalid("EndpointSpec: sctp ports are not carried by this version"));
        }
        if port.published_port != 0 && !seen.insert((port.published_port, protocol)) {
            return Err(Error::invalid("EndpointSpec: duplicate published ports provided"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Checks a good spec with members replaced, each named by a JSON pointer.
    #[track_caller]
    fn check(changes: &[(&str, Value)], expected: Result<(), &str>) {
        let mut body = json!({
            "Name": "web",
            "TaskTemplate": {"ContainerSpec": {"Image": "nginx", "Mounts": [], "Secrets": []},
                "Resources": {"Limits": {}}, "Placement": {"Constraints": []}},
            "EndpointSpec": {"Mode": "vip", "Ports": []},
        });
        for (pointer, value) in changes {
            *body.pointer_mut(pointer).unwrap() = value.clone();
        }
        let spec = self::spec(&serde_json::from_value(body).unwrap()).map_err(|error| error.to_string());
        let expected = expected.map_err(|text| match text.strip_prefix("Unknown: ") {
            Some(text) => format!("rpc error: code = Unknown desc = {text}"),
            None => format!("rpc error: code = InvalidArgument desc = {text}"),
        });
        assert_eq!(spec, expected);
    }

    #[test]
    fn names_are_names_in_dns() {
        for name in ["web", "a", "test_web", "a--b", "0web"] {
            check(&[("/Name", json!(name))], Ok(()));
        }
        for name in ["bad name", "-web", "web_", "wéb", "a.b"] {
            check(&[("/Name", json!(name))], Err("name must be valid as a DNS name component"));
        }
        check(&[("/Name", json!(""))], Err("meta: name must be provided"));
        check(&[("/Name", json!("a".repeat(64)))], Err("name must be 63 characters or fewer"));
    }

    #[test]
    fn an_image_is_a_reference() {
        let image = "/TaskTemplate/ContainerSpec/Image";
        let digest = format!("10.77.0.1:5000/web:1@sha256:{}", "0".repeat(64));
        for reference in ["nginx", "a.b:5000/c/d:e", "10.77.0.1:5000/web:1", &digest] {
            check(&[(image, json!(reference))], Ok(()));
        }
        check(&[(image, json!(""))], Err("ContainerSpec: image reference must be provided"));
        check(&[(image, json!("UPPER:::x"))], Err(r#"ContainerSpec: "UPPER:::x" is not a valid repository/tag"#));
    }

    #[test]
    fn constraints_have_a_key_an_operator_and_a_value() {
        let constraints = "/TaskTemplate/Placement/Constraints";
        for good in ["node.role==worker", "node.labels.a != b", "node.foo==1", "node.ip==10.0.0.0/8"] {
            check(&[(constraints, json!([good]))], Ok(()));
        }
        check(&[(constraints, json!(["foo"]))], Err("Unknown: constraint expected one operator from ==, !="));
        check(&[(constraints, json!(["a b==c"]))], Err("Unknown: key 'a b' is invalid"));
        check(&[(constraints, json!(["node.role=="]))], Err("Unknown: value '' is invalid"));
    }

    #[test]
    fn resources_have_a_least() {
        let limits = "/TaskTemplate/Resources/Limits";
        let memory = json!({"MemoryBytes": 1_048_576});
        check(&[(limits, memory)], Err("invalid memory value 1048576: Must be at least 4MiB"));
        check(&[(limits, json!({"NanoCPUs": 1000}))], Err("invalid cpu value 0.000001: Must be at least 0.001"));
    }

    #[test]
    fn mounts_and_files_do_not_share_a_target() {
        let mounts = json!([{"Type": "volume", "Target": "/a"}, {"Type": "bind", "Source": "/b", "Target": "/a"}]);
        check(&[("/TaskTemplate/ContainerSpec/Mounts", mounts)], Err("ContainerSpec: duplicate mount point: /a"));
        let secret = |name| json!({"SecretID": "x", "SecretName": name, "File": {"Name": "t"}});
        check(
            &[("/TaskTemplate/ContainerSpec/Secrets", json!([secret("a"), secret("b")]))],
            Err("secret references 'a' and 'b' have a conflicting target: 't'"),
        );
    }

    #[test]
    fn a_rest_between_moves_is_a_number_of_seconds() {
        let label = |value: &str| {
            json!({"Name": "web", "Labels": {"mesh.rebalance-seconds": value},
            "TaskTemplate": {"ContainerSpec": {"Image": "nginx"}}})
        };
        check(&[("", label("30"))], Ok(()));
        for value in ["0", "true", "-1", "86401", ""] {
            check(&[("", label(value))], Err("label mesh.rebalance-seconds must be from 1 to 86400"));
        }
    }

    #[test]
    fn a_label_that_mesh_reads_has_a_value_that_it_understands() {
        let with = |label: &str, value: &str| {
            json!({"Name": "web", "Labels": {label: value, "my.own": "anything"},
            "TaskTemplate": {"ContainerSpec": {"Image": "nginx"}}})
        };
        for (label, value) in [
            ("mesh.balancing", "round-robin"),
            ("mesh.balancing", "maglev"),
            ("mesh.return-path", "direct"),
            ("mesh.affinity-seconds", "604800"),
        ] {
            check(&[("", with(label, value))], Ok(()));
        }
        for (label, value, error) in [
            (
                "mesh.balancing",
                "roundrobin",
                "label mesh.balancing must be one of maglev, round-robin, least-connections, client, prefer-local, not \"roundrobin\"",
            ),
            ("mesh.return-path", "", "label mesh.return-path must be one of tunnel, direct, not \"\""),
            ("mesh.affinity-seconds", "0", "label mesh.affinity-seconds must be from 1 to 604800"),
        ] {
            check(&[("", with(label, value))], Err(error));
        }
    }

    #[test]
    fn what_no_node_carries_is_refused() {
        for kind in ["npipe", "cluster"] {
            let mounts = json!([{"Type": kind, "Source": "a", "Target": "/a"}]);
            let said = format!("ContainerSpec: mounts of type {kind} are not carried: use volume, bind or tmpfs at /a");
            check(&[("/TaskTemplate/ContainerSpec/Mounts", mounts)], Err(&said));
        }
        let container = |servers| json!({"Image": "nginx", "DNSConfig": {"Nameservers": servers}});
        check(&[("/TaskTemplate/ContainerSpec", container(json!(["10.0.0.53", "::1"])))], Ok(()));
        check(
            &[("/TaskTemplate/ContainerSpec", container(json!(["dns.example"])))],
            Err("ContainerSpec: dns.example is not an ip address"),
        );
    }

    #[test]
    fn ports_are_published_once_and_not_by_round_robin_names() {
        let port = json!({"TargetPort": 80, "PublishedPort": 8090, "PublishMode": "ingress"});
        check(&[("/EndpointSpec/Ports", json!([port]))], Ok(()));
        check(
            &[("/EndpointSpec/Ports", json!([port])), ("/EndpointSpec/Mode", json!("dnsrr"))],
            Err("EndpointSpec: port published with ingress mode can't be used with dnsrr mode"),
        );
        check(&[("/EndpointSpec/Ports", json!([port, port]))], Err("EndpointSpec: duplicate published ports provided"));
        let sctp = json!({"TargetPort": 80, "Protocol": "sctp"});
        check(
            &[("/EndpointSpec/Ports", json!([sctp]))],
            Err("EndpointSpec: sctp ports are not carried by this version"),
        );
    }
}
