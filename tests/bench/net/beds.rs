//! The beds: nodes with meshd, nodes with what the kernel has, each with a backend on its second
//! node and clients beside them, and two bare hosts.
//!
//! A veth copies most frames for an XDP program, which network cards do not. So that all pay alike,
//! nodes and wires of the kernel's bed have one that passes everything; the bare hosts have none.
//!
//! Rows that lead to one task have callers of their own: Linux would dial from the same ports by
//! both ways, and the task's end remembers each for a minute after it was closed (TIME-WAIT).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::Result;
use harness::clients::{Ping, ping};
use harness::meshd::{Cluster, Ports, State, TaskSpec, attach, pass_all};
use harness::process::Proc;
use harness::servers::{self, Nginx};
use harness::{Bed, Host, KernelVxlan, Netns, Plan, Task, TaskPlan};
use tempfile::TempDir;

use super::load::Echo;

/// Ports of the servers, and as they are published.
pub(super) const IPERF: u16 = 5201;
pub(super) const HTTP: u16 = 8080;
pub(super) const ECHO: u16 = 7001;
const PORTS: [u16; 3] = [IPERF, HTTP, ECHO];
/// What HAProxy listens on is so much higher.
const HAPROXY: u16 = 10_000;

/// A way from a client to the servers.
pub(super) struct Candidate {
    pub(super) name: &'static str,
    pub(super) from: Netns,
    pub(super) to: IpAddr,
    /// Added to each server's port.
    pub(super) shift: u16,
    /// Names of the rows it is compared with.
    pub(super) beside: &'static [&'static str],
}

impl Candidate {
    pub(super) fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.to, port + self.shift)
    }
}

/// The servers of a backend, as long as it lives.
struct Servers {
    _iperf: Proc,
    _http: Nginx,
    _echo: Echo,
}

impl Servers {
    fn start(ns: &Netns) -> Result<Self> {
        Ok(Self {
            _iperf: servers::iperf3(ns, IPERF)?,
            _http: Nginx::start(ns, HTTP, "0123456789abcdef")?,
            _echo: Echo::start(ns, ECHO)?,
        })
    }
}

const BARE: &str = "host to host, no XDP on the veth";
const HOST: &str = "host to host, no overlay";
const KERNEL: &str = "kernel's parts: port of the node without the task";
const HAPROXY_NAME: &str = "HAProxy (TCP) on the node without the task";

/// Two hosts with nothing but their wire.
pub(super) struct Bare {
    // Before the bed: servers are ended through their namespaces.
    _servers: Servers,
    bed: Bed,
}

impl Bare {
    pub(super) fn start() -> Result<Self> {
        let bed = Bed::new(&Plan { nodes: 1, clients: 1, gro: true, ..Plan::default() })?;
        Ok(Self { _servers: Servers::start(&bed.nodes[0].ns)?, bed })
    }

    pub(super) fn candidate(&self) -> Candidate {
        let from = self.bed.clients[0].ns.clone();
        Candidate { name: BARE, from, to: self.bed.nodes[0].ip4.into(), shift: 0, beside: &[HOST] }
    }
}

/// Three nodes with meshd; two callers on the first, "backend" on the second.
pub(super) struct Mesh {
    // Before the cluster: servers are ended through their namespaces.
    _servers: Servers,
    cluster: Cluster,
}

impl Mesh {
    pub(super) fn start() -> Result<Self> {
        let ports = PORTS.map(|port| format!("{{ published = {port}, target = {port} }}")).join(", ");
        let services =
            format!("[[services]]\nname = \"web\"\nnetwork = \"net\"\nvips = [\"{VIP}\"]\nports = [{ports}]\n");
        let tasks = vec![
            TaskSpec::new("caller", 0, 2),
            TaskSpec::new("dialler", 0, 4),
            TaskSpec::new("backend", 1, 3).of("web"),
        ];
        let plan = Plan { nodes: 3, clients: 2, gro: true, ..Plan::default() };
        let cluster = Cluster::start(&plan, State { services, tasks, ..State::default() }, &[])?;
        let servers = Servers::start(&cluster.task("backend")?.ns)?;
        Ok(Self { cluster, _servers: servers })
    }

    pub(super) fn candidates(&self) -> Result<Vec<Candidate>> {
        let clients = &self.cluster.bed.clients;
        let caller = &self.cluster.task("caller")?.ns;
        let dialler = &self.cluster.task("dialler")?.ns;
        let backend = TaskSpec::new("backend", 1, 3).addresses()[0];
        let nodes = &self.cluster.bed.nodes;
        let way = |name, from: &Netns, to: IpAddr, beside| Candidate { name, from: from.clone(), to, shift: 0, beside };
        Ok(vec![
            way("mesh: task to task on another node", caller, backend, &[HOST, "kernel's parts: task to task"]),
            way("mesh: task to VIP", dialler, VIP.into(), &[HOST, "kernel's parts: task to task"]),
            way(
                "mesh: published port, task on that node",
                &clients[0].ns,
                nodes[1].ip4.into(),
                &[HOST, KERNEL, HAPROXY_NAME],
            ),
            way(
                "mesh: published port, task on another node",
                &clients[1].ns,
                nodes[0].ip4.into(),
                &[HOST, KERNEL, HAPROXY_NAME],
            ),
        ])
    }
}

