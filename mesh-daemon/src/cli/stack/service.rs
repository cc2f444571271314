//! What the file says of a service, as the spec that the docker CLI would send.

use super::compose::{Node, Value, Wrong};
use super::fields::Fields;
use super::mounts;
use super::name::{IMAGE, Name};
use super::objects::DEFAULT_NETWORK;
use super::policies;
use crate::api::wire::{
    ConfigReference, ContainerSpec, DnsConfig, EndpointSpec, FileTarget, Healthcheck, LogDriver,
    NetworkAttachmentConfig, PortConfig, Privileges, SecretReference, ServiceSpec, TaskSpec, Ulimit,
};

/// One service of a stack.
pub(super) struct Reader<'a> {
    pub(super) tree: &'a Node,
    pub(super) name: &'a Name<'a>,
    pub(super) key: &'a str,
    pub(super) service: Fields<'a>,
    /// Where the service stands.
    pub(super) node: &'a Node,
}

impl<'a> Reader<'a> {
    /// Something is wrong at a node.
    fn wrong(&self, node: &Node, text: impl std::fmt::Display) -> Wrong {
        Wrong::at(&node.at, format!("service {}: {text}", self.key))
    }

    pub(super) fn path(&self) -> String {
        format!("services.{}", self.key)
    }

    /// An object of a section, which must be there.
    pub(super) fn object(&self, section: &str, key: &str, from: &Node) -> Result<Fields<'a>, Wrong> {
        match Fields::of(Some(self.tree)).below(section).node(key) {
            Some(node) => Ok(Fields::of(Some(node))),
            None => Err(self.wrong(from, format!("undefined {} \"{key}\"", section.trim_end_matches('s')))),
        }
    }

    /// The spec; what it refers to is named, and has no ids yet.
    pub(super) fn spec(&self) -> Result<ServiceSpec, Wrong> {
        let deploy = self.service.below("deploy");
        let image = self.service.text("image");
        if image.is_empty() {
            return Err(Wrong::at(
                &self.node.at,
                format!("invalid image reference for service {}: no image specified", self.key),
            ));
        }
        let mut labels = self.name.label(deploy.labels("labels"));
        labels.insert(IMAGE.to_owned(), image);
        let path = format!("{}.deploy", self.path());
        Ok(ServiceSpec {
            name: self.name.of(self.key),
            labels,
            task_template: TaskSpec {
                container_spec: Some(self.container()?),
                resources: Some(policies::resources(deploy.below("resources"), &format!("{path}.resources"))?),
                restart_policy: policies::restart(self.service, deploy.below("restart_policy"), &path)?,
                placement: Some(policies::placement(deploy.below("placement"), &format!("{path}.placement"))?),
                networks: self.networks()?,
                log_driver: self.log_driver(),
                ..TaskSpec::default()
            },
            mode: policies::mode(deploy, &path)?,
            update_config: policies::update(deploy.below("update_config"), &format!("{path}.update_config"))?,
            rollback_config: policies::update(deploy.below("rollback_config"), &format!("{path}.rollback_config"))?,
            endpoint_spec: Some(self.endpoint(deploy)?),
            ..ServiceSpec::default()
        })
    }

    fn container(&self) -> Result<ContainerSpec, Wrong> {
        let service = self.service;
        let (capability_add, capability_drop) = capabilities(&service.texts("cap_add"), &service.texts("cap_drop"));
        if let Some(node) = service.node("credential_spec") {
            return Err(self.wrong(node, "credential_spec is of Windows, and no node runs it"));
        }
        Ok(ContainerSpec {
            image: service.text("image"),
            command: service.texts("entrypoint"),
            args: service.texts("command"),
            hostname: service.text("hostname"),
            hosts: service.texts("extra_hosts").iter().filter_map(|host| address_first(host)).collect(),
            dns_config: dns(service),
            healthcheck: self.healthcheck()?,
            env: service.entries("environment").map(|(name, value)| variable(name, value)).collect(),
            labels: self.name.label(service.labels("labels")),
            dir: service.text("working_dir"),
            user: service.text("user"),
            mounts: mounts::all(self)?,
            stop_grace_period: service.some_duration("stop_grace_period"),
            stop_signal: service.text("stop_signal"),
            tty: service.bool("tty"),
            open_stdin: service.bool("stdin_open"),
            secrets: self.secrets()?,
            configs: self.configs()?,
            read_only: service.bool("read_only"),
            privileges: Some(Privileges::default()),
            isolation: service.text("isolation"),
            init: service.some_bool("init"),
            sysctls: service.labels("sysctls"),
            capability_add,
            capability_drop,
            ulimits: service.entries("ulimits").map(|(name, limit)| ulimit(name, limit)).collect(),
            oom_score_adj: service.integer("oom_score_adj"),
            ..ContainerSpec::default()
        })
    }

    fn healthcheck(&self) -> Result<Option<Healthcheck>, Wrong> {
        let Some(node) = self.service.node("healthcheck") else { return Ok(None) };
        let check = Fields::of(Some(node));
        let test = check.texts("test");
        if check.bool("disable") {
            if !test.is_empty() {
                return Err(self.wrong(node, "test and disable can't be set at the same time"));
            }
            return Ok(Some(Healthcheck { test: vec!["NONE".to_owned()], ..Healthcheck::default() }));
        }
        Ok(Some(Healthcheck {
            test,
            interval: check.duration("interval"),
            timeout: check.duration("timeout"),
            start_period: check.duration("start_period"),
            start_interval: check.duration("start_interval"),
            retries: check.integer("retries"),
            ..Healthcheck::default()
        }))
    }

    fn networks(&self) -> Result<Vec<NetworkAttachmentConfig>, Wrong> {
        let mut networks: Vec<(&str, Option<&Node>)> =
            self.service.entries("networks").map(|(key, node)| (key.as_str(), Some(node))).collect();
        if networks.is_empty() {
            networks.push((DEFAULT_NETWORK, None));
        }
        let attachment = |(key, node): (&str, Option<&Node>)| {
            let declared = match node {
                Some(node) if key != DEFAULT_NETWORK => self.object("networks", key, node)?,
                _ => Fields::of(Some(self.tree)).below("networks").below(key),
            };
            let used = Fields::of(node);
            if let Some(address) = used.node("ipv4_address").or_else(|| used.node("ipv6_address")) {
                return Err(self.wrong(address, "a service has no fixed address: use its name"));
            }
            let mut aliases = used.texts("aliases");
            aliases.push(self.key.to_owned());
            Ok(NetworkAttachmentConfig {
                target: declared.some_text("name").unwrap_or_else(|| self.name.of(key)),
                aliases,
                driver_opts: used.labels("driver_opts"),
                ..NetworkAttachmentConfig::default()
            })
        };
        let mut networks: Vec<_> = networks.into_iter().map(attachment).collect::<Result<_, _>>()?;
        networks.sort_by(|a, b| a.target.cmp(&b.target));
        Ok(networks)
    }

    fn log_driver(&self) -> Option<LogDriver> {
        let logging = self.service.below("logging");
        logging.is_there().then(|| LogDriver {
            name: logging.text("driver"),
            options: logging.labels("options"),
            ..LogDriver::default()
        })
    }

    fn endpoint(&self, deploy: Fields<'_>) -> Result<EndpointSpec, Wrong> {
        let mut ports = Vec::new();
        for (index, node) in self.service.items("ports").iter().enumerate() {
            let (port, path) = (Fields::of(Some(node)), format!("{}.ports.{index}", self.path()));
            let number = |name: &str| {
                let number = port.count(name, &path, u16::MAX.into())?.unwrap_or_default();
                Ok(u32::try_from(number).unwrap_or_default())
            };
            ports.push(PortConfig {
                protocol: port.text("protocol"),
                target_port: number("target")?,
                published_port: number("published")?,
                publish_mode: port.text("mode"),
                ..PortConfig::default()
            });
        }
        ports.sort_by_key(|port| (port.published_port, port.target_port, port.protocol.clone()));
        Ok(EndpointSpec { mode: deploy.text("endpoint_mode").to_lowercase(), ports, ..EndpointSpec::default() })
    }

    /// Of each use of a secret or config, by the object's name: the file that it becomes.
    fn files(&self, section: &str) -> Result<Vec<(String, FileTarget)>, Wrong> {
        let mut files: Vec<(String, FileTarget)> = Vec::new();
        for (index, node) in self.service.items(section).iter().enumerate() {
            let used = Fields::of(Some(node));
            let source = used.text("source");
            let object = self.object(section, &source, node)?;
            let or = |name: &str, default: &str| used.some_text(name).unwrap_or_else(|| default.to_owned());
            let mode = used.count("mode", &format!("{}.{section}.{index}", self.path()), 0o7777)?;
            let file = FileTarget {
                name: or("target", &source),
                uid: or("uid", "0"),
                gid: or("gid", "0"),
                mode: mode.and_then(|mode| u32::try_from(mode).ok()).unwrap_or(0o444),
                ..FileTarget::default()
            };
            if let Some((other, _)) = files.iter().find(|(_, other)| other.name == file.name) {
                let what = section.trim_end_matches('s');
                return Err(self.wrong(node, format!("duplicate {what} target for {other} not allowed")));
            }
            files.push((object.some_text("name").unwrap_or_else(|| self.name.of(&source)), file));
        }
        // In one order, so that writing them in another changes nothing.
        files.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(files)
    }

    fn secrets(&self) -> Result<Vec<SecretReference>, Wrong> {
        let reference =
            |(secret_name, file)| SecretReference { file: Some(file), secret_name, ..SecretReference::default() };
        Ok(self.files("secrets")?.into_iter().map(reference).collect())
    }

    fn configs(&self) -> Result<Vec<ConfigReference>, Wrong> {
        let reference =
            |(config_name, file)| ConfigReference { file: Some(file), config_name, ..ConfigReference::default() };
        Ok(self.files("configs")?.into_iter().map(reference).collect())
    }
}

