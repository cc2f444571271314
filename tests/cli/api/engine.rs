//! What is an engine's is passed on, upgrades included; what is the swarm's never reaches it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};

use serde_json::json;

use super::Manager;

/// Plays an engine: answers each request with its first line, and echoes after an upgrade.
pub(super) fn play(listener: UnixListener) {
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { return };
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                if reader.read_line(&mut head).unwrap_or(0) == 0 {
                    return;
                }
            }
            if head.to_lowercase().contains("upgrade: tcp") {
                stream.write_all(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n").unwrap();
                let mut byte = [0];
                while reader.read_exact(&mut byte).is_ok() {
                    stream.write_all(&byte.map(|byte| byte.to_ascii_uppercase())).unwrap();
                }
                return;
            }
            let line = head.lines().next().unwrap_or_default();
            let body = json!([{"asked": line}]).to_string();
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).unwrap();
        });
    }
}

fn with_engine() -> (Manager, tempfile::TempDir) {
    let manager = Manager::new();
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("engine.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || play(listener));
    *manager.served.cluster.engine.lock().unwrap() = Some(socket);
    (manager, folder)
}

#[test]
fn containers_are_asked_of_the_engine_and_services_are_not() {
    let (manager, _folder) = with_engine();
    for (path, line) in [
        ("/v1.41/containers/json?all=1", "GET /containers/json?all=1 HTTP/1.1"),
        ("/images/ghcr.io/a/b:1/json", "GET /images/ghcr.io/a/b:1/json HTTP/1.1"),
        ("/system/df", "GET /system/df HTTP/1.1"),
    ] {
        let answer = manager.get(path);
        assert_eq!(answer.json()[0]["asked"], json!(line));
        assert!(answer.head.contains("api-version: 1.47"), "{}", answer.head);
    }
    for path in ["/services", "/nodes", "/tasks", "/secrets", "/configs"] {
        assert!(!manager.get(path).body.contains("asked"), "{path}");
    }
}

#[test]
fn an_attached_stream_goes_both_ways_and_ends_with_its_input() {
    let (manager, _folder) = with_engine();
    let mut stream = UnixStream::connect(&manager.served.socket).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
    let head = "POST /v1.41/exec/x/start HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    assert!(line.starts_with("HTTP/1.1 101"), "{line}");
    while line != "\r\n" {
        line.clear();
        reader.read_line(&mut line).unwrap();
    }
    stream.write_all(b"hello").unwrap();
    let mut echoed = [0; 5];
    reader.read_exact(&mut echoed).unwrap();
    assert_eq!(&echoed, b"HELLO");
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(reader.read(&mut echoed).unwrap(), 0);
}

#[test]
fn an_engine_that_is_gone_is_named() {
    let (manager, folder) = with_engine();
    std::fs::remove_file(folder.path().join("engine.sock")).unwrap();
    let answer = manager.get("/containers/json");
    assert_eq!(answer.status, 500);
    assert!(answer.message().contains("engine.sock does not answer"), "{}", answer.body);
}
