//! Traefik and Portainer are not installed here: what their sources ask is asked, and what they read is read.
//!
//! Traefik: pkg/provider/docker/pswarm.go; to 3.6.0 it speaks 1.24 without negotiating. Portainer:
//! api/docker/snapshot.go, and the pages of its browser application, app/docker/rest.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::api::{Manager, ask};

/// A service on a network of its own, with its two tasks running.
fn with_service() -> Manager {
    let manager = Manager::new();
    let made = manager.post("/networks/create", &json!({"Name": "back", "Driver": "overlay"}));
    assert_eq!(made.status, 201, "{}", made.body);
    // As the docker CLI does: it names no endpoint mode, and the answer must.
    let spec = json!({"Name": "web", "Labels": {"traefik.http.services.web.loadbalancer.server.port": "80",
            "com.docker.stack.namespace": "shop"},
        "TaskTemplate": {"ContainerSpec": {"Image": "web:1"}, "Networks": [{"Target": "back"}]},
        "Mode": {"Replicated": {"Replicas": 2}}, "EndpointSpec": {"Ports": [{"TargetPort": 80, "PublishedPort": 8080}]}});
    assert_eq!(manager.post("/services/create", &spec).status, 201);
    let begun = Instant::now();
    while running(&manager, "").len() < 2 {
        assert!(begun.elapsed() < Duration::from_secs(10), "no two tasks run");
        std::thread::sleep(Duration::from_millis(20));
    }
    manager
}

