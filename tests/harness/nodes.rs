//! Real nodes: a `meshd node` in each namespace of a bed, driven by the real docker CLI.
//!
//! Each has its own files, pins and host name, as a machine has; what differs from machines is that they
//! share a kernel and its control groups. It never speaks to a node but by its socket and its packets.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use mesh_daemon::runtime::Runtime as _;
use mesh_daemon::runtime::oci::{OciOptions, OciRuntime};
use nix::mount::{MsFlags, mount};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::image::Image;
use crate::meshd::{Ports, files_below};
use crate::process::{Cmd, Output, Proc};
use crate::registry;
use crate::topology::{Bed, Host, Plan};
use crate::{Netns, program};

/// Time for a daemon to start and to end.
const LIMIT: Duration = Duration::from_secs(30);
/// What a cluster agrees on is seen by a docker command within this time on a busy machine.
const SETTLED: Duration = Duration::from_secs(60);
/// Between two docker commands that look for something.
const LOOK: Duration = Duration::from_millis(100);
/// What the recorded docker CLI spoke.
const API: &str = "1.41";

/// A bed with a node on each of its machines.
pub struct Nodes {
    /// Node by node.
    pub nodes: Vec<Node>,
    /// The machines.
    pub bed: Bed,
    _ports: Ports,
}

/// A machine with a meshd: running, or to be started again.
pub struct Node {
    /// The machine.
    pub host: Host,
    /// Its pins.
    pub pins: PathBuf,
    /// How long its daemons are waited for, from the next start on; None: as long as users' are.
    pub absence: Option<Duration>,
    folder: PathBuf,
    process: Option<Proc>,
    /// What the daemons before this one said.
    past: String,
    runs: Runs,
}

/// What is special about a node.
#[derive(Clone, Debug, Default)]
pub struct Runs {
    /// The Docker Engine that runs its containers, by its socket; it has the image already.
    pub engine: Option<PathBuf>,
    /// Further arguments of its daemon.
    pub arguments: Vec<String>,
    /// MiB of the disk that what it keeps of a swarm lies on, if that is a disk of its own.
    pub disk: Option<u32>,
}

impl Nodes {
    /// Makes the machines, puts an image in each store, and starts the daemons. They are in no swarm.
    pub fn start(plan: &Plan, image: &Image) -> Result<Self> {
        Self::start_on(Bed::new(plan)?, image, |_| Runs::default())
    }

    /// The same on machines that are there; `runs` says what is special about each node, by its number.
    pub fn start_on(bed: Bed, image: &Image, runs: impl Fn(usize) -> Runs) -> Result<Self> {
        let ports = Ports::open(&bed)?;
        let (pins, folder) = (bed.pin_dir("nodes")?, bed.folder("nodes")?);
        let archive = folder.join("image.tar");
        image.write_tar(std::fs::File::create(&archive)?)?;
        let mut nodes = Vec::new();
        for (number, host) in bed.nodes.iter().enumerate() {
            let mut node = Node {
                host: host.clone(),
                pins: pins.join(&host.name),
                absence: None,
                folder: folder.join(&host.name),
                process: None,
                past: String::new(),
                runs: runs(number),
            };
            if node.runs.engine.is_none() {
                node.load(&archive)?;
            }
            node.put_on_disk()?;
            node.start()?;
            nodes.push(node);
        }
        Ok(Self { nodes, bed, _ports: ports })
    }

    /// Makes a swarm: the first node leads, so many of the next are managers, the others workers.
    pub fn form(&self, managers: usize) -> Result<()> {
        let [first, others @ ..] = &self.nodes[..] else { bail!("no nodes") };
        first.docker(&["swarm", "init", "--advertise-addr", &first.host.ip4.to_string()])?;
        for (number, node) in others.iter().enumerate() {
            let role = if number + 1 < managers { "manager" } else { "worker" };
            let token = first.docker(&["swarm", "join-token", "-q", role])?;
            node.docker(&["swarm", "join", "--token", token.trim(), &format!("{}:2377", first.host.ip4)])?;
        }
        Ok(())
    }

    /// Which node leads, as node `at` has it.
    pub fn leader(&self, at: usize) -> Result<usize> {
        let rows = self.docker(at, &["node", "ls", "--format", "{{.Hostname}} {{.ManagerStatus}}"])?;
        let name = rows.lines().find_map(|row| row.strip_suffix(" Leader")).context("nobody leads")?;
        self.nodes.iter().position(|node| node.host.name == name).with_context(|| format!("no node {name}"))
    }

