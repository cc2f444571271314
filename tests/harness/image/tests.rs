//! The layout against the specification, digest by digest.

use std::collections::BTreeSet;
use std::io::Read as _;

use super::*;

fn plan() -> ImagePlan {
    ImagePlan {
        reference: "hello:1".to_owned(),
        files: vec![("bin/hello".to_owned(), b"#!/bin/sh\necho hello\n".to_vec(), 0o755)],
        entrypoint: vec!["/bin/hello".to_owned()],
        env: vec!["A=b".to_owned()],
        exposed_ports: vec!["80/tcp".to_owned()],
    }
}

/// Reads the blob a descriptor points to, and checks its digest and size.
fn blob(dir: &Path, descriptor: &Value) -> Vec<u8> {
    let name = descriptor["digest"].as_str().unwrap();
    let bytes = std::fs::read(dir.join(blob_path(name))).unwrap();
    assert_eq!(digest(&bytes), name);
    assert_eq!(descriptor["size"], bytes.len());
    bytes
}

fn json_of(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

#[test]
fn every_digest_of_the_layout_holds() {
    let dir = tempfile::tempdir().unwrap();
    let image = Image::pack(&plan()).unwrap();
    image.write_dir(dir.path()).unwrap();
    assert_eq!(json_of(&std::fs::read(dir.path().join("oci-layout")).unwrap())["imageLayoutVersion"], "1.0.0");
    let index = json_of(&std::fs::read(dir.path().join("index.json")).unwrap());
    assert_eq!(index["manifests"][0]["digest"], image.digest());
    let manifest = json_of(&blob(dir.path(), &index["manifests"][0]));
    let config = json_of(&blob(dir.path(), &manifest["config"]));
    assert_eq!(manifest["config"]["digest"], image.id());
    assert_eq!(config["config"]["Entrypoint"], json!(["/bin/hello"]));
    let mut tar = Vec::new();
    flate2::read::GzDecoder::new(&blob(dir.path(), &manifest["layers"][0])[..]).read_to_end(&mut tar).unwrap();
    assert_eq!(config["rootfs"]["diff_ids"], json!([digest(&tar)]));
    let mut archive = tar::Archive::new(&tar[..]);
    let mut entries = archive.entries().unwrap();
    let mut entry = entries.next().unwrap().unwrap();
    let mut content = Vec::new();
    entry.read_to_end(&mut content).unwrap();
    assert_eq!(entry.path().unwrap().to_string_lossy(), "bin/hello");
    assert_eq!((entry.header().mode().unwrap(), content), (0o755, plan().files[0].1.clone()));
    assert!(entries.next().is_none());
}

#[test]
fn the_same_bytes_make_the_same_image() {
    let image = Image::pack(&plan()).unwrap();
    assert_eq!(image.digest(), Image::pack(&plan()).unwrap().digest());
    let mut other = plan();
    other.files[0].1.push(b'\n');
    assert_ne!(image.digest(), Image::pack(&other).unwrap().digest());
}

#[test]
fn the_tar_holds_the_files_of_the_directory() {
    let image = Image::pack(&plan()).unwrap();
    let (dir, unpacked) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    image.write_dir(dir.path()).unwrap();
    let mut tar = Vec::new();
    image.write_tar(&mut tar).unwrap();
    tar::Archive::new(&tar[..]).unpack(unpacked.path()).unwrap();
    let files = |root: &Path| -> BTreeSet<(String, Vec<u8>)> {
        let blobs = std::fs::read_dir(root.join("blobs/sha256")).unwrap();
        let top = std::fs::read_dir(root).unwrap();
        let files = blobs.chain(top).map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
        files
            .map(|path| (path.strip_prefix(root).unwrap().display().to_string(), std::fs::read(&path).unwrap()))
            .collect()
    };
    assert_eq!(files(dir.path()), files(unpacked.path()));
    assert_eq!(files(dir.path()).len(), 6);
}

/// Nothing but the one file is there when it runs, so it can need nothing else.
#[test]
fn whoami_runs_in_its_image_alone() {
    crate::require_root().unwrap();
    let image = whoami("whoami:test").unwrap();
    assert_eq!(image.digest(), whoami("whoami:test").unwrap().digest(), "compiled twice, it is not the same");
    let root = tempfile::tempdir().unwrap();
    let layer = flate2::read::GzDecoder::new(&image.blobs[&image.layer][..]);
    tar::Archive::new(layer).unpack(root.path()).unwrap();
    // An unknown flag makes it say its usage and end.
    let argv = ["chroot", &root.path().to_string_lossy(), "/whoami", "--help", "x"];
    let output = crate::process::Cmd::new(None, argv).attempt().unwrap();
    assert!(output.stderr.contains("usage: whoami"), "{output}");
    let ours = std::fs::read("/proc/self/exe").unwrap();
    assert!(is_dynamic(&ours), "a test executable is dynamic, so the check can tell");
}
