//! OCI images made here: no registry, no container engine, the same digests on every machine that
//! packs the same bytes.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const MEDIA_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const MEDIA_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MEDIA_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const MEDIA_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// When everything was made, so that nothing depends on the day.
const CREATED: &str = "1970-01-01T00:00:00Z";
/// RFC 1952: "unknown", in place of the system the image was packed on.
const GZIP_OS_UNKNOWN: u8 = 255;

/// What goes into an image.
#[derive(Clone, Debug, Default)]
pub struct ImagePlan {
    /// Name and tag, e.g. `whoami:1`.
    pub reference: String,
    /// Path in the image (relative), content, mode.
    pub files: Vec<(String, Vec<u8>, u32)>,
    /// The program and its fixed arguments.
    pub entrypoint: Vec<String>,
    /// `KEY=VALUE`.
    pub env: Vec<String>,
    /// E.g. `7000/tcp`.
    pub exposed_ports: Vec<String>,
}

/// An image: one layer, one platform (linux/amd64).
#[derive(Clone, Debug)]
pub struct Image {
    reference: String,
    manifest: String,
    config: String,
    layer: String,
    blobs: BTreeMap<String, Vec<u8>>,
}

impl Image {
    /// Packs it, in memory.
    pub fn pack(plan: &ImagePlan) -> Result<Self> {
        let tar = layer_tar(&plan.files)?;
        let diff_id = digest(&tar);
        let mut blobs = BTreeMap::new();
        let mut add = |bytes: Vec<u8>, media: &str| {
            let descriptor = json!({ "mediaType": media, "digest": digest(&bytes), "size": bytes.len() });
            blobs.insert(digest(&bytes), bytes);
            descriptor
        };
        let layer = add(gzip(&tar)?, MEDIA_LAYER);
        let ports: BTreeMap<&str, Value> = plan.exposed_ports.iter().map(|port| (port.as_str(), json!({}))).collect();
        let config = json!({
            "created": CREATED, "architecture": "amd64", "os": "linux",
            "config": { "Entrypoint": plan.entrypoint, "Env": plan.env, "ExposedPorts": ports, "WorkingDir": "/" },
            "rootfs": { "type": "layers", "diff_ids": [diff_id] },
            "history": [{ "created": CREATED, "created_by": "mesh-tests" }],
        });
        let config = add(serde_json::to_vec(&config)?, MEDIA_CONFIG);
        let manifest = json!({ "schemaVersion": 2, "mediaType": MEDIA_MANIFEST, "config": config, "layers": [layer] });
        let manifest = add(serde_json::to_vec(&manifest)?, MEDIA_MANIFEST);
        let digest_of = |descriptor: &Value| descriptor["digest"].as_str().unwrap_or_default().to_owned();
        let (manifest, config, layer) = (digest_of(&manifest), digest_of(&config), digest_of(&layer));
        Ok(Self { reference: plan.reference.clone(), manifest, config, layer, blobs })
    }

    /// Digest of the manifest: what `NAME@sha256:...` names.
    pub fn digest(&self) -> &str {
        &self.manifest
    }

    /// Digest of the configuration: what Docker calls the image's id.
    pub fn id(&self) -> &str {
        &self.config
    }

    /// The image layout (OCI image-spec, image-layout.md) as files in a directory.
    pub fn write_dir(&self, dir: &Path) -> Result<()> {
        for (path, content) in self.layout()? {
            let path = dir.join(path);
            std::fs::create_dir_all(path.parent().context("a file without a directory")?)?;
            std::fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
        }
        Ok(())
    }

    /// The image layout as one tar file, for `docker load`, `skopeo` and `ctr image import`.
    pub fn write_tar(&self, to: impl Write) -> Result<()> {
        let mut builder = tar::Builder::new(to);
        for (path, content) in self.layout()? {
            append(&mut builder, &path, &content, 0o644)?;
        }
        builder.into_inner()?.flush().context("writing the image")
    }

    fn layout(&self) -> Result<BTreeMap<String, Vec<u8>>> {
        let manifest = self.blobs.get(&self.manifest).context("the image has no manifest")?;
        let index = json!({
            "schemaVersion": 2, "mediaType": MEDIA_INDEX,
            "manifests": [{
                "mediaType": MEDIA_MANIFEST, "digest": self.manifest, "size": manifest.len(),
                "platform": { "architecture": "amd64", "os": "linux" },
                "annotations": {
                    "org.opencontainers.image.ref.name": self.reference,
                    "io.containerd.image.name": whole(&self.reference),
                },
            }],
        });
        // Engines before Docker 25 do not read index.json; this older list points to the same blobs.
        let docker = json!([{
            "Config": blob_path(&self.config), "RepoTags": [self.reference], "Layers": [blob_path(&self.layer)],
        }]);
        let mut files = BTreeMap::from([
            ("oci-layout".to_owned(), serde_json::to_vec(&json!({ "imageLayoutVersion": "1.0.0" }))?),
            ("index.json".to_owned(), serde_json::to_vec(&index)?),
            ("manifest.json".to_owned(), serde_json::to_vec(&docker)?),
        ]);
        files.extend(self.blobs.iter().map(|(digest, bytes)| (blob_path(digest), bytes.clone())));
        Ok(files)
    }
}

