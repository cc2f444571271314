//! The packet path alone: three nodes and a client, each daemon following a file.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::clients::{Ping, ask_http, ping};
use harness::meshd::{Cluster, State, TaskSpec, VNI};
use harness::netns::Transport;
use harness::{Capture, Host, Plan, describe, servers};
use mesh_daemon::datapath::seeing::frame::Frame;

use crate::heading;

/// What the service is published as, and what its tasks listen on.
const PUBLISHED: u16 = 80;
const TARGET: u16 = 8080;
/// RFC 7348.
const VXLAN_PORT: u16 = 4789;

pub(crate) fn play() -> Result<()> {
    let mut cluster = build()?;
    let whoami = [("web1", 1), ("web2", 2)]
        .map(|(name, _)| cluster.task(name).and_then(|task| servers::whoami(&task.ns, name, TARGET)));
    let _whoami = whoami.into_iter().collect::<Result<Vec<_>>>()?;
    first_light(&cluster)?;
    published(&cluster)?;
    on_the_wire(&cluster)?;
    in_the_maps(&cluster)?;
    without_daemons(&mut cluster)?;
    drain(&mut cluster)?;
    heading("The end");
    for meshd in &mut cluster.meshd {
        meshd.terminate()?;
        meshd.remove()?;
    }
    drop(cluster);
    println!("Daemons stopped, programs detached, pins, links and namespaces removed.");
    Ok(())
}

fn state(draining: bool) -> State {
    let services = format!(
        "[[services]]\nname = \"web\"\nnetwork = \"net\"\nvips = [\"10.0.9.100\", \"fd00:9::64\"]\n\
         ports = [{{ published = {PUBLISHED}, target = {TARGET} }}]\n"
    );
    let mut web1 = TaskSpec::new("web1", 1, 2).of("web");
    web1.draining = draining;
    State { services, tasks: vec![web1, TaskSpec::new("web2", 2, 3).of("web")], ..State::default() }
}

fn build() -> Result<Cluster> {
    heading("What stands here");
    let cluster = Cluster::start(&Plan { nodes: 3, clients: 1, ..Plan::default() }, state(false), &[])?;
    for (host, runs) in cluster.bed.nodes.iter().zip(["no task", "task web1, 10.0.9.2", "task web2, 10.0.9.3"]) {
        println!("{:8} {:12} meshd; {runs}", host.name, host.ip4.to_string());
    }
    let client = client(&cluster)?;
    println!("{:8} {:12} outside the cluster", client.name, client.ip4.to_string());
    println!("Service web: VIP 10.0.9.100 in overlay network {VNI}, port {PUBLISHED} published on every node.");
    println!("On each node: XDP program `underlay` and TC program `underlay_bulk` on eth0, TC program `container`");
    println!("on each task's link. No netfilter rule, no bridge, no proxy; one idle vxlan device, for GRO.");
    Ok(cluster)
}

fn client(cluster: &Cluster) -> Result<&Host> {
    cluster.bed.clients.first().context("the bed has no client")
}

fn first_light(cluster: &Cluster) -> Result<()> {
    heading("A packet's way through both programs: web1 pings web2");
    let pinged = ping(&cluster.task("web1")?.ns, IpAddr::from([10, 0, 9, 3]), &Ping { count: 3, ..Ping::default() })?;
    ensure!(pinged.is_whole(), "the tasks do not reach each other: {}", pinged.said);
    println!("{} requests, {} replies.", pinged.sent, pinged.received);
    for (node, counter, what) in [
        (1, "NeighbourAnswered", "ARP answered in the kernel, from the endpoint table"),
        (1, "Encap", "TC `container`: put into VXLAN, straight to node3"),
        (2, "DecapXdp", "XDP `underlay`: taken out, straight into web2's link"),
        (2, "Encap", "TC `container`: the replies, back"),
    ] {
        let count = cluster.meshd[node].counter(counter)?;
        ensure!(count > 0, "{counter} of node{} is zero", node + 1);
        println!("  node{}  {counter:18} {count:3}  {what}", node + 1);
    }
    Ok(())
}

fn published(cluster: &Cluster) -> Result<()> {
    heading("The client dials port 80 of node1, which has no task");
    let (client, entry) = (client(cluster)?, &cluster.bed.nodes[0]);
    let mut servers = std::collections::BTreeSet::new();
    for _ in 0..12 {
        let seen = ask_http(&client.ns, entry.ip4, PUBLISHED)?;
        ensure!(seen.peer.ip() == IpAddr::from(client.ip4), "{} saw {} instead of the client", seen.name, seen.peer);
        if servers.insert(seen.name.clone()) {
            println!("  curl http://{}/ -> {} answers and sees the client as {}", entry.ip4, seen.name, seen.peer);
        }
    }
    ensure!(servers.len() == 2, "only {servers:?} answered 12 requests");
    let seen = ask_http(&client.ns, entry.ip6, PUBLISHED)?;
    ensure!(seen.peer.ip() == IpAddr::from(client.ip6), "{} saw {}", seen.name, seen.peer);
    println!("  curl http://[{}]/ -> {} answers and sees the client as {}", entry.ip6, seen.name, seen.peer);
    println!("12 + 1 requests, 0 failed; the client's own address and port in each.");
    Ok(())
}

