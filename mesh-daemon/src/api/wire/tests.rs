//! What the docker CLI sent and read goes through the types of this module and comes out the same.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;

/// Bodies as recorded from docker 28.2.2 and a Swarm of dockerd 20.10.24: one of each shape.
const BODIES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/cli/recordings/bodies.json");

fn recorded(kind: &str) -> Vec<(String, Value)> {
    let bodies: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(BODIES).unwrap()).unwrap();
    let named = bodies.into_iter().filter(|body| body["type"] == kind);
    named.map(|body| (body["from"].as_str().unwrap().to_owned(), body["body"].clone())).collect()
}

/// Through the type and back; the members that it did not know.
fn through<T: Serialize + DeserializeOwned>(body: &Value) -> Value {
    let value: T = serde_json::from_value(body.clone()).unwrap();
    serde_json::to_value(value).unwrap()
}

/// As Go reads it: no difference between `null`, a zero value and a missing member.
fn as_go_reads(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let read = map.into_iter().map(|(key, value)| (key, as_go_reads(value)));
            Value::Object(read.filter(|(_, value)| !is_go_zero(value)).collect())
        }
        Value::Array(list) => Value::Array(list.into_iter().map(as_go_reads).collect()),
        Value::Number(number) if number.as_f64() == Some(0.0) => json!(0),
        other => other,
    }
}

fn is_go_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

#[track_caller]
fn check<T: Serialize + DeserializeOwned>(kind: &str) {
    let bodies = recorded(kind);
    assert!(!bodies.is_empty(), "no {kind} was recorded");
    for (name, body) in bodies {
        assert_eq!(as_go_reads(through::<T>(&body)), as_go_reads(body), "{kind} of {name}");
    }
}

#[test]
fn what_clients_send_is_kept_whole() {
    check::<ServiceSpec>("ServiceSpec");
    check::<NodeSpec>("NodeSpec");
    check::<SwarmSpec>("SwarmSpec");
    check::<InitRequest>("InitRequest");
    check::<JoinRequest>("JoinRequest");
    check::<NetworkCreateRequest>("NetworkCreateRequest");
    check::<SecretSpec>("SecretSpec");
    check::<ConfigSpec>("ConfigSpec");
    check::<ExecCreateRequest>("ExecCreateRequest");
    check::<ExecStartRequest>("ExecStartRequest");
}

#[test]
fn what_the_real_swarm_answers_is_read_and_written_whole() {
    check::<Service>("Service");
    check::<Task>("Task");
    check::<Node>("Node");
    check::<Swarm>("Swarm");
    check::<Network>("Network");
    check::<Secret>("Secret");
    check::<Config>("Config");
    check::<SystemInfo>("SystemInfo");
    check::<VersionAnswer>("VersionAnswer");
    check::<ContainerSummary>("ContainerSummary");
    check::<Distribution>("Distribution");
    check::<Event>("Event");
}

/// The same members in the same order, zeros included: what `docker service inspect` prints.
#[test]
fn specs_are_written_as_docker_writes_them() {
    for (name, body) in recorded("Service") {
        let text = serde_json::to_string(&through::<ServiceSpec>(&body["Spec"])).unwrap();
        assert_eq!(text, serde_json::to_string(&body["Spec"]).unwrap(), "{name}");
    }
}

#[test]
fn members_that_nobody_knows_come_back() {
    let body = json!({"Name": "web", "TaskTemplate": {"ContainerSpec": {"Image": "a", "New": {"b": [1, null]}}}});
    let spec: ServiceSpec = serde_json::from_value(body.clone()).unwrap();
    assert_eq!(spec.task_template.container_spec.as_ref().unwrap().rest["New"], json!({"b": [1, null]}));
    assert_eq!(through::<ServiceSpec>(&body)["TaskTemplate"]["ContainerSpec"], body["TaskTemplate"]["ContainerSpec"]);
}

/// As Go reads them; what is no member's name stays as it is, labels above all.
#[test]
fn the_case_of_a_members_letters_does_not_matter() {
    let spec: ServiceSpec = serde_json::from_value(json!({
        "name": "web", "LABELS": {"name": "x", "Name": "y"}, "mode": {"replicated": {"replicas": 2}},
        "taskTemplate": {"containerSpec": {"image": "a", "healthCheck": {"test": ["CMD", "true"]}}, "other": 1},
    }))
    .unwrap();
    assert_eq!((spec.name.as_str(), spec.labels.len()), ("web", 2));
    assert_eq!(spec.mode.replicated.as_ref().and_then(|replicated| replicated.replicas), Some(2));
    let container = spec.task_template.container_spec.as_ref().unwrap();
    assert!(container.image == "a" && container.healthcheck.is_some() && container.rest.is_empty());
    assert_eq!(spec.task_template.rest["other"], json!(1));
    // What is there in two spellings is there twice.
    let both = serde_json::from_value::<SecretSpec>(json!({"name": "a", "Name": "b"})).unwrap_err();
    assert_eq!(both.to_string(), "duplicate field `Name`");
}

#[test]
fn null_is_zero_everywhere() {
    let spec: ServiceSpec = serde_json::from_value(json!({"Name": null, "Labels": null, "Networks": null})).unwrap();
    assert_eq!(spec, ServiceSpec::default());
}

#[test]
fn base64_is_read_with_and_without_padding_and_in_both_alphabets() {
    for (bytes, text) in
        [(&b""[..], ""), (b"f", "Zg=="), (b"fo", "Zm8="), (b"foo", "Zm9v"), (b"\xfb\xff\xfe!", "+//+IQ==")]
    {
        assert_eq!(base64::encode(bytes), text);
        assert_eq!(base64::decode(text).as_deref(), Some(bytes));
        let url = text.trim_end_matches('=').replace('+', "-").replace('/', "_");
        assert_eq!(base64::decode(&url).as_deref(), Some(bytes));
    }
    assert_eq!(base64::decode("Z"), None);
    assert_eq!(base64::decode("a b="), None);
}
