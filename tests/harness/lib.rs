//! The test bed: network namespaces that stand for machines, real programs in them, and packets
//! built, captured and described byte by byte.
//!
//! It owns everything it makes: names begin with `mesh-t-`, all of it goes when the [`Bed`] is
//! dropped, and what a killed run leaves behind goes with the next one. It never touches the root
//! namespace's links, addresses or routes, and knows nothing of the programs under test.

pub mod agreement;
pub mod capture;
pub mod clients;
pub mod dockerd;
pub mod image;
pub mod load;
pub mod meshd;
pub mod netns;
pub mod nodes;
pub mod outcome;
pub mod packet;
pub mod pcap;
pub mod process;
mod registry;
pub mod run;
pub mod servers;
pub mod swarm;
pub mod topology;
mod vlan;

pub use capture::Capture;
pub use netns::{Netns, Transport};
pub use packet::{Packet, assert_packet_eq, describe};
pub use process::{Output, Proc};
pub use registry::sweep;
pub use topology::{Bed, Host, KernelVxlan, Plan, Task, TaskPlan, Wire};

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};

/// A program of this workspace: in `MESH_BIN_DIR`, else beside the test executable's `deps`.
pub fn program(name: &str) -> Result<PathBuf> {
    let path = program_dir()?.join(name);
    ensure!(path.is_file(), "no program {}; build it or set MESH_BIN_DIR", path.display());
    Ok(path)
}

/// Where [`program`] looks.
fn program_dir() -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os("MESH_BIN_DIR") {
        return Ok(PathBuf::from(dir));
    }
    let exe = std::env::current_exe().context("finding the test executable")?;
    let deps = exe.parent().context("the test executable has no directory")?;
    Ok(deps.parent().context("the test executable's directory has no parent")?.to_path_buf())
}

/// An error unless this process may make network namespaces. A test that needs them fails without
/// them; it is never skipped.
pub fn require_root() -> Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "this test makes network namespaces: run as root");
    Ok(())
}