/// Go's clients escape filters like this.
fn filters(filters: &Value) -> String {
    filters.to_string().bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[track_caller]
fn list(manager: &Manager, path: &str) -> Vec<Value> {
    let answer = manager.get(path);
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    answer.json().as_array().unwrap_or_else(|| panic!("{path} is no list: {}", answer.body)).clone()
}

fn running(manager: &Manager, version: &str) -> Vec<Value> {
    let wanted = filters(&json!({"desired-state": {"running": true}, "service": {"web": true}}));
    let tasks = list(manager, &format!("{version}/tasks?filters={wanted}"));
    tasks.into_iter().filter(|task| task["Status"]["State"] == "running").collect()
}

/// As netip.ParsePrefix reads it: a string that is none fails the whole list.
#[track_caller]
fn prefix(value: &Value) -> IpAddr {
    let (address, bits) = value.as_str().unwrap().split_once('/').unwrap();
    assert!(bits.parse::<u8>().unwrap() <= 32, "{value}");
    address.parse().unwrap()
}

#[test]
fn traefik_finds_the_tasks_of_a_service_and_its_virtual_address() {
    let manager = with_service();
    for version in ["/v1.24", "/v1.44", "/v1.47"] {
        let told = manager.get(&format!("{version}/version")).json();
        let (major, minor) = told["ApiVersion"].as_str().unwrap().split_once('.').unwrap();
        // From 1.29 on it asks for networks by their scope.
        assert!(major == "1" && minor.parse::<u32>().unwrap() >= 29, "{told}");
        let services = list(&manager, &format!("{version}/services"));
        let networks =
            list(&manager, &format!("{version}/networks?filters={}", filters(&json!({"scope": {"swarm": true}}))));
        let by_driver =
            list(&manager, &format!("{version}/networks?filters={}", filters(&json!({"driver": {"overlay": true}}))));
        assert_eq!(networks.len(), by_driver.len());
        let named = |id: &Value| {
            let network = networks.iter().find(|network| network["Id"] == *id);
            network.map(|network| network["Name"].as_str().unwrap().to_owned())
        };
        let [service] = &services[..] else { panic!("{services:?}") };
        assert_eq!(service["Spec"]["Labels"]["traefik.http.services.web.loadbalancer.server.port"], "80");
        assert_eq!(service["Spec"]["EndpointSpec"]["Mode"], "vip", "without it Traefik sees no network");
        assert!(service["Spec"]["Mode"]["Global"].is_null());
        let vips = service["Endpoint"]["VirtualIPs"].as_array().unwrap();
        let vips: Vec<_> = vips.iter().map(|vip| (named(&vip["NetworkID"]).unwrap(), prefix(&vip["Addr"]))).collect();
        assert!(vips.iter().any(|(network, _)| network == "back"), "{vips:?}");
        let tasks = running(&manager, version);
        assert_eq!(tasks.len(), 2);
        for task in &tasks {
            let node = manager.get(&format!("{version}/nodes/{}", task["NodeID"].as_str().unwrap())).json();
            assert!(node["Status"]["Addr"].as_str().unwrap().parse::<IpAddr>().is_ok(), "{node}");
            let attached = task["NetworksAttachments"].as_array().unwrap();
            let back = attached.iter().find(|one| named(&one["Network"]["ID"]).as_deref() == Some("back")).unwrap();
            prefix(&back["Addresses"][0]);
            assert!(task["Slot"].as_u64().unwrap() > 0 && task["ServiceID"] == service["ID"]);
        }
    }
}

#[test]
fn portainer_takes_its_snapshot_and_its_pages_are_answered() {
    let manager = with_service();
    assert_eq!(ask(&manager.served.socket, "HEAD", "/_ping", "").status, 200);
    let info = manager.get("/v1.41/info").json();
    assert_eq!((&info["Swarm"]["ControlAvailable"], info["ServerVersion"].is_string()), (&json!(true), true));
    assert!(info["NCPU"].is_u64() && info["MemTotal"].is_u64(), "{info}");
    let services = list(&manager, "/v1.41/services");
    assert_eq!(services[0]["Spec"]["Labels"]["com.docker.stack.namespace"], "shop");
    let nodes = list(&manager, "/v1.41/nodes");
    assert!(nodes[0]["Description"]["Resources"]["NanoCPUs"].is_u64(), "{}", nodes[0]);
    for path in ["/v1.41/containers/json?all=1", "/v1.41/images/json?all=0", "/v1.41/networks"] {
        list(&manager, path);
    }
    assert!(manager.get("/v1.41/volumes").json()["Volumes"].is_array());
    assert!(manager.get("/v1.41/version").json()["ApiVersion"].is_string());

    // Its pages, through its proxy: lists with filters as Go writes them or none, and without a version.
    let now = jiff::Timestamp::now().as_second();
    let events = manager.get(&format!("/events?since={}&until={now}", now - 86_400));
    assert_eq!(events.status, 200);
    let dangling = filters(&json!({"dangling": ["true"]}));
    let up_to_date = filters(&json!({"service": ["web"], "desired-state": ["running", "accepted"]}));
    for path in [
        "/services".to_owned(),
        "/services?status=true".to_owned(),
        format!("/tasks?filters={up_to_date}"),
        "/nodes".to_owned(),
        "/secrets".to_owned(),
        "/configs".to_owned(),
        "/networks".to_owned(),
        "/containers/json?all=1&filters=%7B%7D".to_owned(),
        "/plugins".to_owned(),
    ] {
        list(&manager, &path);
    }
    assert!(manager.get(&format!("/volumes?filters={dangling}")).json()["Volumes"].is_array());
    assert_eq!(manager.get("/swarm").status, 200);
    assert!(manager.get("/system/df").json()["LayersSize"].is_u64());
    assert_eq!(manager.get("/services/web/logs?stdout=1&stderr=1&timestamps=0&tail=100").status, 200);

    // It updates a service by what it has read, as does its button "force".
    // Versions move until the tasks have settled: it reads again and tries again, as its user does.
    let begun = std::time::Instant::now();
    loop {
        let read = manager.get("/services/web").json();
        let mut spec = read["Spec"].clone();
        spec["TaskTemplate"]["ForceUpdate"] = json!(1);
        let path = format!("/services/web/update?version={}&registryAuthFrom=previous-spec", read["Version"]["Index"]);
        let updated = manager.post(&path, &spec);
        if updated.status == 200 {
            break;
        }
        assert!(updated.message().contains("update out of sequence"), "{}", updated.body);
        assert!(begun.elapsed() < std::time::Duration::from_secs(10), "it is never in time");
    }
    assert_eq!(ask(&manager.served.socket, "DELETE", "/services/web", "").status, 200);
}
