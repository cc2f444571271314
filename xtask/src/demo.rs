//! Builds and runs the demo (tests/demo), after setting up what it needs.

use crate::{bpffs, command, setup, workspace};
use anyhow::{Result, bail};
use clap::Args;
use nix::unistd::Uid;

/// Arguments of `cargo xtask demo`.
#[derive(Args)]
pub(crate) struct Demo {}

impl Demo {
    pub(crate) fn run(self) -> Result<()> {
        if !Uid::effective().is_root() {
            bail!("the demo makes network namespaces: `sudo -E env PATH=\"$PATH\" cargo xtask demo`");
        }
        setup::ensure()?;
        println!("programs of the demo");
        let mut build = command::cargo();
        build.args(["build", "--quiet", "-p", "mesh-daemon", "-p", "mesh-tests", "--bins"]);
        command::run(&mut build)?;
        let _bpffs = bpffs::ensure()?;
        let programs = workspace::target().join("debug");
        command::run(command::program(programs.join("demo")).env("MESH_BIN_DIR", &programs))
    }
}
