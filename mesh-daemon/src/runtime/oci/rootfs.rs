//! The file systems of a container: its root, stacked from layers, and memory with its files.

use std::fs::{self, File, Permissions};
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};

use super::bundle::{Accounts, Bind};
use super::record::Directory;
use crate::runtime::images::ImageStore;
use crate::runtime::{Container, RuntimeError, files};

/// Of /etc/passwd and /etc/group.
const ACCOUNT_BYTES: u64 = 1 << 20;

/// Stacks the layers of an image below what the container changes.
pub(super) fn mount_root(
    directory: &Directory,
    images: &ImageStore,
    image: &crate::runtime::images::Image,
) -> Result<(), RuntimeError> {
    let (root, layers) = images.lower(image);
    for made in [directory.upper(), directory.work(), directory.rootfs()] {
        fs::create_dir_all(&made).map_err(RuntimeError::file("make", &made))?;
    }
    // An image without layers is an empty root: overlayfs wants one below all the same.
    let empty = directory.path.join("empty");
    let lower = if layers.is_empty() {
        fs::create_dir_all(&empty).map_err(RuntimeError::file("make", &empty))?;
        empty.display().to_string()
    } else {
        layers.join(":")
    };
    let options =
        format!("lowerdir={lower},upperdir={},workdir={}", directory.upper().display(), directory.work().display());
    let target = directory.rootfs();
    // Layers have short names where they lie, and a thread may have a working directory of its own.
    let stack = || {
        unshare(CloneFlags::CLONE_FS)?;
        nix::unistd::chdir(root)?;
        // No device of an image is one.
        mount(Some("overlay"), &target, Some("overlay"), MsFlags::MS_NODEV, Some(options.as_str()))
    };
    let stacked = std::thread::scope(|scope| scope.spawn(stack).join()).map_err(|_| RuntimeError::Thread)?;
    stacked.map_err(|errno| RuntimeError::file("mount the layers of the image on", &target)(errno.into()))?;
    // The root of a container is its user's to enter, whatever our directories are.
    fs::set_permissions(&target, Permissions::from_mode(0o755)).map_err(RuntimeError::file("set the mode of", &target))
}

/// Users and groups, read inside the container's root: a link there leads nowhere else.
pub(super) fn accounts(directory: &Directory) -> Result<Accounts, RuntimeError> {
    let read = |path: &str| match open_inside(directory, path) {
        Ok(file) => {
            let mut text = String::new();
            // What is no text names nobody.
            let _ = File::from(file).take(ACCOUNT_BYTES).read_to_string(&mut text);
            Ok(text)
        }
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => Ok(String::new()),
        Err(errno) => Err(RuntimeError::file("read the image's", Path::new(path))(errno.into())),
    };
    Ok(Accounts::parse(&read("etc/passwd")?, &read("etc/group")?))
}

/// Opens a path as the container would see it.
pub(super) fn open_inside(directory: &Directory, path: &str) -> Result<OwnedFd, Errno> {
    let errno = |error: rustix::io::Errno| Errno::from_raw(error.raw_os_error());
    let path = path.trim_start_matches('/');
    let path = if path.is_empty() { "." } else { path };
    let root =
        rustix::fs::openat(CWD, directory.rootfs(), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(errno)?;
    openat2(root, path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::IN_ROOT)
        .map_err(errno)
}

/// Puts secrets, configs, hosts, hostname and resolv.conf into memory; returns how the container sees them.
pub(super) fn mount_files(
    directory: &Directory,
    container: &Container,
    hostname: &str,
    accounts: &Accounts,
) -> Result<Vec<Bind>, RuntimeError> {
    let memory = directory.files();
    fs::create_dir_all(&memory).map_err(RuntimeError::file("make", &memory))?;
    files::mount(&memory, container)?;
    let mut binds = Vec::new();
    for (name, text) in [
        ("hosts", hosts(container, hostname)),
        ("hostname", format!("{hostname}\n")),
        ("resolv.conf", resolv_conf(container)),
    ] {
        let source = memory.join(name);
        files::put(&source, text.as_bytes(), (0, 0), 0o644)?;
        binds.push(Bind { source, target: format!("/etc/{name}"), options: options_of(&["rbind", "rprivate"]) });
    }
    for placed in files::place(&memory, container, |uid, gid| accounts.owner(uid, gid))? {
        let options = options_of(&["rbind", "rprivate", "ro", "noexec", "nosuid", "nodev"]);
        binds.push(Bind { source: placed.source, target: placed.target, options });
    }
    Ok(binds)
}

fn options_of(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn hosts(container: &Container, hostname: &str) -> String {
    let mut text = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n\
        ff00::0\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
        .to_owned();
    for line in &container.spec.hosts {
        text.push_str(line.trim());
        text.push('\n');
    }
    for address in &container.addresses {
        text.push_str(&format!("{address}\t{hostname}\n"));
    }
    text
}

fn resolv_conf(container: &Container) -> String {
    let dns = &container.spec.dns;
    if container.nameservers.is_empty() {
        // As the node does.
        return fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    }
    let mut text: String = container.nameservers.iter().map(|server| format!("nameserver {server}\n")).collect();
    if !dns.search.is_empty() {
        text.push_str(&format!("search {}\n", dns.search.join(" ")));
    }
    let options = if dns.options.is_empty() { "ndots:0".to_owned() } else { dns.options.join(" ") };
    text.push_str(&format!("options {options}\n"));
    text
}

/// Unmounts and removes everything of a container.
pub(super) fn remove(directory: &Directory) -> Result<(), RuntimeError> {
    for mounted in [directory.rootfs(), directory.files()] {
        files::unmount(&mounted)?;
    }
    match fs::remove_dir_all(&directory.path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(RuntimeError::file("remove", &directory.path)(error))
        }
        _ => Ok(()),
    }
}
