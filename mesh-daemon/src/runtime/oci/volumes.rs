//! Volumes and paths of the node in a container.

use std::fs;
use std::os::fd::AsRawFd as _;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};

use nix::errno::Errno;

use super::bundle::Bind;
use super::record::Directory;
use super::rootfs::open_inside;
use crate::model::container::{Mount, MountKind};
use crate::runtime::images::{Digest, ImageConfig};
use crate::runtime::{Container, RuntimeError};

/// The volumes of a node.
#[derive(Clone, Debug)]
pub(super) struct Volumes {
    pub(super) root: PathBuf,
}

/// What a container sees of the node.
#[derive(Debug, Default)]
pub(super) struct Mounted {
    pub(super) binds: Vec<Bind>,
    /// Volumes without a name of their own: they go with the container.
    pub(super) nameless: Vec<String>,
}

impl Volumes {
    /// Makes what the spec and the image want: volumes that are not there yet, with the files that the image
    /// has in their place.
    pub(super) fn mount(
        &self,
        directory: &Directory,
        id: &str,
        container: &Container,
        image: &ImageConfig,
        mounted: &mut Mounted,
    ) -> Result<(), RuntimeError> {
        let mounts = &container.spec.mounts;
        for mount in mounts {
            target(&mount.target)?;
            let bind = match mount.kind {
                MountKind::Bind => bind(mount)?,
                MountKind::Volume => self.volume(directory, id, mount, mounted)?,
                // The bundle has it.
                MountKind::Tmpfs => continue,
                MountKind::Npipe => return Err(unsupported("a named pipe of Windows")),
                MountKind::Cluster => return Err(unsupported("a cluster volume")),
                MountKind::Image => return Err(unsupported("a mount of an image")),
            };
            mounted.binds.push(bind);
        }
        let taken =
            |path: &str| mounts.iter().any(|mount| mount.target.trim_end_matches('/') == path.trim_end_matches('/'));
        for path in image.volumes.iter().flatten().map(|(path, _)| path).filter(|path| !taken(path)) {
            let mount = Mount { target: path.clone(), ..Mount::default() };
            target(path)?;
            let bind = self.volume(directory, id, &mount, mounted)?;
            mounted.binds.push(bind);
        }
        Ok(())
    }

    fn volume(
        &self,
        directory: &Directory,
        id: &str,
        mount: &Mount,
        mounted: &mut Mounted,
    ) -> Result<Bind, RuntimeError> {
        let options = mount.volume.clone().unwrap_or_default();
        if !matches!(options.driver.as_str(), "" | "local") || !options.driver_options.is_empty() {
            return Err(unsupported("a volume of a driver, or with options to one"));
        }
        let name = if mount.source.is_empty() {
            let name = Digest::of(format!("{id}:{}", mount.target).as_bytes()).hex().to_owned();
            mounted.nameless.push(name.clone());
            name
        } else {
            named(&mount.source)?
        };
        let data = self.root.join(&name).join("_data");
        if !data.exists() {
            fs::create_dir_all(&data).map_err(RuntimeError::file("make", &data))?;
            if !options.no_copy {
                fill(directory, &mount.target, &data)?;
            }
        }
        let source = if options.subpath.is_empty() { data } else { data.join(inside(&options.subpath)?) };
        if !source.exists() {
            let why = format!("volume \"{name}\" has no \"{}\"", options.subpath);
            return Err(RuntimeError::spec("Mounts.VolumeOptions.Subpath", why));
        }
        Ok(Bind { source, target: mount.target.clone(), options: access(mount, "rbind", "rprivate") })
    }

    /// Removes volumes that went with a container.
    pub(super) fn remove(&self, names: &[String]) -> Result<(), RuntimeError> {
        for path in names.iter().map(|name| self.root.join(name)).filter(|path| path.exists()) {
            fs::remove_dir_all(&path).map_err(RuntimeError::file("remove", &path))?;
        }
        Ok(())
    }
}

