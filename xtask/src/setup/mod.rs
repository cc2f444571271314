//! Makes a bare Debian 12 with cargo and rustup a machine that builds, tests and shows mesh.
//!
//! Looks first, says what it will do, then does that; does nothing when all is there. Never
//! removes or upgrades a package, and leaves no service running.

mod apt;
mod cargo_tools;
mod packages;
mod python;
mod services;

use crate::{command, workspace};
use anyhow::{Context as _, Result, bail};
use cargo_tools::{CARGO_TOOLS, CargoTool};
use clap::Args;
use packages::{PACKAGES, Package};

/// Arguments of `cargo xtask setup`.
#[derive(Args)]
pub(crate) struct Setup {
    /// Only say what is missing; fail if anything is.
    #[arg(long)]
    check: bool,
}

/// What this machine lacks.
struct Missing {
    packages: Vec<Package>,
    /// Components of the pinned toolchain.
    components: Vec<&'static str>,
    tools: Vec<&'static CargoTool>,
    /// Whether docker-py is.
    python: bool,
}

/// What the pinned toolchain must have, and the file by which one sees that it does.
const COMPONENTS: &[(&str, &str)] = &[
    ("rust-src", "lib/rustlib/src/rust/library/core/Cargo.toml"),
    ("clippy", "bin/cargo-clippy"),
    ("rustfmt", "bin/rustfmt"),
];

impl Setup {
    pub(crate) fn run(self) -> Result<()> {
        let toolchain = workspace::toolchain()?;
        let missing = Missing::look(&toolchain)?;
        if missing.nothing() {
            println!("setup: all there ({})", everything());
            return Ok(());
        }
        missing.announce(&toolchain);
        if self.check {
            bail!("something is missing; `cargo xtask setup` installs it");
        }
        missing.install(&toolchain)?;
        // docker-py may have stayed away.
        let still = Missing { python: false, ..Missing::look(&toolchain)? };
        if !still.nothing() {
            still.announce(&toolchain);
            bail!("the installation went through, but this is still missing (see above)");
        }
        println!("setup: done");
        Ok(())
    }
}

/// Installs what is missing; other chores call it first.
pub(crate) fn ensure() -> Result<()> {
    Setup { check: false }.run()
}

fn everything() -> String {
    let tools: Vec<_> = CARGO_TOOLS.iter().map(|tool| format!("{} {}", tool.name, tool.version)).collect();
    let components: Vec<_> = COMPONENTS.iter().map(|(name, _)| *name).collect();
    format!("{} Debian packages, {}, {}, docker-py", PACKAGES.len(), components.join(", "), tools.join(", "))
}

impl Missing {
    fn look(toolchain: &str) -> Result<Self> {
        let sysroot = command::read(command::program("rustc").args(["--print", "sysroot"])).with_context(|| {
            format!("the pinned toolchain {toolchain} does not run: `rustup toolchain install` adds it")
        })?;
        let sysroot = std::path::Path::new(sysroot.trim());
        Ok(Self {
            packages: apt::missing(),
            components: COMPONENTS
                .iter()
                .filter(|(_, file)| !sysroot.join(file).exists())
                .map(|(name, _)| *name)
                .collect(),
            tools: CARGO_TOOLS.iter().filter(|tool| !tool.is_installed()).collect(),
            python: !python::is_installed()?,
        })
    }

    fn nothing(&self) -> bool {
        self.packages.is_empty() && self.components.is_empty() && self.tools.is_empty() && !self.python
    }

    fn announce(&self, toolchain: &str) {
        println!("setup: missing on this machine");
        for package in &self.packages {
            println!("  apt     {:<18} {}", package.name, package.why);
        }
        for component in &self.components {
            println!("  rustup  {component:<18} of toolchain {toolchain}");
        }
        for tool in &self.tools {
            println!("  cargo   {:<18} {}", format!("{} {}", tool.name, tool.version), tool.why);
        }
        if self.python {
            println!("  pip     {:<18} a client that tests drive a manager with", "docker-py");
        }
    }

    fn install(&self, toolchain: &str) -> Result<()> {
        // The order matters: bpf-linker links the LLVM that apt brings.
        if !self.packages.is_empty() {
            apt::install(&self.packages)?;
        }
        if !self.components.is_empty() {
            let mut rustup = command::program("rustup");
            rustup.args(["component", "add", "--toolchain", toolchain]).args(&self.components);
            command::run(&mut rustup).context(
                "rustup could not add the components: is there a network, and is this toolchain managed by rustup?",
            )?;
        }
        self.tools.iter().try_for_each(|tool| tool.install())?;
        if self.python
            && let Err(error) = python::install()
        {
            // One test needs it, which fails without it and says why.
            println!("setup: goes on without docker-py: {error:#}");
        }
        Ok(())
    }
}
