//! What the flags of `service create` and `service update` make of a spec.

use anyhow::{Context as _, Result, bail};

use super::super::client::{Client, filters};
use super::super::{pairs, units};
use crate::api::wire::{
    self, ConfigReference, ContainerSpec, EndpointSpec, FileTarget, Healthcheck, Mount, NetworkAttachmentConfig,
    Placement, PlacementPreference, PortConfig, Ratio, Resources, RestartPolicy, SecretReference, ServiceMode,
    ServiceSpec, SpreadOver, UpdateConfig,
};

/// What is added or set. `update` knows the first name of each too, and `-add` after it.
#[derive(clap::Args)]
pub(super) struct Edits {
    /// How many tasks.
    #[arg(long)]
    pub(super) replicas: Option<u64>,
    /// NAME=VALUE in the tasks' environment.
    #[arg(short, long, visible_alias = "env-add")]
    env: Vec<String>,
    /// KEY=VALUE of the service.
    #[arg(short, long, visible_alias = "label-add")]
    label: Vec<String>,
    /// KEY=VALUE of the containers.
    #[arg(long, visible_alias = "container-label-add")]
    container_label: Vec<String>,
    /// Where tasks may run: node.role==worker, node.labels.zone!=a.
    #[arg(long, visible_alias = "constraint-add")]
    constraint: Vec<String>,
    /// spread=node.labels.zone: spread tasks over the values.
    #[arg(long, visible_alias = "placement-pref-add")]
    placement_pref: Vec<String>,
    /// PUBLISHED:TARGET[/PROTOCOL] or published=..,target=..,protocol=..,mode=host.
    #[arg(short, long, visible_alias = "publish-add")]
    publish: Vec<String>,
    /// A network, by name or id, or name=..,alias=..
    #[arg(long, visible_alias = "network-add")]
    network: Vec<String>,
    /// `type=volume|bind|tmpfs,source=..,target=..[,readonly]`.
    #[arg(long, visible_alias = "mount-add")]
    mount: Vec<String>,
    /// A secret, by name, or source=..,target=..,mode=0400.
    #[arg(long, visible_alias = "secret-add")]
    secret: Vec<String>,
    /// A config, by name, or source=..,target=..,mode=0400.
    #[arg(long, visible_alias = "config-add")]
    config: Vec<String>,
    /// Host name in the containers.
    #[arg(long)]
    hostname: Option<String>,
    /// `user[:group]`.
    #[arg(short, long)]
    user: Option<String>,
    /// Working directory.
    #[arg(short, long)]
    workdir: Option<String>,
    /// An init process reaps orphans.
    #[arg(long)]
    init: Option<bool>,
    /// The root file system is read-only.
    #[arg(long)]
    read_only: bool,
    /// A terminal.
    #[arg(short, long)]
    tty: bool,
    /// How long tasks have to stop.
    #[arg(long, value_parser = units::duration)]
    stop_grace_period: Option<i64>,
    /// The signal that asks them to.
    #[arg(long)]
    stop_signal: Option<String>,
    /// vip or dnsrr.
    #[arg(long)]
    endpoint_mode: Option<String>,
    /// At most so many processors.
    #[arg(long, value_parser = units::cpus)]
    limit_cpu: Option<i64>,
    /// At most so much memory.
    #[arg(long, value_parser = units::size)]
    limit_memory: Option<i64>,
    /// At most so many processes.
    #[arg(long)]
    limit_pids: Option<i64>,
    /// Set so many processors aside.
    #[arg(long, value_parser = units::cpus)]
    reserve_cpu: Option<i64>,
    /// Set so much memory aside.
    #[arg(long, value_parser = units::size)]
    reserve_memory: Option<i64>,
    /// At most so many tasks on a node.
    #[arg(long)]
    replicas_max_per_node: Option<u64>,
    /// none, on-failure or any.
    #[arg(long)]
    restart_condition: Option<String>,
    /// Between the end of a task and the start of the next.
    #[arg(long, value_parser = units::duration)]
    restart_delay: Option<i64>,
    /// At most so many restarts in the window.
    #[arg(long)]
    restart_max_attempts: Option<u64>,
    /// The window.
    #[arg(long, value_parser = units::duration)]
    restart_window: Option<i64>,
    /// So many tasks at once; 0: all.
    #[arg(long)]
    update_parallelism: Option<u64>,
    /// Between one batch and the next.
    #[arg(long, value_parser = units::duration)]
    update_delay: Option<i64>,
    /// pause, continue or rollback.
    #[arg(long)]
    update_failure_action: Option<String>,
    /// So long a new task's failure counts.
    #[arg(long, value_parser = units::duration)]
    update_monitor: Option<i64>,
    /// Which share may fail.
    #[arg(long)]
    update_max_failure_ratio: Option<f64>,
    /// stop-first or start-first.
    #[arg(long)]
    update_order: Option<String>,
    /// The same of the way back: so many tasks at once.
    #[arg(long)]
    rollback_parallelism: Option<u64>,
    /// Between one batch and the next.
    #[arg(long, value_parser = units::duration)]
    rollback_delay: Option<i64>,
    /// pause or continue.
    #[arg(long)]
    rollback_failure_action: Option<String>,
    /// So long a new task's failure counts.
    #[arg(long, value_parser = units::duration)]
    rollback_monitor: Option<i64>,
    /// Which share may fail.
    #[arg(long)]
    rollback_max_failure_ratio: Option<f64>,
    /// stop-first or start-first.
    #[arg(long)]
    rollback_order: Option<String>,
    /// A command that says whether a task is well.
    #[arg(long)]
    health_cmd: Option<String>,
    /// Between two probes.
    #[arg(long, value_parser = units::duration)]
    health_interval: Option<i64>,
    /// For one probe.
    #[arg(long, value_parser = units::duration)]
    health_timeout: Option<i64>,
    /// Failures in a row.
    #[arg(long)]
    health_retries: Option<i64>,
    /// Failures in this time do not count.
    #[arg(long, value_parser = units::duration)]
    health_start_period: Option<i64>,
    /// No health check, whatever the image says.
    #[arg(long)]
    no_healthcheck: bool,
}