    /// The docker CLI at a node; what it printed.
    pub fn docker(&self, node: usize, arguments: &[&str]) -> Result<String> {
        self.nodes.get(node).context("no such node")?.docker(arguments)
    }

    /// Waits until a condition of the cluster holds; at the limit everything that daemons said is told.
    pub fn until(&self, what: &str, mut so: impl FnMut(&Self) -> Result<bool>) -> Result<Duration> {
        let begun = Instant::now();
        let mut last = None;
        while begun.elapsed() < SETTLED {
            match so(self) {
                Ok(true) => return Ok(begun.elapsed()),
                Ok(false) => {}
                Err(error) => last = Some(error),
            }
            std::thread::sleep(LOOK);
        }
        let mut told = format!("not within {SETTLED:?}: {what}");
        if let Some(error) = last {
            told += &format!("\nlast error: {error:#}");
        }
        for node in &self.nodes {
            told += &format!("\n--- {}\n{}", node.host.name, node.log()?);
        }
        bail!(told)
    }

    /// The tasks of a service that are wanted and run: name, node, state.
    pub fn running(&self, node: usize, service: &str) -> Result<Vec<(String, String)>> {
        let format = "{{.Name}} {{.Node}} {{.CurrentState}}";
        let wanted = "desired-state=running";
        let rows = self.docker(node, &["service", "ps", service, "--filter", wanted, "--format", format])?;
        let row = |row: &str| {
            let mut words = row.split(' ');
            let (name, node, state) = (words.next()?, words.next()?, words.next()?);
            (state == "Running").then(|| (name.to_owned(), node.to_owned()))
        };
        Ok(rows.lines().filter_map(row).collect())
    }

    /// Waits until so many tasks of a service run; where they are.
    pub fn until_running(&self, node: usize, service: &str, tasks: usize) -> Result<Vec<(String, String)>> {
        let what = format!("{tasks} tasks of {service} run");
        self.until(&what, |nodes| Ok(nodes.running(node, service)?.len() == tasks))?;
        self.running(node, service)
    }
}

impl Node {
    /// Where the docker CLI finds it.
    pub fn socket(&self) -> PathBuf {
        self.run_dir().join("docker.sock")
    }

    /// Where it keeps what it has of a swarm.
    pub fn state_dir(&self) -> PathBuf {
        self.root().join("swarm")
    }

    fn put_on_disk(&self) -> Result<()> {
        let Some(mib) = self.runs.disk else { return Ok(()) };
        let dir = self.state_dir();
        std::fs::create_dir_all(&dir)?;
        let size = format!("size={mib}m");
        mount(Some("tmpfs"), &dir, Some("tmpfs"), MsFlags::empty(), Some(size.as_str())).context("a disk of its own")
    }

    fn root(&self) -> PathBuf {
        self.folder.join("lib")
    }

    fn run_dir(&self) -> PathBuf {
        self.folder.join("run")
    }

    /// Puts an image into its store, as long as no daemon runs.
    fn load(&self, archive: &Path) -> Result<()> {
        let options = OciOptions {
            state: self.run_dir().join("oci"),
            shim: program("meshd")?,
            ..OciOptions::new(self.root().join("containers"))
        };
        let threads = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        threads.block_on(async {
            let runtime = OciRuntime::open(options, jiff::Timestamp::now).await?;
            runtime.load(archive).await.context("loading the image")
        })?;
        Ok(())
    }

    /// Starts its daemon and waits until it is ready.
    pub fn start(&mut self) -> Result<()> {
        ensure!(self.process.is_none(), "{} is running", self.host.name);
        let hostname = &self.host.name;
        // A machine has a name of its own.
        let script = format!("hostname {hostname} && exec \"$@\"");
        let mut argv: Vec<std::ffi::OsString> =
            ["unshare", "--uts", "sh", "-c", &script, "sh"].into_iter().map(Into::into).collect();
        argv.push(program("meshd")?.into());
        argv.extend(["--pin-dir".into(), self.pins.clone().into(), "node".into()]);
        argv.extend(["--root".into(), self.root().into(), "--run".into(), self.run_dir().into()]);
        argv.extend(self.runs.arguments.iter().map(Into::into));
        if let Some(socket) = &self.runs.engine {
            let host = format!("unix://{}", socket.display());
            argv.extend(["--runtime".into(), "docker".into(), "--docker-host".into(), host.into()]);
        }
        // The log's library tells each heartbeat that finds nobody.
        let mut command = self.host.ns.command(argv).env("RUST_LOG", "info,openraft=error");
        if let Some(absence) = self.absence {
            command = command.env("MESH_ABSENCE", absence.as_secs().to_string());
        }
        let mut process = command.spawn()?;
        process.wait_line("ready", LIMIT)?;
        self.process = Some(process);
        Ok(())
    }

