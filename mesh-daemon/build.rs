//! Builds the kernel programs and puts them where `datapath::loader` embeds them from, and the code of
//! the wire between nodes from its description.

use anyhow::Context as _;
use aya_build::{Package, Toolchain, build_ebpf};

/// The pin of rust-toolchain.toml: aya-build asks rustup for it by name.
const TOOLCHAIN: &str = include_str!("../rust-toolchain.toml");

fn main() -> anyhow::Result<()> {
    build_wire()?;
    let channel = TOOLCHAIN
        .lines()
        .find_map(|line| line.strip_prefix("channel = "))
        .context("rust-toolchain.toml names no channel")?
        .trim_matches('"');
    // SAFETY: a build script has one thread here.
    #[expect(unsafe_code, reason = "aya-build looks into its own environment for leave to use -Z build-std")]
    unsafe {
        std::env::set_var("RUSTC_BOOTSTRAP", "1")
    };
    for source in ["../mesh-common/src", "../rust-toolchain.toml", "../Cargo.toml"] {
        println!("cargo:rerun-if-changed={source}");
    }
    build_ebpf(
        [Package { name: "mesh-ebpf", root_dir: "../mesh-ebpf", ..Default::default() }],
        Toolchain::Custom(channel),
    )
    .context("building the eBPF programs failed; `cargo xtask setup` installs what they need (bpf-linker, rust-src)")
}

/// The services of proto/mesh.proto. protox stands in for protoc, which a build should not need.
fn build_wire() -> anyhow::Result<()> {
    println!("cargo:rerun-if-changed=proto");
    let descriptions = protox::compile(["mesh.proto"], ["proto"]).context("proto/mesh.proto")?;
    tonic_prost_build::configure()
        .build_transport(false)
        .bytes(".")
        .compile_fds(descriptions)
        .context("generating the code of proto/mesh.proto failed")
}
