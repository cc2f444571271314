//! Makes a directory of a layer, in the form that overlayfs reads.
//!
//! Runs on a thread of its own whose root is that directory: whatever names and links a layer
//! holds, nothing outside can be reached. Names that try are refused all the same.

use std::fs::{self, File, Permissions};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::{chroot, mkfifo};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_OMIT, XattrFlags, lsetxattr, utimensat};

use super::ImageError;
use super::digest::Digest;
use super::entry::{Action, DeviceKind, Entry, decide};
use super::manifest::Packing;

/// How many entries a layer may have.
const ENTRIES: u64 = 4_000_000;
/// The window of a zstd frame may need so much memory (2 to the power of).
const ZSTD_WINDOW_LOG: u32 = 27;
/// overlayfs takes a directory with this attribute as if lower layers had none of its name.
const OPAQUE: &str = "trusted.overlay.opaque";

/// What a layer is, and where its packed form lies.
#[derive(Debug, Clone)]
pub(super) struct Packed {
    pub(super) blob: Digest,
    pub(super) packing: Packing,
    pub(super) diff: Digest,
    pub(super) file: PathBuf,
}

/// Unpacks into an empty directory; returns how many bytes its files have.
pub(super) fn unpack(packed: &Packed, directory: &Path, limit: u64) -> Result<u64, ImageError> {
    let file = File::open(&packed.file).map_err(ImageError::file("open", &packed.file))?;
    let confined = |source: nix::Error| ImageError::File {
        what: "make the root of a thread",
        path: directory.to_owned(),
        source: source.into(),
    };
    let work = || {
        // Its root and working directory are its own from here on, and end with the thread.
        unshare(CloneFlags::CLONE_FS).map_err(confined)?;
        chroot(directory).map_err(confined)?;
        nix::unistd::chdir("/").map_err(confined)?;
        nix::sys::stat::umask(Mode::empty());
        Layer { packed, left: limit, limit, directories: Vec::new() }.read(file)
    };
    std::thread::scope(|scope| scope.spawn(work).join()).map_err(|_| ImageError::Thread)?
}

struct Layer<'a> {
    packed: &'a Packed,
    left: u64,
    limit: u64,
    /// Times of directories are set last: what is put into them moves their times.
    directories: Vec<(PathBuf, u64)>,
}

impl Layer<'_> {
    fn read(mut self, file: File) -> Result<u64, ImageError> {
        let file = BufReader::new(file);
        let plain: Box<dyn Read> = match self.packed.packing {
            Packing::Tar => Box::new(file),
            Packing::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(file)),
            Packing::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(file).map_err(|source| self.failed("", source))?;
                decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(|source| self.failed("", source))?;
                Box::new(decoder)
            }
        };
        let mut archive = tar::Archive::new(Hashing::new(plain));
        let mut count = 0;
        for entry in archive.entries().map_err(|source| self.failed("", source))? {
            let mut entry = entry.map_err(|source| self.failed("", source))?;
            count += 1;
            if count > ENTRIES {
                return Err(ImageError::Limit { what: "the number of files of a layer", found: count, limit: ENTRIES });
            }
            self.entry(&mut entry)?;
        }
        let found = archive.into_inner().finish().map_err(|source| self.failed("", source))?;
        if found != self.packed.diff {
            let what = format!("layer {} unpacked", self.packed.blob);
            return Err(ImageError::Mismatch { what, expected: self.packed.diff.clone(), found });
        }
        for (path, mtime) in self.directories.iter().rev() {
            set_time(path, *mtime).map_err(|source| self.failed(&path.to_string_lossy(), source))?;
        }
        Ok(self.limit - self.left)
    }

    fn entry(&mut self, entry: &mut tar::Entry<'_, impl Read>) -> Result<(), ImageError> {
        let name = String::from_utf8_lossy(&entry.path_bytes()).chars().take(200).collect::<String>();
        let failed = |source| self.failed(&name, source);
        let path = entry.path().map_err(failed)?.into_owned();
        let link = entry.link_name().map_err(failed)?.map(std::borrow::Cow::into_owned);
        let header = entry.header();
        let device = header.device_major().ok().flatten().zip(header.device_minor().ok().flatten());
        let parts = Entry { kind: header.entry_type(), path: &path, link: link.as_deref(), device };
        let refused = |why| ImageError::Entry { layer: self.packed.blob.clone(), entry: name.clone(), why };
        let action = decide(&parts).map_err(refused)?;
        if let Action::File(_) = action {
            let size = entry.size();
            self.left = self.left.checked_sub(size).ok_or(ImageError::Limit {
                what: "the bytes of an image's files",
                found: self.limit.saturating_add(size - self.left.min(size)),
                limit: self.limit,
            })?;
        }
        self.carry_out(&action, entry).map_err(|source| self.failed(&name, source))
    }

    fn carry_out(&mut self, action: &Action, entry: &mut tar::Entry<'_, impl Read>) -> io::Result<()> {
        match action {
            Action::Skip => Ok(()),
            Action::Directory(path) => {
                let path = rooted(path);
                if !fs::symlink_metadata(&path).is_ok_and(|there| there.is_dir()) {
                    make_room(&path)?;
                    fs::create_dir(&path)?;
                }
                let mtime = adorn(&path, entry, Whose::File)?;
                self.directories.push((path, mtime));
                Ok(())
            }
            Action::File(path) => {
                let path = rooted(path);
                make_room(&path)?;
                io::copy(entry, &mut File::create_new(&path)?)?;
                adorn(&path, entry, Whose::File).and_then(|mtime| set_time(&path, mtime))
            }
            Action::Symlink(path, target) => {
                let path = rooted(path);
                make_room(&path)?;
                std::os::unix::fs::symlink(target, &path)?;
                adorn(&path, entry, Whose::Link).and_then(|mtime| set_time(&path, mtime))
            }
            Action::HardLink(path, target) => {
                let (path, target) = (rooted(path), rooted(target));
                if path == target {
                    return Ok(());
                }
                make_room(&path)?;
                fs::hard_link(target, path)
            }
            Action::Fifo(path) => {
                let path = rooted(path);
                make_room(&path)?;
                mkfifo(&path, Mode::from_bits_truncate(0o600))?;
                adorn(&path, entry, Whose::File).and_then(|mtime| set_time(&path, mtime))
            }
            Action::Device(path, kind, major, minor) => {
                let path = rooted(path);
                make_room(&path)?;
                let kind = match kind {
                    DeviceKind::Character => SFlag::S_IFCHR,
                    DeviceKind::Block => SFlag::S_IFBLK,
                };
                mknod(&path, kind, Mode::from_bits_truncate(0o600), makedev(u64::from(*major), u64::from(*minor)))?;
                adorn(&path, entry, Whose::File).and_then(|mtime| set_time(&path, mtime))
            }
            Action::Whiteout(path) => {
                let path = rooted(path);
                make_room(&path)?;
                Ok(mknod(&path, SFlag::S_IFCHR, Mode::empty(), 0)?)
            }
            Action::Opaque(path) => {
                let path = rooted(path);
                fs::create_dir_all(&path)?;
                Ok(lsetxattr(&path, OPAQUE, b"y", XattrFlags::empty())?)
            }
        }
    }

    fn failed(&self, entry: &str, source: io::Error) -> ImageError {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                ImageError::Full { path: self.packed.file.clone() }
            }
            _ => ImageError::Unpack { layer: self.packed.blob.clone(), entry: entry.to_owned(), source },
        }
    }
}

