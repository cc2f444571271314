//! The unmodified docker CLI against our router: what it prints and how it exits is compared with what
//! it printed before the real Swarm, command by command.
//!
//! `tests/cli/recordings/cases.json` has the commands as recorded: docker 28.2.2, dockerd 20.10.24. Here
//! a [`Served`] swarm in memory stands for the cluster. Each difference is in [`explained`], with its
//! reason; another one fails, and so does a reason without a difference. The page
//! docs/reference/docker-api.md is made of the outcome.

mod beside;
mod explained;
mod fields;
mod page;
mod session;

use std::path::Path;
use std::process::{Command, Stdio};

use std::io::Write as _;

use harness::outcome::{Case, Outcome, difference, recorded};
use harness::swarm::Served;

/// Runs docker in a folder against a served swarm.
fn docker(served: &Served, folder: &Path, argv: &[String], stdin: Option<&str>) -> Outcome {
    run("docker".as_ref(), served, folder, argv, stdin)
}

/// Runs a client.
fn run(program: &Path, served: &Served, folder: &Path, argv: &[String], stdin: Option<&str>) -> Outcome {
    // Some wait for what never comes if an answer is wrong.
    let mut child = Command::new("timeout")
        .arg("40")
        .arg(program)
        .args(argv)
        .current_dir(folder)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", folder)
        .env("DOCKER_HOST", format!("unix://{}", served.socket.display()))
        .env("DOCKER_API_VERSION", "1.41")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    // It may have ended without reading.
    let _ = input.write_all(stdin.unwrap_or_default().as_bytes());
    drop(input);
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Outcome { code: output.status.code().map_or(-1, i64::from), out: text(output.stdout), err: text(output.stderr) }
}

/// An outcome as it is compared; the swarm in memory has no real key and root.
fn comparable(name: &str, outcome: &Outcome) -> Outcome {
    let out = outcome.out.replace(harness::swarm::KEY, "<KEY>").replace(harness::swarm::ROOT, "<PEM>");
    harness::outcome::comparable(name, &Outcome { out, ..outcome.clone() })
}

/// A machine without a docker CLI cannot run these tests, and they fail there.
#[track_caller]
pub(crate) fn require_docker() {
    assert!(Command::new("docker").arg("--version").output().is_ok(), "there is no docker CLI on this machine");
}

#[test]
fn the_docker_cli_sees_what_it_saw_before_the_real_swarm() {
    require_docker();
    let cases = recorded().unwrap();
    let mut compared = session::run(&cases);
    let mut wrong = Vec::new();
    for (name, (recorded, ours)) in &mut compared {
        let reason = explained::reason(name);
        match (comparable(name, recorded) == comparable(name, ours), reason) {
            (true, None) | (false, Some(_)) => {}
            (true, Some(reason)) => wrong.push(format!("{name}: is the same, yet explained: {reason}")),
            (false, None) => {
                let (theirs, ours) = (comparable(name, recorded), comparable(name, ours));
                wrong.push(format!(
                    "{name}: recorded {}, is {}\n--- out\n{}--- err\n{}",
                    theirs.code,
                    ours.code,
                    difference(&theirs.out, &ours.out),
                    difference(&theirs.err, &ours.err)
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), compared.len(), wrong.join("\n"));
    page::check(&compared.keys().cloned().collect::<Vec<_>>());
}
