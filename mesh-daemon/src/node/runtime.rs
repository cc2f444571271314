//! Which runtime runs this node's tasks.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

use crate::runtime::oci::{OciOptions, OciRuntime};
use crate::runtime::{Runtime, RuntimeError};

/// What the user asked for.
#[derive(Debug, Clone, Default)]
pub struct RuntimeChoice {
    /// The OCI runtime's program. None: runc, crun or youki, the first that is installed.
    pub program: Option<PathBuf>,
    /// What the OCI runtime knows of containers that run.
    pub state: Option<PathBuf>,
}

/// The embedded runtime.
pub(super) async fn open(
    root: &Path,
    choice: &RuntimeChoice,
    clock: fn() -> Timestamp,
) -> Result<Arc<OciRuntime>, RuntimeError> {
    let mut options = OciOptions::new(root.join("containers"));
    options.program.clone_from(&choice.program);
    if let Some(state) = &choice.state {
        options.state.clone_from(state);
    }
    OciRuntime::open(options, clock).await.map(Arc::new)
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
