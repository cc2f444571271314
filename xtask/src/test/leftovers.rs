//! Looks at what tests may leave on a machine - namespaces, links, BPF programs, pins, mounts,
//! processes, firewall tables - before and after a layer, and names the difference.
//!
//! Only the namespaces of this process are looked at: what lies in a namespace dies with it.

use crate::command;
use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// How long the kernel gets to free what tests let go of: namespaces, links and programs die
/// after the system call that drops them has returned.
const GRACE: Duration = Duration::from_secs(15);

/// One thing on the machine, as a line for people: `namespace a`, `bpf program 12 xdp underlay`.
type Things = BTreeSet<String>;

/// What was there at one moment.
#[derive(Debug)]
pub(super) struct Snapshot(Things);

impl Snapshot {
    pub(super) fn take() -> Result<Self> {
        let mut things = Things::new();
        things.extend(entries("namespace", Path::new("/run/netns")));
        things.extend(entries("link", Path::new("/sys/class/net")));
        things.extend(mounts(&fs::read_to_string("/proc/self/mountinfo").context("read the mounts")?));
        pins(Path::new("/sys/fs/bpf"), &mut things);
        for kind in ["prog", "map", "link"] {
            let mut bpftool = command::program("bpftool");
            let listed = command::read(bpftool.args(["--json", kind, "show"]))?;
            things.extend(bpf_objects(kind, &listed).with_context(|| format!("what bpftool says of each {kind}"))?);
        }
        let tables = command::read(command::program("nft").args(["list", "tables"]))?;
        things.extend(tables.lines().map(|line| format!("nftables {}", line.trim())));
        things.extend(children().into_iter().map(|(pid, name)| format!("process {pid} {name}")));
        Ok(Self(things))
    }

    /// What is there now and was not then, and what is gone that tests had no right to; empty if
    /// all is as it was. Waits a little for the kernel, then ends the processes left behind.
    pub(super) fn differences(&self) -> Result<Vec<String>> {
        let deadline = Instant::now() + GRACE;
        loop {
            let found = differences(&self.0, &Self::take()?.0);
            if found.is_empty() || Instant::now() > deadline {
                end_processes_left_behind(&found);
                return Ok(found);
            }
            thread::sleep(Duration::from_millis(100));
        }
    }
}

fn differences(before: &Things, after: &Things) -> Vec<String> {
    let left: Vec<&String> = after.difference(before).collect();
    // A pinned folder stands for what is in it.
    let inside = |thing: &str| left.iter().any(|outer| thing.starts_with(&format!("{outer}/")));
    let left = left.iter().filter(|thing| !inside(thing)).map(|thing| format!("+ {thing}"));
    // The rest comes and goes with whoever else uses this machine; these belong to the machine.
    let stays = |thing: &&String| ["link ", "mount ", "nftables "].iter().any(|kind| thing.starts_with(kind));
    let gone = before.difference(after).filter(stays).map(|thing| format!("- {thing}"));
    left.chain(gone).collect()
}

fn end_processes_left_behind(found: &[String]) {
    for thing in found {
        let pid = thing.strip_prefix("+ process ").and_then(|rest| rest.split(' ').next()?.parse().ok());
        if let Some(pid) = pid {
            // It may have ended by itself meanwhile, which is as good.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

fn entries(kind: &str, folder: &Path) -> Things {
    // A folder that does not exist holds nothing.
    let names = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name());
    names.map(|name| format!("{kind} {}", name.to_string_lossy())).collect()
}

fn pins(folder: &Path, things: &mut Things) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        things.insert(format!("pin {}", entry.path().display()));
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            pins(&entry.path(), things);
        }
    }
}

/// The mounts that tests may make: BPF file systems and those inside `/tmp` or `/run`. Namespaces
/// are mounts too, but are counted by name.
fn mounts(mountinfo: &str) -> Things {
    let parse = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        let point = left.split(' ').nth(4)?;
        let kind = right.split(' ').next()?;
        let ours = kind == "bpf" || (kind != "nsfs" && (point.starts_with("/tmp/") || point.starts_with("/run/")));
        (ours && !point.starts_with("/run/netns")).then(|| format!("mount {kind} on {point}"))
    };
    mountinfo.lines().filter_map(parse).collect()
}

