//! A container, in the words of the Engine API.

use std::time::Duration;

use bollard::models::ContainerCreateBody;
use serde_json::{Value, json};

use crate::model::container::{Healthcheck, Mount, MountKind, Seccomp};
use crate::runtime::files::Placed;
use crate::runtime::{Container, RuntimeError};

/// Marks containers of ours among those of others on the engine.
pub(super) const TASK: &str = "mesh.task";

/// What the engine is asked to make.
pub(super) fn create(container: &Container, files: &[Placed]) -> Result<ContainerCreateBody, RuntimeError> {
    let spec = &container.spec;
    let mut labels = container.labels.clone();
    labels.insert(TASK.to_owned(), container.task.to_string());
    let mut body = json!({
        "Image": spec.image,
        "Hostname": spec.hostname,
        "User": spec.user,
        "Env": spec.env,
        "WorkingDir": spec.dir,
        "Labels": labels,
        "Tty": spec.tty,
        "OpenStdin": spec.open_stdin,
        // The engine counts whole seconds.
        "StopTimeout": spec.stop_grace().as_millis().div_ceil(1000),
        "HostConfig": host_config(container, files)?,
    });
    for (field, list) in [("Entrypoint", &spec.command), ("Cmd", &spec.args)] {
        if !list.is_empty() {
            body[field] = json!(list);
        }
    }
    if !spec.stop_signal.is_empty() {
        body["StopSignal"] = json!(spec.stop_signal);
    }
    if let Some(check) = &spec.healthcheck {
        body["Healthcheck"] = healthcheck(check);
    }
    serde_json::from_value(body)
        .map_err(|source| RuntimeError::Json { what: format!("what the engine is told of {}", container.name), source })
}

fn host_config(container: &Container, files: &[Placed]) -> Result<Value, RuntimeError> {
    let (spec, resources) = (&container.spec, &container.resources);
    let mut mounts = spec.mounts.iter().map(mount).collect::<Result<Vec<_>, _>>()?;
    mounts.extend(
        files
            .iter()
            .map(|file| json!({ "Type": "bind", "Source": file.source, "Target": file.target, "ReadOnly": true })),
    );
    let ulimits: Vec<Value> = spec
        .ulimits
        .iter()
        .map(|limit| json!({ "Name": limit.name, "Soft": limit.soft, "Hard": limit.hard }))
        .collect();
    // The engine writes `name:address`.
    let hosts: Vec<String> = spec
        .hosts
        .iter()
        .flat_map(|line| {
            let mut words = line.split_ascii_whitespace();
            let address = words.next().unwrap_or_default().to_owned();
            words.map(move |name| format!("{name}:{address}")).collect::<Vec<_>>()
        })
        .collect();
    let mut host = json!({
        // The caller puts links into its namespace.
        "NetworkMode": "none",
        "Mounts": mounts,
        "ReadonlyRootfs": spec.read_only,
        "CapAdd": spec.cap_add,
        "CapDrop": spec.cap_drop,
        "Ulimits": ulimits,
        "Sysctls": spec.sysctls,
        "GroupAdd": spec.groups,
        "ExtraHosts": hosts,
        "Dns": container.nameservers,
        "DnsSearch": spec.dns.search,
        "DnsOptions": if spec.dns.options.is_empty() { vec!["ndots:0".to_owned()] } else { spec.dns.options.clone() },
        "OomScoreAdj": spec.oom_score_adj,
        "SecurityOpt": security(container),
    });
    if let Some(init) = spec.init {
        host["Init"] = json!(init);
    }
    let limits = &resources.limits;
    for (field, value) in [
        ("NanoCpus", limits.nano_cpus),
        ("Memory", limits.memory_bytes),
        ("PidsLimit", limits.pids),
        ("MemoryReservation", resources.reservations.memory_bytes),
    ] {
        if value > 0 {
            host[field] = json!(value);
        }
    }
    if limits.memory_bytes > 0
        && let Some(swap) = resources.swap_bytes
    {
        // The engine counts memory and swap together.
        host["MemorySwap"] = json!(if swap < 0 { -1 } else { limits.memory_bytes.saturating_add(swap) });
    }
    if let Some(swappiness) = resources.swappiness {
        host["MemorySwappiness"] = json!(swappiness);
    }
    if let Some(log) = &container.log {
        let name = if log.name.is_empty() { "json-file" } else { &log.name };
        host["LogConfig"] = json!({ "Type": name, "Config": log.options });
    }
    Ok(host)
}

