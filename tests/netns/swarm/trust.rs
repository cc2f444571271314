//! Whom a swarm trusts: its root is rotated, its managers are locked.

use harness::nodes::Nodes;

use super::{IMAGE, NAMED, TARGET, Traffic, identities, is_served, names, nodes, swarm, turn};

const PORT: u16 = 8080;

#[track_caller]
fn create(nodes: &Nodes, replicas: u32) {
    let (publish, replicas) = (format!("{PORT}:{TARGET}"), replicas.to_string());
    let fixed = ["service", "create", "-d", "-q", "--name", "web", "--replicas", &replicas, "-p", &publish];
    nodes.docker(0, &[&fixed[..], &NAMED, &[IMAGE]].concat()).unwrap();
}

fn rotates(nodes: &Nodes, at: usize) -> anyhow::Result<bool> {
    Ok(nodes.docker(at, &["info", "--format", "{{.Swarm.Cluster.RootRotationInProgress}}"])? == "true")
}

/// The root that each node of the list says it trusts.
fn trusted(nodes: &Nodes, at: usize) -> anyhow::Result<Vec<String>> {
    let ids = nodes.docker(at, &["node", "ls", "-q"])?;
    ids.lines()
        .map(|id| nodes.docker(at, &["node", "inspect", id, "--format", "{{.Description.TLSInfo.TrustRoot}}"]))
        .map(|root| Ok(root?.trim_end().to_owned()))
        .collect()
}

#[test]
fn the_root_is_rotated_under_traffic_past_a_lost_leader_and_nodes_that_were_away() {
    let _turn = turn();
    let mut nodes = swarm(4, 3);
    create(&nodes, 4);
    nodes.until_running(0, "web", 4).unwrap();
    nodes.until("all are reached", |nodes| Ok(is_served(nodes, &[0, 1, 2, 3], PORT, &names(4)))).unwrap();
    let old = nodes.docker(0, &["swarm", "ca"]).unwrap();
    let token = nodes.docker(0, &["swarm", "join-token", "-q", "worker"]).unwrap();
    let before = identities(&nodes, 0, "web");

    let traffic = Traffic::begin(&nodes, &[0, 1, 2, 3], PORT);
    // The CLI's own progress ends when every node has a certificate of the new root, and trusts it alone.
    let said = nodes.docker(0, &["swarm", "ca", "--rotate"]).unwrap();
    let new = nodes.docker(1, &["swarm", "ca"]).unwrap();
    assert!(said.contains("rotated TLS certificates") && said.ends_with(&new), "{said}");
    assert_ne!(new, old);
    assert!(trusted(&nodes, 2).unwrap().iter().all(|root| *root == new));
    assert_ne!(nodes.docker(0, &["swarm", "join-token", "-q", "worker"]).unwrap(), token);
    let states = nodes.docker(2, &["node", "ls", "--format", "{{.Status}}"]).unwrap();
    assert!(states.lines().all(|state| state == "Ready"), "{states}");
    traffic.assert_whole();
    assert_eq!(identities(&nodes, 0, "web"), before, "tasks were touched");

    check_past_a_lost_leader(&mut nodes, &new);
    check_given_root(&nodes);
}

/// A worker is away when it begins, and the leader goes in its middle.
#[track_caller]
fn check_past_a_lost_leader(nodes: &mut Nodes, before: &str) {
    nodes.nodes[3].kill().unwrap();
    nodes.docker(0, &["swarm", "ca", "--rotate", "-d"]).unwrap();
    nodes
        .until("all but the one that is away have renewed", |nodes| {
            let issued = "{{.Description.TLSInfo.CertIssuerPublicKey}}";
            let ids = nodes.docker(0, &["node", "ls", "-q"])?;
            let of = |id: &str| nodes.docker(0, &["node", "inspect", id, "--format", issued]);
            let issuers = ids.lines().map(of).collect::<anyhow::Result<Vec<_>>>()?;
            let most = issuers.iter().filter(|one| issuers.iter().filter(|other| other == one).count() == 3).count();
            Ok(most == 3)
        })
        .unwrap();
    assert!(rotates(nodes, 0).unwrap());
    nodes.nodes[0].kill().unwrap();
    nodes.until("another leads", |nodes| Ok(nodes.docker(1, &["service", "scale", "-d", "web=4"]).is_ok())).unwrap();
    assert!(rotates(nodes, 1).unwrap(), "two nodes are away");
    nodes.nodes[3].start().unwrap();
    nodes.nodes[0].start().unwrap();
    nodes.until("the other leader ends the rotation", |nodes| Ok(!rotates(nodes, 1)?)).unwrap();
    let after = nodes.docker(1, &["swarm", "ca"]).unwrap();
    assert_ne!(after, before);
    nodes.until("all trust it alone", |nodes| Ok(trusted(nodes, 1)?.iter().all(|root| *root == after))).unwrap();
    // Who was away is a part of the swarm again, in both roles.
    nodes
        .until("all are ready", |nodes| {
            let states = nodes.docker(0, &["node", "ls", "--format", "{{.Status}}"])?;
            Ok(states.lines().all(|state| state == "Ready"))
        })
        .unwrap();
    nodes.until_running(0, "web", 4).unwrap();
}

