//! The programs that come from crates.io, each at one exact version.

use crate::build_ebpf::LLVM;
use crate::command;
use anyhow::{Context as _, Result};
use std::env;
use std::process::Command;

/// A program installed with `cargo install`.
pub(super) struct CargoTool {
    pub(super) name: &'static str,
    pub(super) version: &'static str,
    pub(super) why: &'static str,
    features: &'static [&'static str],
    /// Built against the LLVM of Debian.
    llvm: bool,
}

pub(super) const CARGO_TOOLS: &[CargoTool] = &[
    CargoTool {
        name: "bpf-linker",
        version: "0.13.0",
        why: "links the kernel programs; must read the bitcode of rustc 1.95, LLVM 22",
        features: &["--no-default-features", "--features", "llvm-22"],
        llvm: true,
    },
    CargoTool {
        name: "cargo-deny",
        version: "0.20.2",
        why: "checks licences, sources and known defects of dependencies",
        features: &[],
        llvm: false,
    },
];

impl CargoTool {
    /// Is exactly this version there?
    pub(super) fn is_installed(&self) -> bool {
        // cargo-deny prints its version only as a subcommand or by itself; both take --version.
        let said = command::read(command::program(self.name).arg("--version"));
        said.is_ok_and(|said| names_version(&said, self.version))
    }

    pub(super) fn install(&self) -> Result<()> {
        command::run(&mut self.install_command()).with_context(|| {
            let hint =
                if self.llvm { "it needs llvm-22-dev, libpolly-22-dev and libzstd-dev, and " } else { "it needs " };
            format!("{} {} does not install; {hint}a network to fetch crates", self.name, self.version)
        })?;
        if !self.is_installed() {
            let at = command::find(self.name).map_or("nowhere".to_owned(), |path| path.display().to_string());
            anyhow::bail!(
                "{} {} is installed, but the search path finds {at}: put cargo's bin folder first in PATH",
                self.name,
                self.version
            );
        }
        Ok(())
    }

    fn install_command(&self) -> Command {
        let mut cargo = command::cargo();
        cargo.args(["install", self.name, "--version", self.version, "--locked", "--force", "--quiet"]);
        cargo.args(self.features);
        if self.llvm {
            let path = env::var("PATH").unwrap_or_default();
            cargo.env("LLVM_PREFIX", LLVM).env("PATH", format!("{LLVM}/bin:{path}"));
        }
        cargo
    }
}

/// Is this version one of the words a program prints of itself?
fn names_version(said: &str, version: &str) -> bool {
    said.split_whitespace().any(|word| word == version)
}

#[cfg(test)]
mod tests {
    use super::names_version;

    #[test]
    fn only_the_exact_version_counts() {
        assert!(names_version("bpf-linker 0.13.0\n", "0.13.0"));
        assert!(!names_version("bpf-linker 0.13.01\n", "0.13.0"));
        assert!(!names_version("bpf-linker 0.10.3\n", "0.13.0"));
        assert!(!names_version("", "0.13.0"));
    }
}