/// What is removed.
#[derive(clap::Args)]
pub(super) struct Removals {
    /// A variable, by name.
    #[arg(long)]
    env_rm: Vec<String>,
    /// A label of the service, by key.
    #[arg(long)]
    label_rm: Vec<String>,
    /// A label of the containers, by key.
    #[arg(long)]
    container_label_rm: Vec<String>,
    /// A constraint, as it was given.
    #[arg(long)]
    constraint_rm: Vec<String>,
    /// A published port, by its target port.
    #[arg(long)]
    publish_rm: Vec<u32>,
    /// A network, by name or id.
    #[arg(long)]
    network_rm: Vec<String>,
    /// A mount, by its target.
    #[arg(long)]
    mount_rm: Vec<String>,
    /// A secret, by name.
    #[arg(long)]
    secret_rm: Vec<String>,
    /// A config, by name.
    #[arg(long)]
    config_rm: Vec<String>,
}

/// The mode of a new service.
pub(super) fn mode(name: &str, replicas: Option<u64>, concurrent: Option<u64>) -> Result<ServiceMode> {
    let mut mode = ServiceMode::default();
    match name {
        "replicated" => mode.replicated = Some(wire::Replicated { replicas, ..wire::Replicated::default() }),
        "global" => mode.global = Some(wire::GlobalMode::default()),
        "replicated-job" => {
            let concurrent = concurrent.or(replicas).unwrap_or(1);
            let job = mode.replicated_job.insert(wire::ReplicatedJob::default());
            job.max_concurrent = Some(concurrent);
            job.total_completions = Some(replicas.unwrap_or(concurrent));
        }
        "global-job" => mode.global_job = Some(wire::GlobalMode::default()),
        other => bail!("unknown mode: {other}, only replicated and global supported"),
    }
    if replicas.is_some() && (mode.global.is_some() || mode.global_job.is_some()) {
        bail!("replicas can only be used with replicated or replicated-job mode");
    }
    Ok(mode)
}

