//! What an OCI runtime is told of a container: `config.json` of the runtime specification. Pure.

mod capabilities;
mod process;
mod resources;
mod seccomp;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

pub(in crate::runtime) use process::Accounts;
pub(super) use process::{command, environment, exec_process};
pub(super) use resources::Host;

use crate::runtime::images::ImageConfig;
use crate::runtime::{Container, RuntimeError};

/// As Docker masks them.
const MASKED: &[&str] = &[
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READ_ONLY: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Something of the node that is seen in the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bind {
    pub(super) source: PathBuf,
    pub(super) target: String,
    pub(super) options: Vec<String>,
}

/// All that decides how a container runs.
pub(super) struct Parts<'a> {
    pub(super) id: &'a str,
    pub(super) container: &'a Container,
    pub(super) image: &'a ImageConfig,
    /// Users and groups of the image.
    pub(super) accounts: &'a Accounts,
    /// Volumes, files and paths of the node, in the order in which they are mounted.
    pub(super) binds: &'a [Bind],
    /// A program that reaps orphans, where one is wanted.
    pub(super) init: Option<&'a Path>,
    pub(super) host: &'a Host,
}

/// The names of a set of capabilities, a bit for each.
pub(super) fn capabilities_of(bits: u64) -> Vec<String> {
    let set = capabilities::ALL.iter().enumerate().filter(|(bit, _)| bits >> bit & 1 == 1);
    set.map(|(_, name)| (*name).to_owned()).collect()
}

/// Where an init program is seen in a container.
const INIT: &str = "/sbin/docker-init";

/// The configuration of a container.
pub(super) fn configuration(parts: &Parts<'_>) -> Result<Value, RuntimeError> {
    let spec = &parts.container.spec;
    let hostname = hostname(parts.id, &spec.hostname);
    let identity = parts.accounts.identity(user(parts), &spec.groups)?;
    let mut args = command(spec, parts.image)?;
    if parts.init.is_some() {
        args.splice(0..0, [INIT, "--"].map(str::to_owned));
    }
    let environment = environment(spec, parts.image, &identity, &hostname);
    let capabilities = capabilities::of(&spec.cap_add, &spec.cap_drop, &parts.host.capabilities)?;
    let mut namespaces: Vec<Value> =
        ["pid", "ipc", "uts", "mount"].iter().map(|kind| json!({ "type": kind })).collect();
    namespaces.push(match &parts.container.netns {
        Some(path) => json!({ "type": "network", "path": path }),
        None => json!({ "type": "network" }),
    });
    if parts.host.unified {
        namespaces.push(json!({ "type": "cgroup" }));
    }
    let mut process = json!({
        "terminal": spec.tty,
        "user": identity.json(),
        "args": args,
        "env": environment,
        "cwd": directory(&spec.dir, parts.image),
        "capabilities": capabilities::json(&capabilities, identity.uid),
        "rlimits": resources::rlimits(&spec.ulimits)?,
        "noNewPrivileges": spec.privileges.no_new_privileges,
    });
    if spec.oom_score_adj != 0 {
        process["oomScoreAdj"] = json!(spec.oom_score_adj);
    }
    let mut linux = json!({
        "cgroupsPath": format!("{}/{}", parts.host.cgroup_parent, parts.id),
        "resources": resources::limits(&parts.container.resources, parts.host),
        "namespaces": namespaces,
        "maskedPaths": MASKED,
        "readonlyPaths": READ_ONLY,
        "sysctl": sysctls(parts),
    });
    if let Some(filter) = seccomp::filter(&spec.privileges.seccomp, &capabilities, parts.host)? {
        linux["seccomp"] = filter;
    }
    Ok(json!({
        "ociVersion": "1.0.2",
        "process": process,
        "root": { "path": "rootfs", "readonly": spec.read_only },
        "hostname": hostname,
        "mounts": mounts(parts)?,
        "annotations": parts.container.labels,
        "linux": linux,
    }))
}

/// Docker's: the start of the id.
pub(super) fn hostname(id: &str, wanted: &str) -> String {
    if wanted.is_empty() { id.chars().take(12).collect() } else { wanted.to_owned() }
}

fn user<'a>(parts: &Parts<'a>) -> &'a str {
    let spec = &parts.container.spec;
    if spec.user.is_empty() { parts.image.user.as_deref().unwrap_or_default() } else { &spec.user }
}

fn directory(wanted: &str, image: &ImageConfig) -> String {
    let wanted = if wanted.is_empty() { image.working_dir.as_deref().unwrap_or_default() } else { wanted };
    if wanted.starts_with('/') { wanted.to_owned() } else { format!("/{wanted}") }
}

/// Low ports need no privilege in a namespace of one's own, nor does ping: Docker's defaults.
fn sysctls(parts: &Parts<'_>) -> Value {
    let mut sysctls =
        json!({ "net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647" });
    for (key, value) in &parts.container.spec.sysctls {
        sysctls[key] = json!(value);
    }
    sysctls
}

fn mounts(parts: &Parts<'_>) -> Result<Vec<Value>, RuntimeError> {
    let mount = |target: &str, kind: &str, source: &str, options: &[&str]| json!({ "destination": target, "type": kind, "source": source, "options": options });
    let mut mounts = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "ro"]),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
    ];
    let binds = parts.binds.iter().map(
        |bind| json!({ "destination": bind.target, "type": "bind", "source": bind.source, "options": bind.options }),
    );
    mounts.extend(binds);
    mounts.extend(resources::tmpfs(&parts.container.spec.mounts)?);
    if let Some(init) = parts.init {
        mounts.push(json!({ "destination": INIT, "type": "bind", "source": init, "options": ["bind", "ro"] }));
    }
    // What lies below another target is mounted after it.
    let depth = |mount: &Value| mount["destination"].as_str().unwrap_or_default().matches('/').count();
    let standard = 7;
    mounts[standard..].sort_by_key(depth);
    Ok(mounts)
}