fn variable(name: &str, value: &Node) -> String {
    match value.plain() {
        Some(value) => format!("{name}={value}"),
        None => name.to_owned(),
    }
}

/// `NAME:ADDRESS` as `ADDRESS NAME`.
fn address_first(host: &str) -> Option<String> {
    let (name, address) = host.split_once(':')?;
    Some(format!("{address} {name}"))
}

fn dns(service: Fields<'_>) -> Option<DnsConfig> {
    let (nameservers, search) = (service.texts("dns"), service.texts("dns_search"));
    let any = !nameservers.is_empty() || !search.is_empty();
    any.then(|| DnsConfig { nameservers, search, ..DnsConfig::default() })
}

fn ulimit(name: &str, limit: &Node) -> Ulimit {
    let both = Fields::of(Some(limit));
    let (soft, hard) = match &limit.value {
        Value::Integer(number) => (*number, *number),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => {
            (both.integer("soft"), both.integer("hard"))
        }
    };
    Ulimit { name: name.to_owned(), soft, hard, ..Ulimit::default() }
}

/// Capabilities by one spelling, sorted; what is added is not dropped.
fn capabilities(add: &[String], drop: &[String]) -> (Vec<String>, Vec<String>) {
    const ALL: &str = "ALL";
    let named = |names: &[String]| {
        let spelled = names.iter().map(|name| {
            let name = name.trim().to_uppercase();
            if name == ALL || name == "RESET" || name.starts_with("CAP_") { name } else { format!("CAP_{name}") }
        });
        let mut names: Vec<_> = spelled.filter(|name| name != "RESET").collect();
        names.sort();
        names.dedup();
        if names.iter().any(|name| name == ALL) { vec![ALL.to_owned()] } else { names }
    };
    let (add, mut drop) = (named(add), named(drop));
    drop.retain(|name| !add.contains(name));
    (add, drop)
}
