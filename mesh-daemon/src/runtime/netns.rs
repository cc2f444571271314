//! Network namespaces by name: made, found and removed without a process of their own.
//!
//! A namespace is entered by a thread that ends with the act, never by one of the daemon's: the
//! rest of the daemon stays where it is.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use super::RuntimeError;

/// Makes a namespace that lives as long as its name does. The kernel's own defaults hold in it; not even
/// loopback is up.
///
/// # Errors
/// The name is taken by a namespace, or the kernel refuses.
pub fn create(path: &Path) -> Result<(), RuntimeError> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(RuntimeError::file("make", parent))?;
    }
    File::create_new(path).map_err(RuntimeError::file("make", path))?;
    let pin = || {
        unshare(CloneFlags::CLONE_NEWNET)?;
        mount(Some("/proc/thread-self/ns/net"), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
    };
    let pinned = std::thread::scope(|scope| scope.spawn(pin).join()).map_err(|_| RuntimeError::Thread)?;
    pinned.map_err(|errno| {
        // Nothing is mounted on it: the file is all there is.
        let _ = fs::remove_file(path);
        RuntimeError::file("make the network namespace", path)(errno.into())
    })
}

/// Removes the name. The namespace itself goes when nothing is in it any more. One that does not exist is
/// no error.
///
/// # Errors
/// The kernel refuses.
pub fn remove(path: &Path) -> Result<(), RuntimeError> {
    match umount2(path, MntFlags::MNT_DETACH) {
        // EINVAL: a file without a mount, whose maker was killed between the two.
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
        Err(errno) => return Err(RuntimeError::file("unmount the network namespace", path)(errno.into())),
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(RuntimeError::file("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Is a namespace behind this name?
#[must_use]
pub fn exists(path: &Path) -> bool {
    use nix::sys::statfs::{FsType, statfs};
    /// `NSFS_MAGIC` of linux/magic.h.
    const NSFS: FsType = FsType(0x6e73_6673);
    statfs(path).is_ok_and(|of| of.filesystem_type() == NSFS)
}

/// Does something on a thread inside the namespace. Sockets that it makes stay there.
///
/// # Errors
/// The namespace cannot be entered.
pub fn enter<T: Send>(path: &Path, inside: impl FnOnce() -> T + Send) -> Result<T, RuntimeError> {
    let file = File::open(path).map_err(RuntimeError::file("open the network namespace", path))?;
    let entered =
        std::thread::scope(|scope| scope.spawn(|| setns(&file, CloneFlags::CLONE_NEWNET).map(|()| inside())).join());
    let entered = entered.map_err(|_| RuntimeError::Thread)?;
    entered.map_err(|errno| RuntimeError::file("enter the network namespace", path)(errno.into()))
}
