//! What the figures were measured on.

use std::fs;

/// CPU, cores, kernel, memory and load in one line each.
pub(crate) fn describe() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let field = |name: &str| {
        let lines = cpuinfo.lines().filter_map(|line| line.split_once(':'));
        lines.filter(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned()).collect::<Vec<_>>()
    };
    let model = field("model name").first().cloned().unwrap_or_else(|| "unknown".to_owned());
    let hypervisor = field("flags").first().is_some_and(|flags| flags.contains(" hypervisor"));
    let memory = read("/proc/meminfo").lines().next().unwrap_or_default().replace("MemTotal:", "");
    let kernel = read("/proc/sys/kernel/osrelease");
    let load = read("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" ");
    let cores = field("processor").len();
    let kind = if hypervisor { "virtual machine" } else { "no hypervisor seen" };
    format!(
        "- CPU: {model}, {cores} cores ({kind})\n- kernel: {}\n- memory: {}\n- load average at the end (1, 5, 15 min): {load}\n",
        kernel.trim(),
        memory.trim()
    )
}
