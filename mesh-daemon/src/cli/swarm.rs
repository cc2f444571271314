//! `meshctl swarm`: make, join, set and leave a swarm.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::{Subcommand, ValueEnum};

use super::client::{Client, escape};
use super::listing::{line, lines};
use super::{each, units};
use crate::api::wire;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Make this node the first of a new swarm.
    Init(Init),
    /// Join a swarm.
    Join(Join),
    /// Print what lets machines join.
    JoinToken {
        /// As what they join.
        role: Role,
        /// Make a new token; the old one is worth nothing from then on.
        #[arg(long)]
        rotate: bool,
        /// Only the token.
        #[arg(short, long)]
        quiet: bool,
    },
    /// Leave the swarm.
    Leave {
        /// Even if this node is a manager.
        #[arg(short, long)]
        force: bool,
    },
    /// Change settings of the swarm.
    Update(Settings),
    /// Print or rotate the root of trust.
    Ca {
        /// Make a new root, and certificates by it.
        #[arg(long)]
        rotate: bool,
        /// Do not wait until every node has its new certificate.
        #[arg(short, long)]
        detach: bool,
        /// No progress.
        #[arg(short, long)]
        quiet: bool,
        #[command(flatten)]
        wanted: WantedRoot,
    },
    /// Unlock a manager that has restarted; the key is read from standard input.
    Unlock,
    /// Write all that the swarm agreed on to a file, secrets too; of a locked swarm it is sealed by the unlock key.
    Backup {
        /// Where to; it must not be there yet.
        file: PathBuf,
    },
    /// Begin the swarm of a backup again, with this node as its only manager. Workers of the swarm come by themselves
    /// to the address of a manager that they knew.
    Restore(Restore),
    /// Print what unlocks managers.
    UnlockKey {
        /// Make a new key.
        #[arg(long)]
        rotate: bool,
        /// Only the key.
        #[arg(short, long)]
        quiet: bool,
    },
}

/// What a root is rotated to.
#[derive(clap::Args)]
pub(super) struct WantedRoot {
    /// How long certificates last from now on.
    #[arg(long, value_parser = units::duration)]
    cert_expiry: Option<i64>,
    /// A root of your own, PEM; with its key.
    #[arg(long, value_name = "FILE")]
    ca_cert: Option<PathBuf>,
    /// The key of that root, PEM.
    #[arg(long, value_name = "FILE")]
    ca_key: Option<PathBuf>,
}

impl WantedRoot {
    fn is_nothing(&self) -> bool {
        self.cert_expiry.is_none() && self.ca_cert.is_none() && self.ca_key.is_none()
    }

    fn put(&self, config: &mut wire::CaConfig) -> Result<()> {
        let read = |path: &PathBuf| std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()));
        config.node_cert_expiry = self.cert_expiry.unwrap_or(config.node_cert_expiry);
        config.signing_ca_cert = self.ca_cert.as_ref().map(read).transpose()?.unwrap_or_default();
        config.signing_ca_key = self.ca_key.as_ref().map(read).transpose()?.unwrap_or_default();
        if self.ca_cert.is_none() && self.ca_key.is_none() {
            config.force_rotate += 1;
        }
        Ok(())
    }
}

/// What a machine joins as.
#[derive(Clone, Copy, ValueEnum)]
pub(super) enum Role {
    /// Runs tasks.
    Worker,
    /// Keeps the cluster's state too.
    Manager,
}

/// Where a node is.
#[derive(clap::Args)]
struct Addresses {
    /// Where other nodes find this one: an address or an interface, with or without a port.
    #[arg(long, default_value = "")]
    advertise_addr: String,
    /// Where to listen.
    #[arg(long, default_value = "0.0.0.0:2377")]
    listen_addr: String,
    /// Where tunnels end; the advertised address if left out.
    #[arg(long, default_value = "")]
    data_path_addr: String,
}

#[derive(clap::Args)]
pub(super) struct Init {
    #[command(flatten)]
    at: Addresses,
    /// The UDP port of tunnels.
    #[arg(long, default_value_t = 0)]
    data_path_port: u32,
    /// Whence networks get their subnets; may be given more than once.
    #[arg(long, value_delimiter = ',')]
    default_addr_pool: Vec<String>,
    /// How long the prefix of such a subnet is.
    #[arg(long, default_value_t = 24)]
    default_addr_pool_mask_length: u32,
    /// Start anew from the state of this manager alone, after the others are lost.
    #[arg(long)]
    force_new_cluster: bool,
    /// Whether this node takes tasks: active, pause or drain.
    #[arg(long, default_value = "active")]
    availability: String,
    #[command(flatten)]
    settings: Settings,
}

