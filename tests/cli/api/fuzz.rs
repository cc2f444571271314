//! Bodies that clients sent, with something wrong in them: whatever it is, it is refused in words or taken, and
//! the daemon goes on.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};

use super::{Manager, ask};

/// Bodies of one run, and where they begin: another seed is `MESH_SEED=N`.
const BODIES: u64 = 1200;
const SEED: u64 = 1;

/// What was recorded from the docker CLI, and where it was sent.
fn recorded() -> Vec<(&'static str, Value)> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/cli/recordings/bodies.json");
    let all: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let endpoint = |kind: &str| match kind {
        "ServiceSpec" => Some("/services/create"),
        "NetworkCreateRequest" => Some("/networks/create"),
        "SecretSpec" => Some("/secrets/create"),
        "ConfigSpec" => Some("/configs/create"),
        "InitRequest" => Some("/swarm/init"),
        "JoinRequest" => Some("/swarm/join"),
        "NodeSpec" => Some("/nodes/node1/update"),
        "SwarmSpec" => Some("/swarm/update"),
        "ExecCreateRequest" => Some("/containers/nosuch/exec"),
        "ExecStartRequest" => Some("/exec/nosuch/start"),
        _ => None,
    };
    let sent = all.iter().filter_map(|body| Some((endpoint(body["type"].as_str()?)?, body["body"].clone())));
    sent.collect()
}

/// What no client would put there.
fn senseless(chance: &mut StdRng) -> Value {
    let deep = (0..chance.random_range(2..80)).fold(json!({"a": 1}), |inner, _| json!([inner]));
    let long = "x".repeat(chance.random_range(1..20_000));
    [
        Value::Null,
        json!(true),
        json!(-1),
        json!(0),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(1e300),
        json!(0.5),
        json!(""),
        json!("\u{0}"),
        json!("../../etc/passwd"),
        json!("10.0.0.0/99"),
        json!("::/0"),
        json!("nüll\u{202e}"),
        json!("{{.Task.Nope}}"),
        json!("{{"),
        json!("-----BEGIN CERTIFICATE-----"),
        json!(long),
        json!([]),
        json!([null, {}, "x", 1]),
        json!({}),
        json!({"": {"": ""}}),
        deep,
    ]
    .choose(chance)
    .cloned()
    .unwrap_or_default()
}

/// How many values there are in a body, itself among them.
fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(list) => list.iter().map(count).sum(),
        Value::Object(map) => map.values().map(count).sum::<usize>(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

/// Changes the value that stands at this place.
fn change(value: &mut Value, place: &mut usize, by: &mut dyn FnMut(&mut Value)) {
    if *place == 0 {
        by(value);
        *place = usize::MAX;
        return;
    }
    *place -= 1;
    let inner: Vec<&mut Value> = match value {
        Value::Array(list) => list.iter_mut().collect(),
        Value::Object(map) => map.values_mut().collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return,
    };
    for one in inner {
        if *place == usize::MAX {
            return;
        }
        change(one, place, by);
    }
}

fn spoil(body: &mut Value, chance: &mut StdRng) {
    for _ in 0..chance.random_range(1..4) {
        let mut place = chance.random_range(0..count(body));
        let other = senseless(chance);
        let how = chance.random_range(0..4);
        change(body, &mut place, &mut |value| match (how, &mut *value) {
            // A member goes, a list grows, a text gets a zero byte and the end of a line; else it is another value.
            (0, Value::Object(map)) if !map.is_empty() => {
                let key = map.keys().nth(map.len() / 2).cloned().unwrap_or_default();
                map.remove(&key);
            }
            (1, Value::Array(list)) => list.extend(vec![other.clone(); 50]),
            (2, Value::String(text)) => text.push_str("\u{0}é\n"),
            _ => *value = other.clone(),
        });
    }
}

#[test]
fn spoiled_bodies_are_refused_in_words_or_taken() {
    let manager = Manager::new();
    manager.service("web");
    let recorded = recorded();
    assert!(recorded.len() >= 30, "{} bodies were recorded", recorded.len());
    let seed = std::env::var("MESH_SEED").ok().map_or(SEED, |seed| seed.parse().unwrap());
    for number in 0..BODIES {
        let mut chance = StdRng::seed_from_u64(seed * 1_000_000 + number);
        let (path, mut body) = recorded.choose(&mut chance).unwrap().clone();
        spoil(&mut body, &mut chance);
        let mut text = body.to_string();
        if chance.random_range(0..20) == 0 {
            let mut cut = chance.random_range(0..=text.len());
            while !text.is_char_boundary(cut) {
                cut -= 1;
            }
            text.truncate(cut);
        }
        let path = match path {
            "/services/create" if chance.random_range(0..2) == 0 => of_version(&manager, "/services/web"),
            "/nodes/node1/update" => of_version(&manager, "/nodes/node1"),
            "/swarm/update" => of_version(&manager, "/swarm"),
            path => path.to_owned(),
        };
        let answer = ask(&manager.served.socket, "POST", &path, &text);
        let told = format!(
            "seed {seed}, body {number}: POST {path} {}: {} {}",
            &text[..text.len().min(4000)],
            answer.status,
            answer.body
        );
        let racing = answer.status == 500 && answer.body.contains("update out of sequence");
        assert!(answer.status < 500 || matches!(answer.status, 501 | 503) || racing, "{told}");
        assert!(answer.status < 400 || !answer.message().is_empty(), "{told}");
    }
    // What was taken can be read again, all of it.
    for path in ["/services", "/networks", "/secrets", "/configs", "/tasks", "/nodes", "/swarm", "/info"] {
        assert_eq!(manager.get(path).status, 200, "{path}");
    }
}

/// The path of an update of what is there now.
fn of_version(manager: &Manager, path: &str) -> String {
    let version = manager.get(path).json()["Version"]["Index"].as_u64().unwrap_or(1);
    format!("{path}/update?version={version}")
}