fn unsupported(what: &'static str) -> RuntimeError {
    RuntimeError::Unsupported { what, runtime: "oci" }
}

fn access(mount: &Mount, bind: &str, propagation: &str) -> Vec<String> {
    let mut options = vec![bind.to_owned(), propagation.to_owned()];
    if mount.read_only {
        options.push("ro".to_owned());
    }
    options
}

fn bind(mount: &Mount) -> Result<Bind, RuntimeError> {
    let options = mount.bind.clone().unwrap_or_default();
    let source = Path::new(&mount.source);
    if !source.is_absolute() {
        let why = format!("\"{}\" is not an absolute path", mount.source);
        return Err(RuntimeError::spec("Mounts.Source", why));
    }
    if !source.exists() {
        if !options.create_mountpoint {
            let why = format!("\"{}\" does not exist on this node", mount.source);
            return Err(RuntimeError::spec("Mounts.Source", why));
        }
        fs::create_dir_all(source).map_err(RuntimeError::file("make", source))?;
    }
    let propagation = match options.propagation.as_str() {
        "" => "rprivate",
        known @ ("rprivate" | "private" | "rshared" | "shared" | "rslave" | "slave") => known,
        other => {
            let why = format!("there is no propagation \"{other}\"");
            return Err(RuntimeError::spec("Mounts.BindOptions.Propagation", why));
        }
    };
    let how = if options.non_recursive { "bind" } else { "rbind" };
    Ok(Bind { source: source.to_owned(), target: mount.target.clone(), options: access(mount, how, propagation) })
}

fn target(path: &str) -> Result<(), RuntimeError> {
    let parsed = Path::new(path);
    let leads_up = parsed.components().any(|part| part == Component::ParentDir);
    if !parsed.is_absolute() || leads_up || parsed == Path::new("/") || path.contains('\0') {
        return Err(RuntimeError::spec("Mounts.Target", format!("\"{path}\" is no absolute path below the root")));
    }
    Ok(())
}

/// A name that is one directory, as Docker allows it.
fn named(name: &str) -> Result<String, RuntimeError> {
    let mut letters = name.chars();
    let first = letters.next().is_some_and(|letter| letter.is_ascii_alphanumeric());
    let rest = letters.all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '.' | '-'));
    if first && rest && name.len() <= 255 {
        return Ok(name.to_owned());
    }
    Err(RuntimeError::spec("Mounts.Source", format!("\"{name}\" is no name of a volume")))
}

fn inside(subpath: &str) -> Result<PathBuf, RuntimeError> {
    let path = Path::new(subpath);
    if path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Ok(path.to_owned());
    }
    Err(RuntimeError::spec("Mounts.VolumeOptions.Subpath", format!("\"{subpath}\" leads out of the volume")))
}

/// Copies what the image has at the target, with owners and permissions. cp follows no link below it, and
/// the target itself is found inside the root.
fn fill(directory: &Directory, target: &str, data: &Path) -> Result<(), RuntimeError> {
    let from = match open_inside(directory, target) {
        Ok(from) => from,
        // The image has nothing there.
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(()),
        Err(errno) => return Err(RuntimeError::file("open in the image", Path::new(target))(errno.into())),
    };
    let source = format!("/proc/{}/fd/{}/.", std::process::id(), from.as_raw_fd());
    if !Path::new(&source).is_dir() {
        return Ok(());
    }
    let mut copy = Command::new("cp");
    copy.arg("-a").arg("--").arg(&source).arg(data).stdin(Stdio::null()).stdout(Stdio::null());
    let output = copy.output().map_err(|source| RuntimeError::Program { program: "cp".into(), source })?;
    if output.status.success() {
        return Ok(());
    }
    // Half a copy would be taken for a volume.
    let _ = fs::remove_dir_all(data);
    let said = String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_owned();
    Err(RuntimeError::file("fill the volume", data)(std::io::Error::other(said)))
}