#[derive(clap::Args)]
pub(super) struct Join {
    /// A manager of the swarm.
    remote: String,
    /// What lets this machine join.
    #[arg(long)]
    token: String,
    #[command(flatten)]
    at: Addresses,
    /// Whether this node takes tasks: active, pause or drain.
    #[arg(long, default_value = "active")]
    availability: String,
}

#[derive(clap::Args)]
pub(super) struct Restore {
    /// The backup.
    file: PathBuf,
    #[command(flatten)]
    at: Addresses,
    /// The backup is of a locked swarm: the unlock key is read from standard input.
    #[arg(long)]
    unlock: bool,
}

#[derive(clap::Args)]
pub(super) struct Settings {
    /// Whether managers that restart wait for the unlock key.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    autolock: Option<bool>,
    /// How many tasks that ended are kept, a slot or a node.
    #[arg(long)]
    task_history_limit: Option<i64>,
    /// How long certificates last.
    #[arg(long, value_parser = units::duration)]
    cert_expiry: Option<i64>,
    /// Between two heartbeats of a node.
    #[arg(long, value_parser = units::duration)]
    dispatcher_heartbeat: Option<i64>,
    /// How many snapshots of the log are kept beside the newest.
    #[arg(long)]
    max_snapshots: Option<u64>,
    /// A snapshot of the log is made after so many entries.
    #[arg(long)]
    snapshot_interval: Option<u64>,
}

impl Settings {
    fn put(&self, spec: &mut wire::SwarmSpec) {
        fn set<T: Copy>(place: &mut T, value: Option<T>) {
            *place = value.unwrap_or(*place);
        }
        set(&mut spec.encryption_config.auto_lock_managers, self.autolock);
        set(&mut spec.ca_config.node_cert_expiry, self.cert_expiry);
        set(&mut spec.dispatcher.heartbeat_period, self.dispatcher_heartbeat);
        set(&mut spec.raft.snapshot_interval, self.snapshot_interval);
        set(&mut spec.raft.keep_old_snapshots, self.max_snapshots.map(Some));
        set(&mut spec.orchestration.task_history_retention_limit, self.task_history_limit.map(Some));
    }
}

pub(super) fn run(client: &Client, command: Command) -> Result<()> {
    match command {
        Command::Init(init) => self::init(client, init),
        Command::Join(join) => self::join(client, join),
        Command::JoinToken { role, rotate, quiet } => join_token(client, role, rotate, quiet),
        Command::Leave { force } => {
            client.post_empty(if force { "/swarm/leave?force=1" } else { "/swarm/leave" }, &())?;
            line("Node left the swarm.")
        }
        Command::Update(settings) => self::update(client, &settings),
        Command::Ca { rotate, detach, quiet, wanted } => ca(client, rotate, detach, quiet, &wanted),
        Command::Unlock => unlock(client),
        Command::Backup { file } => backup(client, &file),
        Command::Restore(restore) => self::restore(client, &restore),
        Command::UnlockKey { rotate, quiet } => unlock_key(client, rotate, quiet),
    }
}

fn init(client: &Client, init: Init) -> Result<()> {
    let mut spec = wire::SwarmSpec::default();
    init.settings.put(&mut spec);
    let request = wire::InitRequest {
        listen_addr: init.at.listen_addr,
        advertise_addr: init.at.advertise_addr,
        data_path_addr: init.at.data_path_addr,
        data_path_port: init.data_path_port,
        force_new_cluster: init.force_new_cluster,
        auto_lock_managers: spec.encryption_config.auto_lock_managers,
        spec,
        availability: init.availability,
        default_addr_pool: init.default_addr_pool,
        subnet_size: init.default_addr_pool_mask_length,
        ..wire::InitRequest::default()
    };
    let node: String = client.post("/swarm/init", &request)?;
    lines([format!("Swarm initialized: current node ({node}) is now a manager."), String::new()])?;
    how_to_join(client, Role::Worker)?;
    line("To add a manager to this swarm, run 'meshctl swarm join-token manager' and follow the instructions.")?;
    if request.auto_lock_managers {
        lines([String::new(), how_to_unlock(&unlock_key_of(client)?)])?;
    }
    Ok(())
}

