//! Which beds exist, who owns them, and how everything of a bed goes away.
//!
//! A bed holds the lock of a file under /run/mesh-test for as long as its process lives, so a free
//! lock means that the owner is gone, however it ended. Everything of a bed carries its id as a
//! prefix; nothing without one is ever touched.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use nix::unistd::Pid;

use crate::netns::NETNS_DIR;
use crate::process::POLL;

const LOCK_DIR: &str = "/run/mesh-test";
/// Held while the list of beds changes; no bed has this name.
const REGISTRY_LOCK: &str = "/run/mesh-test/registry";
const BPFFS: &str = "/sys/fs/bpf";
/// Where beds keep the files of their nodes: containers' layers lie there, which a tmpfs may not hold.
const FILES: &str = "/var/tmp";
const PREFIX: &str = "mesh-t-";
/// Time for killed processes to be gone.
const KILL_LIMIT: Duration = Duration::from_secs(5);

static NEXT: AtomicU32 = AtomicU32::new(0);

/// The right to an id and to everything named after it. Dropping it removes all of that.
#[derive(Debug)]
pub(crate) struct Lease {
    id: String,
    /// Open and locked until the end of the process at the latest.
    _lock: File,
}

impl Lease {
    /// Takes a new id, after removing what dead owners left behind.
    pub(crate) fn take() -> Result<Self> {
        let registry = lock_registry()?;
        sweep_locked(&registry)?;
        let id = format!("{PREFIX}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(LOCK_DIR).join(&id);
        let lock = File::create(&path).with_context(|| format!("making {}", path.display()))?;
        lock.try_lock().with_context(|| format!("locking {}", path.display()))?;
        Ok(Self { id, _lock: lock })
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// The full name of a namespace of this bed.
    pub(crate) fn name(&self, short: &str) -> String {
        format!("{}-{short}", self.id)
    }

    /// A directory for pinned maps and links of this bed, made now; mounts bpffs if nobody has.
    pub(crate) fn pin_dir(&self, short: &str) -> Result<PathBuf> {
        if statfs(BPFFS).context("looking at /sys/fs/bpf")?.filesystem_type() != BPF_FS_MAGIC {
            mount(Some("bpf"), BPFFS, Some("bpf"), MsFlags::empty(), None::<&str>).context("mounting bpffs")?;
        }
        let dir = Path::new(BPFFS).join(self.name(short));
        fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        Ok(dir)
    }

    /// A new folder for files that goes with the bed, and with whatever is mounted and pinned below it.
    pub(crate) fn folder(&self, short: &str) -> Result<PathBuf> {
        let dir = Path::new(FILES).join(self.name(short));
        fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        Ok(dir)
    }

    /// Removes everything of the bed but the lock; the bed may go on.
    pub(crate) fn clean(&self) -> Result<()> {
        remove_all_of(&self.id)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let result = self.clean().and_then(|()| remove_file(&Path::new(LOCK_DIR).join(&self.id)));
        if let Err(error) = result {
            #[expect(clippy::print_stderr, reason = "a destructor cannot fail, and the next sweep tries again")]
            {
                eprintln!("test bed {} is not removed in full: {error:#}", self.id);
            }
        }
    }
}

/// Removes what beds of dead processes left behind; returns their ids.
pub fn sweep() -> Result<Vec<String>> {
    crate::require_root()?;
    sweep_locked(&lock_registry()?)
}

fn lock_registry() -> Result<File> {
    fs::create_dir_all(LOCK_DIR).with_context(|| format!("making {LOCK_DIR}"))?;
    let file = File::create(REGISTRY_LOCK).with_context(|| format!("making {REGISTRY_LOCK}"))?;
    file.lock().with_context(|| format!("locking {REGISTRY_LOCK}"))?;
    Ok(file)
}

/// The argument is the proof that no bed comes or goes meanwhile.
fn sweep_locked(_registry: &File) -> Result<Vec<String>> {
    let mut swept = Vec::new();
    for id in known_ids()? {
        let path = Path::new(LOCK_DIR).join(&id);
        let free = match File::open(&path) {
            Ok(file) => match file.try_lock() {
                Ok(()) => true,
                Err(TryLockError::WouldBlock) => false,
                Err(TryLockError::Error(error)) => return Err(error).context(format!("locking {}", path.display())),
            },
            // Its lock file is gone, so nobody holds it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => return Err(error).context(format!("opening {}", path.display())),
        };
        if free {
            remove_all_of(&id)?;
            remove_file(&path)?;
            swept.push(id);
        }
    }
    Ok(swept)
}

/// Every id that a lock file, a namespace, a pin directory or a folder carries.
fn known_ids() -> Result<BTreeSet<String>> {
    let mut ids = BTreeSet::new();
    for dir in [LOCK_DIR, NETNS_DIR, BPFFS, FILES] {
        ids.extend(names_in(dir)?.iter().filter_map(|name| id_of(name)).map(str::to_owned));
    }
    Ok(ids)
}

/// `mesh-t-PID-N` of `mesh-t-PID-N` or `mesh-t-PID-N-NAME`.
fn id_of(name: &str) -> Option<&str> {
    let mut numbers = name.strip_prefix(PREFIX)?.splitn(3, '-');
    let (pid, serial) = (numbers.next()?, numbers.next()?);
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (digits(pid) && digits(serial)).then(|| &name[..PREFIX.len() + pid.len() + 1 + serial.len()])
}

fn remove_all_of(id: &str) -> Result<()> {
    let namespaces = paths_of(NETNS_DIR, id)?;
    let folders = paths_of(FILES, id)?;
    // Containers have namespaces of their own, which nodes mount below their folders.
    let mounts: Vec<_> = folders.iter().map(|folder| mounts_below(folder)).collect::<Result<Vec<_>>>()?.concat();
    kill_inside(&[&namespaces[..], &mounts].concat())?;
    for dir in paths_of(BPFFS, id)? {
        fs::remove_dir_all(&dir).with_context(|| format!("removing {}", dir.display()))?;
    }
    // The last that was mounted lies on top.
    for mount in mounts.iter().rev() {
        match umount2(mount, MntFlags::MNT_DETACH) {
            Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
            Err(error) => return Err(error).with_context(|| format!("unmounting {}", mount.display())),
        }
    }
    for folder in &folders {
        remove_groups(folder)?;
        fs::remove_dir_all(folder).with_context(|| format!("removing {}", folder.display()))?;
    }
    for namespace in &namespaces {
        remove_namespace(namespace)?;
    }
    Ok(())
}

/// Removes one named namespace and the processes in it.
pub(crate) fn remove_one(namespace: &Path) -> Result<()> {
    kill_inside(&[namespace.to_owned()])?;
    remove_namespace(namespace)
}

fn remove_namespace(path: &Path) -> Result<()> {
    match umount2(path, MntFlags::MNT_DETACH) {
        // A file without a mount: its maker was killed between the two.
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => remove_file(path),
        Err(error) => Err(error).with_context(|| format!("unmounting {}", path.display())),
    }
}

/// What is mounted below a folder, in the order of mounting.
pub(crate) fn mounts_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let table = fs::read_to_string("/proc/self/mountinfo").context("reading the table of mounts")?;
    // proc_pid_mountinfo(5): the fifth field is the mount point. None of ours has a space.
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    Ok(points.filter(|point| point.starts_with(folder)).collect())
}

/// Removes the empty control groups of containers whose folders lie below this one.
fn remove_groups(folder: &Path) -> Result<()> {
    let table = fs::read_to_string("/proc/self/mountinfo").context("reading the table of mounts")?;
    let hierarchies = table.lines().filter(|line| line.contains(" - cgroup"));
    let parents: Vec<_> = hierarchies.filter_map(|line| line.split(' ').nth(4)).map(Path::new).collect();
    for node in names_in(&folder.to_string_lossy())?.iter().map(|name| folder.join(name)).filter(|path| path.is_dir()) {
        for container in names_in(&node.join("run/oci").to_string_lossy())? {
            for parent in &parents {
                // Most are gone; one that is not empty is not ours.
                let _ = fs::remove_dir(parent.join("mesh").join(&container));
            }
        }
    }
    Ok(())
}

/// Kills every process whose network namespace is one of these, and waits until none is left.
pub(crate) fn kill_inside(namespaces: &[PathBuf]) -> Result<()> {
    let inodes = inodes(namespaces);
    let deadline = Instant::now() + KILL_LIMIT;
    loop {
        let inside = processes_in(&inodes)?;
        if inside.is_empty() {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "processes {inside:?} do not die");
        for pid in inside {
            // It may have ended since; what counts is the next look.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        std::thread::sleep(POLL);
    }
}

/// The processes whose network namespace is one of these.
pub(crate) fn inside(namespaces: &[PathBuf]) -> Result<Vec<i32>> {
    processes_in(&inodes(namespaces))
}

fn inodes(namespaces: &[PathBuf]) -> BTreeSet<u64> {
    namespaces.iter().filter_map(|path| fs::metadata(path).ok()).map(|of| of.ino()).collect()
}

fn processes_in(inodes: &BTreeSet<u64>) -> Result<Vec<i32>> {
    let this = std::process::id().cast_signed();
    let mut inside = Vec::new();
    for name in names_in("/proc")? {
        let Ok(pid) = name.parse::<i32>() else { continue };
        // A zombie has no namespace any more and is not counted.
        let Ok(namespace) = fs::metadata(format!("/proc/{pid}/ns/net")) else { continue };
        if pid != this && inodes.contains(&namespace.ino()) {
            inside.push(pid);
        }
    }
    Ok(inside)
}

fn paths_of(dir: &str, id: &str) -> Result<Vec<PathBuf>> {
    let names = names_in(dir)?;
    Ok(names.iter().filter(|name| id_of(name) == Some(id)).map(|name| Path::new(dir).join(name)).collect())
}

fn names_in(dir: &str) -> Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("reading {dir}"))?,
    };
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::id_of;

    #[test]
    fn an_id_is_the_prefix_and_two_numbers() {
        assert_eq!(id_of("mesh-t-12-3"), Some("mesh-t-12-3"));
        assert_eq!(id_of("mesh-t-12-3-node-1"), Some("mesh-t-12-3"));
        assert_eq!(id_of("mesh-t-12-34-wire"), Some("mesh-t-12-34"));
        for foreign in ["mesh", "mesh-t-", "mesh-t-x-1-a", "mesh-t-1", "mesh-t-1-", "mesh-t-1-b2", "other-mesh-t-1-2"] {
            assert_eq!(id_of(foreign), None, "{foreign}");
        }
    }
}
