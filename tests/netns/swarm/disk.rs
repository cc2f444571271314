//! A manager whose disk is full takes no part until there is room; everything else goes on.

use std::time::{Duration, Instant};

use harness::load::Load;

use super::{IMAGE, TARGET, agree, is_served, names, swarm_on_small_disks, turn};

const PORT: u16 = 8080;
/// Of a config, in bytes: Docker allows 500 KB.
const CONFIG: usize = 400_000;
/// So many configs fill any small disk.
const ENOUGH: usize = 200;

#[test]
fn a_leader_whose_disk_is_full_steps_down_says_so_and_comes_back() {
    let _turn = turn();
    let nodes = swarm_on_small_disks(3, 3, 24);
    let publish = format!("{PORT}:{TARGET}");
    let fixed = ["service", "create", "-d", "-q", "--name", "web", "--replicas", "3", "-p", &publish];
    nodes.docker(0, &[&fixed[..], &super::NAMED, &[IMAGE]].concat()).unwrap();
    nodes.until_running(0, "web", 3).unwrap();
    nodes.until("all are reached", |nodes| Ok(is_served(nodes, &[0, 1, 2], PORT, &names(3)))).unwrap();

    let full = nodes.leader(0).unwrap();
    let other = usize::from(full == 0);
    let ballast = nodes.nodes[full].state_dir().join("ballast");
    // Whatever is left is taken: the end of the device is the end of the file.
    let filled = std::fs::write(&ballast, vec![0; 64 << 20]);
    assert!(filled.is_err(), "the disk is larger than the test believes");

    let entries: Vec<_> = nodes.nodes.iter().map(|node| node.host.ip4).collect();
    let load = Load::start(&nodes.bed.clients[0].ns, &entries, PORT, 1).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let content = folder.path().join("config");
    std::fs::write(&content, vec![b'x'; CONFIG]).unwrap();
    let file = content.display().to_string();
    let create = |at: usize, number: usize| {
        nodes.nodes[at].command(&["config", "create", &format!("c{number}"), &file]).attempt().unwrap()
    };
    let refused = (0..ENOUGH).map(|number| create(full, number)).find(|created| !created.status.success());
    let refused = refused.expect("the full manager takes everything");
    println!("the full manager says: {}", refused.stderr.trim());
    nodes.until("it says why", |_| Ok(create(full, ENOUGH).stderr.contains("no space is left to write"))).unwrap();
    let begun = Instant::now();
    nodes
        .until("another leads", |nodes| {
            Ok(nodes.docker(other, &["node", "update", "--label-add", "seen=1", "node1"]).is_ok())
        })
        .unwrap();
    println!("a change is taken elsewhere {:?} later", begun.elapsed());
    assert_ne!(nodes.leader(other).unwrap(), full);
    assert!(nodes.docker(full, &["service", "ls", "-q"]).unwrap().len() > 1, "it is still read from");

    std::fs::remove_file(&ballast).unwrap();
    nodes.docker(other, &["config", "create", "after", &file]).unwrap();
    nodes
        .until("it follows again", |nodes| {
            Ok(nodes.docker(full, &["config", "ls", "--format", "{{.Name}}"])?.lines().any(|name| name == "after")
                && nodes.docker(full, &["config", "create", "by-it", &file]).is_ok())
        })
        .unwrap();
    agree(&nodes, full);
    std::thread::sleep(Duration::from_secs(1));
    let loaded = load.end();
    println!("{} requests were answered meanwhile", loaded.asked);
    loaded.check(200).unwrap();
}
