//! A real meshd on every node of a bed: the file it follows, its log, its maps as meshctl prints
//! them, and its end in every manner.
//!
//! [`Cluster::start`] returns when every daemon is ready and knows the way to every other node.

use std::net::IpAddr;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use aya::programs::{ProgramError, Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader};
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::clients::{Ping, ping};
use crate::process::{Output, POLL, Proc};
use crate::topology::{Bed, Host, Plan, Task, TaskPlan};
use crate::{Netns, program};

/// Time for a daemon to start, to take over a file, and to end.
const LIMIT: Duration = Duration::from_secs(15);
/// Network identifier of the tasks' network.
pub const VNI: u32 = 77;
/// Network identifier of what travels between nodes for published ports.
pub const INGRESS_VNI: u32 = 4096;

/// Cluster-wide desired state, from which each node gets its file.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// Are the VTEP addresses IPv6?
    pub underlay_v6: bool,
    /// TOML of `[[services]]`, in the network "net".
    pub services: String,
    /// The tasks, all in the network "net".
    pub tasks: Vec<TaskSpec>,
    /// What the daemons say when it is in force.
    pub version: u64,
}

/// A task as desired: 10.0.9.N and fd00:9::N in the network "net".
#[derive(Clone, Debug)]
pub struct TaskSpec {
    /// Its name, unique in the cluster.
    pub name: &'static str,
    /// Index of its node.
    pub node: usize,
    /// Last part of its addresses, below 10, so that both families spell it the same.
    pub last: u8,
    /// The service it is a task of.
    pub service: Option<&'static str>,
    /// Does it only finish what it has begun?
    pub draining: bool,
    /// Until when, in seconds since 1970.
    pub drain_until: Option<u64>,
}

impl TaskSpec {
    /// A task of no service.
    pub fn new(name: &'static str, node: usize, last: u8) -> Self {
        Self { name, node, last, service: None, draining: false, drain_until: None }
    }

    /// Makes it a task of a service.
    #[must_use]
    pub fn of(mut self, service: &'static str) -> Self {
        self.service = Some(service);
        self
    }

    /// Its addresses.
    pub fn addresses(&self) -> [IpAddr; 2] {
        task_addresses(self.last)
    }
}

/// 10.0.9.N and fd00:9::N.
pub fn task_addresses(last: u8) -> [IpAddr; 2] {
    [[10, 0, 9, last].into(), [0xfd00, 9, 0, 0, 0, 0, 0, u16::from(last)].into()]
}

impl State {
    /// The file of the node `index`.
    pub fn file(&self, hosts: &[Host], index: usize) -> String {
        let vtep = |host: &Host| if self.underlay_v6 { IpAddr::from(host.ip6) } else { host.ip4.into() };
        let host = &hosts[index];
        let mut text = format!(
            "version = {}\n[node]\nname = \"{}\"\nuplinks = [\"{}\"]\nvtep = \"{}\"\ningress_vni = {INGRESS_VNI}\n\
             addresses = [\"{}\", \"{}\"]\n\n",
            self.version,
            host.name,
            host.uplink,
            vtep(host),
            host.ip4,
            host.ip6
        );
        for other in hosts.iter().filter(|other| other.name != host.name) {
            text += &format!("[[nodes]]\nname = \"{}\"\nvtep = \"{}\"\n\n", other.name, vtep(other));
        }
        text += &format!(
            "[[networks]]\nname = \"net\"\nvni = {VNI}\nmtu = {}\ngateways = [\"10.0.9.254\", \"fd00:9::fe\"]\nsubnets = [\"10.0.9.0/24\", \"fd00:9::/64\"]\n\n",
            self.mtu()
        );
        text += &self.services;
        for task in &self.tasks {
            let [ip4, ip6] = task.addresses();
            text += &format!(
                "\n[[endpoints]]\nnetwork = \"net\"\nnode = \"{}\"\nmac = \"02:42:0a:00:09:{:02x}\"\naddresses = [\"{ip4}\", \"{ip6}\"]\n",
                hosts[task.node].name, task.last
            );
            if task.node == index {
                text += &format!("link = \"v-{}\"\n", task.name);
            }
            if let Some(service) = task.service {
                text += &format!("service = \"{service}\"\n");
            }
            if task.draining {
                text += "draining = true\n";
            }
            if let Some(until) = task.drain_until {
                text += &format!("drain_until = {until}\n");
            }
        }
        text
    }

    fn mtu(&self) -> u32 {
        if self.underlay_v6 { 1430 } else { 1450 }
    }
}

/// A daemon on a node: running, or to be started again.
#[derive(Debug)]
pub struct Meshd {
    /// The node.
    pub ns: Netns,
    /// Its pin directory.
    pub pins: PathBuf,
    /// The file it follows.
    pub file: PathBuf,
    /// Further arguments, e.g. `--tc clsact`.
    pub arguments: Vec<String>,
    process: Option<Proc>,
    /// What the daemons before this one said.
    past: String,
}

