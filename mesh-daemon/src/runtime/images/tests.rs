use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use serde_json::{Value, json};
use tar::EntryType;
use tempfile::TempDir;

use super::entry::{Action, DeviceKind, Entry, decide};
use super::*;

fn entry<'a>(kind: EntryType, path: &'a str, link: Option<&'a str>) -> Entry<'a> {
    Entry { kind, path: Path::new(path), link: link.map(Path::new), device: None }
}

#[test]
fn what_leads_out_of_a_layer_is_refused() {
    let long = "a/".repeat(2048);
    for (kind, path, link) in [
        (EntryType::Regular, "../etc/passwd", None),
        (EntryType::Regular, "a/../../etc/passwd", None),
        (EntryType::Regular, "/../x", None),
        (EntryType::Directory, "..", None),
        (EntryType::Symlink, "a/..", Some("b")),
        (EntryType::Regular, "", None),
        (EntryType::Regular, "./", None),
        (EntryType::Regular, "a\0b", None),
        (EntryType::Regular, long.as_str(), None),
        (EntryType::Link, "a", Some("../b")),
        (EntryType::Link, "a", Some("/")),
        (EntryType::Link, "a", None),
        (EntryType::Symlink, "a", None),
        (EntryType::Char, "a", None),
        (EntryType::Regular, "a/.wh.", None),
        (EntryType::Regular, "a/.wh...", None),
        (EntryType::new(b'?'), "a", None),
    ] {
        assert!(decide(&entry(kind, path, link)).is_err(), "{kind:?} {path:?} {link:?}");
    }
}

#[test]
fn each_entry_becomes_what_it_is() {
    let path = PathBuf::from;
    for (kind, name, link, action) in [
        (EntryType::Regular, "/a/./b", None, Action::File(path("a/b"))),
        (EntryType::Directory, "./", None, Action::Directory(path(""))),
        // A symbolic link may name anything: it is followed in the container only.
        (EntryType::Symlink, "a", Some("../../etc"), Action::Symlink(path("a"), path("../../etc"))),
        (EntryType::Link, "a", Some("/b/c"), Action::HardLink(path("a"), path("b/c"))),
        (EntryType::Fifo, "a", None, Action::Fifo(path("a"))),
        (EntryType::Regular, "a/.wh.b", None, Action::Whiteout(path("a/b"))),
        (EntryType::Regular, "a/.wh..wh..opq", None, Action::Opaque(path("a"))),
        (EntryType::Regular, ".wh..wh.plnk", None, Action::Skip),
        (EntryType::XGlobalHeader, "pax", None, Action::Skip),
    ] {
        assert_eq!(decide(&entry(kind, name, link)), Ok(action), "{name}");
    }
    let device = |numbers| Entry { device: Some(numbers), ..entry(EntryType::Char, "a", None) };
    assert_eq!(decide(&device((1, 3))), Ok(Action::Device(path("a"), DeviceKind::Character, 1, 3)));
    // To overlayfs this is a whiteout.
    assert_eq!(decide(&device((0, 0))), Ok(Action::Skip));
}

#[test]
fn a_digest_is_sha256_and_64_digits() {
    let right = format!("sha256:{}", "0af".repeat(21) + "0");
    assert_eq!(right.parse::<Digest>().unwrap().to_string(), right);
    for wrong in ["", "sha256:", "sha512:00", &right[..70], &right.to_uppercase(), &format!("{right}/../x")] {
        assert!(wrong.parse::<Digest>().is_err(), "{wrong}");
    }
    let known = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(Digest::of(b"").to_string(), known);
}

/// A store whose clock counts calls, and who needs what.
struct Bed {
    files: TempDir,
    store: ImageStore,
    used: Arc<Mutex<BTreeMap<Digest, String>>>,
}

impl Bed {
    fn new(limit: u64) -> Self {
        fn clock() -> Timestamp {
            use std::sync::atomic::{AtomicI64, Ordering};
            static NOW: AtomicI64 = AtomicI64::new(0);
            Timestamp::from_second(NOW.fetch_add(1, Ordering::Relaxed)).unwrap()
        }
        let files = tempfile::tempdir().unwrap();
        let used: Arc<Mutex<BTreeMap<Digest, String>>> = Arc::default();
        let told = used.clone();
        let options = ImageOptions { limit, ..ImageOptions::new(files.path().join("store")) };
        let store = ImageStore::open(options, clock, Box::new(move || told.lock().unwrap().clone())).unwrap();
        Self { files, store, used }
    }

