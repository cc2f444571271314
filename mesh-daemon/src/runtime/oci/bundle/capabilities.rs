//! What a container's processes may do beyond ordinary ones.

use serde_json::{Value, json};

use crate::runtime::RuntimeError;

/// Docker's default.
const DEFAULT: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// All that there are, by their numbers (linux/capability.h).
pub(super) const ALL: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// The default, with these added and those dropped. `available` is what this node can give: ALL means
/// all of it.
pub(super) fn of(add: &[String], drop: &[String], available: &[String]) -> Result<Vec<String>, RuntimeError> {
    let (add, drop) = (named("CapabilityAdd", add)?, named("CapabilityDrop", drop)?);
    let all = |list: &[String]| list.iter().any(|name| name == "ALL");
    let added = |name: &str| add.iter().any(|added| added == name);
    let dropped = |name: &str| drop.iter().any(|dropped| dropped == name);
    let given = |name: &str| available.iter().any(|given| given == name);
    let wanted = |name: &&&str| match (all(&add), all(&drop)) {
        // As Docker has it: what is added by name stays when all are dropped.
        (_, true) => added(name),
        (true, false) => given(name) && !dropped(name),
        (false, false) => (DEFAULT.contains(*name) || added(name)) && !dropped(name),
    };
    Ok(ALL.iter().filter(wanted).map(|name| (*name).to_owned()).collect())
}

fn named(field: &'static str, names: &[String]) -> Result<Vec<String>, RuntimeError> {
    let known = |name: &String| {
        let upper = name.to_uppercase();
        if upper == "ALL" {
            return Ok(upper);
        }
        let full = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
        if ALL.contains(&full.as_str()) {
            return Ok(full);
        }
        Err(RuntimeError::spec(field, format!("there is no capability \"{name}\"")))
    };
    names.iter().map(known).collect()
}

/// An ordinary user has none at its start, whatever it might gain: what execve does.
pub(super) fn json(capabilities: &[String], uid: u32) -> Value {
    let at_start: &[String] = if uid == 0 { capabilities } else { &[] };
    json!({ "bounding": capabilities, "effective": at_start, "permitted": at_start })
}
