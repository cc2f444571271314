//! Which system calls a container has.
//!
//! The runtime's list is of calls that are refused: those that Docker's documentation names, each but
//! for whoever has the capability that makes it harmless or pointless to refuse. It is shorter than
//! Docker's own list of calls that are allowed: a call that is new in the kernel is not refused.

use serde_json::{Value, json};

use super::resources::Host;
use crate::model::container::Seccomp;
use crate::runtime::RuntimeError;

/// Calls, and the capability with which they are not refused; an empty one: there is none.
const REFUSED: &[(&str, &[&str])] = &[
    ("CAP_SYS_PACCT", &["acct"]),
    (
        "CAP_SYS_ADMIN",
        &[
            "bpf",
            "fanotify_init",
            "fsconfig",
            "fsmount",
            "fsopen",
            "fspick",
            "lookup_dcookie",
            "mount",
            "mount_setattr",
            "move_mount",
            "open_tree",
            "perf_event_open",
            "pivot_root",
            "quotactl",
            "quotactl_fd",
            "setns",
            "swapon",
            "swapoff",
            "umount",
            "umount2",
            "unshare",
        ],
    ),
    ("CAP_SYS_TIME", &["clock_adjtime", "clock_settime", "settimeofday", "stime"]),
    ("CAP_SYS_MODULE", &["create_module", "delete_module", "finit_module", "init_module", "query_module"]),
    ("CAP_SYS_NICE", &["get_mempolicy", "mbind", "set_mempolicy", "move_pages"]),
    ("CAP_SYS_RAWIO", &["ioperm", "iopl"]),
    ("CAP_SYS_PTRACE", &["kcmp", "process_madvise"]),
    ("CAP_SYS_BOOT", &["kexec_file_load", "kexec_load", "reboot"]),
    ("CAP_DAC_READ_SEARCH", &["open_by_handle_at"]),
    ("CAP_SYS_TTY_CONFIG", &["vhangup"]),
    (
        "",
        &[
            "_sysctl",
            "add_key",
            "get_kernel_syms",
            "io_uring_enter",
            "io_uring_register",
            "io_uring_setup",
            "keyctl",
            "nfsservctl",
            "request_key",
            "sysfs",
            "uselib",
            "userfaultfd",
            "ustat",
            "vm86",
            "vm86old",
        ],
    ),
];

/// `CLONE_NEWNS`, `NEWCGROUP`, `NEWUTS`, `NEWIPC`, `NEWUSER`, `NEWPID`, `NEWNET` (linux/sched.h).
const NEW_NAMESPACES: u64 = 0x7e02_0000;

/// The filter that a container gets; None where the node has none, or none is wanted.
pub(super) fn filter(wanted: &Seccomp, capabilities: &[String], host: &Host) -> Result<Option<Value>, RuntimeError> {
    match wanted {
        Seccomp::Unconfined => Ok(None),
        Seccomp::Default if !host.filters_calls => Ok(None),
        Seccomp::Default => Ok(Some(default(capabilities))),
        Seccomp::Custom(_) if !host.filters_calls => {
            Err(RuntimeError::spec("Seccomp", "the OCI runtime of this node cannot filter system calls"))
        }
        Seccomp::Custom(profile) => {
            let malformed = |error| RuntimeError::spec("Seccomp", format!("the profile is not one: {error}"));
            let read: oci_spec::runtime::LinuxSeccomp = serde_json::from_str(profile).map_err(malformed)?;
            serde_json::to_value(read).map(Some).map_err(malformed)
        }
    }
}

fn default(capabilities: &[String]) -> Value {
    let has = |name: &str| capabilities.iter().any(|capability| capability == name);
    let refused = REFUSED.iter().filter(|(capability, _)| !has(capability)).flat_map(|(_, calls)| *calls);
    let errno = |names: Vec<&str>, errno: u32| json!({ "names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": errno });
    let mut rules = vec![errno(refused.copied().collect(), 1)];
    if !has("CAP_SYS_ADMIN") {
        // Its flags lie in memory, where no filter looks: programs fall back to clone on ENOSYS.
        rules.push(errno(vec!["clone3"], 38));
        // A bit of the mask at a time: an argument is compared as a whole, under one mask.
        for bit in (0..64).map(|bit| 1_u64 << bit).filter(|bit| bit & NEW_NAMESPACES != 0) {
            let mut rule = errno(vec!["clone"], 1);
            rule["args"] = json!([{ "index": 0, "value": bit, "valueTwo": bit, "op": "SCMP_CMP_MASKED_EQ" }]);
            rules.push(rule);
        }
    }
    json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": architectures(), "syscalls": rules })
}

/// A filter that knows one architecture only is passed by calls of its 32-bit sibling.
fn architectures() -> &'static [&'static str] {
    match () {
        () if cfg!(target_arch = "x86_64") => &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        () if cfg!(target_arch = "aarch64") => &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
        () => &[],
    }
}
