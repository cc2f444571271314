//! The BPF file system that daemons pin to. Distributions mount it; where it is missing, chores that
//! need it mount it for as long as they run.

use anyhow::{Context as _, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

const PATH: &str = "/sys/fs/bpf";

/// A mounted bpffs; unmounted on drop if it was not there before.
pub(crate) struct Bpffs {
    is_ours: bool,
}

/// Mounts the file system unless it is there.
pub(crate) fn ensure() -> Result<Bpffs> {
    let there = statfs(PATH).is_ok_and(|fs| fs.filesystem_type() == BPF_FS_MAGIC);
    if !there {
        println!("mounts a bpffs at {PATH} until the end");
        mount(Some("bpf"), PATH, Some("bpf"), MsFlags::empty(), None::<&str>)
            .with_context(|| format!("mounting a bpffs at {PATH}"))?;
    }
    Ok(Bpffs { is_ours: !there })
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        if self.is_ours
            && let Err(error) = umount2(PATH, MntFlags::empty())
        {
            eprintln!("{PATH} stays mounted: {error}");
        }
    }
}