/// The objects in what `bpftool --json prog|map|link show` prints, less those that an init system
/// makes for control groups at any time.
fn bpf_objects(kind: &str, json: &str) -> Result<Things> {
    if json.trim().is_empty() {
        return Ok(Things::new());
    }
    let list: Vec<Value> = serde_json::from_str(json)?;
    let text = |object: &Value, key: &str| object[key].as_str().unwrap_or("-").to_owned();
    let ours = list.iter().filter(|object| !text(object, "type").starts_with("cgroup"));
    Ok(ours.map(|o| format!("bpf {kind} {} {} {}", o["id"], text(o, "type"), text(o, "name"))).collect())
}

/// The live children of this process. It is the reaper of what its tests orphan
/// ([`become_reaper`]), so a daemon that a test forgot is among them.
fn children() -> Vec<(i32, String)> {
    let me = std::process::id().to_string();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let stats = processes.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    stats.filter_map(|stat| child_of(&stat, &me)).collect()
}

/// Process number and name from a line of /proc/PID/stat, if its parent is `parent` and it runs.
fn child_of(stat: &str, parent: &str) -> Option<(i32, String)> {
    let (pid, rest) = stat.split_once(" (")?;
    // The name may hold anything, a closing bracket too.
    let (name, rest) = rest.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let (state, its_parent) = (fields.next()?, fields.next()?);
    (its_parent == parent && state != "Z").then(|| Some((pid.parse().ok()?, name.to_owned())))?
}

/// Makes this process the parent of every orphan among its descendants.
pub(super) fn become_reaper() -> Result<()> {
    nix::sys::prctl::set_child_subreaper(true).context("become the parent of orphaned test processes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn things(lines: &[&str]) -> Things {
        lines.iter().map(|line| (*line).to_owned()).collect()
    }

    #[test]
    fn what_is_new_and_what_is_gone_is_named() {
        let before = things(&["link eth0", "link lo", "bpf prog 3 xdp other"]);
        let after = things(&["link lo", "namespace a", "bpf prog 9 xdp underlay"]);
        assert_eq!(differences(&before, &after), ["+ bpf prog 9 xdp underlay", "+ namespace a", "- link eth0"]);
        assert!(differences(&before, &before).is_empty());
    }

    #[test]
    fn a_pinned_folder_is_named_once() {
        let after = things(&[
            "pin /sys/fs/bpf/a",
            "pin /sys/fs/bpf/a/maps",
            "pin /sys/fs/bpf/a/maps/NODE",
            "pin /sys/fs/bpf/ab",
        ]);
        assert_eq!(differences(&Things::new(), &after), ["+ pin /sys/fs/bpf/a", "+ pin /sys/fs/bpf/ab"]);
    }

    #[test]
    fn objects_of_control_groups_are_not_ours() {
        let json = r#"[{"id":2,"type":"cgroup_device","name":"sd_devices"},{"id":7,"type":"xdp","name":"underlay"}]"#;
        assert_eq!(bpf_objects("prog", json).unwrap(), things(&["bpf prog 7 xdp underlay"]));
        assert!(bpf_objects("prog", "[]").unwrap().is_empty());
        assert!(bpf_objects("prog", "{").is_err());
    }

    #[test]
    fn only_mounts_that_tests_make_are_looked_at() {
        let info = "22 1 0:20 / /proc rw - proc proc rw\n\
            31 1 0:27 / /sys/fs/bpf rw shared:3 - bpf bpf rw\n\
            40 1 0:4 net:[402] /run/netns/a rw - nsfs nsfs rw\n\
            41 1 0:44 / /tmp/mesh-1/bpf rw - bpf none rw\n";
        assert_eq!(mounts(info), things(&["mount bpf on /sys/fs/bpf", "mount bpf on /tmp/mesh-1/bpf"]));
    }

    #[test]
    fn a_child_is_told_from_zombies_and_strangers() {
        assert_eq!(child_of("12 (a) b) S 7 12 0", "7"), Some((12, "a) b".to_owned())));
        assert_eq!(child_of("12 (meshd) Z 7 12 0", "7"), None);
        assert_eq!(child_of("12 (meshd) S 8 12 0", "7"), None);
    }
}
