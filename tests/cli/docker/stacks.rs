//! `meshctl stack` beside `docker stack`: of the same file both make the same, and again makes nothing new.

use std::path::Path;

use super::session::{IMAGES, three_nodes};
use super::{Outcome, docker, require_docker, run};
use harness::outcome::normalise;
use harness::swarm::Served;

const FILES: [(&str, &str); 3] = [
    ("seed.yml", include_str!("worlds/seed.yml")),
    ("stack2.yml", include_str!("worlds/stack2.yml")),
    ("rich.yml", include_str!("worlds/rich.yml")),
];

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

fn must(outcome: &Outcome, what: &str) -> String {
    assert_eq!(outcome.code, 0, "{what}: {}{}", outcome.out, outcome.err);
    outcome.out.clone()
}

/// A swarm, with what the rich file takes for granted.
fn swarm(folder: &Path) -> Served {
    let served = Served::new(folder).unwrap();
    *served.cluster.images.lock().unwrap() =
        IMAGES.iter().map(|(name, digest)| ((*name).to_owned(), (*digest).to_owned())).collect();
    three_nodes(&served);
    for line in ["network create -d overlay outside", "secret create given-secret -"] {
        must(&docker(&served, folder, &words(line), Some("pw")), line);
    }
    served
}

/// All that a stack made, ids by name.
fn made(served: &Served, folder: &Path) -> String {
    let mut all = String::new();
    for (kind, shown) in [
        (
            "network",
            "{{.Name}} {{.Driver}} {{.Internal}} {{.Attachable}} {{json .Labels}} {{json .Options}} {{json .IPAM}}",
        ),
        ("secret", "{{json .Spec}}"),
        ("config", "{{json .Spec}}"),
        ("service", "{{json .Spec}}"),
    ] {
        let listed = must(&docker(served, folder, &words(&format!("{kind} ls --format {{{{.Name}}}}")), None), kind);
        let mut names: Vec<_> = listed.lines().map(str::to_owned).collect();
        names.sort();
        for name in names {
            let mut argv = words(&format!("{kind} inspect -f"));
            argv.extend([shown.to_owned(), name.clone()]);
            all += &must(&docker(served, folder, &argv, None), &name);
        }
    }
    // One member a line, so that a difference is short.
    normalise(&all.replace(",\"", ",\n\"").replace("\":", "\": "))
}

#[test]
fn meshctl_makes_of_a_file_what_docker_makes() {
    require_docker();
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in FILES.into_iter().chain([
        ("app.sec", "pw"),
        ("app.cfg", "hello=1\n"),
        ("rich.env", "# variables\nFROM_FILE=yes\n  A=overridden\nHOME\nNOWHERE\n"),
    ]) {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let meshctl = harness::program("meshctl").unwrap();
    for (file, _) in FILES {
        let deploy = words(&format!("stack deploy --detach=true -c {file} s"));
        let (theirs, ours) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (theirs, ours) = (swarm(theirs.path()), swarm(ours.path()));
        must(&docker(&theirs, folder.path(), &deploy, None), file);
        must(&run(&meshctl, &ours, folder.path(), &deploy, None), file);
        let (by_docker, by_meshctl) = (made(&theirs, folder.path()), made(&ours, folder.path()));
        assert!(by_docker == by_meshctl, "{file}:\n{}", super::difference(&by_docker, &by_meshctl));

        // Again: every service stays the version that it is, whoever made it.
        for served in [&ours, &theirs] {
            let versions = "service ls --format {{.ID}}";
            let ids = must(&docker(served, folder.path(), &words(versions), None), versions);
            let look = words(&format!("service inspect -f {{{{.Version.Index}}}} {}", ids.replace('\n', " ").trim()));
            let before = must(&docker(served, folder.path(), &look, None), file);
            let said = must(&run(&meshctl, served, folder.path(), &deploy, None), file);
            assert!(said.lines().all(|line| line.starts_with("Unchanged service s_")), "{file}: {said}");
            assert_eq!(must(&docker(served, folder.path(), &look, None), file), before, "{file}");
        }

        // What `stack config` prints is the same stack, to docker as well.
        let config = must(&run(&meshctl, &ours, folder.path(), &words(&format!("stack config -c {file}")), None), file);
        std::fs::write(folder.path().join("printed.yml"), &config).unwrap();
        let again = words("stack deploy --detach=true -c printed.yml s");
        must(&docker(&theirs, folder.path(), &again, None), &config);
        let from_printed = made(&theirs, folder.path());
        assert!(by_docker == from_printed, "{file}:\n{}", super::difference(&by_docker, &from_printed));
    }
}

#[test]
fn a_service_that_left_the_file_goes_with_prune_only() {
    require_docker();
    let folder = tempfile::tempdir().unwrap();
    let served = swarm(folder.path());
    let meshctl = harness::program("meshctl").unwrap();
    let say = |line: &str, stdin: &str| must(&run(&meshctl, &served, folder.path(), &words(line), Some(stdin)), line);
    say("stack deploy -c - s", "services:\n  a: {image: web}\n  b: {image: web}\n");
    let one = "services:\n  a: {image: web}\n";
    assert_eq!(say("stack deploy -c - s", one).lines().count(), 1);
    assert_eq!(say("stack services -q s", "").lines().count(), 2);
    assert!(say("stack deploy --prune -c - s", one).starts_with("Removing service s_b\nUnchanged service s_a"));
    assert_eq!(say("stack services -q s", "").lines().count(), 1);
    assert_eq!(say("stack rm s", ""), "Removing service s_a\nRemoving network s_default\n");
    assert_eq!(say("stack ls -o json", "").trim(), "[]");
}

#[test]
fn a_file_with_a_mistake_makes_nothing() {
    require_docker();
    let folder = tempfile::tempdir().unwrap();
    let served = swarm(folder.path());
    let meshctl = harness::program("meshctl").unwrap();
    let before = made(&served, folder.path());
    let head = "services:\n  good: {image: web, configs: [cfg]}\nconfigs: {cfg: {file: stack.yml}}\n";
    for (text, said) in [
        (
            "services:\n  web:\n    build: .\n".to_owned(),
            "stack.yml:2:3: invalid image reference for service web: no image specified",
        ),
        (head.replace("configs: [cfg]", "secrets: [none]"), "stack.yml:2:32: service good: undefined secret \"none\""),
        (
            head.replace("configs: [cfg]", "networks: [out]") + "networks: {out: {external: true}}\n",
            "stack.yml:4:12: network \"out\" is declared as external, but could not be found. You need to create a swarm-scoped network before the stack is deployed",
        ),
        (head.to_owned() + "secrets: {key: {external: true}}\nx-more: {}\n  bad", "stack.yml:"),
        (
            head.replace("configs: [cfg]", "secrets: [key]") + "secrets: {key: {external: true}}\n",
            "secret not found: key",
        ),
    ] {
        std::fs::write(folder.path().join("stack.yml"), &text).unwrap();
        let outcome = run(&meshctl, &served, folder.path(), &words("stack deploy -c stack.yml bad"), None);
        let last = outcome.err.lines().last().unwrap_or_default();
        assert!(outcome.code == 1 && last.starts_with(said), "{text}\n{}", outcome.err);
        assert_eq!(made(&served, folder.path()), before, "{text}");
    }
}
