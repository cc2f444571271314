//! Debian's dockerd as the only node of a Swarm, on a machine of its own: a network namespace, and a host name and
//! a resolv.conf of its own. What names nothing answers at once: else each create waits for DNS.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;

use crate::process::Proc;
use crate::topology::{Bed, Plan};

/// Time for it to start, and to end.
const LIMIT: Duration = Duration::from_secs(60);

/// A running engine; it ends, and its containers with it, when this is dropped.
pub struct Dockerd {
    process: Option<Proc>,
    folder: tempfile::TempDir,
    /// Its machine.
    pub bed: Bed,
}

impl Dockerd {
    /// Starts it; it is in no swarm.
    ///
    /// # Errors
    /// Debian's docker.io is not installed, or does not start.
    pub fn start() -> Result<Self> {
        let bed = Bed::new(&Plan { nodes: 1, clients: 0, ..Plan::default() })?;
        let folder = tempfile::Builder::new().prefix("mesh-dockerd-").tempdir()?;
        let path = |name: &str| folder.path().join(name).display().to_string();
        std::fs::write(folder.path().join("resolv.conf"), "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")?;
        let script = format!(
            "hostname node1 && mount --bind {} /etc/resolv.conf && exec dockerd --data-root {} --exec-root {} --pidfile {} --host unix://{}",
            path("resolv.conf"),
            path("root"),
            path("exec"),
            path("pid"),
            path("docker.sock")
        );
        let command = bed.nodes[0].ns.command(["unshare", "--uts", "--mount", "sh", "-c", &script]);
        let mut process = command.spawn().context("docker.io is installed")?;
        process.wait_line("API listen on", LIMIT)?;
        Ok(Self { process: Some(process), folder, bed })
    }

    /// Where it is asked.
    pub fn socket(&self) -> std::path::PathBuf {
        self.folder.path().join("docker.sock")
    }

    /// Takes an image.
    ///
    /// # Errors
    /// It refuses it.
    pub fn load(&self, archive: &Path) -> Result<()> {
        let host = format!("unix://{}", self.socket().display());
        let archive = archive.display().to_string();
        self.bed.nodes[0].ns.command(["docker", "--host", &host, "load", "-q", "-i", &archive]).run().map(drop)
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        let ended = self.process.take().map(|process| match process.signal(Signal::SIGTERM) {
            Ok(()) => process.wait(LIMIT).map(drop),
            Err(error) => bail!(error),
        });
        if let Some(Err(error)) = ended {
            tell(&format!("dockerd did not end by itself: {error:#}"));
        }
        let path = self.folder.path().display().to_string();
        // Networks of containers are mounted below it.
        let script = format!("for at in $(grep -o ' {path}[^ ]*' /proc/mounts | sort -r); do umount -l $at; done");
        if let Err(error) = std::process::Command::new("sh").args(["-c", &script]).status() {
            tell(&format!("mounts of dockerd stay below {path}: {error}"));
        }
    }
}

#[expect(clippy::print_stderr, reason = "a destructor cannot fail")]
fn tell(what: &str) {
    eprintln!("{what}");
}
