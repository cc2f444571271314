//! The volumes of a service.

use super::compose::{Node, Wrong};
use super::fields::Fields;
use super::service::Reader;
use crate::api::wire::{BindOptions, Driver, Mount, TmpfsOptions, VolumeOptions};

pub(super) fn all(reader: &Reader<'_>) -> Result<Vec<Mount>, Wrong> {
    let volumes = reader.service.items("volumes").iter().enumerate();
    volumes.map(|(index, node)| mount(reader, node, &format!("{}.volumes.{index}", reader.path()))).collect()
}

fn mount(reader: &Reader<'_>, node: &Node, path: &str) -> Result<Mount, Wrong> {
    let volume = Fields::of(Some(node));
    let kind = volume.text("type");
    for options in ["bind", "volume", "tmpfs", "cluster"] {
        let of_this = options == kind || (kind == "npipe" && options == "bind");
        if !of_this && let Some(other) = volume.node(options) {
            return Err(Wrong::at(&other.at, format!("{path}: {options} options are incompatible with type {kind}")));
        }
    }
    let source = volume.text("source");
    let empty = source.is_empty();
    if (kind == "tmpfs") != empty && kind != "volume" {
        let must = if kind == "tmpfs" { "must" } else { "cannot" };
        return Err(Wrong::at(&node.at, format!("{path}: invalid {kind} source, source {must} be empty")));
    }
    if volume.text("target").is_empty() {
        return Err(Wrong::at(&node.at, format!("{path}: target is required")));
    }
    let mut mount = Mount {
        kind: kind.clone(),
        target: volume.text("target"),
        read_only: volume.bool("read_only"),
        source,
        consistency: volume.text("consistency"),
        ..Mount::default()
    };
    match kind.as_str() {
        "volume" if !empty => named(reader, node, volume, &mut mount)?,
        "bind" | "npipe" if volume.below("bind").is_there() => {
            let propagation = volume.below("bind").text("propagation");
            mount.bind_options = Some(BindOptions { propagation, ..BindOptions::default() });
        }
        "tmpfs" if volume.below("tmpfs").is_there() => {
            let size_bytes = volume.below("tmpfs").integer("size");
            mount.tmpfs_options = Some(TmpfsOptions { size_bytes, ..TmpfsOptions::default() });
        }
        "cluster" => return Err(Wrong::at(&node.at, format!("{path}: cluster volumes are not supported"))),
        _ => {}
    }
    Ok(mount)
}

/// A volume that the file names.
fn named(reader: &Reader<'_>, node: &Node, volume: Fields<'_>, mount: &mut Mount) -> Result<(), Wrong> {
    let declared = reader.object("volumes", &mount.source, node)?;
    let mut options = VolumeOptions { no_copy: volume.below("volume").bool("nocopy"), ..VolumeOptions::default() };
    mount.source = declared.some_text("name").unwrap_or_else(|| reader.name.of(&mount.source));
    if !declared.bool("external") {
        options.labels = reader.name.label(declared.labels("labels"));
        let driver =
            Driver { name: declared.text("driver"), options: declared.labels("driver_opts"), ..Driver::default() };
        let is_said = !driver.name.is_empty() || declared.node("driver_opts").is_some();
        options.driver_config = is_said.then_some(driver);
    }
    mount.volume_options = Some(options);
    Ok(())
}
