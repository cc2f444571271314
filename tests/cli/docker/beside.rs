//! `meshctl` beside the docker CLI, on one swarm: the same words, columns and exit codes.

use super::session::three_nodes;
use super::{Outcome, docker, require_docker, run};
use harness::swarm::Served;

/// Commands that only look, and ones that are refused.
const COMMANDS: &str = "node ls
node ls -q
node ls --filter role=worker
node ls --filter foo=bar
node inspect self
node inspect node2 nosuch
node inspect nosuch
node ps
node ps node2
node rm node2
node rm nosuch
node update --availability foo node2
node demote node1
service ls
service ls -q
service ls --filter name=web
service ps web
service ps --no-trunc web
service ps -q web
service ps nosuch
service rm nosuch
service scale glob=3
service rollback web
service create --name web nginx
service create --name UPPER:: nginx
service create --name x --constraint foo nginx
service logs --raw web
service logs nosuch
network ls
network ls -q
network inspect ov1
network rm ov1
secret ls
secret inspect sec1
config ls
config inspect cfg1
config rm cfg1
secret rm nosuch
stack ls
stack services seed
stack services nosuch
stack ps seed
stack ps nosuch
stack rm nosuch
stack deploy --detach=true -c /nonexistent.yml bad
swarm join-token -q worker
swarm join-token -q manager
swarm unlock-key
swarm leave";

fn argv(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

/// Ages may differ by a second between two commands, and networks' removal is reported with a status.
fn comparable(outcome: &Outcome) -> Outcome {
    // meshctl speaks a newer version than docker is told to, in which networks say that they have IPv4.
    let out = outcome.out.replace("        \"EnableIPv4\": true,\n", "").replace("    \"EnableIPv4\": true,\n", "");
    let named = super::comparable("-ps", &Outcome { out, ..outcome.clone() });
    Outcome { err: named.err.replace("exit status 1\n", ""), ..named }
}

#[test]
fn meshctl_says_what_docker_says() {
    require_docker();
    let folder = tempfile::tempdir().unwrap();
    let served = Served::new(folder.path()).unwrap();
    three_nodes(&served);
    std::fs::write(folder.path().join("seed.yml"), include_str!("worlds/seed.yml")).unwrap();
    for (line, stdin) in [
        ("network create -d overlay ov1", None),
        ("secret create sec1 -", Some("pw")),
        ("config create cfg1 -", Some("hello=1")),
        (
            "service create -d --no-resolve-image --name web --replicas 2 --network ov1 --config cfg1 -p 8080:80 nginx:1",
            None,
        ),
        ("service create -d --no-resolve-image --name glob --mode global nginx:1", None),
        ("stack deploy --detach=true -c seed.yml seed", None),
    ] {
        let made = docker(&served, folder.path(), &argv(line), stdin);
        assert_eq!(made.code, 0, "{line}: {}", made.err);
    }
    // Until the tasks run.
    std::thread::sleep(std::time::Duration::from_millis(600));
    let meshctl = harness::program("meshctl").unwrap();
    let mut wrong = Vec::new();
    for line in COMMANDS.lines() {
        let theirs = comparable(&docker(&served, folder.path(), &argv(line), None));
        let ours = comparable(&run(&meshctl, &served, folder.path(), &argv(line), None));
        if theirs != ours {
            let (out, err) = (super::difference(&theirs.out, &ours.out), super::difference(&theirs.err, &ours.err));
            wrong.push(format!("{line}: {} {}\n{out}{err}", theirs.code, ours.code));
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}
