//! Builds the kernel programs alone, by the recipe of mesh-daemon/build.rs, and looks into the
//! object: a reachable panic does not load, so it must not link.

use crate::{command, workspace};
use anyhow::{Context as _, Result, bail};
use clap::Args;
use std::env::consts::ARCH;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where Debian puts the tools of the LLVM that rustc 1.95 was built with.
pub(crate) const LLVM: &str = "/usr/lib/llvm-22";
const TARGET: &str = "bpfel-unknown-none";

/// Arguments of `cargo xtask build-ebpf`.
#[derive(Args)]
pub(crate) struct BuildEbpf {}

impl BuildEbpf {
    pub(crate) fn run(self) -> Result<()> {
        build().map(drop)
    }
}

/// Builds the object, checks it, prints its programs; returns its path.
pub(crate) fn build() -> Result<PathBuf> {
    command::run(&mut cargo_for_bpf("build", &["--bins"]))
        .context("the kernel programs do not build; what the compiler and bpf-linker said stands above")?;
    let object = workspace::target().join(TARGET).join("release/mesh-ebpf");
    let symbols = command::read(llvm("llvm-nm").arg(&object))?;
    let panics = panic_symbols(&symbols);
    if !panics.is_empty() {
        bail!(
            "a panic is reachable in the kernel programs, which the verifier refuses: {}\n\
             look for an index, a slice, a division or an unwrap that the compiler cannot prove safe",
            panics.join(", ")
        );
    }
    print_programs(&object)?;
    Ok(object)
}

/// cargo for the BPF target: the flags that aya-build passes, so that both build the same object.
pub(crate) fn cargo_for_bpf(verb: &str, args: &[&str]) -> Command {
    let mut cargo = command::cargo();
    cargo
        .args([verb, "--package", "mesh-ebpf"])
        .args(args)
        .args(["--release", "--target", TARGET, "-Z", "build-std=core"])
        // build-std is unstable; the pinned stable compiler takes it with this leave.
        .env("RUSTC_BOOTSTRAP", "1")
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            format!("--cfg=bpf_target_arch=\"{ARCH}\"\x1f-Cdebuginfo=2\x1f-Clink-arg=--btf"),
        );
    cargo
}

fn llvm(tool: &str) -> Command {
    command::program(Path::new(LLVM).join("bin").join(tool))
}

/// Names in the output of llvm-nm that only a panic brings in.
fn panic_symbols(nm: &str) -> Vec<String> {
    let names = nm.lines().filter_map(|line| line.split_whitespace().last());
    names.filter(|name| name.contains("panic") || *name == "rust_begin_unwind").map(str::to_owned).collect()
}

fn print_programs(object: &Path) -> Result<()> {
    let size = fs::metadata(object).with_context(|| format!("look at {}", object.display()))?.len();
    let table = command::read(llvm("llvm-objdump").arg("--syms").arg(object))?;
    let programs = programs(&table);
    if programs.is_empty() {
        bail!("{} holds no program", object.display());
    }
    println!("{}: {size} bytes, {} programs", object.display(), programs.len());
    for Program { section, name, bytes } in programs {
        println!("  {section:<20} {name:<24} {:>6} instructions", bytes / 8);
    }
    Ok(())
}

/// An entry point of the object.
#[derive(Debug, PartialEq, Eq)]
struct Program {
    section: String,
    name: String,
    bytes: u64,
}

/// The global functions outside `.text` (which holds their subprograms) in the symbol table that
/// llvm-objdump prints: address, flags, section, size, name.
fn programs(table: &str) -> Vec<Program> {
    let parse = |line: &str| {
        let (left, right) = line.split_once('\t')?;
        let (flags, section) = left.get(16..)?.rsplit_once(' ')?;
        let (size, name) = right.split_once(' ')?;
        let entry = flags.contains('g') && flags.contains('F') && section != ".text";
        let bytes = u64::from_str_radix(size, 16).ok()?;
        entry.then(|| Program { section: section.to_owned(), name: name.to_owned(), bytes })
    };
    table.lines().filter_map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_the_global_functions_outside_text() {
        let table = "SYMBOL TABLE:\n\
            0000000000000000 l    d  xdp\t0000000000000000 xdp\n\
            0000000000000000 g     F xdp\t0000000000000010 underlay\n\
            0000000000000000 g     F .text\t0000000000000058 .hidden memcpy\n\
            0000000000000010 g     O maps\t0000000000000020 NODE\n\
            0000000000000000 g     F classifier\t0000000000000100 container\n";
        let program = |section: &str, name: &str, bytes| Program { section: section.into(), name: name.into(), bytes };
        assert_eq!(programs(table), [program("xdp", "underlay", 16), program("classifier", "container", 256)]);
    }

    #[test]
    fn a_panic_is_found_by_its_symbols() {
        let nm = "0000000000000120 T memset\n                 U _ZN4core9panicking18panic_bounds_check17h0E\n\
            0000000000000000 T underlay\n0000000000000000 T rust_begin_unwind\n";
        assert_eq!(panic_symbols(nm), ["_ZN4core9panicking18panic_bounds_check17h0E", "rust_begin_unwind"]);
        assert!(panic_symbols("0000000000000000 T underlay\n").is_empty());
    }
}
