//! Images, as only a real kernel and a real registry can show them.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use mesh_daemon::runtime::images::{Credentials, Digest, ImageError, ImageOptions, ImageStore};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::json;
use tar::EntryType;
use tempfile::TempDir;

use super::bed::{Bed, SHELL, container, shell, text, threads};
use crate::registry::Registry;

/// An entry of a layer: kind, name, content or target.
type Entry<'a> = (EntryType, &'a str, &'a str);

/// A layer with these names, which no builder of archives would write.
fn layer(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (kind, name, content) in entries {
        let mut header = tar::Header::new_ustar();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(if *kind == EntryType::Directory { 0o755 } else { 0o640 });
        header.set_uid(1000);
        header.set_gid(1001);
        header.set_mtime(1_000_000_000);
        let is_link = matches!(kind, EntryType::Symlink | EntryType::Link);
        if is_link {
            header.set_link_name_literal(content).unwrap();
        }
        if *kind == EntryType::Char {
            header.set_device_major(1).unwrap();
            header.set_device_minor(3).unwrap();
        }
        let bytes = if is_link { &[][..] } else { content.as_bytes() };
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        builder.append(&header, bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

/// A store, and what it says of images of these layers, the lowest first.
struct Store {
    files: TempDir,
    store: ImageStore,
    tokio: tokio::runtime::Runtime,
}

impl Store {
    fn new() -> Self {
        harness::require_root().unwrap();
        let files = tempfile::Builder::new().prefix("mesh-rt-").tempdir().unwrap();
        let store = Self::open(&files.path().join("store"));
        Self { store, files, tokio: threads() }
    }

    fn open(root: &Path) -> ImageStore {
        ImageStore::open(ImageOptions::new(root.to_owned()), Timestamp::now, Box::new(BTreeMap::new)).unwrap()
    }

    /// Imports and unpacks; the directories of its layers, the lowest first.
    fn unpack(&self, layers: &[Vec<u8>]) -> Result<Vec<PathBuf>, ImageError> {
        let archive = self.files.path().join("image.tar");
        fs::write(&archive, layout(layers)).unwrap();
        self.tokio.block_on(async {
            self.store.import(&archive, Some("a:1")).await?;
            let hold = self.store.hold().await;
            let image = self.store.find(&hold, "a:1")?.unwrap();
            self.store.unpack(&hold, &image).await?;
            let (root, names) = self.store.lower(&image);
            Ok(names.iter().rev().map(|name| root.join(name)).collect())
        })
    }
}

fn layout(layers: &[Vec<u8>]) -> Vec<u8> {
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut add = |bytes: Vec<u8>, media: &str| {
        let digest = Digest::of(&bytes);
        let described = json!({ "mediaType": media, "digest": digest.to_string(), "size": bytes.len() });
        files.insert(format!("blobs/sha256/{}", digest.hex()), bytes);
        described
    };
    let diffs: Vec<String> = layers.iter().map(|layer| Digest::of(layer).to_string()).collect();
    let layers: Vec<_> =
        layers.iter().map(|layer| add(layer.clone(), "application/vnd.oci.image.layer.v1.tar")).collect();
    let config = json!({ "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": diffs } });
    let config = add(config.to_string().into_bytes(), "application/vnd.oci.image.config.v1+json");
    let manifest = json!({ "schemaVersion": 2, "config": config, "layers": layers });
    let manifest = add(manifest.to_string().into_bytes(), "application/vnd.oci.image.manifest.v1+json");
    let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
    files.insert("index.json".to_owned(), index.to_string().into_bytes());
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in &files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, bytes.as_slice()).unwrap();
    }
    builder.into_inner().unwrap()
}

