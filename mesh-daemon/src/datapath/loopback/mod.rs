//! The loopback interface: lets answers of services to the node's own processes come in by it. It has
//! to take packets from the node's own addresses and from 127.0.0.1; nothing from outside arrives there.
//!
//! What a setting was before is remembered beside the pins, as the name of a directory: a bpffs holds
//! nothing else that outlives the daemon. It is gone after a restart of the host, as the setting is.

use std::path::{Path, PathBuf};
use std::{fs, io};

use tracing::warn;

/// Settings of `lo` (kernel: networking/ip-sysctl), by name.
const SETTINGS: [&str; 2] = ["accept_local", "route_localnet"];
const SYSCTL: &str = "/proc/sys/net/ipv4/conf/lo";

/// Makes the settings. A refusal is said: all but the node's own processes is served without them.
pub(super) fn open(memory: &Path) {
    open_in(Path::new(SYSCTL), memory);
}

/// Makes them what they were.
pub(super) fn close(memory: &Path) {
    close_in(Path::new(SYSCTL), memory);
}

fn open_in(sysctl: &Path, memory: &Path) {
    for setting in SETTINGS {
        if let Err(error) = remember(sysctl, memory, setting).and_then(|()| fs::write(sysctl.join(setting), "1")) {
            warn!("cannot set {setting} of lo to 1: {error}; own processes do not reach published ports without");
        }
    }
}

fn close_in(sysctl: &Path, memory: &Path) {
    for setting in SETTINGS {
        let Some(value) = remembered(memory, setting) else { continue };
        if let Err(error) = fs::write(sysctl.join(setting), &value) {
            warn!("cannot set {setting} of lo back to {value}: {error}");
        }
    }
}

/// Notes what a setting is, unless it is noted: then it is ours already.
fn remember(sysctl: &Path, memory: &Path, setting: &str) -> io::Result<()> {
    if remembered(memory, setting).is_some() {
        return Ok(());
    }
    let value = fs::read_to_string(sysctl.join(setting))?;
    fs::create_dir_all(note(memory, setting, value.trim()))
}

fn remembered(memory: &Path, setting: &str) -> Option<String> {
    let values = ["0", "1"].into_iter();
    values.map(str::to_owned).find(|value| note(memory, setting, value).exists())
}

fn note(memory: &Path, setting: &str, value: &str) -> PathBuf {
    memory.join(format!("{setting}-{value}"))
}

#[cfg(test)]
mod tests;
