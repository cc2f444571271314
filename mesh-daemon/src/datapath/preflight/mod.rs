//! What a host must have before anything is loaded. Each check names the cause and the fix.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::desired::PortRange;

mod ports;
pub mod sockets;

pub use ports::KernelPorts;

/// Oldest kernel that every program loads on.
pub const KERNEL_FLOOR: (u32, u32) = (5, 15);

/// Capabilities needed, by the number that `linux/capability.h` gives them.
const CAPABILITIES: &[(&str, u32)] = &[("CAP_NET_ADMIN", 12), ("CAP_PERFMON", 38), ("CAP_BPF", 39)];
/// Stands for CAP_BPF and CAP_PERFMON too.
const CAP_SYS_ADMIN: u32 = 21;

/// A host that cannot run the programs.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Too little privilege.
    #[error("missing {missing}: run meshd as root, or give it these capabilities")]
    Capabilities {
        /// Their names.
        missing: String,
    },
    /// Too old.
    #[error(
        "kernel {release} is older than {}.{}: mesh needs at least that for its programs",
        KERNEL_FLOOR.0,
        KERNEL_FLOOR.1
    )]
    Kernel {
        /// What `uname -r` says.
        release: String,
    },
    /// No type information.
    #[error("no BTF at {BTF}: run a kernel built with CONFIG_DEBUG_INFO_BTF=y, as the distributions' are")]
    Btf,
    /// No bpffs.
    #[error("{} is not on a bpffs: mount one with `mount -t bpf bpf /sys/fs/bpf`", path.display())]
    Bpffs {
        /// Where the pins should go.
        path: PathBuf,
    },
    /// Ports given out twice.
    #[error(
        "ports {0}-{1} are for flows of tasks to the outside (node.masquerade_ports), but the kernel gives {2} to \
         sockets (net.ipv4.ip_local_port_range is {3} {4}): keep them from it with \
         `sysctl -w net.ipv4.ip_local_reserved_ports={0}-{1}` beside what is reserved already, or choose others",
        wanted.first, wanted.last, port, local.first, local.last
    )]
    Ports {
        /// What is to be lent.
        wanted: PortRange,
        /// What the kernel gives to sockets.
        local: PortRange,
        /// The first port that is in both.
        port: u16,
    },
    /// Somebody has one of the ports.
    #[error(
        "{process} has port {port} ({table}), which is among those for flows of tasks to the outside \
         (node.masquerade_ports, {}-{}): end it, or choose other ports",
        wanted.first, wanted.last
    )]
    Socket {
        /// What is to be lent.
        wanted: PortRange,
        /// The port.
        port: u16,
        /// Where the kernel lists the socket.
        table: &'static str,
        /// Who it is.
        process: String,
    },
}

const BTF: &str = "/sys/kernel/btf/vmlinux";

/// What the checks look at.
#[derive(Clone, Debug)]
pub struct Host {
    /// Effective capabilities as a bit set.
    pub capabilities: u64,
    /// `uname -r`.
    pub release: String,
    /// Is there kernel type information?
    pub btf: bool,
    /// Is the pin directory, or its nearest existing parent, on a bpffs?
    pub bpffs: bool,
}

impl Host {
    /// Looks at this host; pins will go below `pins`.
    pub fn look(pins: &Path) -> Self {
        Self {
            capabilities: effective_capabilities().unwrap_or(0),
            release: release(),
            btf: Path::new(BTF).exists(),
            bpffs: on_bpffs(pins),
        }
    }

    /// Can the programs run here?
    ///
    /// # Errors
    /// The first thing that is missing.
    pub fn check(&self, pins: &Path) -> Result<(), Unfit> {
        self.unfit(pins).into_iter().next().map_or(Ok(()), Err)
    }

    /// Everything that is missing.
    pub fn unfit(&self, pins: &Path) -> Vec<Unfit> {
        let mut unfit = Vec::new();
        let has = |bit: u32| self.capabilities & (1 << bit) != 0;
        let missing: Vec<_> = CAPABILITIES
            .iter()
            .filter(|(name, bit)| !has(*bit) && (*name == "CAP_NET_ADMIN" || !has(CAP_SYS_ADMIN)))
            .map(|(name, _)| *name)
            .collect();
        if !missing.is_empty() {
            unfit.push(Unfit::Capabilities { missing: missing.join(", ") });
        }
        if version(&self.release) < Some(KERNEL_FLOOR) {
            unfit.push(Unfit::Kernel { release: self.release.clone() });
        }
        if !self.btf {
            unfit.push(Unfit::Btf);
        }
        if !self.bpffs {
            unfit.push(Unfit::Bpffs { path: pins.to_owned() });
        }
        unfit
    }
}

/// Is the running kernel this version or newer?
pub fn kernel_at_least(wanted: (u32, u32)) -> bool {
    version(&release()) >= Some(wanted)
}

fn release() -> String {
    nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned()).unwrap_or_default()
}

/// Major and minor of a release like `6.1.0-13-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn effective_capabilities() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn on_bpffs(path: &Path) -> bool {
    path.ancestors()
        .find(|ancestor| ancestor.exists())
        .and_then(|existing| statfs(existing).ok())
        .is_some_and(|fs| fs.filesystem_type() == BPF_FS_MAGIC)
}

#[cfg(test)]
mod tests;
