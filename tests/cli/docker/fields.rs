//! Member by member, what becomes of what a client may send, found by sending it: a member is *served* if the model
//! differs by it, *refused* if the request is, and *kept* if it comes back and does nothing else. And of what the
//! docker CLI needs to read (found by leaving it out of what the real Swarm answered), whether it is answered.
//!
//! `members.json` has a value for each member of the Engine API's requests, `sensitivity.json` what the CLI reads.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use harness::swarm::Served;
use serde_json::{Value, json};

use crate::api::{Answer, Manager, ask};

/// What became of a member.
enum Fate {
    Served,
    Kept,
    Refused(String),
}

fn read(name: &str) -> Value {
    let path = format!("{}/cli/recordings/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Puts a value where a path leads, in what stands beside it; `None`: only what stands beside it.
fn body(base: &Value, path: &str, value: Option<&Value>, beside: &Value) -> Value {
    let mut body = base.clone();
    let words: Vec<_> = path.split(' ').next().unwrap().split('.').collect();
    let (last, parents) = words.split_last().unwrap();
    let mut at = &mut body;
    for word in parents {
        let (name, is_list) = word.strip_suffix("[]").map_or((*word, false), |name| (name, true));
        let object = at.as_object_mut().unwrap();
        let inner = object.entry(name).or_insert_with(|| if is_list { json!([{}]) } else { json!({}) });
        at = if is_list { &mut inner[0] } else { inner };
        if is_list && let Value::Object(beside) = beside {
            at.as_object_mut().unwrap().extend(beside.clone());
        }
    }
    let object = at.as_object_mut().unwrap();
    // Of an object that is no list's, it is the member's own neighbours.
    if !parents.iter().any(|parent| parent.ends_with("[]"))
        && let Value::Object(beside) = beside
    {
        object.extend(beside.clone());
    }
    if let Some(value) = value {
        object.insert((*last).to_owned(), value.clone());
    }
    body
}

/// A manager with what members name.
fn manager() -> (Manager, BTreeMap<&'static str, String>) {
    let manager = Manager::new();
    let made = |path: &str, body: &Value, id: &str| {
        let answer = manager.post(path, body);
        assert_eq!(answer.status, 201, "{path}: {}", answer.body);
        answer.json()[id].as_str().unwrap().to_owned()
    };
    made("/networks/create", &json!({"Name": "back", "Driver": "overlay"}), "Id");
    let secret = made("/secrets/create", &json!({"Name": "pw", "Data": "eA=="}), "ID");
    let config = made("/configs/create", &json!({"Name": "cfg", "Data": "eA=="}), "ID");
    (manager, BTreeMap::from([("SECRET", secret), ("CONFIG", config)]))
}

/// What the model has, without the client's own words.
fn model(served: &Served, of: &str) -> Value {
    let view = served.cluster.store().unwrap().view();
    let mut model = match of {
        "POST /nodes/{id}/update" => json!(view.nodes().iter().map(|node| &node.spec).collect::<Vec<_>>()),
        "POST /swarm/update" => json!(view.cluster().map(|cluster| &cluster.spec)),
        _ => Value::Null,
    };
    if let Some(service) = view.services().iter().find(|service| service.spec.annotations.name == "x") {
        model = json!(service.spec);
    }
    if let Some(network) = view.networks().iter().find(|network| network.spec.annotations.name == "x") {
        model = json!(network.spec);
    }
    for spec in view.secrets().iter().map(|one| &one.spec).chain(view.configs().iter().map(|one| &one.spec)) {
        if spec.annotations.name == "x" {
            model = json!(spec);
        }
    }
    forget(&mut model);
    model
}

/// Without what is only kept to be shown again.
fn forget(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.remove("docker");
            map.values_mut().for_each(forget);
        }
        Value::Array(list) => list.iter_mut().for_each(forget),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Sends a body, and takes away again what came of it; the answer, and the model while it was there.
fn send(manager: &Manager, of: &str, body: &Value) -> (Answer, Value) {
    let version = |path: &str| manager.get(path).json()["Version"]["Index"].to_string();
    let path = match of {
        "POST /nodes/{id}/update" => {
            // By its id: its name is among what is sent.
            let node = manager.get("/nodes").json()[0]["ID"].as_str().unwrap().to_owned();
            format!("/nodes/{node}/update?version={}", version(&format!("/nodes/{node}")))
        }
        "POST /swarm/update" => format!("/swarm/update?version={}", version("/swarm")),
        other => other.split(' ').nth(1).unwrap().trim_end_matches(',').to_owned(),
    };
    let answer = manager.post(&path, body);
    let model = model(&manager.served, of);
    if let Some(kind) = ["/services", "/networks", "/secrets", "/configs"].into_iter().find(|kind| of.contains(kind)) {
        ask(&manager.served.socket, "DELETE", &format!("{kind}/x"), "");
    }
    (answer, model)
}

fn base(manager: &Manager, of: &str) -> Value {
    match of {
        "POST /networks/create" => json!({"Name": "x", "Driver": "overlay"}),
        "POST /secrets/create" | "POST /configs/create" => json!({"Name": "x", "Data": "eQ=="}),
        "POST /nodes/{id}/update" => json!({"Role": "manager", "Availability": "active"}),
        "POST /swarm/update" => manager.get("/swarm").json()["Spec"].clone(),
        _ => json!({"Name": "x", "TaskTemplate": {"ContainerSpec": {"Image": "a"}}}),
    }
}

/// The requests' members, and what became of each.
fn sent() -> BTreeMap<String, Vec<(String, Fate)>> {
    let (manager, ids) = manager();
    let mut fates: BTreeMap<String, Vec<(String, Fate)>> = BTreeMap::new();
    for row in read("members").as_array().unwrap() {
        let (of, member) = (row["of"].as_str().unwrap(), row["member"].as_str().unwrap());
        let beside = ids.iter().fold(row["beside"].to_string(), |text, (name, id)| text.replace(name, id));
        let beside: Value = serde_json::from_str(&beside).unwrap();
        let base = base(&manager, of);
        let (_, without) = send(&manager, of, &body(&base, member, None, &beside));
        let (answer, with) = send(&manager, of, &body(&base, member, Some(&row["value"]), &beside));
        if of.starts_with("POST /swarm") || of.starts_with("POST /nodes") {
            send(&manager, of, &base);
        }
        let fate = if answer.status >= 400 {
            Fate::Refused(answer.message())
        } else if with == without {
            Fate::Kept
        } else {
            Fate::Served
        };
        fates.entry(of.to_owned()).or_default().push((member.to_owned(), fate));
    }
    fates
}

/// Whether a path of members is in an answer: in one of a list's, if there is a list.
fn has(value: &Value, path: &str) -> bool {
    let (word, rest) = path.split_once('.').unwrap_or((path, ""));
    let (name, is_list) = word.strip_suffix("[]").map_or((word, false), |name| (name, true));
    let inner = if name.is_empty() { Some(value) } else { value.as_object().and_then(|object| object.get(name)) };
    let Some(inner) = inner else { return false };
    match (is_list, rest) {
        (_, "") => true,
        (true, rest) => inner.as_array().is_some_and(|list| list.iter().any(|one| has(one, rest))),
        (false, rest) => has(inner, rest),
    }
}

/// A service with most of what a service may have.
fn full(secret: &str, config: &str) -> Value {
    let file = |name: &str| json!({"Name": name, "UID": "0", "GID": "0", "Mode": 292});
    let update = json!({"Parallelism": 1, "Delay": 1, "FailureAction": "pause", "Monitor": 5_000_000_000_u64,
        "MaxFailureRatio": 0.1, "Order": "stop-first"});
    let container = json!({"Image": "a:1", "Labels": {"cl": "2"}, "Command": ["sh"], "Args": ["-c", "true"], "Env": ["A=1"],
        "Dir": "/d", "User": "7", "Init": true, "ReadOnly": true, "StopGracePeriod": 3_000_000_000_u64,
        "StopSignal": "SIGINT", "TTY": true, "Hostname": "h", "Hosts": ["10.0.0.1 a"],
        "Mounts": [{"Type": "volume", "Source": "v1", "Target": "/data", "ReadOnly": true}],
        "Healthcheck": {"Test": ["CMD", "true"], "Interval": 1_000_000_000, "Timeout": 1_000_000_000, "Retries": 2},
        "DNSConfig": {"Nameservers": ["10.0.0.9"], "Search": ["a.b"], "Options": ["ndots:1"]},
        "Secrets": [{"File": file("pw"), "SecretID": secret, "SecretName": "pw"}],
        "Configs": [{"File": file("cfg"), "ConfigID": config, "ConfigName": "cfg"}],
        "Sysctls": {"net.core.somaxconn": "7"}, "CapabilityAdd": ["CAP_NET_ADMIN"], "Ulimits": [{"Name": "nofile", "Soft": 7, "Hard": 7}]});
    json!({"Name": "full", "Labels": {"sl": "1"}, "Mode": {"Replicated": {"Replicas": 2}},
        "TaskTemplate": {"ContainerSpec": container, "ForceUpdate": 1, "Networks": [{"Target": "back", "Aliases": ["www"]}],
            "Resources": {"Limits": {"NanoCPUs": 500_000_000, "MemoryBytes": 67_108_864, "Pids": 9},
                "Reservations": {"NanoCPUs": 1_000_000, "MemoryBytes": 8_388_608}},
            "RestartPolicy": {"Condition": "on-failure", "Delay": 1, "MaxAttempts": 3, "Window": 1},
            "Placement": {"Constraints": ["node.role==manager"], "Preferences": [{"Spread": {"SpreadDescriptor": "node.labels.a"}}],
                "MaxReplicas": 2},
            "LogDriver": {"Name": "json-file", "Options": {"max-size": "1m"}}},
        "UpdateConfig": update, "RollbackConfig": update,
        "EndpointSpec": {"Mode": "vip", "Ports": [{"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8080,
            "PublishMode": "ingress"}]}})
}

/// Of what the CLI reads, what there is in our answers and what there is not, by endpoint.
fn answered() -> Vec<(String, usize, Vec<String>)> {
    let (manager, ids) = manager();
    let made = manager.post("/services/create", &full(&ids["SECRET"], &ids["CONFIG"]));
    assert_eq!(made.status, 201, "{}", made.body);
    let begun = std::time::Instant::now();
    while !manager.get("/tasks").body.contains("\"running\"") {
        assert!(begun.elapsed() < std::time::Duration::from_secs(10), "no task runs");
    }
    let task = manager.get("/tasks").json()[0]["ID"].as_str().unwrap().to_owned();
    let mut all = Vec::new();
    for (endpoint, members) in read("sensitivity").as_object().unwrap() {
        let (method, path) = endpoint.split_once(' ').unwrap();
        let path = match path {
            "/configs/{id}" => "/configs/cfg".to_owned(),
            "/secrets/{id}" => "/secrets/pw".to_owned(),
            "/networks/{id}" => "/networks/back?verbose=true".to_owned(),
            "/nodes/{id}" => "/nodes/node1".to_owned(),
            "/services/{id}" => "/services/full?insertDefaults=true".to_owned(),
            "/services" => "/services?status=true".to_owned(),
            "/tasks/{id}" => format!("/tasks/{task}"),
            // These need containers and a registry: the test `containers` has them.
            path if path.starts_with("/containers") || path.starts_with("/distribution") || path == "/events" => {
                continue;
            }
            path => path.to_owned(),
        };
        if method != "GET" {
            continue;
        }
        let answer = manager.get(&path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        let answer = answer.json();
        let members: Vec<_> = members.as_array().unwrap().iter().filter_map(Value::as_str).collect();
        // Names of labels and options are no members, and a refusal's text is another answer's.
        let members = members.into_iter().filter(|member| {
            *member != "message"
                && !["Labels.", "Options.", "Attributes.", "Sysctls.", "IndexConfigs.", "Containers."]
                    .iter()
                    .any(|of| member.contains(of))
        });
        let (there, absent): (Vec<&str>, Vec<&str>) = members.partition(|member| has(&answer, member));
        all.push((endpoint.clone(), there.len(), absent.into_iter().map(str::to_owned).collect()));
    }
    all
}

fn list(names: &[&str]) -> String {
    if names.is_empty() {
        "-".to_owned()
    } else {
        names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
    }
}

/// The part of the page.
pub(super) fn page() -> String {
    let mut page = String::from(
        "\n## What clients send\n\nFound by sending each member: *served* if it changes what the cluster holds; *kept* if it comes back as it was \
         sent and does nothing; *refused* with the text below.\n",
    );
    for (of, members) in sent() {
        let names = |fits: fn(&Fate) -> bool| {
            let names = members.iter().filter(|(_, fate)| fits(fate)).map(|(name, _)| name.as_str());
            list(&names.collect::<Vec<_>>())
        };
        let _ = write!(page, "\n### `{of}`\n\n");
        let _ = writeln!(page, "- served: {}", names(|fate| matches!(fate, Fate::Served)));
        let _ = writeln!(page, "- kept: {}", names(|fate| matches!(fate, Fate::Kept)));
        for (name, fate) in &members {
            if let Fate::Refused(text) = fate {
                let _ = writeln!(page, "- refused: `{name}`: {}", text.replace('\n', " "));
            }
        }
    }
    page.push_str(
        "\n## What the docker CLI reads\n\nMembers without which its output changes, as found before the real Swarm. Those that are not answered are \
         zero, or of what a swarm in memory has none of: certificates, sandboxes, host ports, failures.\n\n| endpoint | answered | not answered |\n|---|---|---|\n",
    );
    for (endpoint, there, absent) in answered() {
        let absent: Vec<_> = absent.iter().map(String::as_str).collect();
        let _ = writeln!(page, "| `{endpoint}` | {there} | {} |", list(&absent));
    }
    page
}

#[test]
fn bodies_are_made_where_a_path_leads() {
    let base = json!({"Name": "x"});
    let beside = json!({"Target": "/a"});
    for (path, value, expected) in [
        ("Labels", json!({"a": "b"}), json!({"Name": "x", "Labels": {"a": "b"}, "Target": "/a"})),
        ("A.B.C", json!(1), json!({"Name": "x", "A": {"B": {"C": 1, "Target": "/a"}}})),
        ("A.L[].M.N (odd)", json!(1), json!({"Name": "x", "A": {"L": [{"Target": "/a", "M": {"N": 1}}]}})),
    ] {
        assert_eq!(body(&base, path, Some(&value), &beside), expected);
    }
    assert_eq!(body(&base, "A.B", None, &Value::Null), json!({"Name": "x", "A": {}}));
}
