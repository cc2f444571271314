//! What the callers of a runtime and a runtime tell each other. Plain data.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWrite;
use tokio::sync::mpsc;

use super::RuntimeError;
use super::images::Credentials;
use crate::model::container::{ContainerSpec, FileTarget};
use crate::model::id::TaskId;
use crate::model::meta::Labels;
use crate::model::payload::Payload;
use crate::model::resources::ResourceRequirements;
use crate::model::task::LogDriver;

/// Names a container to its runtime.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ContainerId(pub String);

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A container to make, with every template filled in.
#[derive(Clone, Debug)]
pub struct Container {
    /// The task that it is.
    pub task: TaskId,
    /// For people: `web.1.TASK`.
    pub name: String,
    /// What its user wants.
    pub spec: ContainerSpec,
    /// What it may use.
    pub resources: ResourceRequirements,
    /// Where its output goes; None: files that are rotated.
    pub log: Option<LogDriver>,
    /// All its labels: those of the spec, and those that say which service's it is.
    pub labels: Labels,
    /// Secrets, as files.
    pub secrets: Vec<FileContent>,
    /// Configs, as files.
    pub configs: Vec<FileContent>,
    /// Its network namespace, where the caller makes it. None: one without links.
    pub netns: Option<PathBuf>,
    /// Its own addresses, for its hosts file.
    pub addresses: Vec<IpAddr>,
    /// Whom it asks for names. Empty: as the node does.
    pub nameservers: Vec<IpAddr>,
    /// For its image's registry.
    pub credentials: Credentials,
}

impl Container {
    /// One with nothing but what its user wants.
    pub fn new(task: TaskId, name: String, spec: ContainerSpec) -> Self {
        Self {
            task,
            name,
            spec,
            resources: ResourceRequirements::default(),
            log: None,
            labels: Labels::new(),
            secrets: Vec::new(),
            configs: Vec::new(),
            netns: None,
            addresses: Vec::new(),
            nameservers: Vec::new(),
            credentials: Credentials::Anonymous,
        }
    }
}

/// A file that a container gets.
#[derive(Clone, Debug)]
pub struct FileContent {
    /// Where, whose, with what permissions.
    pub target: FileTarget,
    /// Its bytes.
    pub data: Payload,
}

/// What is known of a container.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// Its id.
    pub id: ContainerId,
    /// The task that it is; None for one that is not of ours.
    pub task: Option<TaskId>,
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: Labels,
    /// Its image, as it was asked for.
    pub image: String,
    /// What its image is, by digest.
    pub image_id: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Ports that its image says it listens on, as `80/tcp`.
    pub ports: Vec<String>,
    /// Whether it has a terminal: then its outputs are one.
    pub tty: bool,
    /// When it was made.
    pub created: Timestamp,
    /// How far it is.
    pub state: State,
    /// How it is.
    pub health: Health,
}

/// How far a container is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Made, and not started.
    Created,
    /// Runs.
    Running {
        /// Its first process, in the node's numbers.
        pid: u32,
        /// Since when.
        since: Timestamp,
    },
    /// Ended.
    Exited(Exit),
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Its exit code; 128 and the number of the signal that ended it.
    pub code: i32,
    /// Whether the kernel killed a process of it for want of memory.
    pub oom_killed: bool,
    /// Why it did not run, or how we lost sight of it.
    pub error: Option<String>,
    /// When.
    pub at: Timestamp,
}

/// How a container is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// It has no health check.
    #[default]
    None,
    /// Not known yet.
    Starting,
    /// Well.
    Healthy,
    /// Its check failed as often as it may.
    Unhealthy {
        /// What the last probe wrote.
        output: String,
    },
}

/// Which of a container's two outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A line that a container wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// When.
    pub at: Timestamp,
    /// To which output.
    pub stream: Stream,
    /// What, with its line feed if it has one.
    pub text: Bytes,
}

/// Lines, as they come.
pub type LogStream = BoxStream<'static, Result<LogLine, RuntimeError>>;

/// Which lines are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogQuery {
    /// Whether to go on with new lines until the container has ended.
    pub follow: bool,
    /// How many of the last lines; None: all.
    pub tail: Option<u64>,
    /// Not before.
    pub since: Option<Timestamp>,
    /// Not after.
    pub until: Option<Timestamp>,
    /// Standard output too.
    pub stdout: bool,
    /// Standard error too.
    pub stderr: bool,
}

impl Default for LogQuery {
    fn default() -> Self {
        Self { follow: false, tail: None, since: None, until: None, stdout: true, stderr: true }
    }
}

/// What a container uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Processor time since its start, in nanoseconds.
    pub cpu_ns: u64,
    /// Memory, without what the kernel can drop at once.
    pub memory_bytes: u64,
    /// The most it may use; None: as much as there is.
    pub memory_limit: Option<u64>,
    /// Processes and threads.
    pub pids: u64,
    /// Bytes that came in by its links, and that went out.
    pub network_bytes: (u64, u64),
    /// Bytes read from disks, and written.
    pub disk_bytes: (u64, u64),
}

/// A program to run in a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exec {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// `NAME=value`, in addition to the container's.
    pub env: Vec<String>,
    /// `user[:group]`. Empty: the container's.
    pub user: String,
    /// Working directory. Empty: the container's.
    pub dir: String,
    /// The size of its terminal, if it has one.
    pub tty: Option<Size>,
    /// Whether it has input.
    pub stdin: bool,
}

/// Of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Lines.
    pub rows: u16,
    /// Characters.
    pub columns: u16,
}

/// A piece of a program's output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Which output; of a terminal it is always the first.
    pub stream: Stream,
    /// What.
    pub bytes: Bytes,
}

/// A program that runs in a container. Dropping it does not end the program.
pub struct ExecSession {
    /// Its input, if it was asked for; closing it is the end of input.
    pub input: Option<Pin<Box<dyn AsyncWrite + Send>>>,
    /// Its output, until it has ended.
    pub output: BoxStream<'static, std::io::Result<Output>>,
    /// New sizes of its terminal.
    pub resize: mpsc::Sender<Size>,
    /// Its exit code. Take it after the output.
    pub exit: BoxFuture<'static, Result<i32, RuntimeError>>,
}
