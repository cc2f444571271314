//! `/_ping`, `/version`, `/info`, `/system/df`, `/distribution`: the daemon itself.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use oci_client::{ParseError, Reference};

use super::convert::{self, Tokens};
use super::error::Error;
use super::{Shared, Standing, containers, images, version, wire};
use crate::model::node::Role;

type Api = State<Arc<Shared>>;

const MESH: &str = env!("CARGO_PKG_VERSION");

pub(super) async fn ping() -> Response {
    let headers = [
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store, must-revalidate")),
        (header::PRAGMA, HeaderValue::from_static("no-cache")),
        (header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8")),
    ];
    (headers, "OK").into_response()
}

/// What the kernel and the distribution say of this machine.
struct Host {
    name: String,
    kernel: String,
    system: String,
    system_version: String,
    memory_bytes: u64,
    cpus: u64,
    id: String,
}

impl Host {
    fn read() -> Self {
        let line = |path: &str| fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default();
        let release = line("/etc/os-release");
        let of_release = |name: &str| {
            let value = release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            value.unwrap_or_default().trim_matches('"').to_owned()
        };
        let memory = line("/proc/meminfo");
        let total = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
        Self {
            name: line("/proc/sys/kernel/hostname"),
            kernel: line("/proc/sys/kernel/osrelease"),
            system: of_release("PRETTY_NAME"),
            system_version: of_release("VERSION_ID"),
            memory_bytes: total.and_then(|kib| kib.trim().parse::<u64>().ok()).unwrap_or(0) * 1024,
            cpus: std::thread::available_parallelism().map_or(1, |count| count.get() as u64),
            id: line("/etc/machine-id"),
        }
    }
}

/// As Go names processors.
pub(super) fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

pub(super) async fn version(State(api): Api) -> Json<wire::VersionAnswer> {
    let host = Host::read();
    let runtime = api.cluster.runtime();
    let component = |name: &str, version: &str, details: &[(&str, &str)]| wire::Component {
        name: name.to_owned(),
        version: version.to_owned(),
        details: details.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        ..wire::Component::default()
    };
    let (api_version, min) = (version::MAX.to_string(), version::MIN.to_string());
    // The CLI prints the one that is called so.
    let engine = component(
        "Engine",
        MESH,
        &[
            ("ApiVersion", &api_version),
            ("MinAPIVersion", &min),
            ("Arch", go_arch()),
            ("Os", "linux"),
            ("KernelVersion", &host.kernel),
            ("Experimental", "false"),
            ("GitCommit", ""),
            ("GoVersion", ""),
            ("BuildTime", ""),
        ],
    );
    let mut components = vec![engine];
    if !runtime.name.is_empty() {
        components.push(component(&runtime.name, &runtime.version, &[]));
    }
    Json(wire::VersionAnswer {
        platform: wire::PlatformName { name: "mesh".to_owned(), ..wire::PlatformName::default() },
        components,
        version: MESH.to_owned(),
        api_version,
        min_api_version: min,
        os: "linux".to_owned(),
        arch: go_arch().to_owned(),
        kernel_version: host.kernel,
        ..wire::VersionAnswer::default()
    })
}

/// Containers that run, others, and images. A runtime that does not answer has none to show.
async fn counted(api: &Shared) -> (u64, u64, u64) {
    let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    let said = |error: &crate::runtime::RuntimeError| tracing::warn!(%error, "the runtime does not answer");
    let all = api.runtime().list().await.inspect_err(said).unwrap_or_default();
    let images = api.runtime().images().await.inspect_err(said).unwrap_or_default();
    let running = all.iter().filter(|one| matches!(one.state, crate::runtime::State::Running { .. })).count();
    (count(running), count(all.len() - running), count(images.len()))
}

pub(super) async fn info(State(api): Api) -> Json<wire::SystemInfo> {
    let host = Host::read();
    let runtime = api.cluster.runtime();
    let (running, stopped, images) = counted(&api).await;
    let swarm = swarm_info(&api);
    let warnings = (!swarm.warnings.is_empty()).then(|| swarm.warnings.clone());
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let path = wire::RuntimePath { path: runtime.name.clone(), ..wire::RuntimePath::default() };
    Json(wire::SystemInfo {
        id: host.id,
        containers: running + stopped,
        containers_running: running,
        containers_stopped: stopped,
        images,
        driver: runtime.storage_driver,
        plugins: wire::PluginNames {
            volume: words(&["local"]),
            network: words(&["overlay"]),
            authorization: None,
            log: vec![runtime.log_driver.clone()],
            ..wire::PluginNames::default()
        },
        memory_limit: true,
        swap_limit: true,
        cpu_cfs_period: true,
        cpu_cfs_quota: true,
        cpu_shares: true,
        cpu_set: true,
        pids_limit: true,
        ipv4_forwarding: true,
        // Not used here: the packet path passes the kernel's bridge by. False would print a warning.
        bridge_nf_iptables: true,
        bridge_nf_ip6tables: true,
        oom_kill_disable: true,
        system_time: convert::time(api.cluster.now()),
        logging_driver: runtime.log_driver,
        cgroup_driver: runtime.cgroup_driver,
        cgroup_version: runtime.cgroup_version,
        kernel_version: host.kernel,
        operating_system: host.system,
        os_version: host.system_version,
        os_type: "linux".to_owned(),
        architecture: std::env::consts::ARCH.to_owned(),
        index_server_address: "https://index.docker.io/v1/".to_owned(),
        ncpu: host.cpus,
        mem_total: host.memory_bytes,
        docker_root_dir: runtime.root,
        name: host.name,
        server_version: MESH.to_owned(),
        runtimes: BTreeMap::from([(runtime.name.clone(), path)]),
        default_runtime: runtime.name,
        swarm,
        warnings,
        ..wire::SystemInfo::default()
    })
}

/// From what this manager knows: `info` must answer whatever the others do.
fn swarm_info(api: &Shared) -> wire::SwarmInfo {
    let local = api.cluster.local();
    let (state, error) = match &local.standing {
        Standing::Outside => ("inactive", ""),
        Standing::Pending => ("pending", ""),
        Standing::Locked => ("locked", "swarm is encrypted and needs to be unlocked before it can be used"),
        Standing::Failed(why) => ("error", why.as_str()),
        Standing::Worker | Standing::Manager => ("active", ""),
    };
    let remote = local.managers.iter().map(|(id, addr)| wire::RemoteManager {
        node_id: id.to_string(),
        addr: addr.clone(),
        ..wire::RemoteManager::default()
    });
    let remote: Vec<_> = remote.collect();
    let mut info = wire::SwarmInfo {
        node_id: local.node_id.map(|id| id.to_string()).unwrap_or_default(),
        node_addr: local.addr,
        local_node_state: state.to_owned(),
        control_available: local.standing == Standing::Manager,
        error: error.to_owned(),
        remote_managers: (!remote.is_empty()).then_some(remote),
        ..wire::SwarmInfo::default()
    };
    let Ok(store) = api.store() else { return info };
    let view = store.view();
    let managers = view.nodes().iter().filter(|node| node.role == Role::Manager).count();
    info.nodes = view.nodes().len() as u64;
    info.managers = managers as u64;
    info.cluster = view.cluster().map(|cluster| convert::cluster(cluster, Tokens::Hidden));
    info.warnings = warnings(managers);
    info
}

/// An even number of managers stands the loss of no more of them than the odd number below.
fn warnings(managers: usize) -> Vec<String> {
    let more = "         Refer to https://docs.docker.com/engine/swarm/admin_guide/ to configure the\n         Swarm for fault-tolerance.";
    match managers {
        2 => vec![format!(
            "WARNING: Running Swarm in a two-manager configuration. This configuration provides\n         no fault tolerance, and poses a high risk to lose control over the cluster.\n{more}"
        )],
        even if even > 0 && even % 2 == 0 => vec![format!(
            "WARNING: Running Swarm with {even} managers. They tolerate the loss of {}, as {} would.\n{more}",
            (even - 1) / 2,
            even - 1
        )],
        _ => Vec::new(),
    }
}

/// Images and containers of this node; what containers wrote of their own is not counted, and volumes are not.
pub(super) async fn disk_usage(State(api): State<Arc<Shared>>) -> Result<Json<wire::DiskUsage>, Error> {
    let ((images, bytes), containers) = (images::used(&api).await?, containers::all(&api).await?);
    let layers_size = i64::try_from(bytes).unwrap_or(i64::MAX);
    Ok(Json(wire::DiskUsage { layers_size, images, containers, ..wire::DiskUsage::default() }))
}

/// `/distribution/NAME/json`: names have slashes.
pub(super) async fn distribution(
    State(api): Api,
    Path(rest): Path<String>,
    headers: HeaderMap,
) -> Result<Json<wire::Distribution>, Error> {
    let name = rest.strip_suffix("/json").ok_or(Error::NoPage)?;
    match name.parse::<Reference>() {
        Ok(_) => {}
        Err(ParseError::NameContainsUppercase) => {
            return Err(Error::bad("invalid reference format: repository name must be lowercase"));
        }
        Err(_) => return Err(Error::bad("invalid reference format")),
    }
    let who = super::images::credentials(&headers)?;
    let found = api.cluster.image(name.to_owned(), who).await?;
    found.map(Json).ok_or_else(|| Error::Refused {
        status: StatusCode::NOT_FOUND,
        message: format!("no registry answered for {name} in time, or none has it"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_even_number_of_managers_is_warned_of() {
        assert!(warnings(0).is_empty() && warnings(1).is_empty() && warnings(3).is_empty());
        assert!(warnings(2)[0].starts_with("WARNING: Running Swarm in a two-manager configuration."));
        assert!(warnings(4)[0].contains("4 managers. They tolerate the loss of 1, as 3 would."));
    }
}
