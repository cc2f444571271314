//! docker-py, driven by scripts beside this file.

use std::process::{Command, Stdio};

use harness::swarm::Served;
use jiff::Timestamp;
use mesh_daemon::api::{LogLine, Output};

/// The Python that has docker-py: `cargo xtask setup` makes it.
fn python() -> std::path::PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || concat!(env!("CARGO_MANIFEST_DIR"), "/../target").into(),
        |folder| std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(folder),
    );
    let python = target.join("clients/bin/python");
    assert!(python.exists(), "{} with docker-py is missing: cargo xtask setup makes it", python.display());
    python
}

#[test]
fn docker_py_drives_a_manager() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::new(folder.path()).unwrap();
    let line = |output, bytes: &'static str| LogLine { at: Timestamp::now(), output, bytes: bytes.into() };
    *served.cluster.output.lock().unwrap() = vec![
        line(Output::Stderr, "start\n"),
        line(Output::Stdout, "line 0\n"),
        line(Output::Stdout, "line 1\n"),
        line(Output::Stdout, "line 2\n"),
    ];
    let ran = Command::new("timeout")
        .arg("60")
        .arg(python())
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/cli/clients/swarm.py"))
        .env("DOCKER_HOST", format!("unix://{}", served.socket.display()))
        .env("DOCKER_CONFIG", folder.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success() && out.trim_end() == "all done", "{}\n{out}\n{err}", ran.status);
}
