//! What a task runs: a container, as its user describes it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::id::{ConfigId, SecretId};
use super::meta::Labels;

/// How long a task has between the request to stop and its end by force, unless it says otherwise.
pub const STOP_GRACE: Duration = Duration::from_secs(10);

/// A container to run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerSpec {
    /// The image: a reference, with a digest once it is resolved.
    pub image: String,
    /// Replaces the image's entrypoint, unless empty.
    pub command: Vec<String>,
    /// Arguments to it; replace those of the image.
    pub args: Vec<String>,
    /// `NAME=value`, or `NAME` to remove one of the image.
    pub env: Vec<String>,
    /// May be a template. Empty: the container's id.
    pub hostname: String,
    /// The working directory. Empty: the image's.
    pub dir: String,
    /// `user[:group]`, names or numbers. Empty: the image's.
    pub user: String,
    /// Further groups.
    pub groups: Vec<String>,
    /// Labels of the container, not of the service.
    pub labels: Labels,
    /// What is mounted into it.
    pub mounts: Vec<Mount>,
    /// Secrets it gets as files.
    pub secrets: Vec<SecretReference>,
    /// Configs it gets as files.
    pub configs: Vec<ConfigReference>,
    /// Replaces the image's health check.
    pub healthcheck: Option<Healthcheck>,
    /// The signal that asks it to stop, by name or number. Empty: the image's, else SIGTERM.
    pub stop_signal: String,
    /// How long it may take to stop. None: [`STOP_GRACE`].
    pub stop_grace: Option<Duration>,
    /// Lines of its hosts file, as `address name [alias..]`.
    pub hosts: Vec<String>,
    /// How it resolves names.
    pub dns: DnsConfig,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Whether its standard input is held open.
    pub open_stdin: bool,
    /// Whether its root file system is read-only.
    pub read_only: bool,
    /// Whether an init process reaps its orphans. None: what the runtime is set to.
    pub init: Option<bool>,
    /// What it may do beyond, or less than, an ordinary container.
    pub privileges: Privileges,
    /// Capabilities added to the runtime's default.
    pub cap_add: Vec<String>,
    /// Capabilities taken from it.
    pub cap_drop: Vec<String>,
    /// Limits of its processes.
    pub ulimits: Vec<Ulimit>,
    /// Kernel parameters of its namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// How the host isolates it; Linux knows only the default. Empty: the default.
    pub isolation: String,
    /// Points the kernel adds to its badness when memory runs out.
    pub oom_score_adj: i64,
}

impl ContainerSpec {
    /// How long it may take to stop.
    #[must_use]
    pub fn stop_grace(&self) -> Duration {
        self.stop_grace.unwrap_or(STOP_GRACE)
    }
}

/// Resolver settings: each empty list means the node's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DnsConfig {
    /// Servers for names that are not the cluster's.
    pub nameservers: Vec<String>,
    /// Domains to try.
    pub search: Vec<String>,
    /// Options of resolv.conf.
    pub options: Vec<String>,
}

/// A health check. A duration or count of None is the image's, else the default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Healthcheck {
    /// `[]`: the image's; `["NONE"]`: none; `["CMD", ..]` or `["CMD-SHELL", line]`.
    pub test: Vec<String>,
    /// Between two probes.
    pub interval: Option<Duration>,
    /// After this a probe counts as failed.
    pub timeout: Option<Duration>,
    /// How many failures in a row make a container unhealthy.
    pub retries: Option<u32>,
    /// Failures in this time after the start do not count.
    pub start_period: Option<Duration>,
    /// Between two probes in the start period.
    pub start_interval: Option<Duration>,
}

impl Healthcheck {
    /// Between two probes, unless it says otherwise.
    pub const INTERVAL: Duration = Duration::from_secs(30);
    /// For one probe, unless it says otherwise.
    pub const TIMEOUT: Duration = Duration::from_secs(30);
    /// Failures until a container is unhealthy, unless it says otherwise.
    pub const RETRIES: u32 = 3;
    /// Between two probes in the start period, unless it says otherwise.
    pub const START_INTERVAL: Duration = Duration::from_secs(5);
}