    /// Ends its daemon by SIGKILL; containers stay.
    pub fn kill(&mut self) -> Result<()> {
        self.end(Signal::SIGKILL).map(drop)
    }

    /// Ends its daemon by SIGTERM; containers stay.
    pub fn terminate(&mut self) -> Result<Output> {
        self.end(Signal::SIGTERM)
    }

    fn end(&mut self, by: Signal) -> Result<Output> {
        let process = self.process.take().with_context(|| format!("{} is not running", self.host.name))?;
        process.signal(by)?;
        let output = process.wait(LIMIT)?;
        self.past += &output.stderr;
        Ok(output)
    }

    /// Stops its daemon where it is, or has it go on.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.as_ref().with_context(|| format!("{} is not running", self.host.name))?.signal(signal)
    }

    /// Ends everything that runs on the machine by SIGKILL; its kernel goes on.
    pub fn kill_all(&mut self) -> Result<()> {
        let spaces = [&self.spaces()?[..], &[self.host.ns.path()]].concat();
        registry::kill_inside(&spaces)?;
        let process = self.process.take().with_context(|| format!("{} is not running", self.host.name))?;
        self.past += &process.wait(LIMIT)?.stderr;
        Ok(())
    }

    /// Pulls the machine's cable.
    pub fn unplug(&self, bed: &Bed) -> Result<()> {
        bed.wire.ip(&[format!("link set {} down", self.host.port)])
    }

    /// Puts the cable in again.
    pub fn plug(&self, bed: &Bed) -> Result<()> {
        bed.wire.ip(&[format!("link set {} up", self.host.port)])
    }

    /// Switches the machine off: first its cable, so that nobody hears of it, then everything that runs.
    pub fn power_off(&mut self, bed: &Bed) -> Result<()> {
        self.unplug(bed)?;
        self.kill_all()
    }

    /// The network namespaces of its tasks.
    pub fn spaces(&self) -> Result<Vec<PathBuf>> {
        registry::mounts_below(&self.run_dir().join("netns"))
    }

    /// What is mounted below its folders.
    pub fn mounts(&self) -> Result<Vec<PathBuf>> {
        registry::mounts_below(&self.folder)
    }

    /// Its pinned maps, programs and links.
    pub fn pinned(&self) -> Vec<PathBuf> {
        files_below(&self.pins)
    }

    /// Names of the interfaces that it made for tasks.
    pub fn links(&self) -> Result<Vec<String>> {
        let shown = self.host.ns.run(["ip", "-json", "link", "show"])?;
        let links: Vec<Value> = serde_json::from_str(&shown.stdout).context("parsing ip -json link")?;
        let names = links.iter().filter_map(|link| link["ifname"].as_str());
        Ok(names.filter(|name| !["lo", self.host.uplink].contains(name)).map(str::to_owned).collect())
    }

    /// Does its daemon run?
    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// Processes in its namespaces beside its daemon and the holder of its place: shims and containers.
    pub fn processes(&self) -> Result<Vec<i32>> {
        let spaces = [&self.spaces()?[..], &[self.host.ns.path()]].concat();
        let own = self.process.as_ref().map(|process| process.id().cast_signed());
        let all = registry::inside(&spaces)?.into_iter();
        Ok(all.filter(|pid| Some(*pid) != own && !is_holder(*pid)).collect())
    }

    /// The holders of its place: there is one while it is in a swarm.
    pub fn holders(&self) -> Result<Vec<i32>> {
        let all = registry::inside(&[self.host.ns.path()])?;
        Ok(all.into_iter().filter(|pid| is_holder(*pid)).collect())
    }

    /// Everything that daemons on it said.
    pub fn log(&self) -> Result<String> {
        let now = self.process.as_ref().map(Proc::stderr).transpose()?;
        Ok(format!("{}{}", self.past, now.unwrap_or_default()))
    }

    /// Memory of its daemon, KiB.
    pub fn resident(&self) -> Result<u64> {
        let process = self.process.as_ref().with_context(|| format!("{} is not running", self.host.name))?;
        let status = std::fs::read_to_string(format!("/proc/{}/status", process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }

    /// The docker CLI at this node, to be run.
    pub fn command(&self, arguments: &[&str]) -> Cmd {
        let argv = [&["docker"], arguments].concat();
        self.host
            .ns
            .command(argv)
            .env("DOCKER_HOST", format!("unix://{}", self.socket().display()))
            .env("DOCKER_API_VERSION", API)
            .env("DOCKER_CONFIG", self.folder.join("docker"))
    }

    /// The docker CLI at this node; what it printed.
    pub fn docker(&self, arguments: &[&str]) -> Result<String> {
        let output = self.command(arguments).run().with_context(|| format!("at {}", self.host.name))?;
        Ok(output.stdout.trim_end().to_owned())
    }

    /// Keeps a login for the docker CLI of this node, as the CLI does; `auth` is `user:password` in base64.
    pub fn keep_login(&self, registry: &str, auth: &str) -> Result<()> {
        let folder = self.folder.join("docker");
        std::fs::create_dir_all(&folder)?;
        let settings = serde_json::json!({ "auths": { registry: { "auth": auth } } });
        Ok(std::fs::write(folder.join("config.json"), settings.to_string())?)
    }

    /// meshctl at this node, to be run.
    pub fn meshctl_command(&self, arguments: &[&str]) -> Result<Cmd> {
        let argv = std::iter::once(program("meshctl")?.into_os_string()).chain(arguments.iter().map(Into::into));
        let command = self.host.ns.command(argv).env("DOCKER_HOST", format!("unix://{}", self.socket().display()));
        Ok(command.env("MESH_PIN_DIR", &self.pins).env("DOCKER_CONFIG", self.folder.join("docker")))
    }

    /// meshctl at this node; what it printed.
    pub fn meshctl(&self, arguments: &[&str]) -> Result<String> {
        let output = self.meshctl_command(arguments)?.run().with_context(|| format!("at {}", self.host.name))?;
        Ok(output.stdout.trim_end().to_owned())
    }

    /// A docker command that must be refused; what it said.
    pub fn refused(&self, arguments: &[&str]) -> Result<String> {
        let output = self.command(arguments).attempt()?;
        ensure!(!output.status.success(), "docker {} was not refused: {output}", arguments.join(" "));
        Ok(output.stderr.trim_end().to_owned())
    }

    /// The elements of a map, by `meshctl maps dump -o json`.
    pub fn dump(&self, map: &str) -> Result<Vec<Value>> {
        let meshctl = program("meshctl")?;
        let argv =
            [meshctl.as_os_str(), "maps".as_ref(), "dump".as_ref(), map.as_ref(), "-o".as_ref(), "json".as_ref()];
        let output = self.host.ns.command(argv).env("MESH_PIN_DIR", &self.pins).run()?;
        let document: Value = serde_json::from_str(&output.stdout).context("reading meshctl's JSON")?;
        document[map].as_array().cloned().with_context(|| format!("meshctl prints no list {map}: {document}"))
    }

    /// Looks a name up as a task of this node does; its addresses.
    pub fn resolve(&self, space: &Path, name: &str) -> Result<Vec<IpAddr>> {
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), "nameserver 127.0.0.11\noptions ndots:0\n")?;
        let script = format!("mount --bind {} /etc/resolv.conf && exec getent ahostsv4 {name}", file.path().display());
        let net = format!("--net={}", space.display());
        let output = self.host.ns.command(["nsenter", &net, "unshare", "--mount", "sh", "-c", &script]).attempt()?;
        let rows = output.stdout.lines().filter(|row| row.contains("STREAM"));
        let mut found: Vec<IpAddr> = rows.filter_map(|row| row.split_whitespace().next()?.parse().ok()).collect();
        found.sort();
        Ok(found)
    }

    /// Its machine's namespace.
    pub fn ns(&self) -> &Netns {
        &self.host.ns
    }
}

/// Whether this process is `meshd hold`.
fn is_holder(pid: i32) -> bool {
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    words.split(|byte| *byte == 0).nth(1) == Some(b"hold")
}

/// Processes in these network namespaces.
///
/// # Errors
/// /proc cannot be read.
pub fn inside(spaces: &[PathBuf]) -> Result<Vec<i32>> {
    registry::inside(spaces)
}