    fn blobs(&self) -> usize {
        fs::read_dir(self.files.path().join("store/blobs/sha256")).unwrap().count()
    }

    async fn names(&self) -> Vec<String> {
        let hold = self.store.hold().await;
        self.store.list(&hold).unwrap().into_iter().flat_map(|image| image.names).collect()
    }

    async fn import(&self, layout: &BTreeMap<String, Vec<u8>>) -> Result<Vec<String>, ImageError> {
        let path = self.files.path().join("archive.tar");
        fs::write(&path, tar_of(layout)).unwrap();
        self.store.import(&path, None).await
    }
}

fn tar_of(files: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, bytes.as_slice()).unwrap();
    }
    builder.into_inner().unwrap()
}

/// An image layout of one layer with one file, by path.
fn layout(name: &str, content: &str) -> BTreeMap<String, Vec<u8>> {
    let layer = tar_of(&[("file".to_owned(), content.as_bytes().to_vec())].into());
    let mut files = BTreeMap::new();
    let mut add = |bytes: Vec<u8>, media: &str| {
        let digest = Digest::of(&bytes);
        let described = json!({ "mediaType": media, "digest": digest.to_string(), "size": bytes.len() });
        files.insert(format!("blobs/sha256/{}", digest.hex()), bytes);
        described
    };
    let diff = Digest::of(&layer).to_string();
    let layer = add(layer, "application/vnd.oci.image.layer.v1.tar");
    let config = json!({
        "architecture": super::manifest::ARCHITECTURE, "os": "linux",
        "config": { "Cmd": ["/file"], "Entrypoint": null }, "rootfs": { "type": "layers", "diff_ids": [diff] },
    });
    let config = add(config.to_string().into_bytes(), "application/vnd.oci.image.config.v1+json");
    let manifest = json!({ "schemaVersion": 2, "config": config, "layers": [layer] });
    let mut manifest: Value = add(manifest.to_string().into_bytes(), "application/vnd.oci.image.manifest.v1+json");
    manifest["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
    files.insert(
        "index.json".to_owned(),
        json!({ "schemaVersion": 2, "manifests": [manifest] }).to_string().into_bytes(),
    );
    files
}

#[tokio::test]
async fn a_layout_is_imported_by_its_name_and_found_by_name_and_digest() {
    let bed = Bed::new(u64::MAX);
    assert_eq!(bed.import(&layout("web:1", "a")).await.unwrap(), ["docker.io/library/web:1"]);
    let hold = bed.store.hold().await;
    let image = bed.store.find(&hold, "web:1").unwrap().unwrap();
    assert_eq!((image.config.cmd.as_deref(), image.config.entrypoint), (Some(&["/file".to_owned()][..]), None));
    let by_digest = format!("web:other@{}", image.manifest);
    assert_eq!(bed.store.find(&hold, &by_digest).unwrap().unwrap().manifest, image.manifest);
    assert!(bed.store.find(&hold, "web:2").unwrap().is_none());
    assert!(matches!(bed.store.find(&hold, "Web:1"), Err(ImageError::Reference { .. })));
}

#[tokio::test]
async fn what_docker_save_writes_is_imported_with_its_tags() {
    let bed = Bed::new(u64::MAX);
    let mut files = layout("unused", "b");
    files.remove("index.json");
    let path = |media: &str| {
        let is = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).contains(media);
        files.iter().find(|(_, bytes)| is(bytes)).map(|(name, _)| name.clone()).unwrap()
    };
    let (config, layer) = (path("diff_ids"), path("ustar"));
    let list = json!([{ "Config": config, "RepoTags": ["r.example:5000/a:1", "b:2"], "Layers": [layer] }]);
    files.insert("manifest.json".to_owned(), list.to_string().into_bytes());
    assert_eq!(bed.import(&files).await.unwrap(), ["r.example:5000/a:1", "docker.io/library/b:2"]);
}

