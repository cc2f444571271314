//! Which runtime runs this node's tasks.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

use super::NodeError;
use crate::runtime::Runtime;
use crate::runtime::docker::DockerRuntime;
use crate::runtime::oci::{OciOptions, OciRuntime};

/// Who runs containers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum RuntimeKind {
    /// The node itself, by an OCI runtime.
    #[default]
    Oci,
    /// A Docker Engine.
    Docker,
}

/// What the user asked for.
#[derive(Debug, Clone, Default)]
pub struct RuntimeChoice {
    /// Who runs containers.
    pub kind: RuntimeKind,
    /// The engine, as `unix://PATH`.
    pub docker_host: String,
    /// The OCI runtime's program. None: runc, crun or youki, the first that is installed.
    pub program: Option<PathBuf>,
    /// What the OCI runtime knows of containers that run.
    pub state: Option<PathBuf>,
    /// Bytes of images on disk beyond which those that no container uses are removed. None: the default.
    pub image_limit: Option<u64>,
    /// Registries that speak HTTP, as `host:port`.
    pub insecure_registries: Vec<String>,
}

/// What runs containers.
pub(super) struct Opened {
    pub(super) runtime: Arc<dyn Runtime>,
    /// The engine's socket, if one does.
    pub(super) engine: Option<PathBuf>,
}

/// Opens what was asked for.
pub(super) async fn open(root: &Path, choice: &RuntimeChoice, clock: fn() -> Timestamp) -> Result<Opened, NodeError> {
    match choice.kind {
        RuntimeKind::Oci => {
            let mut options = OciOptions::new(root.join("containers"));
            options.program.clone_from(&choice.program);
            options.images.plain_registries.clone_from(&choice.insecure_registries);
            if let Some(limit) = choice.image_limit {
                options.images.limit = limit;
            }
            if let Some(state) = &choice.state {
                options.state.clone_from(state);
            }
            Ok(Opened { runtime: Arc::new(OciRuntime::open(options, clock).await?), engine: None })
        }
        RuntimeKind::Docker => {
            let host = &choice.docker_host;
            let socket = host.strip_prefix("unix://").ok_or_else(|| NodeError::DockerHost(host.clone()))?;
            let socket = PathBuf::from(socket);
            let runtime = DockerRuntime::open(&socket, &root.join("containers")).await?;
            Ok(Opened { runtime: Arc::new(runtime), engine: Some(socket) })
        }
    }
}

/// What runs containers here, for `docker info`.
pub(super) fn facts(runtime: &dyn Runtime, root: &Path) -> crate::api::RuntimeFacts {
    let description = runtime.description();
    crate::api::RuntimeFacts {
        name: description.name.to_owned(),
        version: description.engine,
        storage_driver: "overlay2".to_owned(),
        root: root.display().to_string(),
        cgroup_driver: "cgroupfs".to_owned(),
        // Only the root of the second version has this file (kernel, cgroup-v2.rst).
        cgroup_version: if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() { "2" } else { "1" }.to_owned(),
        log_driver: "json-file".to_owned(),
    }
}
