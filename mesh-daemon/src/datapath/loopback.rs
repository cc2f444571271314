//! The loopback interface: lets answers of services to the node's own processes come in by it. It has
//! to take packets from the node's own addresses and from 127.0.0.1; nothing from outside arrives there.

use std::fs;

use tracing::warn;

/// Settings of `lo` (kernel: networking/ip-sysctl).
const SETTINGS: [&str; 2] = ["/proc/sys/net/ipv4/conf/lo/accept_local", "/proc/sys/net/ipv4/conf/lo/route_localnet"];

/// Makes the settings. A refusal is said: all but the node's own processes is served without them.
pub(super) fn open() {
    set("1");
}

/// Takes them back.
pub(super) fn close() {
    set("0");
}

fn set(value: &str) {
    for setting in SETTINGS {
        if let Err(error) = fs::write(setting, value) {
            warn!("cannot set {setting} to {value}: {error}; own processes do not reach published ports without");
        }
    }
}
