//! `meshctl service`: what should run.

pub(super) mod converge;
mod edit;
pub(super) mod logs;

use anyhow::{Context as _, Result, bail};
use clap::Subcommand;

use super::client::{self, Client, escape, filters, is_not_found};
use super::each::{self, Each};
use super::listing::{Listing, Style, line};
use super::words::{image, short};
use super::{registry, task};
use crate::api::wire;

use converge::wait;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Make a service.
    Create(Box<Create>),
    /// List services.
    Ls {
        #[command(flatten)]
        style: Style,
    },
    /// List the tasks of services.
    Ps {
        /// By id or name.
        #[arg(required = true)]
        services: Vec<String>,
        #[command(flatten)]
        style: task::PsStyle,
    },
    /// Print services as JSON.
    Inspect {
        /// By id or name.
        #[arg(required = true)]
        services: Vec<String>,
    },
    /// Change a service.
    Update(Box<Update>),
    /// Change how many tasks services have.
    Scale {
        /// SERVICE=REPLICAS.
        #[arg(required = true)]
        scales: Vec<String>,
        /// Do not wait until it is so.
        #[arg(short, long)]
        detach: bool,
    },
    /// Take services back to what they were before.
    Rollback {
        /// By id or name.
        service: String,
        /// Do not wait until it is so.
        #[arg(short, long)]
        detach: bool,
        /// No progress.
        #[arg(short, long)]
        quiet: bool,
    },
    /// Print what a service's tasks wrote.
    Logs(logs::Args),
    /// Remove services.
    Rm {
        /// By id or name.
        #[arg(required = true)]
        services: Vec<String>,
    },
}

#[derive(clap::Args)]
pub(super) struct Create {
    /// What runs.
    image: String,
    /// Arguments of it.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
    /// Its name.
    #[arg(long, default_value = "")]
    name: String,
    /// replicated, global, replicated-job or global-job.
    #[arg(long, default_value = "replicated")]
    mode: String,
    /// Of a job: how many tasks run at once.
    #[arg(long)]
    max_concurrent: Option<u64>,
    #[command(flatten)]
    edits: edit::Edits,
    #[command(flatten)]
    how: How,
}

#[derive(clap::Args)]
pub(super) struct Update {
    /// By id or name.
    service: String,
    /// Another image.
    #[arg(long)]
    image: Option<String>,
    /// Other arguments.
    #[arg(long)]
    args: Option<String>,
    /// Replace the tasks even if nothing changes.
    #[arg(long)]
    force: bool,
    /// Go back to what it was before.
    #[arg(long)]
    rollback: bool,
    #[command(flatten)]
    edits: edit::Edits,
    #[command(flatten)]
    removals: edit::Removals,
    #[command(flatten)]
    how: How,
}

/// How a change is made.
#[derive(clap::Args)]
pub(super) struct How {
    /// Do not wait until it is so.
    #[arg(short, long)]
    detach: bool,
    /// No progress.
    #[arg(short, long)]
    quiet: bool,
    /// Keep the image's tag: do not ask its registry for the digest.
    #[arg(long)]
    no_resolve_image: bool,
    /// Send what this user's docker login keeps, for nodes to fetch the image with.
    #[arg(long)]
    with_registry_auth: bool,
}

pub(super) fn run(client: &Client, command: Command) -> Result<()> {
    match command {
        Command::Create(create) => self::create(client, *create),
        Command::Ls { style } => ls(client, &style, Vec::new()),
        Command::Ps { services, style } => ps(client, &services, &style),
        Command::Inspect { services } => each::inspect(client, &services, |name| format!("/services/{}", escape(name))),
        Command::Update(update) => self::update(client, *update),
        Command::Scale { scales, detach } => scale(client, &scales, detach),
        Command::Rollback { service, detach, quiet } => roll_back(client, &service, detach, quiet),
        Command::Logs(args) => logs::run(client, &args),
        Command::Rm { services } => {
            Each::new(&services).remove(|name| client.delete(&format!("/services/{}", escape(name))))
        }
    }
}