fn join(client: &Client, join: Join) -> Result<()> {
    let request = wire::JoinRequest {
        listen_addr: join.at.listen_addr,
        advertise_addr: join.at.advertise_addr,
        data_path_addr: join.at.data_path_addr,
        remote_addrs: vec![join.remote],
        join_token: join.token,
        availability: join.availability,
        ..wire::JoinRequest::default()
    };
    client.post_empty("/swarm/join", &request)?;
    let info: wire::SystemInfo = client.get("/info")?;
    let role = if info.swarm.control_available { "manager" } else { "worker" };
    line(format!("This node joined a swarm as a {role}."))
}

fn join_token(client: &Client, role: Role, rotate: bool, quiet: bool) -> Result<()> {
    let name = match role {
        Role::Worker => "worker",
        Role::Manager => "manager",
    };
    if rotate {
        change(
            client,
            |_| (),
            match role {
                Role::Worker => "&rotateWorkerToken=true",
                Role::Manager => "&rotateManagerToken=true",
            },
        )?;
        if !quiet {
            lines([format!("Successfully rotated {name} join token."), String::new()])?;
        }
    }
    if quiet {
        return line(token(client, role)?);
    }
    how_to_join(client, role)
}

fn token(client: &Client, role: Role) -> Result<String> {
    let swarm: wire::Swarm = client.get("/swarm")?;
    let tokens = swarm.join_tokens.unwrap_or_default();
    Ok(match role {
        Role::Worker => tokens.worker,
        Role::Manager => tokens.manager,
    })
}

fn how_to_join(client: &Client, role: Role) -> Result<()> {
    let token = token(client, role)?;
    let info: wire::SystemInfo = client.get("/info")?;
    let node: wire::Node = client.get(&format!("/nodes/{}", info.swarm.node_id))?;
    let Some(manager) = node.manager_status else { return Ok(()) };
    let name = match role {
        Role::Worker => "worker",
        Role::Manager => "manager",
    };
    lines([
        format!("To add a {name} to this swarm, run the following command:"),
        String::new(),
        format!("    meshctl swarm join --token {token} {}", manager.addr),
        String::new(),
    ])
}

/// Reads the swarm's settings, changes them, and writes them back.
fn change(client: &Client, edit: impl FnOnce(&mut wire::SwarmSpec), rotate: &str) -> Result<()> {
    let mut swarm: wire::Swarm = client.get("/swarm")?;
    edit(&mut swarm.spec);
    client.post_empty(&format!("/swarm/update?version={}{rotate}", swarm.version.index), &swarm.spec)
}

fn update(client: &Client, settings: &Settings) -> Result<()> {
    let before: wire::Swarm = client.get("/swarm")?;
    change(client, |spec| settings.put(spec), "")?;
    line("Swarm updated.")?;
    if settings.autolock == Some(true) && !before.spec.encryption_config.auto_lock_managers {
        line(how_to_unlock(&unlock_key_of(client)?))?;
    }
    Ok(())
}

