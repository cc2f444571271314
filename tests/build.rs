//! Builds the benchmark's kernel programs, for the feature `bench` alone.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    #[cfg(feature = "bench")]
    build_ebpf()?;
    println!("cargo:rerun-if-changed=build.rs");
    Ok(())
}

/// By the recipe of mesh-daemon/build.rs.
#[cfg(feature = "bench")]
fn build_ebpf() -> Result<(), Box<dyn std::error::Error>> {
    let toolchain = std::fs::read_to_string("../rust-toolchain.toml")?;
    let channel = toolchain.lines().find_map(|line| line.strip_prefix("channel = ")).ok_or("no channel is pinned")?;
    // SAFETY: a build script has one thread here.
    #[expect(unsafe_code, reason = "aya-build looks into its own environment for leave to use -Z build-std")]
    unsafe {
        std::env::set_var("RUSTC_BOOTSTRAP", "1")
    };
    println!("cargo:rerun-if-changed=../rust-toolchain.toml");
    // A workspace of its own, which cargo finds by where it is started.
    std::env::set_current_dir("bench-ebpf")?;
    let package = aya_build::Package { name: "bench-ebpf", root_dir: "bench-ebpf", ..Default::default() };
    Ok(aya_build::build_ebpf([package], aya_build::Toolchain::Custom(channel.trim_matches('"')))?)
}