/// A root of the user's own takes the place, by meshctl; what is none does not. A node joins after it.
#[track_caller]
fn check_given_root(nodes: &Nodes) {
    let folder = nodes.nodes[0].state_dir();
    let file = |name: &str| folder.join(name).display().to_string();
    let (key, certificate) = (file("own.key"), file("own.pem"));
    let script = format!(
        "openssl ecparam -name prime256v1 -genkey -noout -out {key} && \
         openssl req -x509 -new -key {key} -sha256 -days 3650 -subj /O=example/CN=own-root -out {certificate}"
    );
    nodes.nodes[0].ns().run(["sh", "-c", &script]).unwrap();
    let half = ["swarm", "ca", "--rotate", "--ca-key", &key];
    let said = nodes.nodes[0].meshctl_command(&half).unwrap().attempt().unwrap();
    assert!(said.stderr.contains("the signing CA cert must also be provided"), "{said}");
    let external = ["swarm", "update", "--external-ca", "protocol=cfssl,url=https://192.0.2.1:8888"];
    assert!(nodes.nodes[0].refused(&external).unwrap().contains("external CAs are not supported"));
    let said =
        nodes.nodes[0].meshctl(&["swarm", "ca", "--rotate", "--ca-cert", &certificate, "--ca-key", &key]).unwrap();
    assert!(said.contains("rotated CA certificates: 4/4 nodes"), "{said}");
    let own = std::fs::read_to_string(&certificate).unwrap();
    assert!(said.ends_with(own.trim_end()), "{said}");

    nodes.docker(3, &["swarm", "leave"]).unwrap();
    let token = nodes.docker(1, &["swarm", "join-token", "-q", "worker"]).unwrap();
    let manager = format!("{}:2377", nodes.nodes[1].host.ip4);
    nodes.docker(3, &["swarm", "join", "--token", &token, &manager]).unwrap();
    let joined = nodes.docker(3, &["info", "--format", "{{.Swarm.NodeID}}"]).unwrap();
    let shown = ["node", "inspect", &joined, "--format", "{{.Status.State}} {{.Description.TLSInfo.TrustRoot}}"];
    let wanted = format!("ready {}", own.trim_end());
    nodes.until("who joined trusts it too", |nodes| Ok(nodes.docker(1, &shown)?.trim_end() == wanted)).unwrap();
}

/// What the docker CLI at a node says to an unlock key.
fn unlock(nodes: &Nodes, at: usize, key: &str) -> harness::process::Output {
    nodes.nodes[at].command(&["swarm", "unlock"]).input(format!("{key}\n").as_bytes()).attempt().unwrap()
}

#[track_caller]
fn assert_locked(nodes: &Nodes, at: usize) {
    let said = nodes.nodes[at].refused(&["node", "ls"]).unwrap();
    assert!(said.contains("Swarm is encrypted and needs to be unlocked before it can be used."), "{said}");
    assert_eq!(nodes.docker(at, &["info", "--format", "{{.Swarm.LocalNodeState}}"]).unwrap(), "locked");
}

