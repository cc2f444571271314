//! Makes a stack what its files say: all of it is read and checked before anything is made, what is as it
//! should be is left alone.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};

use super::super::client::{Client, filters, is_not_found};
use super::super::each;
use super::super::listing::line;
use super::super::registry::{self, AUTH};
use super::super::service::converge;
use super::compose::{Node, Wrong};
use super::fields::Fields;
use super::name::{IMAGE, Name};
use super::objects::{self, Networks};
use super::service::Reader;
use crate::api::wire::{self, ConfigSpec, SecretSpec, ServiceSpec};

#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// The stack's name.
    stack: String,
    /// The files; - is standard input. Later ones are put over earlier ones.
    #[arg(short, long = "compose-file", required = true)]
    compose_file: Vec<String>,
    /// Remove services that the files do not have.
    #[arg(long)]
    prune: bool,
    /// Ask registries for digests of images.
    #[arg(long, value_enum, default_value_t)]
    resolve_image: Resolve,
    /// Send what this user's docker login keeps, for nodes to fetch images with.
    #[arg(long)]
    with_registry_auth: bool,
    /// Do not wait until it is so.
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    detach: bool,
    /// No progress.
    #[arg(short, long)]
    quiet: bool,
}

/// When a registry is asked what a tag stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(in crate::cli) enum Resolve {
    /// Each time.
    #[default]
    Always,
    /// If the file names another image.
    Changed,
    /// Never.
    Never,
}

/// What should be, read and checked.
pub(super) struct Wanted<'a> {
    networks: Networks<'a>,
    secrets: Vec<SecretSpec>,
    configs: Vec<ConfigSpec>,
    pub(super) services: Vec<ServiceSpec>,
}

fn said(wrong: &Wrong) -> anyhow::Error {
    each::bare(wrong.to_string())
}

pub(super) fn run(client: &Client, args: &Args) -> Result<()> {
    let name = Name::new(&args.stack)?;
    let stack = super::read(&args.compose_file)?;
    let wanted = wanted(&stack.tree, &name).map_err(|wrong| said(&wrong))?;
    let label = name.filter();
    let query = filters(&[("label", &label)]);
    let there: Vec<wire::Service> = client.get(&format!("/services{query}"))?;
    let mut ids = Ids::find(client, &wanted)?;

    if args.prune {
        prune(client, &wanted, &there)?;
    }
    ids.make_networks(client, &wanted, &query)?;
    ids.make_secrets(client, &wanted.secrets)?;
    ids.make_configs(client, &wanted.configs)?;
    let mut changed = Vec::new();
    for mut spec in wanted.services {
        ids.put(&mut spec)?;
        let before = there.iter().find(|service| service.spec.name == spec.name);
        changed.push(match before {
            Some(before) => update(client, args, before, spec)?,
            None => create(client, args, spec)?,
        });
    }
    if !args.detach {
        for id in changed {
            converge::wait(client, &id, args.quiet)?;
        }
    }
    Ok(())
}

/// Reads all of a tree, and the files that it names.
pub(super) fn wanted<'a>(tree: &'a Node, name: &'a Name<'a>) -> Result<Wanted<'a>, Wrong> {
    let services = Fields::of(Some(tree))
        .entries("services")
        .map(|(key, node)| Reader { tree, name, key, service: Fields::of(Some(node)), node }.spec());
    Ok(Wanted {
        services: services.collect::<Result<_, _>>()?,
        networks: objects::networks(tree, name),
        secrets: objects::secrets(tree, name)?,
        configs: objects::configs(tree, name)?,
    })
}

fn prune(client: &Client, wanted: &Wanted<'_>, there: &[wire::Service]) -> Result<()> {
    let keep: BTreeSet<_> = wanted.services.iter().map(|service| service.name.as_str()).collect();
    for service in there.iter().filter(|service| !keep.contains(service.spec.name.as_str())) {
        line(format!("Removing service {}", service.spec.name))?;
        client.delete(&format!("/services/{}", service.id))?;
    }
    Ok(())
}

/// Ids of what services refer to by name.
struct Ids {
    networks: BTreeMap<String, String>,
    secrets: BTreeMap<String, wire::Secret>,
    configs: BTreeMap<String, wire::Config>,
}

