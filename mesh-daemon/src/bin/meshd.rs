//! meshd: the node daemon of mesh.

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use jiff::Timestamp;
use mesh_daemon::cli;
use mesh_daemon::datapath::attach::TcMode;
use mesh_daemon::datapath::{Pins, pins, reconcile, standalone};
use mesh_daemon::node::{self, Remote};
use mesh_daemon::runtime::oci::shim;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// The node daemon of mesh.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Where maps and links are pinned; several nodes on one host each need their own.
    #[arg(long, env = "MESH_PIN_DIR", default_value = pins::DEFAULT_DIR, global = true)]
    pin_dir: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Args)]
struct NodeArgs {
    /// Where everything is kept that must outlive the daemon.
    #[arg(long, env = "MESH_ROOT", default_value = "/var/lib/mesh")]
    root: PathBuf,
    /// Where everything is kept that goes with a restart of the machine.
    #[arg(long, env = "MESH_RUN", default_value = "/run/mesh")]
    run: PathBuf,
    /// The socket of the Docker API; docker.sock in the folder of --run, if left out.
    #[arg(long, env = "MESH_SOCKET")]
    socket: Option<PathBuf>,
    #[command(flatten)]
    remote: RemoteArgs,
    /// The OCI runtime that starts containers; runc, crun or youki, the first that is installed, if left out.
    #[arg(long)]
    oci_runtime: Option<PathBuf>,
    /// What runs containers: oci, the node itself; docker, a Docker Engine.
    #[arg(long, value_enum, default_value_t)]
    runtime: node::RuntimeKind,
    /// The Docker Engine.
    #[arg(long, default_value = "unix:///var/run/docker.sock")]
    docker_host: String,
    /// A registry that speaks HTTP, HOST:PORT; those of this host may anyway. May be given more than once.
    #[arg(long, value_name = "HOST:PORT")]
    insecure_registry: Vec<String>,
    /// Bytes of images on disk beyond which those that no container uses are removed, least recently used
    /// first; 50 GiB, if left out.
    #[arg(long, value_name = "BYTES")]
    image_limit: Option<u64>,
    /// What tasks may reserve of this node, KIND=NUMBER or KIND=NAME. May be given more than once.
    #[arg(long, value_name = "KIND=VALUE")]
    node_generic_resource: Vec<node::GenericResource>,
    /// How TC programs are attached.
    #[arg(long, value_enum, default_value_t)]
    tc: TcMode,
    /// For so many seconds after the daemon has ended, its tasks are left alone and sent to: it will be
    /// back. 0: its end is the node's.
    #[arg(long, env = "MESH_ABSENCE", value_name = "SECONDS", default_value_t = 60,
        value_parser = clap::value_parser!(u64).range(..=node::MAX_ABSENCE_SECONDS))]
    absence: u64,
}

#[derive(Subcommand)]
enum Command {
    /// Run a node: in no swarm at first; the docker CLI or meshctl makes or joins one by the socket.
    Node(Box<NodeArgs>),
    /// Run the packet path alone, without a cluster.
    Datapath {
        /// The desired state, a TOML file; read again when it changes.
        #[arg(long, required_unless_present = "remove")]
        desired: Option<PathBuf>,
        /// How TC programs are attached.
        #[arg(long, value_enum, default_value_t)]
        tc: TcMode,
        /// Where to say what is in force, as JSON: the version, what is missing, and how drains are doing.
        #[arg(long, conflicts_with = "remove")]
        status: Option<PathBuf>,
        /// Detach everything, remove every pin, and exit.
        #[arg(long, conflicts_with = "desired")]
        remove: bool,
    },
    /// Keep the node's place while its daemon is away: meshd starts it.
    #[command(hide = true)]
    Hold {
        /// Where the next daemon finds it.
        #[arg(long)]
        socket: PathBuf,
        /// It waits so long for one.
        #[arg(long)]
        seconds: u64,
    },
    /// Stand beside one container: meshd starts it.
    #[command(hide = true)]
    Shim {
        /// The container's directory.
        #[arg(long)]
        directory: PathBuf,
    },
}