/// Something mounted into a container.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mount {
    /// What it is.
    pub kind: MountKind,
    /// A host path, a volume's name, or an image. May be a template.
    pub source: String,
    /// Where in the container.
    pub target: String,
    /// Whether the container may only read it.
    pub read_only: bool,
    /// For kind `Bind`.
    pub bind: Option<BindOptions>,
    /// For kind `Volume`.
    pub volume: Option<VolumeOptions>,
    /// For kind `Tmpfs`.
    pub tmpfs: Option<TmpfsOptions>,
}

/// What is mounted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountKind {
    /// A named or nameless volume of the node.
    #[default]
    Volume,
    /// A path of the host.
    Bind,
    /// Memory.
    Tmpfs,
    /// A named pipe of Windows: no node of ours has one, so the task is rejected.
    Npipe,
    /// A cluster volume: no node of ours has one, so the task is rejected.
    Cluster,
    /// The files of an image.
    Image,
}

/// How a host path is mounted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BindOptions {
    /// `rprivate`, `private`, `rshared`, `shared`, `rslave` or `slave`. Empty: `rprivate`.
    pub propagation: String,
    /// Whether mounts below the path stay out.
    pub non_recursive: bool,
    /// Whether a source that is missing is made as a directory.
    pub create_mountpoint: bool,
}

/// How a volume is made and mounted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct VolumeOptions {
    /// Whether the files of the image at the target are not copied into a new volume.
    pub no_copy: bool,
    /// Labels of a new volume.
    pub labels: Labels,
    /// A path inside the volume.
    pub subpath: String,
    /// Who makes it. Empty: `local`.
    pub driver: String,
    /// Options to the driver.
    pub driver_options: BTreeMap<String, String>,
}

/// How memory is mounted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TmpfsOptions {
    /// 0: no limit.
    pub size_bytes: u64,
    /// Permissions of its root. 0: 1777.
    pub mode: u32,
    /// Mount options, each a flag or a key and a value.
    pub options: Vec<Vec<String>>,
}

/// A file that a secret or a config becomes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FileTarget {
    /// A name below `/run/secrets`, or an absolute path.
    pub name: String,
    /// Owner.
    pub uid: String,
    /// Group.
    pub gid: String,
    /// Permissions.
    pub mode: u32,
}

impl Default for FileTarget {
    fn default() -> Self {
        Self { name: String::new(), uid: "0".to_owned(), gid: "0".to_owned(), mode: 0o444 }
    }
}

/// A secret that a container gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretReference {
    /// Which.
    pub secret_id: SecretId,
    /// Its name, for people.
    pub secret_name: String,
    /// Where.
    pub file: FileTarget,
}

/// A config that a container gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigReference {
    /// Which.
    pub config_id: ConfigId,
    /// Its name, for people.
    pub config_name: String,
    /// Where; None if it is read by the runtime (as a credential) and is no file.
    pub file: Option<FileTarget>,
}

/// What a container may do beyond, or less than, an ordinary one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Privileges {
    /// The SELinux context. None: the runtime's.
    pub selinux: Option<SelinuxContext>,
    /// Which system calls it has.
    pub seccomp: Seccomp,
    /// Whether AppArmor is off for it.
    pub apparmor_disabled: bool,
    /// Whether it may not gain privileges by executing.
    pub no_new_privileges: bool,
}

/// Labels of SELinux.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SelinuxContext {
    /// Whether it has none.
    pub disable: bool,
    /// User.
    pub user: String,
    /// Role.
    pub role: String,
    /// Type.
    pub kind: String,
    /// Level.
    pub level: String,
}

/// Which system calls a container has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Seccomp {
    /// The runtime's list.
    #[default]
    Default,
    /// All.
    Unconfined,
    /// A profile of its own, as JSON.
    Custom(String),
}

/// A limit of processes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// As `ulimit` names it: `nofile`, ...
    pub name: String,
    /// -1: none.
    pub soft: i64,
    /// -1: none.
    pub hard: i64,
}