const VIP: Ipv4Addr = Ipv4Addr::new(10, 0, 9, 200);
/// Network of the kernel's overlay.
const OVERLAY: &str = "10.1.9";

/// Two nodes with a vxlan device in a bridge, nftables and connection tracking: the port of a node is
/// translated to the backend, the client's address to the node's, as Swarm's routing mesh does it;
/// HAProxy on the first node; servers on the second node itself.
pub(super) struct Kernel {
    // Before the bed, as above.
    _servers: Vec<Servers>,
    _haproxy: Proc,
    bed: Bed,
    tasks: Vec<Task>,
    _ports: Ports,
    _passes: aya::Ebpf,
    _files: TempDir,
}

impl Kernel {
    pub(super) fn start() -> Result<Self> {
        let bed = Bed::new(&Plan { nodes: 2, clients: 2, gro: true, ..Plan::default() })?;
        let ports = Ports::open(&bed)?;
        let mut passes = pass_all()?;
        for node in &bed.nodes {
            attach(&mut passes, &node.ns, node.uplink)?;
        }
        let mut tasks = Vec::new();
        for (index, name) in ["caller", "backend"].into_iter().enumerate() {
            tasks.push(node(&bed.nodes[index], &bed.nodes[1 - index], index, name)?);
        }
        let pinged = ping(&tasks[0].ns, backend(), &Ping { count: 3, ..Ping::default() })?;
        anyhow::ensure!(pinged.received > 0, "the kernel's overlay carries nothing: {}", pinged.said);
        let servers = vec![Servers::start(&tasks[1].ns)?, Servers::start(&bed.nodes[1].ns)?];
        let files = tempfile::tempdir()?;
        let haproxy = haproxy(&bed.nodes[0].ns, &files)?;
        Ok(Self { bed, tasks, _servers: servers, _haproxy: haproxy, _ports: ports, _passes: passes, _files: files })
    }

    pub(super) fn candidates(&self) -> Result<Vec<Candidate>> {
        let clients = &self.bed.clients;
        let nodes = &self.bed.nodes;
        let way =
            |name, from: &Netns, to: IpAddr, shift| Candidate { name, from: from.clone(), to, shift, beside: &[] };
        Ok(vec![
            way(HOST, &clients[0].ns, nodes[1].ip4.into(), 0),
            way("kernel's parts: task to task", &self.tasks[0].ns, backend(), 0),
            way(KERNEL, &clients[0].ns, nodes[0].ip4.into(), 0),
            way(HAPROXY_NAME, &clients[1].ns, nodes[0].ip4.into(), HAPROXY),
        ])
    }
}

fn backend() -> IpAddr {
    [10, 1, 9, 3].into()
}

/// A node of the kernel's bed, with its task.
fn node(own: &Host, other: &Host, index: usize, name: &str) -> Result<Task> {
    let gateway = format!("{OVERLAY}.{}", 250 + index);
    let plan = TaskPlan::new(name).ip4(&format!("{OVERLAY}.{}/24", 2 + index)).gateway(gateway.parse::<IpAddr>()?);
    let task = own.task(&plan)?;
    own.kernel_vxlan(&KernelVxlan {
        name: "vx0",
        vni: 88,
        port: 4789,
        local: own.ip4.into(),
        remote: other.ip4.into(),
        addresses: &[],
        mac: [2, 0, 0, 88, 0, u8::try_from(index)?],
    })?;
    own.ns.ip(&[
        "link add br0 mtu 1450 type bridge".to_owned(),
        format!("addr add {gateway}/24 dev br0"),
        "link set vx0 master br0".to_owned(),
        format!("link set {} master br0", task.host_link),
        "link set br0 up".to_owned(),
    ])?;
    own.ns.sysctl("net/ipv4/ip_forward", "1")?;
    // The servers of the second node stand on the same ports: only the first translates.
    if index == 0 {
        own.ns.command(["nft", "-f", "-"]).input(ruleset().as_bytes()).run()?;
    }
    Ok(task)
}

fn ruleset() -> String {
    let ports = PORTS.map(|port| port.to_string()).join(", ");
    format!(
        "table ip mesh {{\n chain pre {{ type nat hook prerouting priority dstnat; iifname \"eth0\" tcp dport {{ {ports} }} \
         dnat to {} ; }}\n chain post {{ type nat hook postrouting priority srcnat; oifname \"br0\" masquerade; }}\n}}\n",
        backend()
    )
}

fn haproxy(ns: &Netns, files: &TempDir) -> Result<Proc> {
    let mut config = String::from(
        "global\n  nbthread 1\n  maxconn 4096\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n",
    );
    for port in PORTS {
        config += &format!("listen p{port}\n  bind :{}\n  server backend {}:{port}\n", port + HAPROXY, backend());
    }
    let path = files.path().join("haproxy.cfg");
    std::fs::write(&path, config)?;
    let mut process = ns.spawn(["haproxy".as_ref(), "-db".as_ref(), "-f".as_ref(), path.as_os_str()])?;
    process.wait_listening(ns, harness::Transport::Tcp, HTTP + HAPROXY, std::time::Duration::from_secs(10))?;
    Ok(process)
}