#[test]
fn a_layer_becomes_a_directory_that_overlayfs_reads() {
    let store = Store::new();
    let lower = layer(&[(EntryType::Regular, "gone", "x"), (EntryType::Regular, "dir/old", "x")]);
    let upper = layer(&[
        (EntryType::Directory, "dir", ""),
        (EntryType::Regular, "dir/.wh..wh..opq", ""),
        (EntryType::Regular, "dir/file", "content"),
        (EntryType::Symlink, "dir/link", "/dir/file"),
        (EntryType::Link, "dir/hard", "dir/file"),
        (EntryType::Fifo, "fifo", ""),
        (EntryType::Char, "null", ""),
        (EntryType::Regular, ".wh.gone", ""),
    ]);
    let directories = store.unpack(&[lower, upper]).unwrap();
    let upper = &directories[1];
    let meta = |name: &str| fs::symlink_metadata(upper.join(name)).unwrap();
    let file = meta("dir/file");
    assert_eq!((file.uid(), file.gid(), file.mode() & 0o7777, file.mtime()), (1000, 1001, 0o640, 1_000_000_000));
    assert_eq!((meta("dir").mtime(), file.ino()), (1_000_000_000, meta("dir/hard").ino()));
    assert_eq!(fs::read_link(upper.join("dir/link")).unwrap(), Path::new("/dir/file"));
    assert!(meta("fifo").file_type().is_fifo());
    assert_eq!((meta("null").file_type().is_char_device(), meta("null").rdev()), (true, 0x103));
    assert_eq!((meta("gone").file_type().is_char_device(), meta("gone").rdev()), (true, 0));
    let (seen, top) = (store.files.path().join("seen"), store.files.path().join("top"));
    for made in [seen.clone(), top.join("upper"), top.join("work")] {
        fs::create_dir_all(made).unwrap();
    }
    let options = format!(
        "lowerdir={}:{},upperdir={top}/upper,workdir={top}/work",
        upper.display(),
        directories[0].display(),
        top = top.display()
    );
    mount(Some("overlay"), &seen, Some("overlay"), MsFlags::empty(), Some(options.as_str())).unwrap();
    let names = |path: &Path| {
        let mut names: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let (root, dir) = (names(&seen), names(&seen.join("dir")));
    umount2(&seen, MntFlags::MNT_DETACH).unwrap();
    assert_eq!(
        (root, dir),
        (["dir", "fifo", "null"].map(Into::into).into(), ["file", "hard", "link"].map(Into::into).into())
    );
}

#[test]
fn no_layer_reaches_outside_of_itself() {
    let store = Store::new();
    let outside = store.files.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("victim"), "whole").unwrap();
    let target = outside.to_str().unwrap();
    let victim = format!("{target}/victim");
    for entries in [
        vec![(EntryType::Regular, "../outside/new", "x")],
        vec![(EntryType::Regular, "a/../../outside/new", "x")],
        // Followed inside the layer alone.
        vec![(EntryType::Symlink, "link", target), (EntryType::Regular, "link/new", "x")],
        vec![(EntryType::Symlink, "up", "../../../../.."), (EntryType::Regular, "up/tmp/new", "x")],
        vec![(EntryType::Link, "hard", victim.as_str()), (EntryType::Regular, "hard", "x")],
        vec![(EntryType::Symlink, "soft", victim.as_str()), (EntryType::Regular, "soft", "x")],
        vec![(EntryType::Symlink, "a", target), (EntryType::Regular, "a/.wh.victim", "")],
        vec![(EntryType::Symlink, "b", target), (EntryType::Regular, "b/.wh..wh..opq", "")],
    ] {
        let name = entries[0].1.to_owned();
        // Refused or not: what counts is what lies outside.
        let _ = store.unpack(&[layer(&entries)]);
        assert_eq!(fs::read_to_string(outside.join("victim")).unwrap(), "whole", "{name}");
        assert_eq!((fs::read_dir(&outside).unwrap().count(), Path::new("/tmp/new").exists()), (1, false), "{name}");
    }
    let refused = store.unpack(&[layer(&[(EntryType::Regular, "../x", "x")])]).unwrap_err().to_string();
    assert!(refused.contains("\"../x\": it leads out of the layer"), "{refused}");
}

#[test]
fn a_full_disk_says_so_and_keeps_nothing_half() {
    let store = Store::new();
    let small = store.files.path().join("small");
    fs::create_dir(&small).unwrap();
    mount(Some("tmpfs"), &small, Some("tmpfs"), MsFlags::empty(), Some("size=300k")).unwrap();
    let archive = store.files.path().join("big.tar");
    fs::write(&archive, layout(&[layer(&[(EntryType::Regular, "big", &"x".repeat(400_000))])])).unwrap();
    let said = store.tokio.block_on(Store::open(&small).import(&archive, Some("big:1"))).unwrap_err();
    let left =
        fs::read_dir(small.join("ingest")).unwrap().count() + fs::read_dir(small.join("blobs/sha256")).unwrap().count();
    umount2(&small, MntFlags::MNT_DETACH).unwrap();
    assert!(matches!(said, ImageError::Full { .. }) && said.to_string().starts_with("no space is left for "), "{said}");
    assert_eq!(left, 0);
}

