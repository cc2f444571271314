//! Images of a registry that asks who one is: pinned to a digest, fetched by nodes as the user.

use std::path::Path;

use harness::nodes::{Nodes, Runs};
use harness::{Bed, Plan};

use super::{TARGET, assert_served, image, swarm_on, turn};
use crate::registry::{Registry, USER};

const PORT: u16 = 8080;

/// The user and the password as they are kept and sent.
fn credentials() -> String {
    mesh_daemon::api::wire::base64::encode(format!("{}:{}", USER.0, USER.1).as_bytes())
}

fn push(registry: &Registry, folder: &Path, name: &str) {
    let layout = folder.join("layout");
    if !layout.exists() {
        image().unwrap().write_dir(&layout).unwrap();
    }
    registry.push(&layout, name);
}

/// What `service inspect` says of the image.
fn pinned(nodes: &Nodes, service: &str) -> String {
    nodes.docker(0, &["service", "inspect", "-f", "{{.Spec.TaskTemplate.ContainerSpec.Image}}", service]).unwrap()
}

#[test]
fn an_image_is_pinned_and_every_node_fetches_it_as_its_user() {
    let _turn = turn();
    let bed = Bed::new(&Plan { nodes: 2, clients: 1, ..Plan::default() }).unwrap_or_else(|error| panic!("{error:#}"));
    let folder = bed.folder("registry").unwrap();
    let registry = Registry::start_on(&bed.clients[0], &folder);
    push(&registry, &folder, "team/whoami:1");
    let plain = vec!["--insecure-registry".to_owned(), registry.address.clone()];
    let nodes = swarm_on(bed, 1, |_| Runs { arguments: plain.clone(), ..Runs::default() });
    let name = format!("{}/team/whoami:1", registry.address);
    let publish = format!("{PORT}:{TARGET}");
    let fixed = ["service", "create", "-d", "-q", "--mode", "global", "--hostname", "{{.Node.Hostname}}"];

    // Without credentials nobody says what it is, and no node gets it.
    let refused = nodes.docker(0, &[&fixed[..], &["--name", "denied", &name]].concat()).unwrap();
    assert!(!refused.is_empty());
    assert_eq!(pinned(&nodes, "denied"), name);
    nodes
        .until("the reason is told", |nodes| {
            let errors = nodes.docker(0, &["service", "ps", "denied", "--no-trunc", "--format", "{{.Error}}"])?;
            Ok(errors.contains("refuses access"))
        })
        .unwrap();
    nodes.docker(0, &["service", "rm", "denied"]).unwrap();

    nodes.nodes[0].keep_login(&registry.address, &credentials()).unwrap();
    let with = ["--with-registry-auth", "--name", "web", "-p", &publish, &name];
    nodes.docker(0, &[&fixed[..], &with].concat()).unwrap();
    nodes.until_running(0, "web", 2).unwrap();
    assert_served(&nodes, PORT, &["node1".to_owned(), "node2".to_owned()].into());
    let first = pinned(&nodes, "web");
    assert!(first.starts_with(&format!("{name}@sha256:")), "{first}");
    // What lets nodes fetch it is shown to nobody.
    for shown in [&["service", "inspect", "web"][..], &["inspect", "web"]] {
        let shown = nodes.docker(0, shown).unwrap();
        assert!(!shown.contains(USER.1) && !shown.contains(&credentials()), "{shown}");
    }
    // It stays with the service: a change that says nothing of it keeps it.
    push(&registry, &folder, "team/whoami:2");
    let second = format!("{}/team/whoami:2", registry.address);
    nodes.docker(0, &["service", "update", "-d", "-q", "--no-resolve-image", "--image", &second, "web"]).unwrap();
    nodes
        .until("both run the second image", |nodes| {
            let images = nodes.docker(
                0,
                &["service", "ps", "web", "-f", "desired-state=running", "--format", "{{.Image}} {{.CurrentState}}"],
            )?;
            Ok(images.lines().filter(|line| line.starts_with(&format!("{second} Running"))).count() == 2)
        })
        .unwrap();
    // meshctl pins as docker does.
    let made = nodes.nodes[0].meshctl(&["service", "create", "-d", "--name", "again", "--with-registry-auth", &name]);
    made.unwrap();
    assert_eq!(pinned(&nodes, "again"), first);
    nodes.until_running(0, "again", 1).unwrap();
}
