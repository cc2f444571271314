//! Where maps and links are pinned: one bpffs directory a node, with the ABI version in the path,
//! so that an upgrade never reads bytes of another shape.

use std::path::{Path, PathBuf};
use std::{fs, io};

use mesh_common::ABI_VERSION;

/// Default directory. Several nodes on one host each get their own.
pub const DEFAULT_DIR: &str = "/sys/fs/bpf/mesh";

/// The pin directory of a node.
#[derive(Clone, Debug)]
pub struct Pins {
    root: PathBuf,
}

impl Pins {
    /// Pins below `root`, which must lie on a bpffs.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn version(&self) -> PathBuf {
        self.root.join(format!("v{ABI_VERSION}"))
    }

    /// Where the maps are.
    pub fn maps(&self) -> PathBuf {
        self.version().join("maps")
    }

    /// Where the attachments are. Not versioned: an upgrade replaces the program of each.
    pub fn links(&self) -> PathBuf {
        self.root.join("links")
    }

    /// Where it is remembered what settings of the host were. Not versioned.
    pub fn memory(&self) -> PathBuf {
        self.root.join("memory")
    }

    /// The pin of one map.
    pub fn map(&self, name: &str) -> PathBuf {
        self.maps().join(name)
    }

    /// The pin of a program's attachment to an interface. bpffs refuses dots in names, interface
    /// names have them (`eth0.100`), so the index stands in.
    pub fn link(&self, program: &str, ifindex: u32) -> PathBuf {
        self.links().join(format!("{program}-{ifindex}"))
    }

    /// Attachments in place, as (program, interface index).
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn attached(&self) -> io::Result<Vec<(String, u32)>> {
        let mut attached = Vec::new();
        for entry in entries(&self.links())? {
            let name = entry.file_name();
            let Some((program, ifindex)) = name.to_str().and_then(|name| name.rsplit_once('-')) else { continue };
            if let Ok(ifindex) = ifindex.parse() {
                attached.push((program.to_owned(), ifindex));
            }
        }
        attached.sort();
        Ok(attached)
    }

    /// Makes the directories.
    ///
    /// # Errors
    /// One of them cannot be made.
    pub fn create(&self) -> io::Result<()> {
        fs::create_dir_all(self.maps())?;
        fs::create_dir_all(self.links())
    }

    /// Removes maps of other ABI versions: nothing reads them once every link runs this version.
    ///
    /// # Errors
    /// One of them cannot be removed.
    pub fn remove_other_versions(&self) -> io::Result<()> {
        let current = self.version();
        for entry in entries(&self.root)? {
            let path = entry.path();
            let is_version = entry.file_name().to_string_lossy().starts_with('v');
            if is_version && path != current {
                remove_tree(&path)?;
            }
        }
        Ok(())
    }

    /// Removes every pin, which detaches every program.
    ///
    /// # Errors
    /// One of them cannot be removed.
    pub fn remove(&self) -> io::Result<()> {
        remove_tree(&self.root)
    }
}

fn entries(dir: &Path) -> io::Result<Vec<fs::DirEntry>> {
    match fs::read_dir(dir) {
        Ok(entries) => entries.collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
