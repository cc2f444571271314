//! What the socket stands: many clients, slow ones, large and senseless requests.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use mesh_daemon::api::{LogLine, Output};

use super::{Manager, ask};

#[test]
fn the_socket_is_for_root_and_its_group() {
    let manager = Manager::new();
    let mode = std::fs::metadata(&manager.served.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
}

#[test]
fn a_socket_that_is_served_is_not_taken_over_and_a_dead_one_is() {
    let manager = Manager::new();
    let folder = manager.served.socket.parent().unwrap().to_owned();
    let second = harness::swarm::Served::new(&folder).err().map(|error| error.to_string());
    assert!(second.is_some_and(|text| text.contains("is served by another process")));
    assert_eq!(manager.get("/_ping").status, 200);
    let dead = tempfile::tempdir().unwrap();
    drop(std::os::unix::net::UnixListener::bind(dead.path().join("docker.sock")).unwrap());
    let served = harness::swarm::Served::new(dead.path()).unwrap();
    assert_eq!(ask(&served.socket, "GET", "/_ping", "").status, 200);
}

#[test]
fn a_body_beyond_the_bound_is_refused() {
    let manager = Manager::new();
    let answer = ask(&manager.served.socket, "POST", "/configs/create", &"x".repeat((4 << 20) + 1));
    assert_eq!((answer.status, answer.message().as_str()), (413, "the request body is larger than 4194304 bytes"));
}

#[test]
fn clients_that_say_nothing_do_not_stop_others() {
    let manager = Manager::new();
    let silent: Vec<_> = (0..200)
        .map(|_| {
            let mut stream = UnixStream::connect(&manager.served.socket).unwrap();
            stream.write_all(b"POST /services/create HTTP/1.1\r\nHost: d\r\nContent-Length: 100\r\n\r\n{").unwrap();
            stream
        })
        .collect();
    assert_eq!(manager.get("/services").status, 200);
    drop(silent);
}

#[test]
fn five_hundred_ask_at_once() {
    let manager = Manager::new();
    manager.service("web");
    std::thread::scope(|scope| {
        let asked: Vec<_> = (0..500)
            .map(|_| scope.spawn(|| ask(&manager.served.socket, "GET", "/services?status=true", "").status))
            .collect();
        assert!(asked.into_iter().all(|asked| asked.join().unwrap() == 200));
    });
}

/// A hundred follow the output of a service, and what else is asked is answered all the same.
#[test]
fn a_hundred_follow_logs() {
    let manager = Manager::new();
    let line = |bytes: &'static str| {
        let at = jiff::Timestamp::now();
        LogLine { at, output: Output::Stdout, bytes: bytes.into() }
    };
    *manager.served.cluster.output.lock().unwrap() = vec![line("first\n"), line("last\n")];
    manager.service("web");
    let begun = Instant::now();
    while !manager.get("/tasks").body.contains("\"running\"") {
        assert!(begun.elapsed() < Duration::from_secs(10), "no task runs");
        std::thread::sleep(Duration::from_millis(20));
    }
    let follow = |_| {
        let mut stream = UnixStream::connect(&manager.served.socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(b"GET /services/web/logs?stdout=1&follow=1&tail=1 HTTP/1.1\r\nHost: d\r\n\r\n").unwrap();
        stream
    };
    let mut followers: Vec<_> = (0..100).map(follow).collect();
    for stream in &mut followers {
        let mut told = Vec::new();
        while !told.ends_with(b"last\n\r\n") {
            let mut piece = [0; 512];
            let length = stream.read(&mut piece).unwrap();
            assert!(length > 0, "it ended: {}", String::from_utf8_lossy(&told));
            told.extend_from_slice(&piece[..length]);
        }
        assert!(!String::from_utf8_lossy(&told).contains("first"), "only the last line was asked for");
    }
    let begun = Instant::now();
    assert_eq!(manager.get("/services").status, 200);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

/// Every endpoint with a body, and what no client would send.
#[test]
fn senseless_bodies_break_nothing() {
    let manager = Manager::new();
    manager.service("web");
    let deep = "[".repeat(10_000);
    let bodies = [
        "null",
        "true",
        "[]",
        "\"x\"",
        "{\"Name\":null}",
        "{\"TaskTemplate\":[]}",
        "{\"Spec\":{\"Raft\":7}}",
        "{\"Data\":\"%%%\",\"Name\":\"x\"}",
        "{\"IPAM\":{\"Config\":[{\"Subnet\":\"x\"}]},\"Name\":\"n\"}",
        "\u{0}",
        &deep,
        "{\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"a\",\"StopGracePeriod\":-1}},\"Name\":\"x\"}",
        "{\"Name\":\"x\",\"Mode\":{\"Replicated\":{\"Replicas\":-1}}}",
        "{\"Name\":\"x\",\"EndpointSpec\":{\"Ports\":[{\"TargetPort\":99999}]},\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"a\"}}}",
    ];
    for path in [
        "/services/create",
        "/services/web/update?version=1",
        "/networks/create",
        "/secrets/create",
        "/configs/create",
        "/swarm/init",
        "/swarm/join",
        "/swarm/update?version=1",
        "/swarm/unlock",
        "/nodes/node1/update?version=1",
    ] {
        for body in bodies {
            let answer = ask(&manager.served.socket, "POST", path, body);
            assert!((200..=503).contains(&answer.status), "{path} {body}: {}", answer.status);
            assert!(answer.status < 400 || !answer.message().is_empty(), "{path} {body}: no words");
        }
    }
    assert_eq!(manager.get("/services").status, 200);
}
