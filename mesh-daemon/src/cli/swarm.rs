//! `meshctl swarm`: make, join, set and leave a swarm.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use anyhow::{Result, bail};
use clap::{Subcommand, ValueEnum};

use super::client::Client;
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
        /// How long certificates last from now on.
        #[arg(long, value_parser = units::duration)]
        cert_expiry: Option<i64>,
    },
    /// Unlock a manager that has restarted; the key is read from standard input.
    Unlock,
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

/// What a machine joins as.
#[derive(Clone, Copy, ValueEnum)]
pub(super) enum Role {
    /// Runs tasks.
    Worker,
    /// Keeps the cluster's state too.
    Manager,
}

#[derive(clap::Args)]
pub(super) struct Init {
    /// Where other nodes find this one: an address or an interface, with or without a port.
    #[arg(long, default_value = "")]
    advertise_addr: String,
    /// Where to listen.
    #[arg(long, default_value = "0.0.0.0:2377")]
    listen_addr: String,
    /// Where tunnels end; the advertised address if left out.
    #[arg(long, default_value = "")]
    data_path_addr: String,
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
    /// Where other nodes find this one: an address or an interface, with or without a port.
    #[arg(long, default_value = "")]
    advertise_addr: String,
    /// Where to listen.
    #[arg(long, default_value = "0.0.0.0:2377")]
    listen_addr: String,
    /// Where tunnels end; the advertised address if left out.
    #[arg(long, default_value = "")]
    data_path_addr: String,
    /// Whether this node takes tasks: active, pause or drain.
    #[arg(long, default_value = "active")]
    availability: String,
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
        Command::Ca { rotate, detach, quiet, cert_expiry } => ca(client, rotate, detach, quiet, cert_expiry),
        Command::Unlock => unlock(client),
        Command::UnlockKey { rotate, quiet } => unlock_key(client, rotate, quiet),
    }
}

fn init(client: &Client, init: Init) -> Result<()> {
    let mut spec = wire::SwarmSpec::default();
    init.settings.put(&mut spec);
    let request = wire::InitRequest {
        listen_addr: init.listen_addr,
        advertise_addr: init.advertise_addr,
        data_path_addr: init.data_path_addr,
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
        listen_addr: join.listen_addr,
        advertise_addr: join.advertise_addr,
        data_path_addr: join.data_path_addr,
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

fn ca(client: &Client, rotate: bool, detach: bool, quiet: bool, cert_expiry: Option<i64>) -> Result<()> {
    let root = |client: &Client| -> Result<String> {
        let swarm: wire::Swarm = client.get("/swarm")?;
        Ok(swarm.tls_info.trust_root.trim_end().to_owned())
    };
    if !rotate {
        if cert_expiry.is_some() || detach || quiet {
            bail!("--cert-expiry, --detach and --quiet require --rotate");
        }
        return line(root(client)?);
    }
    let edit = |spec: &mut wire::SwarmSpec| {
        spec.ca_config.force_rotate += 1;
        spec.ca_config.node_cert_expiry = cert_expiry.unwrap_or(spec.ca_config.node_cert_expiry);
    };
    change(client, edit, "")?;
    if detach {
        return Ok(());
    }
    loop {
        let swarm: wire::Swarm = client.get("/swarm")?;
        if !swarm.root_rotation_in_progress {
            break;
        }
        if !quiet {
            let nodes: Vec<wire::Node> = client.get("/nodes")?;
            let wanted = &swarm.tls_info.cert_issuer_public_key;
            let done = nodes.iter().filter(|node| node.description.tls_info.cert_issuer_public_key == *wanted).count();
            line(format!("  rotated TLS certificates:  {done}/{} nodes", nodes.len()))?;
        }
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    line(root(client)?)
}

fn unlock(client: &Client) -> Result<()> {
    let info: wire::SystemInfo = client.get("/info")?;
    match info.swarm.local_node_state.as_str() {
        "inactive" => return Err(each::bare("Error: This node is not part of a swarm")),
        "locked" => {}
        _ => return Err(each::bare("Error: swarm is not locked")),
    }
    let mut stdin = std::io::stdin().lock();
    if stdin.is_terminal() {
        super::table::to_stdout(|out| {
            write!(out, "Enter unlock key: ")?;
            Ok(out.flush()?)
        })?;
    }
    let mut key = String::new();
    stdin.read_line(&mut key)?;
    let request = wire::UnlockRequest { unlock_key: key.trim().to_owned(), ..wire::UnlockRequest::default() };
    client.post_empty("/swarm/unlock", &request)
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
