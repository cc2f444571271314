//! What a task runs, from the client.

use serde::Deserialize as _;
use serde_json::Value;

use super::duration;
use crate::api::error::Error;
use crate::api::wire;
use crate::model::container::{
    BindOptions, ConfigReference, ContainerSpec, DnsConfig, FileTarget, Healthcheck, Mount, MountKind, Privileges,
    Seccomp, SecretReference, SelinuxContext, TmpfsOptions, Ulimit, VolumeOptions,
};

pub(super) fn container_spec(spec: &wire::ContainerSpec) -> Result<ContainerSpec, Error> {
    Ok(ContainerSpec {
        image: spec.image.clone(),
        command: spec.command.clone(),
        args: spec.args.clone(),
        env: spec.env.clone(),
        hostname: spec.hostname.clone(),
        dir: spec.dir.clone(),
        user: spec.user.clone(),
        groups: spec.groups.clone(),
        labels: spec.labels.clone(),
        mounts: spec.mounts.iter().map(mount).collect::<Result<_, _>>()?,
        secrets: spec.secrets.iter().map(secret).collect::<Result<_, _>>()?,
        configs: spec.configs.iter().map(config).collect::<Result<_, _>>()?,
        healthcheck: spec.healthcheck.as_ref().map(healthcheck).transpose()?,
        stop_signal: spec.stop_signal.clone(),
        stop_grace: spec
            .stop_grace_period
            .map(|nanos| duration("ContainerSpec: stop-grace-period", nanos))
            .transpose()?,
        hosts: spec.hosts.clone(),
        dns: spec.dns_config.as_ref().map(dns).unwrap_or_default(),
        tty: spec.tty,
        open_stdin: spec.open_stdin,
        read_only: spec.read_only,
        init: spec.init,
        privileges: spec.privileges.as_ref().map_or_else(|| Ok(Privileges::default()), privileges)?,
        cap_add: spec.capability_add.clone(),
        cap_drop: spec.capability_drop.clone(),
        ulimits: spec.ulimits.iter().map(ulimit).collect(),
        sysctls: spec.sysctls.clone(),
        isolation: if spec.isolation == "default" { String::new() } else { spec.isolation.clone() },
        oom_score_adj: spec.oom_score_adj,
    })
}

fn ulimit(limit: &wire::Ulimit) -> Ulimit {
    Ulimit { name: limit.name.clone(), soft: limit.soft, hard: limit.hard }
}

fn dns(dns: &wire::DnsConfig) -> DnsConfig {
    DnsConfig { nameservers: dns.nameservers.clone(), search: dns.search.clone(), options: dns.options.clone() }
}

fn mount(mount: &wire::Mount) -> Result<Mount, Error> {
    let kind = match mount.kind.as_str() {
        "volume" | "" => MountKind::Volume,
        "bind" => MountKind::Bind,
        "tmpfs" => MountKind::Tmpfs,
        "npipe" => MountKind::Npipe,
        "cluster" => MountKind::Cluster,
        "image" => MountKind::Image,
        other => return Err(Error::bad(format!("invalid MountType: \"{other}\""))),
    };
    Ok(Mount {
        kind,
        source: mount.source.clone(),
        target: mount.target.clone(),
        read_only: mount.read_only,
        bind: mount.bind_options.as_ref().map(|bind| BindOptions {
            propagation: bind.propagation.clone(),
            non_recursive: bind.non_recursive,
            create_mountpoint: bind.create_mountpoint,
        }),
        volume: mount.volume_options.as_ref().map(volume),
        tmpfs: mount.tmpfs_options.as_ref().map(tmpfs).transpose()?,
    })
}

fn volume(volume: &wire::VolumeOptions) -> VolumeOptions {
    let driver = volume.driver_config.clone().unwrap_or_default();
    VolumeOptions {
        no_copy: volume.no_copy,
        labels: volume.labels.clone(),
        subpath: volume.subpath.clone(),
        driver: driver.name,
        driver_options: driver.options,
    }
}

