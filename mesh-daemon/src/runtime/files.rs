//! Secrets and configs as files in memory, of which a container sees each in its place.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount as mount_at, umount2};

use super::{Container, FileContent, RuntimeError};

/// Beside the bytes of its files, the memory has room for so much.
const ROOM: usize = 1 << 20;
const PAGE: usize = 4096;

/// A file, and where the container sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) source: PathBuf,
    pub(super) target: String,
}

/// Mounts memory for the files of a container.
pub(super) fn mount(memory: &Path, container: &Container) -> Result<(), RuntimeError> {
    fs::create_dir_all(memory).map_err(RuntimeError::file("make", memory))?;
    let files = container.secrets.iter().chain(&container.configs);
    let bytes: usize = files.map(|file| file.data.0.len().next_multiple_of(PAGE)).sum();
    let options = format!("size={},mode=700", bytes + ROOM);
    let flags = MsFlags::MS_NOEXEC | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount_at(Some("tmpfs"), memory, Some("tmpfs"), flags, Some(options.as_str()))
        .map_err(|errno| RuntimeError::file("mount memory on", memory)(errno.into()))
}

/// Writes secrets and configs; `owner` knows the users and groups of the image.
pub(super) fn place(
    memory: &Path,
    container: &Container,
    owner: impl Fn(&str, &str) -> Result<(u32, u32), RuntimeError>,
) -> Result<Vec<Placed>, RuntimeError> {
    let secrets = container.secrets.iter().map(|file| (file, "/run/secrets/"));
    let all = secrets.chain(container.configs.iter().map(|file| (file, "/")));
    let write = |(number, (file, home)): (usize, (&FileContent, &str))| {
        let target = target(&file.target.name, home)?;
        let source = memory.join(format!("file-{number}"));
        put(&source, &file.data.0, owner(&file.target.uid, &file.target.gid)?, file.target.mode)?;
        Ok(Placed { source, target })
    };
    all.enumerate().map(write).collect()
}

/// Where a secret or config is seen.
fn target(name: &str, home: &str) -> Result<String, RuntimeError> {
    let why = |why: &str| RuntimeError::spec("File.Name", format!("\"{name}\" {why}"));
    if name.is_empty() || name.contains('\0') {
        return Err(why("is no name of a file"));
    }
    let target = if name.starts_with('/') { name.to_owned() } else { format!("{home}{name}") };
    if Path::new(&target).components().any(|part| part == Component::ParentDir) {
        return Err(why("leads upwards"));
    }
    Ok(target)
}

/// Writes a file with its owner and permissions.
pub(super) fn put(path: &Path, bytes: &[u8], owner: (u32, u32), mode: u32) -> Result<(), RuntimeError> {
    let write = || -> io::Result<()> {
        fs::write(path, bytes)?;
        std::os::unix::fs::chown(path, Some(owner.0), Some(owner.1))?;
        fs::set_permissions(path, Permissions::from_mode(mode & 0o7777))
    };
    write().map_err(RuntimeError::file("write", path))
}

/// Unmounts whatever is mounted on a path, however often.
pub(super) fn unmount(path: &Path) -> Result<(), RuntimeError> {
    loop {
        match umount2(path, MntFlags::MNT_DETACH) {
            Ok(()) => {}
            Err(Errno::EINVAL | Errno::ENOENT) => return Ok(()),
            Err(errno) => return Err(RuntimeError::file("unmount", path)(errno.into())),
        }
    }
}