/// Sets how many tasks a service has.
pub(super) fn scale(spec: &mut ServiceSpec, replicas: u64) -> Result<(), &'static str> {
    if let Some(replicated) = &mut spec.mode.replicated {
        replicated.replicas = Some(replicas);
        return Ok(());
    }
    let Some(job) = &mut spec.mode.replicated_job else {
        return Err("scale can only be used with replicated or replicated-job mode");
    };
    job.total_completions = Some(replicas);
    Ok(())
}

fn set<T: Clone>(place: &mut T, value: Option<&T>) {
    if let Some(value) = value {
        place.clone_from(value);
    }
}

impl Edits {
    /// Puts all that was given into a spec.
    pub(super) fn put(&self, client: &Client, spec: &mut ServiceSpec) -> Result<()> {
        spec.labels.extend(pairs::labels(&self.label));
        self.put_networks(client, spec)?;
        self.put_endpoint(spec)?;
        self.put_placement(spec)?;
        self.put_policies(spec);
        self.put_resources(spec);
        let container = spec.task_template.container_spec.get_or_insert_with(ContainerSpec::default);
        self.put_container(container)?;
        self.put_health(container);
        for text in &self.secret {
            container.secrets.push(secret(client, text)?);
        }
        for text in &self.config {
            container.configs.push(config(client, text)?);
        }
        Ok(())
    }

    fn put_container(&self, container: &mut ContainerSpec) -> Result<()> {
        for variable in &self.env {
            let name = variable.split('=').next().unwrap_or_default();
            container.env.retain(|old| old.split('=').next() != Some(name));
            // As the docker CLI: a name alone takes the value of one's own environment.
            container.env.push(match (variable.contains('='), std::env::var(name)) {
                (false, Ok(value)) => format!("{name}={value}"),
                _ => variable.clone(),
            });
        }
        container.labels.extend(pairs::labels(&self.container_label));
        for text in &self.mount {
            container.mounts.push(mount(text)?);
        }
        set(&mut container.hostname, self.hostname.as_ref());
        set(&mut container.user, self.user.as_ref());
        set(&mut container.dir, self.workdir.as_ref());
        set(&mut container.stop_signal, self.stop_signal.as_ref());
        set(&mut container.init, self.init.map(Some).as_ref());
        set(&mut container.stop_grace_period, self.stop_grace_period.map(Some).as_ref());
        container.read_only |= self.read_only;
        container.tty |= self.tty;
        Ok(())
    }

    fn put_health(&self, container: &mut ContainerSpec) {
        let asked = self.health_cmd.is_some()
            || [self.health_interval, self.health_timeout, self.health_retries, self.health_start_period]
                .iter()
                .any(Option::is_some);
        if self.no_healthcheck {
            container.healthcheck = Some(Healthcheck { test: vec!["NONE".to_owned()], ..Healthcheck::default() });
        } else if asked {
            let check = container.healthcheck.get_or_insert_with(Healthcheck::default);
            let command = self.health_cmd.as_ref().map(|line| vec!["CMD-SHELL".to_owned(), line.clone()]);
            set(&mut check.test, command.as_ref());
            set(&mut check.interval, self.health_interval.as_ref());
            set(&mut check.timeout, self.health_timeout.as_ref());
            set(&mut check.retries, self.health_retries.as_ref());
            set(&mut check.start_period, self.health_start_period.as_ref());
        }
    }