/// Changes the unlock key; the new one, once the manager's own keys are under it.
#[track_caller]
fn rotate_key(nodes: &Nodes, at: usize) -> String {
    let file = nodes.nodes[at].state_dir().join("node.pem");
    let before = std::fs::read_to_string(&file).unwrap();
    let key = nodes.docker(at, &["swarm", "unlock-key", "--rotate", "-q"]).unwrap();
    nodes.until("the keys are locked anew", |_| Ok(std::fs::read_to_string(&file)? != before)).unwrap();
    key
}

#[test]
fn a_locked_manager_waits_for_its_key_and_workers_do_not_notice() {
    let _turn = turn();
    let mut nodes = nodes(2);
    let address = nodes.nodes[0].host.ip4.to_string();
    let said = nodes.docker(0, &["swarm", "init", "--autolock", "--advertise-addr", &address]).unwrap();
    let first = nodes.docker(0, &["swarm", "unlock-key", "-q"]).unwrap();
    assert!(first.starts_with("SWMKEY-1-") && said.contains(&first), "{said}");
    let token = nodes.docker(0, &["swarm", "join-token", "-q", "worker"]).unwrap();
    nodes.docker(1, &["swarm", "join", "--token", &token, &format!("{address}:2377")]).unwrap();
    nodes
        .until("both are ready", |nodes| {
            let states = nodes.docker(0, &["node", "ls", "--format", "{{.Status}}"])?;
            Ok(states.lines().filter(|state| *state == "Ready").count() == 2)
        })
        .unwrap();
    create(&nodes, 2);
    nodes.until_running(0, "web", 2).unwrap();
    nodes.until("both are reached", |nodes| Ok(is_served(nodes, &[0, 1], PORT, &names(2)))).unwrap();
    let before = identities(&nodes, 0, "web");

    let traffic = Traffic::begin(&nodes, &[0, 1], PORT);
    nodes.nodes[0].terminate().unwrap();
    nodes.nodes[0].start().unwrap();
    assert_locked(&nodes, 0);
    let key = std::fs::read_to_string(nodes.nodes[0].state_dir().join("node.pem")).unwrap();
    assert!(!key.contains("PRIVATE KEY") && !key.contains("DATA KEY"), "the keys lie open");
    let wrong = format!("SWMKEY-1-{}", "A".repeat(43));
    for (key, says) in [
        (wrong.as_str(), "swarm could not be unlocked: invalid key provided"),
        ("SWMKEY-1-short", "invalid"),
        ("", "invalid"),
    ] {
        let said = unlock(&nodes, 0, key);
        assert!(!said.status.success() && said.stderr.contains(says), "{key}: {said}");
    }
    assert_locked(&nodes, 0);
    assert!(nodes.nodes[1].refused(&["swarm", "unlock"]).unwrap().contains("swarm is not locked"));
    assert!(unlock(&nodes, 0, &first).status.success());
    nodes
        .until("both are ready", |nodes| {
            let states = nodes.docker(0, &["node", "ls", "--format", "{{.Status}}"])?;
            Ok(states.lines().filter(|state| *state == "Ready").count() == 2)
        })
        .unwrap();
    nodes.until_running(0, "web", 2).unwrap();
    traffic.assert_whole();
    assert_eq!(identities(&nodes, 0, "web"), before, "tasks were touched");

    // More often than there are places for keys of data.
    let last = (0..6).fold(first.clone(), |_, _| rotate_key(&nodes, 0));
    assert_eq!(nodes.docker(0, &["swarm", "unlock-key", "-q"]).unwrap(), last);
    nodes.nodes[0].terminate().unwrap();
    nodes.nodes[0].start().unwrap();
    assert!(unlock(&nodes, 0, &first).stderr.contains("invalid key provided"));
    assert!(unlock(&nodes, 0, &last).status.success());
    nodes.until_running(0, "web", 2).unwrap();

    nodes.docker(0, &["swarm", "update", "--autolock=false"]).unwrap();
    let open = |nodes: &Nodes| {
        Ok(std::fs::read_to_string(nodes.nodes[0].state_dir().join("node.pem"))?.contains("PRIVATE KEY"))
    };
    nodes.until("the keys lie open", open).unwrap();
    nodes.nodes[0].terminate().unwrap();
    nodes.nodes[0].start().unwrap();
    nodes.until_running(0, "web", 2).unwrap();
}
