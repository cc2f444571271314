//! Plays a script of the docker CLI on a mesh node and on a real Swarm beside it, and compares.

use crate::{bpffs, command, setup, workspace};
use anyhow::{Result, bail};
use clap::Args;
use nix::unistd::Uid;

/// Arguments of `cargo xtask conformance`.
#[derive(Args)]
pub(crate) struct Conformance {}

impl Conformance {
    pub(crate) fn run(self) -> Result<()> {
        if !Uid::effective().is_root() {
            bail!("nodes are network namespaces: `sudo -E env PATH=\"$PATH\" cargo xtask conformance`");
        }
        setup::ensure()?;
        let mut build = command::cargo();
        build.args(["build", "--quiet", "-p", "mesh-daemon", "-p", "mesh-tests", "--bins"]);
        command::run(&mut build)?;
        let _bpffs = bpffs::ensure()?;
        let programs = workspace::target().join("debug");
        let mut conformance = command::program(programs.join("conformance"));
        conformance.env("MESH_BIN_DIR", &programs);
        command::run(&mut conformance)
    }
}