impl Meshd {
    /// A daemon that has not been started.
    pub fn new(ns: &Netns, pins: PathBuf, file: PathBuf) -> Self {
        Self { ns: ns.clone(), pins, file, arguments: Vec::new(), process: None, past: String::new() }
    }

    /// Writes the file it follows, whole or not at all.
    pub fn write(&self, text: &str) -> Result<()> {
        let new = self.file.with_extension("new");
        std::fs::write(&new, text).with_context(|| format!("writing {}", new.display()))?;
        std::fs::rename(&new, &self.file).with_context(|| format!("making it {}", self.file.display()))
    }

    /// Starts it and waits until it is ready.
    pub fn start(&mut self) -> Result<()> {
        ensure!(self.process.is_none(), "this meshd is running");
        let mut process = self.spawn()?;
        process.wait_line("ready", LIMIT)?;
        self.process = Some(process);
        Ok(())
    }

    /// Starts it without waiting for anything.
    pub fn spawn(&self) -> Result<Proc> {
        let meshd = program("meshd")?;
        let mut argv = vec![meshd.into_os_string(), "--pin-dir".into(), self.pins.clone().into()];
        argv.extend(["datapath".into(), "--desired".into(), self.file.clone().into()]);
        argv.extend(["--status".into(), self.status_file().into()]);
        argv.extend(self.arguments.iter().map(Into::into));
        self.ns.spawn(argv)
    }

    fn status_file(&self) -> PathBuf {
        self.file.with_extension("status")
    }

    /// What it says is in force.
    pub fn status(&self) -> Result<Value> {
        let file = self.status_file();
        let text = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        serde_json::from_str(&text).with_context(|| format!("reading the JSON of {}", file.display()))
    }

    /// Ends it by SIGKILL.
    pub fn kill(&mut self) -> Result<()> {
        self.end(Signal::SIGKILL).map(drop)
    }

    /// Ends it by SIGTERM.
    pub fn terminate(&mut self) -> Result<Output> {
        self.end(Signal::SIGTERM)
    }

    fn end(&mut self, by: Signal) -> Result<Output> {
        let process = self.process.take().context("this meshd is not running")?;
        process.signal(by)?;
        let output = process.wait(LIMIT)?;
        self.past += &output.stderr;
        Ok(output)
    }

    /// `meshd datapath --remove` to its end.
    pub fn remove(&self) -> Result<Output> {
        let meshd = program("meshd")?;
        self.ns.run([
            meshd.as_os_str(),
            "--pin-dir".as_ref(),
            self.pins.as_os_str(),
            "datapath".as_ref(),
            "--remove".as_ref(),
        ])
    }

    /// Everything it and the daemons before it said.
    pub fn log(&self) -> Result<String> {
        let now = self.process.as_ref().map(Proc::stderr).transpose()?;
        Ok(format!("{}{}", self.past, now.unwrap_or_default()))
    }

    /// Waits for a line of the running daemon's log, and returns it.
    pub fn wait_line(&mut self, needle: &str) -> Result<String> {
        self.process.as_mut().context("this meshd is not running")?.wait_line(needle, LIMIT)
    }

    /// Gives it another file and waits until that is in force.
    ///
    /// The daemon reads a file, makes the kernel so, and only then looks at the file again: when it
    /// has read the same text with a comment behind it, the text is in force.
    pub fn apply(&mut self, text: &str) -> Result<()> {
        for version in [text.to_owned(), format!("{text}\n# in force\n")] {
            let before = self.log()?.matches("read again").count();
            self.write(&version)?;
            self.wait_until("read the file again", |meshd| Ok(meshd.log()?.matches("read again").count() > before))?;
        }
        Ok(())
    }

