//! How a task runs: containers, and the images they are made of.
//!
//! One trait, [`Runtime`], and three that do it: [`oci`] starts containers itself, by an OCI runtime's
//! command line; [`docker`] has an engine do it; [`fake`] only says it did. Containers outlive the
//! daemon: whoever starts next finds them by [`Runtime::list`]. Nothing here knows of services,
//! networks or the cluster: a container comes with everything filled in.

mod container;
pub mod docker;
mod error;
pub mod fake;
mod files;
mod health;
pub mod images;
pub mod netns;
pub mod oci;
mod told;
mod turns;

use std::path::{Path, PathBuf};

use futures_util::future::BoxFuture;
use tokio::sync::watch;

pub use container::{
    Container, ContainerId, Exec, ExecSession, Exit, FileContent, Health, LogLine, LogQuery, LogStream, Output, Size,
    State, Stats, Status, Stream,
};
pub use error::RuntimeError;
use images::{Credentials, ImageSummary};
pub use told::{Act, ImageAct, Step, Told};

/// What an act of a runtime becomes.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, RuntimeError>>;

/// What a node says of its runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// `oci`, `docker` or `fake`.
    pub name: &'static str,
    /// What does the work, with its version.
    pub engine: String,
    /// What it cannot do on this node, a sentence each.
    pub lacks: Vec<String>,
}

/// When a container's network namespace is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkOrder {
    /// The caller makes it, and names it in [`Container::netns`].
    BeforeStart,
    /// The runtime makes it; [`Started::netns`] says where.
    AfterStart,
}

/// A container that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Started {
    /// Its first process, in the node's numbers.
    pub pid: u32,
    /// Its network namespace.
    pub netns: PathBuf,
}

/// Runs containers. Every act may be repeated: what is done already is no error.
pub trait Runtime: Send + Sync {
    /// Who does the work.
    fn description(&self) -> Description;

    /// Who makes network namespaces.
    fn network_order(&self) -> NetworkOrder;

    /// Makes a container, after fetching its image if it is not there. It does not run yet.
    fn prepare<'a>(&'a self, container: &'a Container) -> Answer<'a, ContainerId>;

    /// Starts a container that was prepared. A container runs once.
    fn start<'a>(&'a self, id: &'a ContainerId) -> Answer<'a, Started>;

    /// Waits until a container has ended, however it did.
    fn wait<'a>(&'a self, id: &'a ContainerId) -> Answer<'a, Exit>;

    /// Asks a container to stop, and ends it by force when its grace is over.
    fn shutdown<'a>(&'a self, id: &'a ContainerId) -> Answer<'a, Exit>;

    /// Sends a signal, by name or number, to a container's first process.
    fn kill<'a>(&'a self, id: &'a ContainerId, signal: &'a str) -> Answer<'a, ()>;

    /// Removes a container and all that was made for it. One that runs is ended by force.
    fn remove<'a>(&'a self, id: &'a ContainerId) -> Answer<'a, ()>;

    /// What is known of a container.
    fn inspect<'a>(&'a self, id: &'a ContainerId) -> Answer<'a, Status>;

    /// The containers of this runtime, those of an earlier daemon too.
    fn list(&self) -> Answer<'_, Vec<Status>>;

    /// A container's health, now and when it changes. Closed when it is no longer watched.
    fn health<'a>(&'a self, id: &'a ContainerId) -> Answer<'a, watch::Receiver<Health>>;

    /// What a container wrote.
    fn logs<'a>(&'a self, id: &'a ContainerId, query: LogQuery) -> Answer<'a, LogStream>;

    /// What a container uses at the moment.
    fn stats<'a>(&'a self, id: &'a ContainerId) -> Answer<'a, Stats>;

    /// Runs one more program in a container.
    fn exec<'a>(&'a self, id: &'a ContainerId, exec: Exec) -> Answer<'a, ExecSession>;

    /// The images that are here.
    fn images(&self) -> Answer<'_, Vec<ImageSummary>>;

    /// Fetches an image from its registry.
    fn pull<'a>(&'a self, reference: &'a str, credentials: &'a Credentials) -> Answer<'a, ()>;

    /// Takes the images of an archive; returns their names.
    fn load<'a>(&'a self, archive: &'a Path) -> Answer<'a, Vec<String>>;

    /// Forgets an image.
    fn remove_image<'a>(&'a self, reference: &'a str) -> Answer<'a, ()>;

    /// Removes images that no container uses, beyond the limit of the node; returns their names.
    fn collect_images(&self) -> Answer<'_, Vec<String>>;
}
