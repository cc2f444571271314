//! Control groups, of version 1, 2, and both at once: where a container's are, and what they say.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Where each controller is mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Hierarchies {
    /// Of version 1, by controller.
    controllers: BTreeMap<String, PathBuf>,
    /// Of version 2.
    unified: Option<PathBuf>,
}

impl Hierarchies {
    /// Those of this node.
    pub(super) fn look() -> Self {
        Self::parse(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
    }

    fn parse(mountinfo: &str) -> Self {
        let mut found = Self::default();
        for line in mountinfo.lines() {
            let Some((left, right)) = line.split_once(" - ") else { continue };
            let Some(point) = left.split(' ').nth(4) else { continue };
            let mut right = right.split(' ');
            match (right.next(), right.nth(1)) {
                (Some("cgroup2"), _) => found.unified = found.unified.or_else(|| Some(point.into())),
                (Some("cgroup"), Some(options)) => {
                    for controller in options.split(',') {
                        found.controllers.entry(controller.to_owned()).or_insert_with(|| point.into());
                    }
                }
                _ => {}
            }
        }
        found
    }

    /// Is there version 2 alone?
    pub(super) fn is_unified(&self) -> bool {
        !self.controllers.contains_key("memory") && self.unified.is_some()
    }

    /// Can swap be limited?
    pub(super) fn counts_swap(&self) -> bool {
        match self.controllers.get("memory") {
            Some(memory) => memory.join("memory.memsw.limit_in_bytes").exists(),
            None => self.unified.is_some(),
        }
    }

    /// The directory of a group for a controller.
    fn directory(&self, controller: &str, group: &str) -> Option<PathBuf> {
        let mount = self.controllers.get(controller).or(self.unified.as_ref())?;
        Some(mount.join(group.trim_start_matches('/')))
    }

    fn file(&self, controller: &str, group: &str, v1: &str, v2: &str) -> Option<String> {
        let name = if self.controllers.contains_key(controller) { v1 } else { v2 };
        fs::read_to_string(self.directory(controller, group)?.join(name)).ok()
    }

    /// Did the kernel kill a process of the group for want of memory?
    pub(super) fn oom_killed(&self, group: &str) -> bool {
        let events = self.file("memory", group, "memory.oom_control", "memory.events").unwrap_or_default();
        field(&events, "oom_kill").is_some_and(|count| count > 0)
    }

    /// Processor time in nanoseconds.
    pub(super) fn cpu_ns(&self, group: &str) -> u64 {
        let usage = self.file("cpuacct", group, "cpuacct.usage", "cpu.stat").unwrap_or_default();
        usage.trim().parse().ok().or_else(|| Some(field(&usage, "usage_usec")? * 1000)).unwrap_or_default()
    }

    /// Memory in use, and the limit.
    pub(super) fn memory(&self, group: &str) -> (u64, Option<u64>) {
        let number = |v1, v2| self.file("memory", group, v1, v2).and_then(|text| text.trim().parse::<u64>().ok());
        let usage = number("memory.usage_in_bytes", "memory.current").unwrap_or_default();
        let stat = self.file("memory", group, "memory.stat", "memory.stat").unwrap_or_default();
        // What the kernel can drop at once; as `docker stats` has it.
        let idle = field(&stat, "total_inactive_file").or_else(|| field(&stat, "inactive_file")).unwrap_or_default();
        // Version 1 writes the largest number it knows for no limit.
        let limit = number("memory.limit_in_bytes", "memory.max").filter(|limit| *limit < 1 << 60);
        (usage.saturating_sub(idle), limit)
    }

    /// Processes and threads.
    pub(super) fn pids(&self, group: &str) -> u64 {
        let pids = self.file("pids", group, "pids.current", "pids.current").unwrap_or_default();
        pids.trim().parse().unwrap_or_default()
    }

    /// Bytes read from disks, and written.
    pub(super) fn disk_bytes(&self, group: &str) -> (u64, u64) {
        let io = self.file("blkio", group, "blkio.throttle.io_service_bytes", "io.stat").unwrap_or_default();
        io.lines().fold((0, 0), |(read, written), line| {
            let mut words = line.split_ascii_whitespace().skip(1);
            match (words.next(), words.next()) {
                (Some("Read"), Some(bytes)) => (read + bytes.parse::<u64>().unwrap_or_default(), written),
                (Some("Write"), Some(bytes)) => (read, written + bytes.parse::<u64>().unwrap_or_default()),
                (first, second) => {
                    let of = |key: &str| {
                        let value = |word: &str| word.strip_prefix(key)?.parse::<u64>().ok();
                        [first, second].into_iter().flatten().find_map(value).unwrap_or_default()
                    };
                    (read + of("rbytes="), written + of("wbytes="))
                }
            }
        })
    }

    /// Removes the group of all containers, where it is empty.
    pub(super) fn remove_empty(&self, group: &str) {
        let mounts = self.controllers.values().chain(&self.unified);
        for mount in mounts {
            // A group with members stays: that is the kernel's to say.
            let _ = fs::remove_dir(mount.join(group.trim_start_matches('/')));
        }
    }
}

/// The number behind a word at the start of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let value = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok();
    text.lines().find_map(value)
}

/// Bytes that came in by all links but loopback, and that went out, of a process's namespace.
pub(super) fn network_bytes(pid: u32) -> (u64, u64) {
    let path = Path::new("/proc").join(pid.to_string()).join("net/dev");
    parse_network(&fs::read_to_string(path).unwrap_or_default())
}

fn parse_network(dev: &str) -> (u64, u64) {
    let link = |line: &str| {
        let (name, numbers) = line.split_once(':')?;
        let numbers: Vec<u64> = numbers.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect();
        (name.trim() != "lo").then_some((*numbers.first()?, *numbers.get(8)?))
    };
    dev.lines().filter_map(link).fold((0, 0), |(came, went), (rx, tx)| (came + rx, went + tx))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_of_either_version_and_of_both_are_found() {
        let v1 = "30 25 0:26 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n\
            31 25 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n";
        let v2 = "35 25 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n";
        let both = Hierarchies::parse(&format!("{v1}{v2}"));
        assert!(!both.is_unified());
        assert_eq!(both.directory("cpuacct", "/mesh/a").unwrap(), Path::new("/sys/fs/cgroup/cpu,cpuacct/mesh/a"));
        assert_eq!(both.directory("pids", "/mesh/a").unwrap(), Path::new("/sys/fs/cgroup/unified/mesh/a"));
        let unified = Hierarchies::parse(v2);
        assert!(unified.is_unified());
        assert_eq!(unified.directory("memory", "mesh/a").unwrap(), Path::new("/sys/fs/cgroup/unified/mesh/a"));
        assert_eq!(Hierarchies::parse("").directory("memory", "a"), None);
    }

    #[test]
    fn numbers_are_found_by_their_whole_name() {
        let events = "low 0\nhigh 0\nmax 3\noom 1\noom_kill 2\n";
        assert_eq!((field(events, "oom_kill"), field(events, "oom"), field(events, "oo")), (Some(2), Some(1), None));
    }

    #[test]
    fn loopback_is_not_counted() {
        let dev = "Inter-|   Receive\n face |bytes\n    lo: 9 9 0 0 0 0 0 0 9 9 0 0 0 0 0 0\n\
            eth0: 100 2 0 0 0 0 0 0 50 1 0 0 0 0 0 0\n  eth1: 1 0 0 0 0 0 0 0 2 0 0 0 0 0 0 0\n";
        assert_eq!(parse_network(dev), (101, 52));
    }
}