    /// Waits until something holds of it.
    pub fn wait_until(&self, what: &str, condition: impl Fn(&Self) -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + LIMIT;
        while !condition(self)? {
            ensure!(Instant::now() < deadline, "meshd did not {what} in {LIMIT:?}; it said:\n{}", self.log()?);
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// A `meshctl datapath` of this node.
    ///
    /// # Errors
    /// The program is not built.
    pub fn meshctl_datapath(&self, arguments: &[&str]) -> Result<crate::process::Cmd> {
        let meshctl = program("meshctl")?;
        let argv =
            [&[meshctl.as_os_str(), "datapath".as_ref()], &arguments.iter().map(AsRef::as_ref).collect::<Vec<_>>()[..]]
                .concat();
        Ok(self.ns.command(argv).env("MESH_PIN_DIR", &self.pins))
    }

    /// The elements of a map, by `meshctl maps dump -o json`.
    pub fn dump(&self, map: &str) -> Result<Vec<Value>> {
        let meshctl = program("meshctl")?;
        let argv =
            [meshctl.as_os_str(), "maps".as_ref(), "dump".as_ref(), map.as_ref(), "-o".as_ref(), "json".as_ref()];
        let output = self.ns.command(argv).env("MESH_PIN_DIR", &self.pins).run()?;
        let document: Value = serde_json::from_str(&output.stdout).context("reading meshctl's JSON")?;
        document[map].as_array().cloned().with_context(|| format!("meshctl prints no list {map}: {document}"))
    }

    /// A count of `COUNTERS` or `DROPS`, by its name there.
    pub fn count(&self, map: &str, name: &str) -> Result<u64> {
        let rows = self.dump(map)?;
        let row = rows.iter().find(|row| row["name"] == name).with_context(|| format!("{map} has no {name}"))?;
        row["count"].as_u64().context("a count is no number")
    }

    /// A counter of the packet path.
    pub fn counter(&self, name: &str) -> Result<u64> {
        self.count("COUNTERS", name)
    }

    /// The drops that were counted, by reason; those never met are left out.
    pub fn drops(&self) -> Result<Vec<(String, u64)>> {
        let count = |row: &Value| Some((row["name"].as_str()?.to_owned(), row["count"].as_u64()?));
        Ok(self.dump("DROPS")?.iter().filter_map(count).filter(|(_, count)| *count > 0).collect())
    }

    /// Waits until it knows the next hop to so many nodes.
    pub fn wait_for_neighbours(&self, nodes: usize) -> Result<()> {
        self.wait_until("resolve its neighbours", |meshd| {
            let rows = meshd.dump("NODES")?;
            Ok(rows.iter().filter(|row| row["ifindex"].as_u64().is_some_and(|index| index != 0)).count() == nodes)
        })
    }
}

/// A bed with a meshd on each node and the tasks of a [`State`].
pub struct Cluster {
    /// Node by node.
    pub meshd: Vec<Meshd>,
    /// The tasks' namespaces, in the order of the state.
    pub tasks: Vec<Task>,
    /// What was desired at the start.
    pub state: State,
    /// The machines.
    pub bed: Bed,
    _ports: Ports,
    _files: TempDir,
}

impl Cluster {
    /// Makes the bed, the tasks and the daemons, and waits until they know each other.
    pub fn start(plan: &Plan, state: State, arguments: &[&str]) -> Result<Self> {
        let mut cluster = Self::prepare(plan, state, arguments)?;
        cluster.meet()?;
        let others = cluster.bed.nodes.len() - 1;
        cluster.on_each(|_, meshd| {
            meshd.start()?;
            meshd.wait_for_neighbours(others)
        })?;
        Ok(cluster)
    }

    /// All of it, but no daemon is started.
    pub fn prepare(plan: &Plan, state: State, arguments: &[&str]) -> Result<Self> {
        let bed = Bed::new(plan)?;
        let ports = Ports::open(&bed)?;
        let pins = bed.pin_dir("meshd")?;
        let files = tempfile::tempdir()?;
        let mut tasks = Vec::new();
        for spec in &state.tasks {
            tasks.push(put_task(&bed.nodes[spec.node], spec, state.mtu())?);
        }
        let mut meshd = Vec::new();
        for (index, host) in bed.nodes.iter().enumerate() {
            let file = files.path().join(format!("{}.toml", host.name));
            let mut daemon = Meshd::new(&host.ns, pins.join(&host.name), file);
            daemon.arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
            daemon.write(&state.file(&bed.nodes, index))?;
            meshd.push(daemon);
        }
        Ok(Self { meshd, tasks, state, bed, _ports: ports, _files: files })
    }

    /// Lets the nodes learn each other's link-layer addresses, so that no daemon has to wait.
    fn meet(&self) -> Result<()> {
        let once = Ping { count: 1, ..Ping::default() };
        for (index, from) in self.bed.nodes.iter().enumerate() {
            for to in self.bed.nodes.iter().skip(index + 1) {
                for address in [IpAddr::from(to.ip4), to.ip6.into()] {
                    let pinged = ping(&from.ns, address, &once)?;
                    ensure!(pinged.is_whole(), "{} does not reach {}: {}", from.name, to.name, pinged.said);
                }
            }
        }
        Ok(())
    }

    /// Makes every node follow another state.
    pub fn apply(&mut self, state: State) -> Result<()> {
        let nodes = self.bed.nodes.clone();
        self.on_each(|index, meshd| meshd.apply(&state.file(&nodes, index)))?;
        self.state = state;
        Ok(())
    }

    /// Gives every node the file of another state, and does not wait.
    pub fn write(&mut self, state: State) -> Result<()> {
        for (index, meshd) in self.meshd.iter().enumerate() {
            meshd.write(&state.file(&self.bed.nodes, index))?;
        }
        self.state = state;
        Ok(())
    }

    /// Waits until every node says that it has this version in force.
    pub fn wait_for_version(&self, version: u64) -> Result<()> {
        for meshd in &self.meshd {
            meshd.wait_until("acknowledge the version", |meshd| Ok(meshd.status()?["version"] == version))?;
        }
        Ok(())
    }

    /// Does something with all daemons at the same time.
    fn on_each(&mut self, act: impl Fn(usize, &mut Meshd) -> Result<()> + Sync) -> Result<()> {
        std::thread::scope(|scope| {
            let act = &act;
            let daemons = self.meshd.iter_mut().enumerate();
            let threads: Vec<_> = daemons.map(|(index, meshd)| scope.spawn(move || act(index, meshd))).collect();
            // A panic there is the caller's panic.
            let joined = threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
            joined.collect()
        })
    }

    /// The task of this name.
    pub fn task(&self, name: &str) -> Result<&Task> {
        let index = self.state.tasks.iter().position(|task| task.name == name);
        index.and_then(|index| self.tasks.get(index)).with_context(|| format!("no task {name}"))
    }

    /// A counter, summed over all nodes.
    pub fn counter(&self, name: &str) -> Result<u64> {
        self.meshd.iter().map(|meshd| meshd.counter(name)).sum()
    }
}

/// Puts a task on a node, with both ends of its link as a redirect from XDP needs them.
pub fn put_task(node: &Host, spec: &TaskSpec, mtu: u32) -> Result<Task> {
    let [ip4, ip6] = spec.addresses();
    let [gateway4, gateway6] = task_addresses(254);
    let plan = TaskPlan::new(spec.name).ip4(&format!("{ip4}/24")).ip6(&format!("{ip6}/64")).mtu(mtu);
    let task = node.task(&plan.gateway(gateway4).gateway(gateway6))?;
    // The kernel looks whether the far end has GRO, and so whether a redirect from XDP may go into
    // this one, when this one is set up (`veth_set_xdp_features`); GRO came later than that.
    let link = &task.host_link;
    node.ns.ip(&[format!("link set {link} down"), format!("link set {link} up")])?;
    Ok(task)
}

/// An XDP program that passes everything, on every port of the wire: without one, what an XDP
/// program on eth0 sends back out of eth0 (`XDP_TX`) is lost.
pub struct Ports {
    _program: Ebpf,
}

impl Ports {
    /// Puts it on all ports of a bed.
    pub fn open(bed: &Bed) -> Result<Self> {
        let mut program = pass_all()?;
        for host in bed.hosts() {
            attach(&mut program, &bed.wire, &host.port)?;
        }
        Ok(Self { _program: program })
    }
}

/// The program for uplinks without any configuration: it passes what it sees. Its maps are made as
/// small as the kernel takes them, and are pinned nowhere.
pub fn pass_all() -> Result<Ebpf> {
    let mut loader = EbpfLoader::new();
    for map in [
        "NODES",
        "VTEPS",
        "NETWORKS",
        "ENDPOINTS",
        "NEIGHBOURS",
        "LINKS",
        "SERVICES",
        "SLOTS",
        "BACKENDS",
        "FLOWS",
        "LABELS",
        "TALLIES",
        "PACE",
        "LIVE",
        "LOCALS",
        "ROUTES",
    ] {
        loader.map_max_entries(map, 1);
    }
    let mut program = loader.load(mesh_daemon::datapath::loader::OBJECT).context("loading the object")?;
    for attempt in 1.. {
        match xdp(&mut program)?.load() {
            // The verifier stops for a signal, and a child that ends sends one; libbpf tries five times.
            Err(ProgramError::LoadError { io_error, .. })
                if io_error.raw_os_error() == Some(nix::libc::EAGAIN) && attempt < 5 => {}
            outcome => {
                outcome.context("loading the program that passes everything")?;
                break;
            }
        }
    }
    Ok(program)
}

/// Puts [`pass_all`] on an interface, in driver mode, for as long as it lives.
pub fn attach(program: &mut Ebpf, ns: &Netns, interface: &str) -> Result<()> {
    let attached = ns.enter(|| xdp(program).map(|xdp| xdp.attach(interface, XdpMode::Driver)))??;
    attached.map(drop).with_context(|| format!("attaching XDP to {interface} of {}", ns.name()))
}

fn xdp(program: &mut Ebpf) -> Result<&mut Xdp> {
    let Some(found) = program.program_mut("underlay") else { bail!("the object has no program underlay") };
    Ok(found.try_into()?)
}

/// Everything in a directory and below it; empty if it does not exist.
pub fn files_below(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let below = |path: PathBuf| if path.is_dir() { files_below(&path) } else { vec![path] };
    entries.flat_map(below).collect()
}
