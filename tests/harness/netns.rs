//! A network namespace by name: closures, commands and sockets inside it.
//!
//! Commands are started from a thread that has entered the namespace, which is all a child needs
//! to be born there. `ip netns exec` is never used: it remounts /sys and hides bpffs and cgroups.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use nix::sched::{CloneFlags, setns};

use crate::process::{Cmd, Output, Proc};

/// Where iproute2 keeps named namespaces.
pub(crate) const NETNS_DIR: &str = "/run/netns";

/// A transport protocol with listening sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// A named network namespace. Only a name: the bed that made it removes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Netns {
    name: String,
}

/// A network interface as the kernel shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Interface index, unique in its namespace.
    pub ifindex: u32,
    /// Link-layer address.
    pub mac: [u8; 6],
    /// Largest payload of a frame.
    pub mtu: u32,
}

impl Netns {
    pub(crate) fn named(name: impl Into<String>) -> Self {
        Self { name: name.into() }
    }

    /// The namespace that is pinned here; its name is the path.
    pub fn at(path: &std::path::Path) -> Self {
        Self { name: path.display().to_string() }
    }

    /// Its full name, as `ip netns` shows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its file, for `nsenter --net=`.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(NETNS_DIR).join(&self.name)
    }

    /// Runs `inside` on a fresh thread in the namespace. Sockets made there stay there.
    pub fn enter<T: Send>(&self, inside: impl FnOnce() -> T + Send) -> Result<T> {
        let file = File::open(self.path()).with_context(|| format!("opening namespace {}", self.name))?;
        let entered = std::thread::scope(|scope| {
            let thread = scope.spawn(move || setns(file, CloneFlags::CLONE_NEWNET).map(|()| inside()));
            // A panic inside (a failed assertion) is the caller's panic.
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        entered.with_context(|| format!("entering namespace {}", self.name))
    }

    /// A command to be run inside, with room for an environment, input and a time limit.
    pub fn command(&self, argv: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Cmd {
        Cmd::new(Some(self.clone()), argv)
    }

    /// Runs a command inside to its end; a failed command is an error with its output.
    pub fn run(&self, argv: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<Output> {
        self.command(argv).run()
    }

    /// Starts a command inside; it is killed when the value is dropped.
    pub fn spawn(&self, argv: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<Proc> {
        self.command(argv).spawn()
    }

    /// Sets a sysctl of the namespace, e.g. `net.ipv4.ip_forward`.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        // Interface names may hold a dot, so a key with a slash is taken as the path it is.
        let relative = if key.contains('/') { key.to_owned() } else { key.replace('.', "/") };
        let path = PathBuf::from("/proc/sys").join(relative);
        self.enter(|| fs::write(&path, value))?
            .with_context(|| format!("setting {key} to {value} in namespace {}", self.name))
    }

    /// An interface of the namespace.
    pub fn link(&self, ifname: &str) -> Result<Link> {
        let shown = self.run(["ip", "-json", "link", "show", "dev", ifname])?;
        let links: serde_json::Value = serde_json::from_str(&shown.stdout).context("parsing ip -json link")?;
        let link = links.get(0).context("ip shows no such link")?;
        let number =
            |field: &str| link.get(field).and_then(serde_json::Value::as_u64).and_then(|n| u32::try_from(n).ok());
        let mac = link.get("address").and_then(serde_json::Value::as_str).and_then(parse_mac);
        match (number("ifindex"), mac, number("mtu")) {
            (Some(ifindex), Some(mac), Some(mtu)) => Ok(Link { ifindex, mac, mtu }),
            _ => bail!("ip shows {ifname} without index, address or mtu: {link}"),
        }
    }

    /// Does something listen on (or, for UDP, is bound to) a port, in either family?
    pub fn is_listening(&self, transport: Transport, port: u16) -> Result<bool> {
        // /proc/net is the namespace of the main thread; thread-self is where we are.
        let (tables, state) = match transport {
            Transport::Tcp => (["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"], "0A"),
            Transport::Udp => (["/proc/thread-self/net/udp", "/proc/thread-self/net/udp6"], "07"),
        };
        let local_port = format!(":{port:04X}");
        self.enter(|| {
            tables.iter().filter_map(|table| fs::read_to_string(table).ok()).any(|table| {
                table.lines().skip(1).any(|line| {
                    let mut fields = line.split_ascii_whitespace();
                    let local = fields.nth(1);
                    local.is_some_and(|local| local.ends_with(&local_port)) && fields.nth(1) == Some(state)
                })
            })
        })
    }

    /// Runs many `ip` commands (without the leading `ip`) by one process.
    pub fn ip(&self, lines: &[String]) -> Result<()> {
        ip_batch(self.command(["ip", "-batch", "-"]), lines)
    }
}

/// Runs many `ip` commands in the root namespace: only for those that name namespaces.
pub(crate) fn ip_in_root(lines: &[String]) -> Result<()> {
    ip_batch(Cmd::new(None, ["ip", "-batch", "-"]), lines)
}

fn ip_batch(command: Cmd, lines: &[String]) -> Result<()> {
    let script = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    command.input(script.as_bytes()).run().map(drop).with_context(|| {
        let numbered = lines.iter().enumerate().map(|(at, line)| format!("  {:>2}  ip {line}\n", at + 1));
        format!("running these:\n{}", numbered.collect::<String>())
    })
}

/// A link-layer address from its text.
pub fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        *byte = u8::from_str_radix(parts.next()?, 16).ok()?;
    }
    parts.next().is_none().then_some(mac)
}

/// The text of a link-layer address.
pub fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