/// Packs busybox, as what scripts of tests need of it.
pub fn shell(reference: &str) -> Result<Image> {
    let busybox = std::fs::read("/bin/busybox").context("busybox-static is installed")?;
    let file = |name: &str| (name.to_owned(), busybox.clone(), 0o755);
    Image::pack(&ImagePlan {
        reference: reference.to_owned(),
        files: ["bin/sh", "bin/sleep", "bin/true", "bin/cat"].map(file).to_vec(),
        env: vec!["PATH=/bin".to_owned()],
        ..ImagePlan::default()
    })
}

/// `whoami` as an image: one static program and nothing else.
pub fn whoami(reference: &str) -> Result<Image> {
    let program = static_whoami()?;
    let content = std::fs::read(&program).with_context(|| format!("reading {}", program.display()))?;
    Image::pack(&ImagePlan {
        reference: reference.to_owned(),
        files: vec![("whoami".to_owned(), content, 0o755)],
        entrypoint: vec!["/whoami".to_owned()],
        env: Vec::new(),
        exposed_ports: vec!["7000/tcp".to_owned(), "7000/udp".to_owned()],
    })
}

/// A statically linked `whoami`: that of `MESH_BIN_DIR`, if it is one, or one compiled from its
/// source, which needs std only and so no cargo.
pub fn static_whoami() -> Result<PathBuf> {
    if std::env::var_os("MESH_BIN_DIR").is_some() {
        let program = crate::program("whoami")?;
        let content = std::fs::read(&program).with_context(|| format!("reading {}", program.display()))?;
        if !is_dynamic(&content) {
            return Ok(program);
        }
    }
    let directory = crate::program_dir()?;
    // Compiled elsewhere and renamed: a test that runs at the same time sees all of it or nothing.
    let building = tempfile::tempdir_in(&directory)?;
    let (compiled, program) = (building.path().join("whoami"), directory.join("whoami-static"));
    let mut rustc = Command::new("rustc");
    rustc.current_dir(env!("CARGO_MANIFEST_DIR")).args([
        "--edition",
        "2024",
        "-C",
        "opt-level=2",
        "-C",
        "strip=symbols",
    ]);
    rustc.args(["-C", "target-feature=+crt-static", "-o"]).arg(&compiled);
    // A relative path, so that the program is the same wherever the source lies.
    rustc.arg("whoami/main.rs");
    let output = rustc.output().context("starting rustc")?;
    ensure!(output.status.success(), "compiling whoami: {}", String::from_utf8_lossy(&output.stderr));
    ensure!(!is_dynamic(&std::fs::read(&compiled)?), "rustc made a dynamic program");
    std::fs::rename(&compiled, &program)?;
    Ok(program)
}

/// Does this 64-bit little-endian ELF program ask for a dynamic linker (PT_INTERP)?
fn is_dynamic(elf: &[u8]) -> bool {
    const PT_INTERP: u64 = 3;
    let number = |at: usize, length: usize| -> u64 {
        let bytes = elf.get(at..at + length).unwrap_or_default();
        bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
    };
    let (table, entry, entries) = (number(32, 8), number(54, 2), number(56, 2));
    (0..entries).any(|at| usize::try_from(table + at * entry).is_ok_and(|header| number(header, 4) == PT_INTERP))
}

fn layer_tar(files: &[(String, Vec<u8>, u32)]) -> Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content, mode) in files {
        append(&mut builder, path, content, *mode)?;
    }
    builder.into_inner().context("packing the layer")
}

fn append(builder: &mut tar::Builder<impl Write>, path: &str, content: &[u8], mode: u32) -> Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_size(u64::try_from(content.len())?);
    header.set_mode(mode);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    builder.append_data(&mut header, path, content).with_context(|| format!("packing {path}"))
}

fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder =
        GzBuilder::new().mtime(0).operating_system(GZIP_OS_UNKNOWN).write(Vec::new(), Compression::default());
    encoder.write_all(bytes)?;
    encoder.finish().context("compressing the layer")
}

fn digest(bytes: &[u8]) -> String {
    let hash: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hash}")
}

fn blob_path(digest: &str) -> String {
    format!("blobs/{}", digest.replace(':', "/"))
}

/// A name with its registry: Docker's, if it has none.
fn whole(reference: &str) -> String {
    if reference.contains('/') { reference.to_owned() } else { format!("docker.io/library/{reference}") }
}

#[cfg(test)]
mod tests;