fn on_the_wire(cluster: &Cluster) -> Result<()> {
    heading("The same on the wire, between node1 and the node of the task");
    let client = client(cluster)?;
    let mut capture = Capture::start(&cluster.bed.wire, &cluster.bed.nodes[0].port, "udp port 4789")?;
    ask_http(&client.ns, cluster.bed.nodes[0].ip4, PUBLISHED)?;
    let frames = capture.wait_for(Duration::from_secs(5), |frames| frames.len() >= 2)?;
    for frame in frames.iter().take(2) {
        println!("{}\n", describe(frame));
    }
    println!("The inner packet is the client's, unchanged; its destination MAC names the task.");
    let first = frames.first().context("nothing was captured")?;
    let packet = Frame::read(first, VXLAN_PORT).packet.context("the frame carries no IP")?;
    let (src_port, dst_port) = packet.ports.context("the frame carries no TCP")?;
    let ends = [SocketAddr::new(packet.src, src_port), SocketAddr::new(packet.dst, dst_port)];
    let [src, dst] = ends.map(|end| end.to_string());
    explained(cluster, &src, &dst)
}

/// The packet captured, explained at both nodes: sent by nobody, and nothing is counted.
fn explained(cluster: &Cluster, src: &str, dst: &str) -> Result<()> {
    heading("Why that packet took its way (meshctl datapath explain)");
    let run = |node: usize, more: &[&str]| -> Result<String> {
        let argv = [&["explain", src, dst], more].concat();
        println!("node{}$ meshctl datapath {}", node + 1, argv.join(" "));
        let said = cluster.meshd[node].meshctl_datapath(&argv)?.run()?.stdout;
        println!("{said}");
        Ok(said)
    };
    let at_entry = run(0, &[])?;
    ensure!(!at_entry.contains("differs"), "the maps and the program disagree");
    // The task's node is the one whose VTEP address the tunnel goes to.
    let vtep = |node: usize| cluster.bed.nodes[node].ip4.to_string();
    let home =
        (1..3).find(|node| at_entry.contains(&format!("node {} by", vtep(*node)))).context("no node was chosen")?;
    let at_home = run(home, &["--from", &vtep(0)])?;
    ensure!(at_home.contains(&format!(":{TARGET} tcp")), "the task does not get it on its own port");
    Ok(())
}

fn in_the_maps(cluster: &Cluster) -> Result<()> {
    heading("What the kernel knows (meshctl maps dump)");
    let meshd = &cluster.meshd[1];
    let meshctl = harness::program("meshctl")?;
    for map in ["SERVICES", "ENDPOINTS", "FLOWS"] {
        let argv = [meshctl.as_os_str(), "maps".as_ref(), "dump".as_ref(), map.as_ref()];
        let output = meshd.ns.command(argv).env("MESH_PIN_DIR", &meshd.pins).run()?;
        println!("{}", output.stdout);
    }
    println!("Only the task's node remembers a flow: node1, which was dialled, has none:");
    let flows = cluster.meshd[0].dump("FLOWS")?.len();
    ensure!(flows == 0, "node1 tracks {flows} flows");
    println!("node1 FLOWS: {flows} elements");
    Ok(())
}

fn without_daemons(cluster: &mut Cluster) -> Result<()> {
    heading("Every meshd is killed (kill -9)");
    for meshd in &mut cluster.meshd {
        meshd.kill()?;
    }
    let (client, entry) = (client(cluster)?.ns.clone(), cluster.bed.nodes[0].ip4);
    for _ in 0..20 {
        ask_http(&client, entry, PUBLISHED)?;
    }
    println!("20 requests, 0 failed: programs and maps are pinned, packets need no daemon.");
    for meshd in &mut cluster.meshd {
        meshd.start()?;
    }
    println!("Started again, they adopt what they find.");
    Ok(())
}

fn drain(cluster: &mut Cluster) -> Result<()> {
    heading("web1 drains: it finishes what it has begun");
    cluster.apply(state(true))?;
    let client = client(cluster)?;
    let mut seen = std::collections::BTreeMap::<_, u32>::new();
    for _ in 0..20 {
        let answer = harness::clients::ask(&client.ns, Transport::Tcp, cluster.bed.nodes[0].ip4, PUBLISHED)?;
        *seen.entry(answer.name).or_default() += 1;
    }
    println!("20 new connections, 0 failed, by task: {seen:?}");
    ensure!(seen.keys().eq(["web2"]), "a draining task got new connections");
    Ok(())
}
