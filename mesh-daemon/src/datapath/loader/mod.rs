//! Puts the embedded programs into the kernel, with their maps pinned (or adopted from the pins).

use aya::{Ebpf, EbpfLoader};

use super::{Pins, maps};

/// The programs, as mesh-daemon's build script left them.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/mesh-ebpf"));

/// The programs could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The pin directories.
    #[error("make the pin directory {}", pins.root().display())]
    Pins {
        /// Which.
        pins: Pins,
        /// Why not.
        source: std::io::Error,
    },
    /// The object or its maps.
    #[error("load the eBPF object")]
    Object(#[source] Box<aya::EbpfError>),
}

/// Loads the object. Maps that are pinned already are used as they are.
///
/// # Errors
/// The pin directory cannot be made, or the kernel refuses the maps.
pub fn load(pins: &Pins) -> Result<Ebpf, LoadError> {
    pins.create().map_err(|source| LoadError::Pins { pins: pins.clone(), source })?;
    let mut loader = EbpfLoader::new();
    for name in maps::pinned() {
        loader.map_pin_path(name, pins.map(name));
    }
    loader.load(OBJECT).map_err(|source| LoadError::Object(Box::new(source)))
}

/// Loads the object beside what runs: it reads the same configuration, and counts and remembers for
/// itself. The maps must be pinned.
///
/// # Errors
/// The kernel refuses the maps.
pub fn load_apart(pins: &Pins) -> Result<Ebpf, LoadError> {
    let mut loader = EbpfLoader::new();
    for (name, _) in maps::CAPACITIES {
        loader.map_pin_path(name, pins.map(name));
    }
    loader.load(OBJECT).map_err(|source| LoadError::Object(Box::new(source)))
}

#[cfg(test)]
mod tests;