fn rooted(path: &Path) -> PathBuf {
    Path::new("/").join(path)
}

/// Makes the parent, and removes what an earlier entry of the layer put in this place.
fn make_room(path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    match fs::symlink_metadata(path) {
        Ok(there) if there.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// A symbolic link has no permissions of its own.
#[derive(PartialEq, Eq)]
enum Whose {
    File,
    Link,
}

/// Owner, permissions and attributes, in the order in which none undoes another; returns the time.
fn adorn(path: &Path, entry: &mut tar::Entry<'_, impl Read>, whose: Whose) -> io::Result<u64> {
    let number = |number: u64| u32::try_from(number).map_err(|_| io::Error::other("an owner beyond 32 bits"));
    let (uid, gid) = (number(entry.header().uid()?)?, number(entry.header().gid()?)?);
    std::os::unix::fs::lchown(path, Some(uid), Some(gid))?;
    if whose == Whose::File {
        fs::set_permissions(path, Permissions::from_mode(entry.header().mode()? & 0o7777))?;
    }
    for extension in entry.pax_extensions()?.into_iter().flatten() {
        let extension = extension?;
        let name = extension.key().ok().and_then(|key| key.strip_prefix("SCHILY.xattr."));
        // Of others, `trusted.overlay.*` would steer the mount.
        if let Some(name) = name.filter(|name| *name == "security.capability" || name.starts_with("user.")) {
            lsetxattr(path, name, extension.value_bytes(), XattrFlags::empty())?;
        }
    }
    entry.header().mtime()
}

fn set_time(path: &Path, mtime: u64) -> io::Result<()> {
    let omit = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    let mtime = Timespec { tv_sec: i64::try_from(mtime).unwrap_or(i64::MAX), tv_nsec: 0 };
    let times = Timestamps { last_access: omit, last_modification: mtime };
    Ok(utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Passes bytes on and remembers their digest.
struct Hashing<R> {
    from: R,
    hash: sha2::Sha256,
}

impl<R: Read> Hashing<R> {
    fn new(from: R) -> Self {
        Self { from, hash: <sha2::Sha256 as sha2::Digest>::new() }
    }

    /// The digest of all there is: an archive may go on behind its last entry.
    fn finish(mut self) -> io::Result<Digest> {
        io::copy(&mut self, &mut io::sink())?;
        Ok(Digest::from_hash(self.hash))
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        sha2::Digest::update(&mut self.hash, &buffer[..read]);
        Ok(read)
    }
}
