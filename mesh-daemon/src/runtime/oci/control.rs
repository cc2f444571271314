//! An OCI runtime by its command line: runc, crun or youki.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::runtime::{ContainerId, RuntimeError};

/// None of its acts takes so long on a node that works.
const LIMIT: Duration = Duration::from_secs(30);

/// Where the program is, and where it keeps what it knows.
#[derive(Clone, Debug)]
pub(super) struct Control {
    pub(super) program: PathBuf,
    pub(super) state: PathBuf,
}

impl Control {
    /// Its first words, before the act.
    pub(super) fn prefix(&self) -> [OsString; 2] {
        ["--root".into(), self.state.clone().into()]
    }

    /// What it is: the first line of its version, and all of it.
    pub(super) fn version(&self) -> Result<String, RuntimeError> {
        let output = std::process::Command::new(&self.program).arg("--version").stdin(Stdio::null()).output();
        let program = || self.program.clone();
        let output = output.map_err(|source| RuntimeError::Program { program: program(), source })?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Sends a signal.
    pub(super) async fn kill(&self, id: &ContainerId, signal: &str) -> Result<(), RuntimeError> {
        self.act("kill", id, [OsStr::new(&id.0), OsStr::new(signal)]).await
    }

    /// Ends what runs of a container, and removes what the OCI runtime knows of it.
    pub(super) async fn delete(&self, id: &ContainerId) -> Result<(), RuntimeError> {
        match self.act("delete", id, [OsStr::new("--force"), OsStr::new(&id.0)]).await {
            Err(RuntimeError::Refused { said, .. }) if is_unknown(&said) => Ok(()),
            other => other,
        }
    }

    /// The command of an act, with nothing of its input and output settled.
    pub(super) fn command(&self, act: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.args(self.prefix()).arg(act).kill_on_drop(true);
        command
    }

    async fn act<'a>(
        &self,
        act: &'static str,
        id: &ContainerId,
        args: impl IntoIterator<Item = &'a OsStr>,
    ) -> Result<(), RuntimeError> {
        let output = self.command(act).args(args).stdin(Stdio::null()).output();
        let late = |_| RuntimeError::Timeout { act, id: id.clone(), seconds: LIMIT.as_secs() };
        let output = tokio::time::timeout(LIMIT, output).await.map_err(late)?;
        let output = output.map_err(|source| RuntimeError::Program { program: self.program.clone(), source })?;
        if output.status.success() {
            return Ok(());
        }
        Err(RuntimeError::Refused { act, id: id.clone(), said: said(&String::from_utf8_lossy(&output.stderr)) })
    }
}

/// Does it say that it has no such container?
pub(super) fn is_unknown(said: &str) -> bool {
    said.contains("does not exist")
}

/// Does it say that the container's process has ended?
pub(super) fn is_over(said: &str) -> bool {
    is_unknown(said) || said.contains("not running") || said.contains("process already finished")
}

/// What a runtime says when it fails: the message of the last line, whichever form it writes.
pub(super) fn said(stderr: &str) -> String {
    let Some(line) = stderr.lines().map(str::trim).rfind(|line| !line.is_empty()) else {
        return "it failed without a word".to_owned();
    };
    let message = match line.split_once("msg=\"") {
        // logrus: time=".." level=error msg=".."
        Some((_, quoted)) => quoted.strip_suffix('"').unwrap_or(quoted).replace("\\\"", "\""),
        None => line.to_owned(),
    };
    message.chars().take(1000).collect()
}

/// The exit code that Docker gives a container which could not be started.
pub(super) fn code_of(said: &str) -> i32 {
    let lower = said.to_lowercase();
    match () {
        () if lower.contains("executable file not found") || lower.contains("no such file or directory") => 127,
        () if lower.contains("permission denied") || lower.contains("is a directory") => 126,
        () => 128,
    }
}

/// A program on the search path of daemons.
pub(super) fn find(name: &str) -> Option<PathBuf> {
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
        .iter()
        .map(|directory| Path::new(directory).join(name))
        .find(|path| path.is_file())
}