    fn put_networks(&self, client: &Client, spec: &mut ServiceSpec) -> Result<()> {
        for text in &self.network {
            let mut attachment = NetworkAttachmentConfig::default();
            let mut name = text.clone();
            if text.contains('=') {
                for (key, value) in pairs::fields(text) {
                    match key.as_str() {
                        "name" => name = value,
                        "alias" => attachment.aliases.push(value),
                        other => bail!("invalid field key {other} in network \"{text}\""),
                    }
                }
            }
            let network: wire::Network = client.get(&format!("/networks/{}", super::super::client::escape(&name)))?;
            attachment.target = network.id;
            spec.task_template.networks.push(attachment);
        }
        Ok(())
    }

    fn put_endpoint(&self, spec: &mut ServiceSpec) -> Result<()> {
        let endpoint = spec
            .endpoint_spec
            .get_or_insert_with(|| EndpointSpec { mode: "vip".to_owned(), ..EndpointSpec::default() });
        set(&mut endpoint.mode, self.endpoint_mode.as_ref());
        for text in &self.publish {
            let port = port(text)?;
            endpoint.ports.retain(|old| {
                old.published_port != port.published_port || old.protocol != port.protocol || port.published_port == 0
            });
            endpoint.ports.push(port);
        }
        Ok(())
    }

    fn put_placement(&self, spec: &mut ServiceSpec) -> Result<()> {
        let placement = spec.task_template.placement.get_or_insert_with(Placement::default);
        placement.constraints.extend(self.constraint.iter().cloned());
        set(&mut placement.max_replicas, self.replicas_max_per_node.as_ref());
        for preference in &self.placement_pref {
            let Some(descriptor) = preference.strip_prefix("spread=") else {
                bail!("unsupported placement preference (only spread is supported): {preference}");
            };
            let spread = SpreadOver { descriptor: descriptor.to_owned(), ..SpreadOver::default() };
            placement.preferences.push(PlacementPreference { spread: Some(spread), ..PlacementPreference::default() });
        }
        Ok(())
    }

    fn put_resources(&self, spec: &mut ServiceSpec) {
        let resources = spec.task_template.resources.get_or_insert_with(Default::default);
        let limits = resources.limits.get_or_insert_with(Resources::default);
        set(&mut limits.nano_cpus, self.limit_cpu.as_ref());
        set(&mut limits.memory_bytes, self.limit_memory.as_ref());
        set(&mut limits.pids, self.limit_pids.as_ref());
        let reservations = resources.reservations.get_or_insert_with(Resources::default);
        set(&mut reservations.nano_cpus, self.reserve_cpu.as_ref());
        set(&mut reservations.memory_bytes, self.reserve_memory.as_ref());
    }

    fn put_policies(&self, spec: &mut ServiceSpec) {
        let mut restart = spec.task_template.restart_policy.clone().unwrap_or_default();
        set(&mut restart.condition, self.restart_condition.as_ref());
        set(&mut restart.delay, self.restart_delay.map(Some).as_ref());
        set(&mut restart.max_attempts, self.restart_max_attempts.map(Some).as_ref());
        set(&mut restart.window, self.restart_window.map(Some).as_ref());
        spec.task_template.restart_policy = (restart != RestartPolicy::default()).then_some(restart);
        let update = UpdateFlags {
            parallelism: self.update_parallelism,
            delay: self.update_delay,
            failure_action: self.update_failure_action.as_ref(),
            monitor: self.update_monitor,
            ratio: self.update_max_failure_ratio,
            order: self.update_order.as_ref(),
        };
        update.put(&mut spec.update_config);
        let rollback = UpdateFlags {
            parallelism: self.rollback_parallelism,
            delay: self.rollback_delay,
            failure_action: self.rollback_failure_action.as_ref(),
            monitor: self.rollback_monitor,
            ratio: self.rollback_max_failure_ratio,
            order: self.rollback_order.as_ref(),
        };
        rollback.put(&mut spec.rollback_config);
    }
}