impl Ids {
    /// Looks what there is; whatever others should have made is there, or nothing is begun.
    fn find(client: &Client, wanted: &Wanted<'_>) -> Result<Self> {
        let mut networks = BTreeMap::new();
        for (name, node) in &wanted.networks.external {
            networks.insert(name.clone(), external(client, name, node)?);
        }
        let mut ids = Self { networks, secrets: BTreeMap::new(), configs: BTreeMap::new() };
        let containers = || wanted.services.iter().filter_map(|service| service.task_template.container_spec.as_ref());
        if containers().any(|container| !container.secrets.is_empty()) || !wanted.secrets.is_empty() {
            let all: Vec<wire::Secret> = client.get("/secrets")?;
            ids.secrets = all.into_iter().map(|secret| (secret.spec.name.clone(), secret)).collect();
        }
        if containers().any(|container| !container.configs.is_empty()) || !wanted.configs.is_empty() {
            let all: Vec<wire::Config> = client.get("/configs")?;
            ids.configs = all.into_iter().map(|config| (config.spec.name.clone(), config)).collect();
        }
        for container in containers() {
            for secret in &container.secrets {
                let is_own = wanted.secrets.iter().any(|own| own.name == secret.secret_name);
                if !is_own && !ids.secrets.contains_key(&secret.secret_name) {
                    return Err(each::bare(format!("secret not found: {}", secret.secret_name)));
                }
            }
            for config in &container.configs {
                let is_own = wanted.configs.iter().any(|own| own.name == config.config_name);
                if !is_own && !ids.configs.contains_key(&config.config_name) {
                    return Err(each::bare(format!("config not found: {}", config.config_name)));
                }
            }
        }
        Ok(ids)
    }

    fn make_networks(&mut self, client: &Client, wanted: &Wanted<'_>, query: &str) -> Result<()> {
        let there: Vec<wire::Network> = client.get(&format!("/networks{query}"))?;
        for network in there {
            self.networks.insert(network.name, network.id);
        }
        for (name, request) in &wanted.networks.own {
            if self.networks.contains_key(name) {
                continue;
            }
            line(format!("Creating network {name}"))?;
            let made: Result<wire::NetworkCreated> = client.post("/networks/create", request);
            let made = made.map_err(|error| each::bare(format!("failed to create network {name}: {error:#}")))?;
            self.networks.insert(name.clone(), made.id);
        }
        Ok(())
    }

    fn make_secrets(&mut self, client: &Client, wanted: &[SecretSpec]) -> Result<()> {
        for spec in wanted {
            if let Some(secret) = self.secrets.get(&spec.name) {
                // What it holds is not shown: whether it is the same is for the managers to say.
                let path = format!("/secrets/{}/update?version={}", secret.id, secret.version.index);
                client
                    .post_empty(&path, spec)
                    .map_err(|error| each::bare(format!("failed to update secret {}: {error:#}", spec.name)))?;
                continue;
            }
            line(format!("Creating secret {}", spec.name))?;
            let made: Result<wire::Created> = client.post("/secrets/create", spec);
            let id = made.map_err(|error| each::bare(format!("failed to create secret {}: {error:#}", spec.name)))?.id;
            self.secrets.insert(spec.name.clone(), wire::Secret { id, ..wire::Secret::default() });
        }
        Ok(())
    }

    fn make_configs(&mut self, client: &Client, wanted: &[ConfigSpec]) -> Result<()> {
        for spec in wanted {
            if let Some(config) = self.configs.get(&spec.name) {
                if config.spec == *spec {
                    continue;
                }
                let path = format!("/configs/{}/update?version={}", config.id, config.version.index);
                client
                    .post_empty(&path, spec)
                    .map_err(|error| each::bare(format!("failed to update config {}: {error:#}", spec.name)))?;
                continue;
            }
            line(format!("Creating config {}", spec.name))?;
            let made: Result<wire::Created> = client.post("/configs/create", spec);
            let id = made.map_err(|error| each::bare(format!("failed to create config {}: {error:#}", spec.name)))?.id;
            self.configs.insert(spec.name.clone(), wire::Config { id, ..wire::Config::default() });
        }
        Ok(())
    }