#[test]
fn an_image_is_pulled_from_a_registry_by_whoever_may() {
    let bed = Bed::oci();
    let registry = Registry::start(bed.files.path());
    let layout = bed.files.path().join("layout");
    shell().write_dir(&layout).unwrap();
    registry.push(&layout, "team/shell:2");
    let name = format!("{}/team/shell:2", registry.address);
    let user = |password: &str| Credentials::Basic { user: "app".to_owned(), password: password.to_owned() };
    bed.block_on(async {
        let refused = text(&bed.runtime.pull(&name, &Credentials::Anonymous).await.unwrap_err());
        assert!(refused.contains("refuses access") && refused.contains("without credentials"), "{refused}");
        let refused = text(&bed.runtime.pull(&name, &user("wrong")).await.unwrap_err());
        assert!(refused.contains("with the credentials given"), "{refused}");
        let mut wanted = container("echo pulled");
        wanted.spec.image = name.clone();
        wanted.credentials = user("secret");
        assert_eq!(bed.run(&wanted).await.1, "pulled\n");
        let missing = format!("{}/team/none:1", registry.address);
        let missing = text(&bed.runtime.pull(&missing, &user("secret")).await.unwrap_err());
        assert!(missing.contains("has no image"), "{missing}");
        let images = bed.runtime.images().await.unwrap();
        let pulled = images.iter().find(|image| image.names.contains(&name)).unwrap();
        // By its digest it is here already: no registry is asked.
        let mut pinned = container("echo pinned");
        pinned.spec.image = format!("{}/team/shell:2@{}", registry.address, pulled.manifest);
        drop(registry);
        assert_eq!(bed.run(&pinned).await.1, "pinned\n");
        bed.runtime.remove_image(&name).await.unwrap();
        assert!(bed.runtime.images().await.unwrap().iter().all(|image| !image.names.contains(&name)));
        let mut local = container("echo local");
        local.spec.image = SHELL.to_owned();
        assert_eq!(bed.run(&local).await.1, "local\n");
    });
}

/// A registry of one image that breaks off after so many bytes of a blob, as often as told.
fn breaking_registry(layout: PathBuf, manifest: String, breaks: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let mut left = breaks;
        for stream in listener.incoming().flatten() {
            serve(&stream, &layout, &manifest, &mut left);
        }
    });
    address
}

/// Answers one request, and closes.
fn serve(mut stream: &TcpStream, layout: &Path, manifest: &str, breaks: &mut usize) {
    let mut request = vec![0; 8192];
    let length = stream.read(&mut request).unwrap_or(0);
    let request = String::from_utf8_lossy(&request[..length]).to_lowercase();
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    let range = request.lines().find_map(|line| line.strip_prefix("range: bytes=")?.trim_end_matches('-').parse().ok());
    let digest = match path.rsplit_once('/') {
        Some((before, _)) if before.ends_with("/manifests") => manifest.to_owned(),
        Some((before, digest)) if before.ends_with("/blobs") => digest.to_owned(),
        _ => String::new(),
    };
    let blob = layout.join("blobs").join(digest.replace(':', "/"));
    let bytes = if digest.is_empty() { Vec::new() } else { fs::read(blob).unwrap_or_default() };
    let from = range.unwrap_or(0_usize).min(bytes.len());
    let status = if range.is_some() { "206 Partial Content" } else { "200 OK" };
    let media = if path.contains("/manifests/") {
        "application/vnd.oci.image.manifest.v1+json"
    } else {
        "application/octet-stream"
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {media}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        bytes.len() - from
    );
    let body = &bytes[from..];
    // Only a blob that is large breaks.
    let end = if path.contains("/blobs/") && body.len() > 100_000 && *breaks > 0 {
        *breaks -= 1;
        100_000
    } else {
        body.len()
    };
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body[..end]));
    let _ = stream.shutdown(std::net::Shutdown::Both);
}

#[test]
fn a_pull_that_breaks_off_goes_on_where_it_was_and_one_that_cannot_keeps_nothing_half() {
    let store = Store::new();
    let layout = store.files.path().join("layout");
    let image = shell();
    image.write_dir(&layout).unwrap();
    for (breaks, comes) in [(3, true), (99, false)] {
        let address = breaking_registry(layout.clone(), image.digest().to_owned(), breaks);
        let root = store.files.path().join(format!("store-{breaks}"));
        let opened = Store::open(&root);
        let pulled = store.tokio.block_on(async {
            let hold = opened.hold().await;
            opened.pull(&hold, &format!("{address}/shell:1"), &Credentials::Anonymous).await
        });
        assert_eq!(
            pulled.as_ref().map(|image| image.manifest.to_string()).ok(),
            comes.then(|| image.digest().to_owned()),
            "{pulled:?}"
        );
        assert_eq!(fs::read_dir(root.join("ingest")).unwrap().count(), 0);
        for blob in fs::read_dir(root.join("blobs/sha256")).unwrap() {
            let blob = blob.unwrap();
            let digest = Digest::of(&fs::read(blob.path()).unwrap());
            assert_eq!(digest.hex(), blob.file_name().to_str().unwrap());
        }
    }
}

#[test]
fn a_registry_that_is_not_there_is_named() {
    let bed = Bed::oci();
    // Nobody listens: the port was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut wanted = container("exit 0");
    wanted.spec.image = format!("127.0.0.1:{port}/none:1");
    let said = text(&bed.block_on(bed.runtime.prepare(&wanted)).unwrap_err());
    assert!(said.starts_with(&format!("pull \"127.0.0.1:{port}/none:1\" from registry 127.0.0.1:{port}: ")), "{said}");
    assert!(bed.block_on(bed.runtime.list()).unwrap().is_empty());
}