#[tokio::test]
async fn what_is_damaged_is_refused_and_leaves_nothing() {
    let index = |text: &str| BTreeMap::from([("index.json".to_owned(), text.as_bytes().to_vec())]);
    let mut bent = layout("web:1", "c");
    let blob = bent.keys().find(|name| name.starts_with("blobs/")).unwrap().clone();
    bent.get_mut(&blob).unwrap().push(b'x');
    let mut lacking = layout("web:1", "c");
    lacking.retain(|_, bytes| !String::from_utf8_lossy(bytes).contains("ustar"));
    let mut foreign = layout("web:1", "c");
    let config = foreign.values().find(|bytes| String::from_utf8_lossy(bytes).contains("diff_ids")).unwrap().clone();
    foreign.remove(&format!("blobs/sha256/{}", Digest::of(&config).hex()));
    for (what, files, said) in [
        ("a blob that is not what its name says", bent, "expected sha256:"),
        ("a layer that is not there", lacking, "is not in it"),
        ("a configuration that is not there", foreign, "open "),
        ("no index at all", BTreeMap::new(), "neither index.json nor manifest.json"),
        ("an index that is none", index("{"), "index.json is not what"),
        (
            "names that are no digests",
            index(r#"{"schemaVersion":2,"manifests":[{"mediaType":"a","digest":"sha256:../x","size":1}]}"#),
            "i",
        ),
    ] {
        let bed = Bed::new(u64::MAX);
        let error = bed.import(&files).await.expect_err(what);
        assert!(error.to_string().contains(said), "{what}: {error}");
        assert_eq!((bed.blobs(), bed.names().await.len()), (0, 0), "{what}");
    }
}

#[tokio::test]
async fn beyond_the_limit_what_was_used_longest_ago_goes_and_what_is_in_use_stays() {
    let bed = Bed::new(1);
    for (name, content) in [("a:1", "a"), ("b:1", "b"), ("c:1", "c")] {
        bed.import(&layout(name, content)).await.unwrap();
    }
    let hold = bed.store.hold().await;
    let b = bed.store.find(&hold, "b:1").unwrap().unwrap().manifest;
    // A use makes `a` younger than `c`.
    bed.store.ensure(&hold, "a:1", &Credentials::Anonymous).await.unwrap();
    drop(hold);
    bed.used.lock().unwrap().insert(b, "web.1".to_owned());
    let removed = bed.store.collect().await.unwrap();
    assert_eq!(removed, ["docker.io/library/c:1", "docker.io/library/a:1"]);
    assert_eq!((bed.names().await, bed.blobs()), (vec!["docker.io/library/b:1".to_owned()], 3));
    let error = bed.store.remove("b:1").await.unwrap_err().to_string();
    assert_eq!(error, "image \"b:1\" is used by container web.1");
    bed.used.lock().unwrap().clear();
    bed.store.remove("b:1").await.unwrap();
    assert_eq!(bed.blobs(), 0);
    assert!(matches!(bed.store.remove("b:1").await, Err(ImageError::Unknown { .. })));
}

#[tokio::test]
async fn whoever_removes_does_not_wait_in_line_before_those_who_hold() {
    let bed = Bed::new(1);
    bed.import(&layout("a:1", "a")).await.unwrap();
    let _slow_pull = bed.store.hold().await;
    let holding = async {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        tokio::time::timeout(std::time::Duration::from_secs(1), bed.store.hold()).await.map(drop)
    };
    let (collected, held) = tokio::join!(bed.store.collect(), holding);
    assert_eq!((collected.unwrap(), held), (vec![], Ok(())));
    assert!(matches!(bed.store.remove("a:1").await, Err(ImageError::Busy { .. })));
}

#[tokio::test]
async fn a_store_that_is_opened_again_knows_its_images_and_forgets_what_was_half_done() {
    let bed = Bed::new(u64::MAX);
    bed.import(&layout("a:1", "a")).await.unwrap();
    let root = bed.files.path().join("store");
    fs::write(root.join("ingest/7"), "half").unwrap();
    fs::create_dir_all(root.join("layers/new-0/etc")).unwrap();
    let again = ImageStore::open(ImageOptions::new(root.clone()), Timestamp::now, Box::new(BTreeMap::new)).unwrap();
    let hold = again.hold().await;
    assert!(again.find(&hold, "a:1").unwrap().is_some());
    assert_eq!(fs::read_dir(root.join("ingest")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(root.join("layers")).unwrap().count(), 0);
}