fn get(client: &Client, name: &str) -> Result<wire::Service> {
    client.get(&format!("/services/{}", escape(name)))
}

fn create(client: &Client, create: Create) -> Result<()> {
    let mut spec = wire::ServiceSpec { name: create.name, ..wire::ServiceSpec::default() };
    spec.mode = edit::mode(&create.mode, create.edits.replicas, create.max_concurrent)?;
    let container = spec.task_template.container_spec.get_or_insert_with(wire::ContainerSpec::default);
    container.args = create.args;
    container.image = create.image;
    create.edits.put(client, &mut spec)?;
    let auth = create.how.auth(&spec)?;
    let unresolved = create.how.resolve(client, &mut spec, auth.as_ref());
    let created: wire::Created = client.post_with("/services/create", &spec, &headers(auth.as_ref()))?;
    unresolved.iter().for_each(|image| registry::warn_of_tag(image));
    line(&created.id)?;
    if create.how.detach { Ok(()) } else { wait(client, &created.id, create.how.quiet) }
}

impl How {
    /// Who the user is to the image's registry, if that may be sent.
    fn auth(&self, spec: &wire::ServiceSpec) -> Result<Option<String>> {
        let container = spec.task_template.container_spec.as_ref();
        container.filter(|_| self.with_registry_auth).map_or(Ok(None), |container| registry::auth(&container.image))
    }

    /// Gives the image its digest, or at least its tag; the image that no registry knew is returned.
    fn resolve(&self, client: &Client, spec: &mut wire::ServiceSpec, auth: Option<&String>) -> Option<String> {
        if !self.no_resolve_image {
            return registry::pin(client, &mut spec.task_template, auth.map(String::as_str));
        }
        let container = spec.task_template.container_spec.as_mut()?;
        container.image = registry::tagged(&container.image);
        None
    }
}

fn headers(auth: Option<&String>) -> Vec<(&'static str, String)> {
    auth.map(|auth| (registry::AUTH, auth.clone())).into_iter().collect()
}

/// Lists services; `more` narrows the list further.
pub(super) fn ls(client: &Client, style: &Style, more: Vec<(&str, &str)>) -> Result<()> {
    let mut wanted = client::filter_pairs(&style.filter)?;
    wanted.extend(more);
    let query = filters(&wanted).replace('?', "&");
    let mut services: Vec<wire::Service> = client.get(&format!("/services?status=true{query}"))?;
    services.sort_by(|a, b| a.spec.name.cmp(&b.spec.name));
    style.print(
        &services,
        |service| short(&service.id),
        |services| {
            let mut list = Listing::new(["ID", "NAME", "MODE", "REPLICAS", "IMAGE", "PORTS"]);
            for service in services {
                let container = service.spec.task_template.container_spec.clone().unwrap_or_default();
                let (mode, replicas) = count(service);
                list.push([
                    short(&service.id),
                    service.spec.name.clone(),
                    mode.to_owned(),
                    replicas,
                    image(&container.image).to_owned(),
                    ports(service),
                ]);
            }
            list
        },
    )
}

pub(super) fn count(service: &wire::Service) -> (&'static str, String) {
    let status = service.service_status.clone().unwrap_or_default();
    let running = format!("{}/{}", status.running_tasks, status.desired_tasks);
    let mode = &service.spec.mode;
    let most = service.spec.task_template.placement.as_ref().map_or(0, |placement| placement.max_replicas);
    let completed = |total: u64| format!("{running} ({}/{total} completed)", status.completed_tasks);
    match (&mode.global, &mode.replicated_job, &mode.global_job) {
        (Some(_), _, _) => ("global", running),
        (_, Some(job), _) => ("replicated job", completed(job.total_completions.unwrap_or(0))),
        (_, _, Some(_)) => ("global job", completed(status.completed_tasks + status.desired_tasks)),
        (None, None, None) if most > 0 => ("replicated", format!("{running} (max {most} per node)")),
        (None, None, None) => ("replicated", running),
    }
}