fn ca(client: &Client, rotate: bool, detach: bool, quiet: bool, wanted: &WantedRoot) -> Result<()> {
    let root = |client: &Client| -> Result<String> {
        let swarm: wire::Swarm = client.get("/swarm")?;
        Ok(swarm.tls_info.trust_root.trim_end().to_owned())
    };
    if !rotate {
        if !wanted.is_nothing() || detach || quiet {
            bail!("--cert-expiry, --ca-cert, --ca-key, --detach and --quiet require --rotate");
        }
        return line(root(client)?);
    }
    let mut swarm: wire::Swarm = client.get("/swarm")?;
    wanted.put(&mut swarm.spec.ca_config)?;
    client.post_empty(&format!("/swarm/update?version={}", swarm.version.index), &swarm.spec)?;
    if detach {
        return Ok(());
    }
    let mut said = String::new();
    loop {
        let swarm: wire::Swarm = client.get("/swarm")?;
        let nodes: Vec<wire::Node> = client.get("/nodes")?;
        let (progress, is_done) = progress(&swarm, &nodes);
        if !quiet && progress != said {
            line(&progress)?;
        }
        if is_done {
            break;
        }
        said = progress;
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    line(root(client)?)
}

/// How far a rotation is, in the docker CLI's words, and whether it is done.
fn progress(swarm: &wire::Swarm, nodes: &[wire::Node]) -> (String, bool) {
    let wanted = &swarm.tls_info;
    let count =
        |fits: &dyn Fn(&wire::TlsInfo) -> bool| nodes.iter().filter(|node| fits(&node.description.tls_info)).count();
    let certificates = count(&|tls| {
        tls.cert_issuer_public_key == wanted.cert_issuer_public_key
            && tls.cert_issuer_subject == wanted.cert_issuer_subject
    });
    let turns = !swarm.root_rotation_in_progress && certificates == nodes.len();
    let roots = if turns { count(&|tls| tls.trust_root == wanted.trust_root) } else { 0 };
    let all = nodes.len();
    let text =
        format!("  rotated TLS certificates: {certificates}/{all} nodes, rotated CA certificates: {roots}/{all} nodes");
    (text, turns && roots == all)
}

fn unlock(client: &Client) -> Result<()> {
    let info: wire::SystemInfo = client.get("/info")?;
    match info.swarm.local_node_state.as_str() {
        "inactive" => return Err(each::bare("Error: This node is not part of a swarm")),
        "locked" => {}
        _ => return Err(each::bare("Error: swarm is not locked")),
    }
    let request = wire::UnlockRequest { unlock_key: typed_key()?, ..wire::UnlockRequest::default() };
    client.post_empty("/swarm/unlock", &request)
}

fn typed_key() -> Result<String> {
    let mut stdin = std::io::stdin().lock();
    if stdin.is_terminal() {
        super::table::to_stdout(|out| {
            write!(out, "Enter unlock key: ")?;
            Ok(out.flush()?)
        })?;
    }
    let mut key = String::new();
    stdin.read_line(&mut key)?;
    Ok(key.trim().to_owned())
}

fn backup(client: &Client, path: &Path) -> Result<()> {
    let backup = client.get_raw("/swarm/backup")?;
    let mut options = std::fs::OpenOptions::new();
    // It holds every secret: for its owner alone, and never in the place of another file.
    let mut file = std::os::unix::fs::OpenOptionsExt::mode(options.write(true).create_new(true), 0o600)
        .open(path)
        .with_context(|| format!("make {}", path.display()))?;
    file.write_all(&backup).and_then(|()| file.sync_all()).with_context(|| format!("write {}", path.display()))?;
    line(format!("Swarm saved to {} ({} bytes): keep it as you keep its secrets.", path.display(), backup.len()))
}

fn restore(client: &Client, restore: &Restore) -> Result<()> {
    let backup = std::fs::read(&restore.file).with_context(|| format!("read {}", restore.file.display()))?;
    let key = if restore.unlock { vec![("Mesh-Unlock-Key", typed_key()?)] } else { Vec::new() };
    let place = format!(
        "/swarm/restore?advertiseAddr={}&listenAddr={}&dataPathAddr={}",
        escape(&restore.at.advertise_addr),
        escape(&restore.at.listen_addr),
        escape(&restore.at.data_path_addr)
    );
    let node: String = client.post_bytes(&place, backup, &key)?;
    line(format!("Swarm restored: current node ({node}) is now its only manager."))
}

fn unlock_key_of(client: &Client) -> Result<String> {
    let answer: wire::UnlockRequest = client.get("/swarm/unlockkey")?;
    if answer.unlock_key.is_empty() {
        return Err(each::bare("no unlock key is set"));
    }
    Ok(answer.unlock_key)
}

fn unlock_key(client: &Client, rotate: bool, quiet: bool) -> Result<()> {
    if rotate {
        let swarm: wire::Swarm = client.get("/swarm")?;
        if !swarm.spec.encryption_config.auto_lock_managers {
            return Err(each::bare("cannot rotate because autolock is not turned on"));
        }
        change(client, |_| (), "&rotateManagerUnlockKey=true")?;
        if !quiet {
            lines(["Successfully rotated manager unlock key.".to_owned(), String::new()])?;
        }
    }
    let key = unlock_key_of(client)?;
    line(if quiet { key } else { how_to_unlock(&key) })
}

fn how_to_unlock(key: &str) -> String {
    format!(
        "To unlock a swarm manager after it restarts, run the `meshctl swarm unlock`\n\
         command and provide the following key:\n\n    {key}\n\n\
         Remember to store this key in a password manager, since without it you\n\
         will not be able to restart the manager."
    )
}
