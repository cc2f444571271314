//! Limits of a container, in the words of the runtime specification.

use serde_json::{Value, json};

use crate::model::container::{Mount, MountKind, Ulimit};
use crate::model::resources::ResourceRequirements;
use crate::runtime::RuntimeError;

/// The length of the kernel's round of processor shares, in microseconds; Docker's.
const PERIOD_US: i64 = 100_000;
const NANO: i64 = 1_000_000_000;

const ULIMITS: &[&str] = &[
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// What this node can do, as far as it changes what a container is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::runtime::oci) struct Host {
    /// Whether there is one hierarchy of control groups (version 2).
    pub(in crate::runtime::oci) unified: bool,
    /// Whether swap is counted.
    pub(in crate::runtime::oci) counts_swap: bool,
    /// Whether the OCI runtime can filter system calls.
    pub(in crate::runtime::oci) filters_calls: bool,
    /// Capabilities that the daemon can give.
    pub(in crate::runtime::oci) capabilities: Vec<String>,
    /// The control group of all containers.
    pub(in crate::runtime::oci) cgroup_parent: String,
}

/// Limits by control groups.
pub(super) fn limits(wanted: &ResourceRequirements, host: &Host) -> Value {
    let mut resources = json!({ "devices": [{ "allow": false, "access": "rwm" }] });
    let limits = &wanted.limits;
    let mut memory = json!({});
    if limits.memory_bytes > 0 {
        memory["limit"] = json!(limits.memory_bytes);
        if host.counts_swap {
            // The specification counts memory and swap together. Docker's default is as much swap as memory.
            let swap = match wanted.swap_bytes {
                None => limits.memory_bytes.saturating_mul(2),
                Some(-1) => -1,
                Some(bytes) => limits.memory_bytes.saturating_add(bytes),
            };
            memory["swap"] = json!(swap);
        }
    }
    if wanted.reservations.memory_bytes > 0 {
        memory["reservation"] = json!(wanted.reservations.memory_bytes);
    }
    if let Some(swappiness) = wanted.swappiness.filter(|_| !host.unified) {
        memory["swappiness"] = json!(swappiness);
    }
    if memory.as_object().is_some_and(|memory| !memory.is_empty()) {
        resources["memory"] = memory;
    }
    if limits.nano_cpus > 0 {
        let quota = i128::from(limits.nano_cpus) * i128::from(PERIOD_US) / i128::from(NANO);
        // Below a millisecond the kernel refuses.
        resources["cpu"] = json!({ "period": PERIOD_US, "quota": i64::try_from(quota).unwrap_or(i64::MAX).max(1000) });
    }
    if limits.pids > 0 {
        resources["pids"] = json!({ "limit": limits.pids });
    }
    resources
}

/// Limits of processes.
pub(super) fn rlimits(ulimits: &[Ulimit]) -> Result<Vec<Value>, RuntimeError> {
    let limit = |ulimit: &Ulimit| {
        let name = ulimit.name.to_lowercase();
        if !ULIMITS.contains(&name.as_str()) {
            return Err(RuntimeError::spec("Ulimits", format!("there is no limit \"{}\"", ulimit.name)));
        }
        let number = |value: i64| u64::try_from(value).unwrap_or(u64::MAX);
        let (soft, hard) = (number(ulimit.soft), number(ulimit.hard));
        if soft > hard {
            let why = format!("{name}: the soft limit {soft} is above the hard limit {hard}");
            return Err(RuntimeError::spec("Ulimits", why));
        }
        Ok(json!({ "type": format!("RLIMIT_{}", name.to_uppercase()), "soft": soft, "hard": hard }))
    };
    ulimits.iter().map(limit).collect()
}

/// Mounts of memory.
pub(super) fn tmpfs(mounts: &[Mount]) -> Result<Vec<Value>, RuntimeError> {
    let wanted = mounts.iter().filter(|mount| mount.kind == MountKind::Tmpfs);
    let one = |mount: &Mount| {
        if !mount.source.is_empty() {
            let why = format!("a tmpfs has no source, and {} is given one", mount.target);
            return Err(RuntimeError::spec("Mounts", why));
        }
        let of = mount.tmpfs.clone().unwrap_or_default();
        let mut options: Vec<String> = ["noexec", "nosuid", "nodev"].map(str::to_owned).into();
        if of.size_bytes > 0 {
            options.push(format!("size={}", of.size_bytes));
        }
        options.push(format!("mode={:o}", if of.mode == 0 { 0o1777 } else { of.mode }));
        if mount.read_only {
            options.push("ro".to_owned());
        }
        for option in &of.options {
            // A wish for `exec` takes the place of `noexec`.
            options.retain(|other| *other != format!("no{}", option.join("=")));
            options.push(option.join("="));
        }
        Ok(json!({ "destination": mount.target, "type": "tmpfs", "source": "tmpfs", "options": options }))
    };
    wanted.map(one).collect()
}