struct UpdateFlags<'a> {
    parallelism: Option<u64>,
    delay: Option<i64>,
    failure_action: Option<&'a String>,
    monitor: Option<i64>,
    ratio: Option<f64>,
    order: Option<&'a String>,
}

impl UpdateFlags<'_> {
    /// Nothing asked for leaves no config: the defaults are the manager's.
    fn put(&self, place: &mut Option<UpdateConfig>) {
        let before = place.clone();
        let mut config = before.clone().unwrap_or_else(|| UpdateConfig {
            parallelism: 1,
            order: "stop-first".to_owned(),
            ..UpdateConfig::default()
        });
        let untouched = config.clone();
        set(&mut config.parallelism, self.parallelism.as_ref());
        set(&mut config.delay, self.delay.as_ref());
        set(&mut config.failure_action, self.failure_action);
        set(&mut config.monitor, self.monitor.as_ref());
        set(&mut config.max_failure_ratio, self.ratio.map(Ratio).as_ref());
        set(&mut config.order, self.order);
        *place = if config == untouched { before } else { Some(config) };
    }
}

impl Removals {
    /// Takes all that was named out of a spec.
    pub(super) fn put(&self, client: &Client, spec: &mut ServiceSpec) -> Result<()> {
        self.label_rm.iter().for_each(|key| drop(spec.labels.remove(key)));
        if let Some(placement) = &mut spec.task_template.placement {
            placement.constraints.retain(|constraint| !self.constraint_rm.contains(constraint));
        }
        if let Some(endpoint) = &mut spec.endpoint_spec {
            endpoint.ports.retain(|port| !self.publish_rm.contains(&port.target_port));
        }
        for name in &self.network_rm {
            let network: wire::Network = client.get(&format!("/networks/{}", super::super::client::escape(name)))?;
            spec.task_template.networks.retain(|attachment| attachment.target != network.id);
            spec.networks.retain(|attachment| attachment.target != network.id);
        }
        let Some(container) = &mut spec.task_template.container_spec else { return Ok(()) };
        container
            .env
            .retain(|variable| !self.env_rm.iter().any(|name| variable.split('=').next() == Some(name.as_str())));
        self.container_label_rm.iter().for_each(|key| drop(container.labels.remove(key)));
        container.mounts.retain(|mount| !self.mount_rm.contains(&mount.target));
        container.secrets.retain(|secret| !self.secret_rm.contains(&secret.secret_name));
        container.configs.retain(|config| !self.config_rm.contains(&config.config_name));
        Ok(())
    }
}

/// Reads a published port: `8080:80/udp`, `80`, or fields.
pub(in crate::cli) fn port(text: &str) -> Result<PortConfig> {
    let number = |value: &str| -> Result<u32> {
        let port: u16 = value.parse().with_context(|| format!("invalid port \"{value}\" in \"{text}\""))?;
        Ok(port.into())
    };
    let mut port =
        PortConfig { protocol: "tcp".to_owned(), publish_mode: "ingress".to_owned(), ..PortConfig::default() };
    if text.contains('=') {
        for (key, value) in pairs::fields(text) {
            match key.as_str() {
                "target" => port.target_port = number(&value)?,
                "published" => port.published_port = number(&value)?,
                "protocol" => port.protocol = value,
                "mode" => port.publish_mode = value,
                other => bail!("invalid field key {other} in port \"{text}\""),
            }
        }
    } else {
        let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let (published, target) = ports.rsplit_once(':').unwrap_or(("", ports));
        if published.contains(':') {
            bail!("ignoring the address in \"{text}\" would publish on all: a service has its ports on every node");
        }
        port.protocol = protocol.to_owned();
        port.target_port = number(target)?;
        port.published_port = if published.is_empty() { 0 } else { number(published)? };
    }
    if port.target_port == 0 {
        bail!("invalid port \"{text}\": a target port is needed");
    }
    Ok(port)
}