    /// Puts ids beside names, and in the place of names of networks.
    fn put(&self, spec: &mut ServiceSpec) -> Result<()> {
        for network in &mut spec.task_template.networks {
            let id = self.networks.get(&network.target);
            network.target.clone_from(id.with_context(|| format!("network {} is not there", network.target))?);
        }
        let Some(container) = &mut spec.task_template.container_spec else { return Ok(()) };
        for secret in &mut container.secrets {
            let found = self.secrets.get(&secret.secret_name);
            secret.secret_id.clone_from(&found.with_context(|| format!("secret {}", secret.secret_name))?.id);
        }
        for config in &mut container.configs {
            let found = self.configs.get(&config.config_name);
            config.config_id.clone_from(&found.with_context(|| format!("config {}", config.config_name))?.id);
        }
        Ok(())
    }
}

/// The id of a network that others made.
fn external(client: &Client, name: &str, node: &Node) -> Result<String> {
    let found: Result<wire::Network> = client.get(&format!("/networks/{}", super::client::escape(name)));
    let wrong =
        |why: &str| said(&Wrong::at(&node.at, format!("network \"{name}\" is declared as external, but {why}")));
    match found {
        Ok(network) if network.scope == "swarm" => Ok(network.id),
        Ok(network) => Err(wrong(&format!("it is not in the right scope: \"{}\" instead of \"swarm\"", network.scope))),
        Err(error) if is_not_found(&error) => {
            Err(wrong("could not be found. You need to create a swarm-scoped network before the stack is deployed"))
        }
        Err(error) => Err(error),
    }
}

/// Who the user is to the image's registry, if that may be sent.
fn auth(args: &Args, spec: &ServiceSpec) -> Result<Option<String>> {
    let container = spec.task_template.container_spec.as_ref();
    container.filter(|_| args.with_registry_auth).map_or(Ok(None), |container| registry::auth(&container.image))
}

fn headers(auth: Option<&String>) -> Vec<(&'static str, String)> {
    auth.map(|auth| (AUTH, auth.clone())).into_iter().collect()
}

fn resolve(client: &Client, spec: &mut ServiceSpec, ask: bool, auth: Option<&String>) {
    if ask {
        if let Some(image) = registry::pin(client, &mut spec.task_template, auth.map(String::as_str)) {
            registry::warn_of_tag(&image);
        }
    } else if let Some(container) = &mut spec.task_template.container_spec {
        container.image = registry::tagged(&container.image);
    }
}

fn create(client: &Client, args: &Args, mut spec: ServiceSpec) -> Result<String> {
    line(format!("Creating service {}", spec.name))?;
    let auth = auth(args, &spec)?;
    resolve(client, &mut spec, args.resolve_image != Resolve::Never, auth.as_ref());
    let made: Result<wire::Created> = client.post_with("/services/create", &spec, &headers(auth.as_ref()));
    Ok(made.map_err(|error| each::bare(format!("failed to create service {}: {error:#}", spec.name)))?.id)
}

fn update(client: &Client, args: &Args, before: &wire::Service, mut spec: ServiceSpec) -> Result<String> {
    let auth = auth(args, &spec)?;
    let is_named_so = before.spec.labels.get(IMAGE) == spec.labels.get(IMAGE);
    let ask = match args.resolve_image {
        Resolve::Always => true,
        Resolve::Changed => !is_named_so,
        Resolve::Never => false,
    };
    let image =
        |spec: &ServiceSpec| spec.task_template.container_spec.as_ref().map(|container| container.image.clone());
    resolve(client, &mut spec, ask, auth.as_ref());
    if !ask
        && is_named_so
        && let (Some(container), Some(image)) = (&mut spec.task_template.container_spec, image(&before.spec))
    {
        // What it was resolved to stays, and with it for which platforms it is.
        container.image = image;
        let platforms: Vec<_> =
            before.spec.task_template.placement.iter().flat_map(|of| of.platforms.clone()).collect();
        if !platforms.is_empty() {
            spec.task_template.placement.get_or_insert_default().platforms = platforms;
        }
    }
    spec.task_template.force_update = before.spec.task_template.force_update;
    if spec.clone().into_kept() == before.spec.clone().into_kept() && auth.is_none() {
        line(format!("Unchanged service {} (id: {})", spec.name, before.id))?;
        return Ok(before.id.clone());
    }
    line(format!("Updating service {} (id: {})", spec.name, before.id))?;
    let path = format!("/services/{}/update?version={}", before.id, before.version.index);
    let made: Result<wire::Updated> = client.post_with(&path, &spec, &headers(auth.as_ref()));
    made.map_err(|error| each::bare(format!("failed to update service {}: {error:#}", spec.name)))?;
    Ok(before.id.clone())
}
