//! Is this machine fit to be a node? What it lacks, and what to do about it.
//!
//! Only looks: nothing is made, loaded or changed. What lies between nodes is `node`'s part, which adds its own
//! findings to these.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::datapath::Pins;
use crate::datapath::preflight::{Host, Unfit, kernel_at_least};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works, not as well as it could, or it could not be seen.
    Warning,
    /// Something does not work.
    Broken,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The node's host name; empty: this machine.
    #[serde(default)]
    pub node: String,
    /// What was looked at.
    pub check: String,
    /// How bad it is.
    pub level: Level,
    /// What was seen.
    pub found: String,
    /// What to do; empty if there is nothing.
    #[serde(default)]
    pub fix: String,
}

impl Finding {
    /// As it should be.
    pub fn ok(check: &str, found: impl Into<String>) -> Self {
        Self::new(check, Level::Ok, found, "")
    }

    /// Worse than it could be.
    pub fn warning(check: &str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(check, Level::Warning, found, fix)
    }

    /// Something does not work.
    pub fn broken(check: &str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(check, Level::Broken, found, fix)
    }

    fn new(check: &str, level: Level, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { node: String::new(), check: check.to_owned(), level, found: found.into(), fix: fix.into() }
    }
}

/// The machine alone. May block.
pub fn machine(pins: &Pins) -> Vec<Finding> {
    let host = Host::look(pins.root());
    let mut findings = kernel(&host, pins);
    findings.push(tc());
    findings.push(jit(std::fs::read_to_string("/proc/sys/net/core/bpf_jit_enable").ok().as_deref()));
    findings.push(overlay(&std::fs::read_to_string("/proc/filesystems").unwrap_or_default()));
    findings.push(runtime());
    findings
}

/// What the programs need, check by check, in the words of the daemon's own start.
fn kernel(host: &Host, pins: &Pins) -> Vec<Finding> {
    let unfit = host.unfit(pins.root());
    let about = |check: &str, good: String, is: fn(&Unfit) -> bool| match unfit.iter().find(|it| is(it)) {
        None => Finding::ok(check, good),
        Some(wrong) => {
            let text = wrong.to_string();
            let (found, fix) = text.split_once(": ").unwrap_or((&text, ""));
            Finding::broken(check, found, fix)
        }
    };
    vec![
        about("kernel", host.release.clone(), |it| matches!(it, Unfit::Kernel { .. })),
        about("capabilities", "enough".to_owned(), |it| matches!(it, Unfit::Capabilities { .. })),
        about("btf", "there".to_owned(), |it| matches!(it, Unfit::Btf)),
        about("bpffs", pins.root().display().to_string(), |it| matches!(it, Unfit::Bpffs { .. })),
    ]
}

fn tc() -> Finding {
    if kernel_at_least((6, 6)) {
        return Finding::ok("tc", "TCX");
    }
    Finding::ok("tc", "clsact: this kernel has no TCX, which 6.6 brought")
}

/// Without the compiler every packet is interpreted.
fn jit(value: Option<&str>) -> Finding {
    match value.map(str::trim) {
        // Where it cannot be switched there is no file.
        None => Finding::ok("bpf jit", "always on"),
        Some("0") => Finding::warning(
            "bpf jit",
            "off: packets cost many times as much",
            "run `sysctl net.core.bpf_jit_enable=1`",
        ),
        Some(_) => Finding::ok("bpf jit", "on"),
    }
}

fn overlay(filesystems: &str) -> Finding {
    let there = filesystems.lines().any(|line| line.split_whitespace().last() == Some("overlay"));
    if there {
        return Finding::ok("overlayfs", "there");
    }
    Finding::broken(
        "overlayfs",
        "not in /proc/filesystems: containers get no root file system",
        "run `modprobe overlay`",
    )
}

/// The first OCI runtime that is installed.
fn runtime() -> Finding {
    let found = ["runc", "crun", "youki"].iter().find_map(|name| in_path(name));
    let Some(program) = found else {
        let fix = "install runc (Debian: `apt-get install runc`), crun or youki";
        return Finding::broken("runtime", "no OCI runtime in PATH: no task can run", fix);
    };
    match Command::new(&program).arg("--version").output() {
        Ok(output) if output.status.success() => {
            let said = String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned();
            Finding::ok("runtime", format!("{} ({said})", program.display()))
        }
        Ok(output) => Finding::broken(
            "runtime",
            format!("{} --version ended with {}", program.display(), output.status),
            "install it again",
        ),
        Err(error) => Finding::broken("runtime", format!("{}: {error}", program.display()), "install it again"),
    }
}

fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests;
