//! Builds and runs the demo (tests/demo), after setting up what it needs.

use crate::{bpffs, command, setup, workspace};
use anyhow::{Result, bail};
use clap::Args;
use nix::unistd::Uid;

/// Arguments of `cargo xtask demo`.
#[derive(Args)]
pub(crate) struct Demo {
    /// The packet path alone, without a swarm.
    #[arg(long, conflicts_with = "keep")]
    path: bool,
    /// Leave the swarm to play with, until Enter is pressed.
    #[arg(long)]
    keep: bool,
}

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
        let mut demo = command::program(programs.join("demo"));
        demo.env("MESH_BIN_DIR", &programs);
        demo.args(self.path.then_some("path").or_else(|| self.keep.then_some("keep")));
        command::run(&mut demo)
    }
}