fn security(container: &Container) -> Vec<String> {
    let privileges = &container.spec.privileges;
    let mut options = Vec::new();
    match &privileges.seccomp {
        Seccomp::Default => {}
        Seccomp::Unconfined => options.push("seccomp=unconfined".to_owned()),
        Seccomp::Custom(profile) => options.push(format!("seccomp={profile}")),
    }
    if privileges.apparmor_disabled {
        options.push("apparmor=unconfined".to_owned());
    }
    if privileges.no_new_privileges {
        options.push("no-new-privileges".to_owned());
    }
    if let Some(selinux) = &privileges.selinux {
        let labels =
            [("user", &selinux.user), ("role", &selinux.role), ("type", &selinux.kind), ("level", &selinux.level)];
        let set = labels.iter().filter(|(_, value)| !value.is_empty());
        options.extend(set.map(|(name, value)| format!("label={name}:{value}")));
        if selinux.disable {
            options.push("label=disable".to_owned());
        }
    }
    options
}

fn mount(mount: &Mount) -> Result<Value, RuntimeError> {
    let kind = match mount.kind {
        MountKind::Volume => "volume",
        MountKind::Bind => "bind",
        MountKind::Tmpfs => "tmpfs",
        MountKind::Npipe | MountKind::Cluster | MountKind::Image => {
            return Err(RuntimeError::Unsupported {
                what: "a mount that is no volume, path or memory",
                runtime: "docker",
            });
        }
    };
    let mut value = json!({ "Type": kind, "Target": mount.target, "ReadOnly": mount.read_only });
    if !mount.source.is_empty() {
        value["Source"] = json!(mount.source);
    }
    if let Some(bind) = &mount.bind {
        value["BindOptions"] =
            json!({ "NonRecursive": bind.non_recursive, "CreateMountpoint": bind.create_mountpoint });
        if !bind.propagation.is_empty() {
            value["BindOptions"]["Propagation"] = json!(bind.propagation);
        }
    }
    if let Some(volume) = &mount.volume {
        value["VolumeOptions"] = json!({ "NoCopy": volume.no_copy, "Labels": volume.labels });
        if !volume.subpath.is_empty() {
            value["VolumeOptions"]["Subpath"] = json!(volume.subpath);
        }
        if !volume.driver.is_empty() || !volume.driver_options.is_empty() {
            value["VolumeOptions"]["DriverConfig"] = json!({ "Name": volume.driver, "Options": volume.driver_options });
        }
    }
    if let Some(tmpfs) = &mount.tmpfs {
        value["TmpfsOptions"] =
            json!({ "SizeBytes": tmpfs.size_bytes, "Mode": if tmpfs.mode == 0 { 0o1777 } else { tmpfs.mode } });
        if !tmpfs.options.is_empty() {
            value["TmpfsOptions"]["Options"] = json!(tmpfs.options);
        }
    }
    Ok(value)
}

/// What is not set is the image's; 0 says so.
fn healthcheck(check: &Healthcheck) -> Value {
    let nanos = |time: Option<Duration>| time.map_or(0, |time| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX));
    json!({
        "Test": check.test,
        "Interval": nanos(check.interval),
        "Timeout": nanos(check.timeout),
        "Retries": check.retries.unwrap_or(0),
        "StartPeriod": nanos(check.start_period),
        "StartInterval": nanos(check.start_interval),
    })
}
