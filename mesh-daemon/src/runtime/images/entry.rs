//! Decides what becomes of one entry of a layer. Pure: `unpack` does it.

use std::path::{Component, Path, PathBuf};

use tar::EntryType;

/// Marks a file of a lower layer as removed (image-spec, layer.md).
const WHITEOUT: &str = ".wh.";
/// Marks a directory whose lower content is hidden.
const OPAQUE: &str = ".wh..wh..opq";
/// Other marks of AUFS, which mean nothing to us.
const AUFS: &str = ".wh..wh.";
/// The kernel's own limit of a path.
const PATH_BYTES: usize = 4096;

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Nothing.
    Skip,
    /// A directory.
    Directory(PathBuf),
    /// A regular file with the entry's bytes.
    File(PathBuf),
    /// A symbolic link. Its target may be anything: it is only ever followed inside a container.
    Symlink(PathBuf, PathBuf),
    /// A second name of a file of the same layer.
    HardLink(PathBuf, PathBuf),
    /// A FIFO.
    Fifo(PathBuf),
    /// A device; the mount it is seen through has none.
    Device(PathBuf, DeviceKind, u32, u32),
    /// This path of lower layers is not seen.
    Whiteout(PathBuf),
    /// Of this directory, what lower layers have is not seen.
    Opaque(PathBuf),
}

/// Of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DeviceKind {
    /// By characters.
    Character,
    /// By blocks.
    Block,
}

/// The parts of a tar header that decide.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    pub(super) kind: EntryType,
    pub(super) path: &'a Path,
    pub(super) link: Option<&'a Path>,
    pub(super) device: Option<(u32, u32)>,
}

/// What to do with an entry, or why the layer is refused.
pub(super) fn decide(entry: &Entry<'_>) -> Result<Action, &'static str> {
    // They carry names and sizes of other entries, or of the whole archive.
    if matches!(entry.kind, EntryType::XGlobalHeader | EntryType::XHeader | EntryType::GNULongName) {
        return Ok(Action::Skip);
    }
    let path = inside(entry.path)?;
    let Some(name) = path.file_name() else {
        // The root: its owner and mode are the layer's to say.
        return match entry.kind {
            EntryType::Directory => Ok(Action::Directory(path)),
            _ => Err("it stands where the root is, and is no directory"),
        };
    };
    if let Some(name) = name.to_str().filter(|name| name.starts_with(WHITEOUT)) {
        return whiteout(&path, name);
    }
    match entry.kind {
        EntryType::Directory => Ok(Action::Directory(path)),
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Ok(Action::File(path)),
        EntryType::Symlink => {
            let target = entry.link.ok_or("it is a link without a target")?;
            bounded(target)?;
            Ok(Action::Symlink(path, target.to_owned()))
        }
        EntryType::Link => {
            let target = inside(entry.link.ok_or("it is a link without a target")?)?;
            if target.as_os_str().is_empty() {
                return Err("it is a hard link to the root");
            }
            Ok(Action::HardLink(path, target))
        }
        EntryType::Fifo => Ok(Action::Fifo(path)),
        EntryType::Char => match entry.device.ok_or("it is a device without numbers")? {
            // To overlayfs that is a whiteout; layers have another way to say so.
            (0, 0) => Ok(Action::Skip),
            (major, minor) => Ok(Action::Device(path, DeviceKind::Character, major, minor)),
        },
        EntryType::Block => {
            let (major, minor) = entry.device.ok_or("it is a device without numbers")?;
            Ok(Action::Device(path, DeviceKind::Block, major, minor))
        }
        _ => Err("it is of a kind that no layer may have"),
    }
}

fn whiteout(path: &Path, name: &str) -> Result<Action, &'static str> {
    let parent = path.parent().unwrap_or(Path::new(""));
    if name == OPAQUE {
        return Ok(Action::Opaque(parent.to_owned()));
    }
    if name.starts_with(AUFS) {
        return Ok(Action::Skip);
    }
    match &name[WHITEOUT.len()..] {
        "" | "." | ".." => Err("it hides no file"),
        hidden => Ok(Action::Whiteout(parent.join(hidden))),
    }
}

/// The path below the root of the layer; leading slashes and dots are cut, as every engine does.
fn inside(path: &Path) -> Result<PathBuf, &'static str> {
    bounded(path)?;
    let mut cut = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => cut.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err("it leads out of the layer"),
        }
    }
    Ok(cut)
}

fn bounded(path: &Path) -> Result<(), &'static str> {
    use std::os::unix::ffi::OsStrExt as _;
    let bytes = path.as_os_str().as_bytes();
    match bytes {
        _ if bytes.len() >= PATH_BYTES => Err("its name is too long"),
        _ if bytes.contains(&0) => Err("its name has a zero byte"),
        _ => Ok(()),
    }
}