fn ports(service: &wire::Service) -> String {
    let published = service.endpoint.ports.iter().filter(|port| port.publish_mode == "ingress");
    let text = published.map(|port| format!("*:{}->{}/{}", port.published_port, port.target_port, port.protocol));
    text.collect::<Vec<_>>().join(", ")
}

fn ps(client: &Client, names: &[String], style: &task::PsStyle) -> Result<()> {
    let mut tasks = Vec::new();
    let looked = each::object(names, |name| {
        let service = get(client, name).map_err(|error| match is_not_found(&error) {
            true => each::bare(format!("no such service: {name}")),
            false => error,
        })?;
        let mut wanted = client::filter_pairs(&style.filter)?;
        wanted.push(("service", &service.id));
        tasks.extend(client.get::<Vec<wire::Task>>(&format!("/tasks{}", filters(&wanted)))?);
        Ok(())
    });
    if looked.is_ok() || !tasks.is_empty() {
        task::print(client, tasks, style)?;
    }
    looked
}

/// Writes a changed spec back.
fn put(client: &Client, service: &wire::Service, query: &str, headers: &[(&str, String)]) -> Result<()> {
    let path = format!("/services/{}/update?version={}{query}", service.id, service.version.index);
    client.post_with::<wire::Updated>(&path, &service.spec, headers).map(drop)
}

fn update(client: &Client, update: Update) -> Result<()> {
    if update.rollback {
        return roll_back(client, &update.service, update.how.detach, update.how.quiet);
    }
    let mut service = get(client, &update.service)?;
    let spec = &mut service.spec;
    update.removals.put(client, spec)?;
    update.edits.put(client, spec)?;
    if let Some(replicas) = update.edits.replicas {
        edit::scale(spec, replicas).map_err(each::bare)?;
    }
    spec.task_template.force_update += u64::from(update.force);
    let container = spec.task_template.container_spec.get_or_insert_with(wire::ContainerSpec::default);
    if let Some(args) = update.args {
        container.args = args.split_whitespace().map(str::to_owned).collect();
    }
    let mut unresolved = None;
    if let Some(image) = update.image {
        container.image = image;
        let auth = update.how.auth(spec)?;
        unresolved = update.how.resolve(client, spec, auth.as_ref());
    }
    let auth = update.how.auth(&service.spec)?;
    put(client, &service, "", &headers(auth.as_ref()))?;
    unresolved.iter().for_each(|image| registry::warn_of_tag(image));
    line(&update.service)?;
    if update.how.detach { Ok(()) } else { wait(client, &service.id, update.how.quiet) }
}

fn scale(client: &Client, scales: &[String], detach: bool) -> Result<()> {
    let mut changed = Vec::new();
    let scaled = each::object(scales, |scale| {
        let (name, replicas) = scale
            .split_once('=')
            .with_context(|| format!("invalid scale \"{scale}\": it should be SERVICE=REPLICAS"))?;
        let replicas = replicas.parse().with_context(|| format!("{name}: invalid replicas value {replicas}"))?;
        let mut service = get(client, name)?;
        edit::scale(&mut service.spec, replicas).map_err(|why| each::bare(format!("{name}: {why}")))?;
        put(client, &service, "", &[])?;
        line(format!("{name} scaled to {replicas}"))?;
        changed.push(service.id);
        Ok(())
    });
    if !detach {
        for id in changed {
            wait(client, &id, false)?;
        }
    }
    scaled
}

fn roll_back(client: &Client, name: &str, detach: bool, quiet: bool) -> Result<()> {
    let service = get(client, name)?;
    if service.spec.mode.replicated_job.is_some() || service.spec.mode.global_job.is_some() {
        bail!("a job cannot be rolled back");
    }
    put(client, &service, "&rollback=previous", &[])?;
    line(name)?;
    if detach { Ok(()) } else { wait(client, &service.id, quiet) }
}
