//! The life of a swarm: made, joined, a stack deployed, dialled, scaled, broken, mended and taken down, by
//! the docker CLI and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use harness::clients::ask_http;
use harness::nodes::Nodes;
use harness::{Capture, Host, Plan, describe, image};

use crate::heading;

/// What the service is published as, and what its tasks listen on.
const PUBLISHED: u16 = 80;
const STACK: &str = "version: \"3.7\"
services:
  web:
    image: whoami:demo
    command: [\"--port\", \"8080\"]
    ports: [\"80:8080\"]
    deploy:
      replicas: 2
      update_config: { order: start-first, parallelism: 1 }
      restart_policy: { condition: any, delay: 1s }
";
/// For what a busy machine may take its time.
const LIMIT: Duration = Duration::from_secs(60);

/// What becomes of the swarm.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Taken down, step by step.
    Clean,
    /// Left to play with.
    Keep,
}

pub(crate) fn play(end: End) -> Result<()> {
    heading("What stands here");
    let image = image::whoami("whoami:demo")?;
    let mut nodes = Nodes::start(&Plan { nodes: 3, clients: 1, ..Plan::default() }, &image)?;
    for node in &nodes.nodes {
        println!("{:8} {:12} meshd node, in no swarm; image whoami:demo", node.host.name, node.host.ip4.to_string());
    }
    let client = client(&nodes)?;
    println!("{:8} {:12} outside the cluster", client.name, client.ip4.to_string());
    println!("Each is a network namespace. Commands below are the stock docker CLI's, at the node in front.");
    swarm(&nodes)?;
    stack(&nodes)?;
    dial(&nodes)?;
    on_the_wire(&nodes)?;
    scale(&nodes)?;
    update(&nodes)?;
    if end == End::Keep {
        return keep(&nodes);
    }
    power_off(&mut nodes)?;
    take_down(&nodes)?;
    drop(nodes);
    println!("Daemons, containers, namespaces, pins and mounts are gone.");
    Ok(())
}

fn client(nodes: &Nodes) -> Result<&Host> {
    nodes.bed.clients.first().context("the bed has no client")
}

/// Runs a docker command at a node, shown as it is typed and answered.
fn docker(nodes: &Nodes, node: usize, arguments: &[&str]) -> Result<String> {
    let host = &nodes.nodes.get(node).context("no such node")?.host.name;
    println!("{host}$ docker {}", arguments.join(" "));
    let said = nodes.docker(node, arguments)?;
    for line in said.lines() {
        println!("    {line}");
    }
    Ok(said)
}

fn swarm(nodes: &Nodes) -> Result<()> {
    heading("A swarm is made, and joined");
    let first = nodes.nodes[0].host.ip4.to_string();
    let said = docker(nodes, 0, &["swarm", "init", "--advertise-addr", &first])?;
    let token = said.split_whitespace().find(|word| word.starts_with("SWMTKN-1-")).context("no join token")?;
    let address = format!("{first}:2377");
    for node in [1, 2] {
        docker(nodes, node, &["swarm", "join", "--token", token, &address])?;
    }
    nodes.until("all nodes are ready", |nodes| {
        Ok(nodes.docker(0, &["node", "ls", "--format", "{{.Status}}"])?.lines().filter(|line| *line == "Ready").count()
            == 3)
    })?;
    docker(nodes, 0, &["node", "ls"])?;
    docker(nodes, 0, &["network", "ls"])?;
    Ok(())
}

fn stack(nodes: &Nodes) -> Result<()> {
    heading("A stack is deployed");
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("stack.yml");
    std::fs::write(&file, STACK)?;
    for line in STACK.lines() {
        println!("    {line}");
    }
    docker(nodes, 0, &["stack", "deploy", "-c", &file.display().to_string(), "test"])?;
    nodes.until_running(0, "test_web", 2)?;
    docker(nodes, 0, &["service", "ls"])?;
    docker(nodes, 0, &["service", "ps", "test_web"])?;
    Ok(())
}

fn dial(nodes: &Nodes) -> Result<()> {
    heading("The client dials port 80 of every node; one of them has no task");
    let client = client(nodes)?;
    let mut answers: BTreeMap<String, usize> = BTreeMap::new();
    for node in &nodes.nodes {
        let mut seen = until_answered(nodes, node.host.ip4.into())?;
        println!("  curl http://{}/ -> {} answers and sees the client as {}", node.host.ip4, seen.name, seen.peer);
        for _ in 0..20 {
            ensure!(seen.peer.ip() == IpAddr::from(client.ip4), "{} saw {}, not the client", seen.name, seen.peer);
            *answers.entry(seen.name).or_default() += 1;
            seen = ask_http(&client.ns, node.host.ip4, PUBLISHED)?;
        }
    }
    ensure!(answers.len() == 2, "not both tasks answered: {answers:?}");
    println!("60 requests, 0 failed, the client's own address in each. By task:");
    for (name, count) in answers {
        println!("  {name:14} {count:3}");
    }
    Ok(())
}

/// The first answer of a node may take until its packet path knows the service.
fn until_answered(nodes: &Nodes, address: IpAddr) -> Result<harness::clients::Seen> {
    let (client, begun) = (client(nodes)?, Instant::now());
    loop {
        match ask_http(&client.ns, address, PUBLISHED) {
            Ok(seen) => return Ok(seen),
            Err(error) if begun.elapsed() > LIMIT => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

fn on_the_wire(nodes: &Nodes) -> Result<()> {
    heading("On the wire, between the node that is dialled and the node of the task (tcpdump udp port 4789)");
    let tasks = nodes.running(0, "test_web")?;
    let without = nodes.nodes.iter().find(|node| tasks.iter().all(|(_, host)| *host != node.host.name));
    let entry = &without.context("every node has a task")?.host;
    let mut capture = Capture::start(&nodes.bed.wire, &entry.port, "udp port 4789")?;
    ask_http(&client(nodes)?.ns, entry.ip4, PUBLISHED)?;
    let frames = capture.wait_for(Duration::from_secs(5), |frames| frames.len() >= 2)?;
    for frame in frames.iter().take(2) {
        println!("{}", describe(frame));
    }
    println!("The packet inside is the client's own, to {}: nothing is translated on the way.", entry.ip4);
    Ok(())
}

fn scale(nodes: &Nodes) -> Result<()> {
    heading("Two tasks become four");
    let begun = Instant::now();
    docker(nodes, 0, &["service", "scale", "-d", "test_web=4"])?;
    nodes.until_running(0, "test_web", 4)?;
    println!("Four run after {:.1} s.", begun.elapsed().as_secs_f64());
    docker(nodes, 0, &["service", "ps", "test_web"])?;
    Ok(())
}

fn update(nodes: &Nodes) -> Result<()> {
    heading("All tasks are replaced, one by one, while the client asks");
    let (client, entry) = (client(nodes)?, nodes.nodes[0].host.ip4);
    let before: BTreeSet<_> = ids(nodes)?;
    docker(nodes, 0, &["service", "update", "-d", "--force", "test_web"])?;
    let (mut asked, begun) = (0, Instant::now());
    loop {
        ask_http(&client.ns, entry, PUBLISHED).context("a request failed during the update")?;
        asked += 1;
        if asked % 100 == 0 {
            let now = ids(nodes)?;
            if now.is_disjoint(&before) && nodes.running(0, "test_web")?.len() == 4 {
                break;
            }
            ensure!(begun.elapsed() < LIMIT, "the tasks are not replaced within {LIMIT:?}");
        }
    }
    println!("{asked} requests in {:.1} s, 0 failed.", begun.elapsed().as_secs_f64());
    Ok(())
}

/// The tasks that are wanted now.
fn ids(nodes: &Nodes) -> Result<BTreeSet<String>> {
    let said = nodes.docker(0, &["service", "ps", "test_web", "-q", "--filter", "desired-state=running"])?;
    Ok(said.lines().map(str::to_owned).collect())
}

fn power_off(nodes: &mut Nodes) -> Result<()> {
    heading("node3 loses its power");
    let (last, begun) = (nodes.nodes.len() - 1, Instant::now());
    let Nodes { nodes: machines, bed, .. } = nodes;
    machines[last].power_off(bed)?;
    let (mut failed, mut asked, mut last_failed) = (0, 0, Duration::ZERO);
    let entry = nodes.nodes[0].host.ip4;
    loop {
        asked += 1;
        if ask_http(&client(nodes)?.ns, entry, PUBLISHED).is_err() {
            failed += 1;
            last_failed = begun.elapsed();
        }
        if asked % 20 == 0 {
            let tasks = nodes.running(0, "test_web")?;
            if tasks.len() == 4 && tasks.iter().all(|(_, node)| *node != nodes.nodes[last].host.name) {
                break;
            }
            ensure!(begun.elapsed() < LIMIT, "its tasks do not run elsewhere within {LIMIT:?}");
        }
    }
    println!(
        "Four tasks run on the other two after {:.1} s. {failed} of {asked} requests met the dead node, the last {:.1} s after.",
        begun.elapsed().as_secs_f64(),
        last_failed.as_secs_f64()
    );
    docker(nodes, 0, &["node", "ls"])?;
    Ok(())
}

fn take_down(nodes: &Nodes) -> Result<()> {
    heading("Taken down");
    docker(nodes, 0, &["stack", "rm", "test"])?;
    nodes.until("no task is left", |nodes| Ok(nodes.docker(0, &["service", "ls", "-q"])?.is_empty()))?;
    docker(nodes, 1, &["swarm", "leave"])?;
    nodes.until("node2 is down", |nodes| {
        Ok(nodes.docker(0, &["node", "ls", "--format", "{{.Hostname}} {{.Status}}"])?.contains("node2 Down"))
    })?;
    docker(nodes, 0, &["node", "rm", "node2"])?;
    docker(nodes, 0, &["swarm", "leave", "--force"])?;
    for node in &nodes.nodes[..2] {
        ensure!(node.pinned().is_empty(), "{} keeps pins: {:?}", node.host.name, node.pinned());
        ensure!(node.links()?.is_empty(), "{} keeps links: {:?}", node.host.name, node.links()?);
    }
    Ok(())
}

fn keep(nodes: &Nodes) -> Result<()> {
    heading("The swarm is yours");
    for node in &nodes.nodes {
        println!("{:8} export DOCKER_HOST=unix://{}", node.host.name, node.socket().display());
    }
    println!("A client: nsenter --net={} curl http://{}/", client(nodes)?.ns.path().display(), nodes.nodes[0].host.ip4);
    println!("Press Enter, and all of it goes.");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    Ok(())
}