/// The Docker API over TCP, in dockerd's words.
#[derive(clap::Args)]
struct RemoteArgs {
    /// Serve the Docker API at tcp://ADDRESS:PORT too, to clients with a certificate.
    #[arg(long, value_name = "tcp://ADDRESS:PORT", value_parser = tcp, requires_all = ["tlsverify", "tlscacert", "tlscert", "tlskey"])]
    api: Option<SocketAddr>,
    /// Let in only who shows a certificate of --tlscacert; there is no TCP without it.
    #[arg(long, requires = "api")]
    tlsverify: bool,
    /// The authority of clients' certificates, PEM.
    #[arg(long, requires = "api")]
    tlscacert: Option<PathBuf>,
    /// The certificate that is shown, PEM.
    #[arg(long, requires = "api")]
    tlscert: Option<PathBuf>,
    /// Its key, PEM.
    #[arg(long, requires = "api")]
    tlskey: Option<PathBuf>,
}

impl RemoteArgs {
    fn remote(self) -> Option<Remote> {
        Some(Remote { address: self.api?, ca: self.tlscacert?, cert: self.tlscert?, key: self.tlskey? })
    }
}

/// `tcp://ADDRESS:PORT`.
fn tcp(text: &str) -> Result<SocketAddr, String> {
    let address = text.strip_prefix("tcp://").ok_or("it begins with tcp://")?;
    address
        .parse()
        .map_err(|_| format!("{address} is not an address with a port, as 192.0.2.1:2376 or [2001:db8::1]:2376"))
}

fn main() -> ExitCode {
    let args = Args::parse();
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info")))
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    cli::exit("meshd", start(args))
}

fn start(args: Args) -> Result<()> {
    // There is one for each container: without the threads of a daemon.
    if let Command::Shim { directory } = &args.command {
        return Ok(shim::run(directory, Timestamp::now)?);
    }
    if let Command::Hold { socket, seconds } = &args.command {
        return Ok(node::hold::run(socket, Duration::from_secs(*seconds))?);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(run(args))
}

async fn run(args: Args) -> Result<()> {
    let pins = Pins::new(args.pin_dir);
    match args.command {
        Command::Datapath { desired: Some(file), tc, status, remove: _ } => {
            Ok(standalone::run(file, pins, tc, seconds, status).await?)
        }
        Command::Datapath { desired: None, .. } => Ok(reconcile::remove(&pins).await?),
        Command::Node(args) => run_node(args.config(pins)).await,
        Command::Shim { .. } | Command::Hold { .. } => Ok(()),
    }
}

impl NodeArgs {
    fn config(self, pins: Pins) -> node::Config {
        node::Config {
            socket: self.socket.unwrap_or_else(|| self.run.join("docker.sock")),
            runtime: node::RuntimeChoice {
                kind: self.runtime,
                docker_host: self.docker_host,
                program: self.oci_runtime,
                state: Some(self.run.join("oci")),
                image_limit: self.image_limit,
                insecure_registries: self.insecure_registry,
            },
            remote: self.remote.remote(),
            packets: node::PacketPathConfig { pins, tc: self.tc, clock: seconds },
            generic_resources: self.node_generic_resource,
            root: self.root,
            run: self.run,
            absence: Duration::from_secs(self.absence),
            clock: wall,
        }
    }
}

/// Runs a node until a signal ends it.
async fn run_node(config: node::Config) -> Result<()> {
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).context("wait for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("wait for signals")?;
    let running = node::run(config, stop.clone());
    tokio::pin!(running);
    loop {
        tokio::select! {
            ended = &mut running => return Ok(ended?),
            _ = terminate.recv() => stop.cancel(),
            _ = interrupt.recv() => stop.cancel(),
        }
    }
}

/// The time, in seconds since 1970.
fn seconds() -> u64 {
    wall().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The time.
#[expect(clippy::disallowed_methods, reason = "the one clock of the process, which it hands to its parts")]
fn wall() -> SystemTime {
    SystemTime::now()
}