/// Reads a mount's fields.
fn mount(text: &str) -> Result<Mount> {
    let mut mount = Mount { kind: "volume".to_owned(), ..Mount::default() };
    for (key, value) in pairs::fields(text) {
        match key.as_str() {
            "type" => mount.kind = value,
            "source" | "src" => mount.source = value,
            "target" | "dst" | "destination" => mount.target = value,
            "readonly" | "ro" => mount.read_only = value == "true" || value == "1",
            "tmpfs-size" => mount.tmpfs_options.get_or_insert_default().size_bytes = units::size(&value)?,
            "volume-nocopy" => mount.volume_options.get_or_insert_default().no_copy = value == "true",
            "bind-propagation" => mount.bind_options.get_or_insert_default().propagation = value,
            other => bail!("invalid field \"{other}\" in mount \"{text}\""),
        }
    }
    if mount.target.is_empty() {
        bail!("invalid mount \"{text}\": a target is needed");
    }
    Ok(mount)
}

/// Reads `source=..,target=..,uid=..,gid=..,mode=..`, or a name alone.
fn file(what: &str, text: &str) -> Result<(String, FileTarget)> {
    let mut target = FileTarget { uid: "0".to_owned(), gid: "0".to_owned(), mode: 0o444, ..FileTarget::default() };
    let mut name = text.to_owned();
    if text.contains('=') {
        name.clear();
        for (key, value) in pairs::fields(text) {
            match key.as_str() {
                "source" | "src" => name = value,
                "target" => target.name = value,
                "uid" => target.uid = value,
                "gid" => target.gid = value,
                "mode" => {
                    target.mode = u32::from_str_radix(&value, 8)
                        .with_context(|| format!("invalid mode \"{value}\" in {what} \"{text}\""))?;
                }
                other => bail!("invalid field in {what} request: {other}"),
            }
        }
    }
    if target.name.is_empty() {
        target.name = if what == "config" { format!("/{name}") } else { name.clone() };
    }
    Ok((name, target))
}

fn secret(client: &Client, text: &str) -> Result<SecretReference> {
    let (name, file) = file("secret", text)?;
    let found: Vec<wire::Secret> = client.get(&format!("/secrets{}", filters(&[("name", &name)])))?;
    let found = found.into_iter().find(|secret| secret.spec.name == name);
    let found = found.ok_or_else(|| super::each::bare(format!("secret not found: {name}")))?;
    Ok(SecretReference { file: Some(file), secret_id: found.id, secret_name: name, ..SecretReference::default() })
}

fn config(client: &Client, text: &str) -> Result<ConfigReference> {
    let (name, file) = file("config", text)?;
    let found: Vec<wire::Config> = client.get(&format!("/configs{}", filters(&[("name", &name)])))?;
    let found = found.into_iter().find(|config| config.spec.name == name);
    let found = found.ok_or_else(|| super::each::bare(format!("config not found: {name}")))?;
    Ok(ConfigReference { file: Some(file), config_id: found.id, config_name: name, ..ConfigReference::default() })
}

#[test]
fn ports_are_read_in_both_forms() {
    let shown = |text: &str| {
        let port = port(text).map_err(|error| error.to_string())?;
        Ok::<_, String>(format!("{}:{}/{} {}", port.published_port, port.target_port, port.protocol, port.publish_mode))
    };
    for (text, expected) in [
        ("8080:80", "8080:80/tcp ingress"),
        ("53:53/udp", "53:53/udp ingress"),
        ("80", "0:80/tcp ingress"),
        ("published=8083,target=80,mode=host", "8083:80/tcp host"),
    ] {
        assert_eq!(shown(text).unwrap(), expected);
    }
    for text in ["", "x", "0:0", "99999:80", "127.0.0.1:80:80", "target=80,foo=1"] {
        assert!(shown(text).is_err(), "{text}");
    }
}
