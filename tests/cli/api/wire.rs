//! Rules of the protocol.

use serde_json::json;

use super::Manager;

#[test]
fn paths_have_a_version_or_none_and_unknown_ones_are_no_page() {
    let manager = Manager::new();
    for path in ["/services", "/v1.24/services", "/v1.47/services"] {
        assert_eq!(manager.get(path).status, 200, "{path}");
    }
    let new = manager.get("/v1.99/services");
    assert_eq!(
        (new.status, new.message().as_str()),
        (400, "client version 1.99 is too new. Maximum supported API version is 1.47")
    );
    for (method, path) in [("GET", "/nosuch"), ("PUT", "/services"), ("GET", "/v1.41/services/a/b/c")] {
        let answer = super::ask(&manager.served.socket, method, path, "");
        assert_eq!((answer.status, answer.message().as_str()), (404, "page not found"), "{method} {path}");
    }
}

#[test]
fn bodies_that_are_wrong_are_answered_in_words() {
    let manager = Manager::new();
    for (body, status, message) in [
        ("", 400, "got EOF while reading request body"),
        ("{", 400, "invalid JSON: EOF while parsing an object at line 1 column 1"),
        ("[]", 400, "invalid JSON"),
        (r#"{"Name": 5}"#, 400, "invalid JSON: invalid type: integer `5`, expected a string"),
        ("{}", 400, "rpc error: code = InvalidArgument desc = TaskSpec: missing runtime"),
    ] {
        let answer = super::ask(&manager.served.socket, "POST", "/services/create", body);
        assert_eq!(answer.status, status, "{body}: {}", answer.body);
        assert!(answer.message().starts_with(message), "{body}: {}", answer.body);
    }
}

#[test]
fn a_spec_comes_back_with_members_that_nobody_knows() {
    let manager = Manager::new();
    let spec = json!({
        "Name": "web", "Labels": {"a": "b"}, "New": {"deep": [1, 2]},
        "TaskTemplate": {
            "ContainerSpec": {"Image": "nginx", "Healthcheck": {"Test": ["CMD", "true"]}, "Later": true},
            "Resources": {"Limits": {"MemoryBytes": 8_388_608, "Other": "x"}},
        },
    });
    let id = manager.post("/services/create", &spec).json()["ID"].as_str().unwrap().to_owned();
    let shown = manager.get(&format!("/services/{id}")).json()["Spec"].clone();
    assert_eq!(shown["New"], spec["New"]);
    assert_eq!(shown["TaskTemplate"]["ContainerSpec"]["Later"], json!(true));
    assert_eq!(
        shown["TaskTemplate"]["ContainerSpec"]["Healthcheck"],
        spec["TaskTemplate"]["ContainerSpec"]["Healthcheck"]
    );
    assert_eq!(shown["TaskTemplate"]["Resources"]["Limits"], spec["TaskTemplate"]["Resources"]["Limits"]);
    assert_eq!(shown["Mode"], json!({"Replicated": {"Replicas": 1}}));
}

#[test]
fn an_update_names_the_version_it_has_read() {
    let manager = Manager::new();
    let id = manager.service("web");
    // Until the orchestrator of the test has seen it, versions move.
    std::thread::sleep(std::time::Duration::from_millis(500));
    let read = manager.get(&format!("/services/{id}")).json();
    let version = read["Version"]["Index"].as_u64().unwrap();
    let update = |version: &str, spec: &serde_json::Value| {
        manager.post(&format!("/services/web/update?version={version}"), spec)
    };
    let mut spec = read["Spec"].clone();
    spec["Labels"] = json!({"new": "1"});
    let missing = update("", &spec);
    assert_eq!(missing.status, 400);
    assert!(missing.message().starts_with("invalid service version ''"), "{}", missing.body);
    assert_eq!(update(&version.to_string(), &spec).status, 200);
    let stale = update(&version.to_string(), &spec);
    assert_eq!(
        (stale.status, stale.message().as_str()),
        (500, "rpc error: code = Unknown desc = update out of sequence")
    );
    spec["Name"] = json!("other");
    let now = manager.get(&format!("/services/{id}")).json()["Version"]["Index"].to_string();
    let renamed = update(&now, &spec);
    assert_eq!(renamed.status, 501);
    assert!(renamed.message().ends_with("renaming services is not supported"), "{}", renamed.body);
}

#[test]
fn objects_are_found_by_id_name_and_the_beginning_of_an_id() {
    let manager = Manager::new();
    let id = manager.service("web");
    for name in [id.as_str(), "web", "WEB", &id[..10]] {
        assert_eq!(manager.get(&format!("/services/{name}")).json()["ID"], json!(id), "{name}");
    }
    assert_eq!(manager.get("/services/we").message(), "service we not found");
}

#[test]
fn filters_are_maps_and_lists_and_begin_what_they_name() {
    let manager = Manager::new();
    manager.service("web-one");
    manager.service("web-two");
    manager.service("db");
    let count = |filters: &str| {
        let escaped: String = filters.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = manager.get(&format!("/services?filters={escaped}"));
        (answer.status, answer.json().as_array().map(Vec::len))
    };
    assert_eq!(count(r#"{"name":{"web":true}}"#), (200, Some(2)));
    assert_eq!(count(r#"{"name":["web"]}"#), (200, Some(2)));
    assert_eq!(count(r#"{"name":["web-one","db"]}"#), (200, Some(2)));
    assert_eq!(count(r#"{"mode":["global"]}"#), (200, Some(0)));
    assert_eq!(count(r#"{"foo":["x"]}"#), (400, None));
    assert_eq!(count("{"), (400, None));
}

#[test]
fn events_of_the_past_are_told_and_filtered() {
    let manager = Manager::new();
    let since = jiff::Timestamp::now().as_second() - 5;
    manager.service("web");
    let filter = "%7B%22type%22%3A%5B%22service%22%5D%2C%22event%22%3A%5B%22create%22%5D%7D";
    // What was written is told a moment later.
    let begun = std::time::Instant::now();
    let answer = loop {
        let until = jiff::Timestamp::now().as_second() + 1;
        let answer = manager.get(&format!("/events?since={since}&until={until}&filters={filter}"));
        if answer.body.contains('{') {
            break answer;
        }
        assert!(begun.elapsed() < std::time::Duration::from_secs(10), "{}", answer.body);
    };
    let lines: Vec<_> = answer.body.lines().filter(|line| line.starts_with('{')).collect();
    assert_eq!(lines.len(), 1, "{}", answer.body);
    let event: serde_json::Value = serde_json::from_str(lines[0]).unwrap();
    assert_eq!(
        (&event["Type"], &event["Action"], &event["scope"]),
        (&json!("service"), &json!("create"), &json!("swarm"))
    );
    assert_eq!(event["Actor"]["Attributes"]["name"], json!("web"));
}

#[test]
fn a_secret_never_comes_out_and_a_config_does() {
    let manager = Manager::new();
    for kind in ["secrets", "configs"] {
        let made = manager.post(&format!("/{kind}/create"), &json!({"Name": "x", "Data": "aGVsbG8="}));
        assert_eq!(made.status, 201, "{}", made.body);
    }
    assert!(!manager.get("/secrets").body.contains("aGVsbG8"), "the secret came out");
    assert_eq!(manager.get("/configs/x").json()["Spec"]["Data"], json!("aGVsbG8="));
}

#[test]
fn addresses_are_with_their_prefix() {
    let manager = Manager::new();
    let spec = json!({"Name": "web", "TaskTemplate": {"ContainerSpec": {"Image": "a"}},
        "EndpointSpec": {"Ports": [{"TargetPort": 80, "PublishedPort": 8080}]}});
    assert_eq!(manager.post("/services/create", &spec).status, 201);
    std::thread::sleep(std::time::Duration::from_millis(500));
    let service = manager.get("/services/web").json();
    let task = manager.get("/tasks").json()[0].clone();
    for address in [&service["Endpoint"]["VirtualIPs"][0]["Addr"], &task["NetworksAttachments"][0]["Addresses"][0]] {
        let (address, prefix) = address.as_str().unwrap().split_once('/').unwrap();
        assert!(address.parse::<std::net::IpAddr>().is_ok() && prefix == "24");
    }
}