fn tmpfs(tmpfs: &wire::TmpfsOptions) -> Result<TmpfsOptions, Error> {
    let size_bytes = u64::try_from(tmpfs.size_bytes)
        .map_err(|_| Error::invalid(format!("invalid tmpfs size {}: it cannot be negative", tmpfs.size_bytes)))?;
    let options = match tmpfs.rest.get("Options") {
        Some(options) => Vec::deserialize(options).map_err(|_| Error::invalid("tmpfs options are lists of words"))?,
        None => Vec::new(),
    };
    Ok(TmpfsOptions { size_bytes, mode: tmpfs.mode, options })
}

fn file(file: &wire::FileTarget) -> FileTarget {
    FileTarget { name: file.name.clone(), uid: file.uid.clone(), gid: file.gid.clone(), mode: file.mode }
}

fn secret(reference: &wire::SecretReference) -> Result<SecretReference, Error> {
    let Some(target) = &reference.file else {
        return Err(Error::invalid("malformed secret reference, no target provided"));
    };
    let malformed = || Error::invalid("malformed secret reference");
    if reference.secret_name.is_empty() {
        return Err(malformed());
    }
    Ok(SecretReference {
        secret_id: reference.secret_id.parse().map_err(|_| malformed())?,
        secret_name: reference.secret_name.clone(),
        file: file(target),
    })
}

fn config(reference: &wire::ConfigReference) -> Result<ConfigReference, Error> {
    let malformed = || Error::invalid("malformed config reference");
    if reference.config_name.is_empty() {
        return Err(malformed());
    }
    if reference.file.is_none() && reference.runtime.is_none() {
        return Err(Error::invalid("malformed config reference, no target provided"));
    }
    Ok(ConfigReference {
        config_id: reference.config_id.parse().map_err(|_| malformed())?,
        config_name: reference.config_name.clone(),
        file: reference.file.as_ref().map(file),
    })
}

fn healthcheck(check: &wire::Healthcheck) -> Result<Healthcheck, Error> {
    let part = |what: &str, nanos: i64| match nanos {
        0 => Ok(None),
        nanos => duration(&format!("ContainerSpec: {what} in HealthConfig"), nanos).map(Some),
    };
    let retries = u32::try_from(check.retries)
        .map_err(|_| Error::invalid("ContainerSpec: Retries in HealthConfig cannot be negative"))?;
    Ok(Healthcheck {
        test: check.test.clone(),
        interval: part("Interval", check.interval)?,
        timeout: part("Timeout", check.timeout)?,
        retries: (retries > 0).then_some(retries),
        start_period: part("StartPeriod", check.start_period)?,
        start_interval: part("StartInterval", check.start_interval)?,
    })
}

fn privileges(privileges: &wire::Privileges) -> Result<Privileges, Error> {
    let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    if privileges.credential_spec.is_some() {
        return Err(Error::invalid("ContainerSpec: credential specs are for Windows, and no node of ours has it"));
    }
    let selinux = privileges.selinux_context.as_ref().map(|context| SelinuxContext {
        disable: context.get("Disable").and_then(Value::as_bool).unwrap_or_default(),
        user: text(context, "User"),
        role: text(context, "Role"),
        kind: text(context, "Type"),
        level: text(context, "Level"),
    });
    let apparmor = privileges.apparmor.as_ref().map(|apparmor| text(apparmor, "Mode")).unwrap_or_default();
    Ok(Privileges {
        selinux,
        seccomp: privileges.seccomp.as_ref().map_or(Ok(Seccomp::Default), seccomp)?,
        apparmor_disabled: match apparmor.as_str() {
            "" | "default" => false,
            "disabled" => true,
            other => return Err(Error::bad(format!("unrecognized AppArmor mode \"{other}\""))),
        },
        no_new_privileges: privileges.no_new_privileges,
    })
}

fn seccomp(seccomp: &Value) -> Result<Seccomp, Error> {
    match seccomp.get("Mode").and_then(Value::as_str).unwrap_or_default() {
        "" | "default" => Ok(Seccomp::Default),
        "unconfined" => Ok(Seccomp::Unconfined),
        "custom" => {
            let profile = seccomp.get("Profile").and_then(Value::as_str).and_then(wire::base64::decode);
            let profile = profile.and_then(|bytes| String::from_utf8(bytes).ok());
            profile.map(Seccomp::Custom).ok_or_else(|| Error::bad("the seccomp profile is not base64 of JSON"))
        }
        other => Err(Error::bad(format!("unrecognized seccomp mode \"{other}\""))),
    }
}
