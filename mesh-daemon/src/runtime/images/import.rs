//! Images from files: an OCI image layout as a directory or a tar file, or what `docker save` writes.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{BufReader, Read, Seek as _};
use std::path::{Component, Path, PathBuf};

use oci_spec::image::{Descriptor, ImageIndex};
use serde::Deserialize;
use serde_json::json;
use tar::EntryType;

use super::ImageError;
use super::content::{Content, DOCUMENT_BYTES};
use super::digest::Digest;
use super::manifest::{self, Document, malformed};

const INDEX: &str = "index.json";
const DOCKER_MANIFEST: &str = "manifest.json";
const LEGACY_LINKS: usize = 8;

/// An image that was found, by the name it carries.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) name: Option<String>,
    pub(super) manifest: Digest,
    pub(super) index: Option<Digest>,
}

/// One image of `docker save`'s list.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// Takes the content of every image of a file or directory, and says which there are.
pub(super) fn import(content: &Content, path: &Path) -> Result<Vec<Found>, ImageError> {
    let archive = if path.is_dir() { directory(content, path)? } else { tar_file(content, path)? };
    if let Some(index) = archive.documents.get(INDEX) {
        return layout(content, index);
    }
    let Some(list) = archive.documents.get(DOCKER_MANIFEST) else {
        let why = format!("there is neither {INDEX} nor {DOCKER_MANIFEST} in it");
        return Err(ImageError::NotAnImage { path: path.to_owned(), why });
    };
    let saved: Vec<Saved> = serde_json::from_slice(list).map_err(|source| malformed(DOCKER_MANIFEST, source))?;
    saved.iter().try_fold(Vec::new(), |mut all, image| {
        all.extend(docker(content, &archive, image, path)?);
        Ok(all)
    })
}

/// What an archive holds: the two documents that say what it is, and files by their path.
#[derive(Default)]
struct Archive {
    documents: BTreeMap<String, Vec<u8>>,
    files: HashMap<String, Digest>,
    links: HashMap<String, String>,
}

impl Archive {
    /// The content behind a path; old versions of Docker link layers that images share.
    fn find(&self, path: &str) -> Option<&Digest> {
        let mut path = path;
        for _ in 0..LEGACY_LINKS {
            match self.links.get(path) {
                Some(target) => path = target,
                None => break,
            }
        }
        self.files.get(path)
    }
}

fn directory(content: &Content, path: &Path) -> Result<Archive, ImageError> {
    let mut archive = Archive::default();
    for name in [INDEX, DOCKER_MANIFEST] {
        let file = path.join(name);
        if file.is_file() {
            let reader = File::open(&file).map_err(ImageError::file("open", &file))?;
            archive.documents.insert(name.to_owned(), document(reader, &file)?);
        }
    }
    let blobs = path.join("blobs/sha256");
    for entry in fs::read_dir(&blobs).map_err(ImageError::file("list", &blobs))?.flatten() {
        let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
        let digest: Digest = format!("sha256:{name}").parse()?;
        if !content.has(&digest) {
            let mut file = File::open(entry.path()).map_err(ImageError::file("open", &entry.path()))?;
            content.take(&mut file, Some(&digest))?;
        }
        archive.files.insert(format!("blobs/sha256/{name}"), digest);
    }
    Ok(archive)
}

fn tar_file(content: &Content, path: &Path) -> Result<Archive, ImageError> {
    let mut file = File::open(path).map_err(ImageError::file("open", path))?;
    let mut magic = [0; 2];
    let read = file.read(&mut magic).map_err(ImageError::file("read", path))?;
    file.rewind().map_err(ImageError::file("read", path))?;
    let plain: Box<dyn Read> = match (read, magic) {
        (2, [0x1f, 0x8b]) => Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::new(file))),
        _ => Box::new(BufReader::new(file)),
    };
    let not_tar = |error: std::io::Error| ImageError::NotAnImage {
        path: path.to_owned(),
        why: format!("it is no tar file: {error}"),
    };
    let mut archive = Archive::default();
    for entry in tar::Archive::new(plain).entries().map_err(not_tar)? {
        let mut entry = entry.map_err(not_tar)?;
        let Some(name) = entry.path().ok().and_then(|path| plain_name(&path)) else { continue };
        match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous if name == INDEX || name == DOCKER_MANIFEST => {
                archive.documents.insert(name, document(entry, path)?);
            }
            EntryType::Regular | EntryType::Continuous => {
                let expected = name.strip_prefix("blobs/sha256/").map(|hex| format!("sha256:{hex}").parse::<Digest>());
                let digest = content.take(&mut entry, expected.transpose()?.as_ref())?;
                archive.files.insert(name, digest);
            }
            EntryType::Symlink | EntryType::Link => {
                let target = entry.link_name().ok().flatten().map(|target| target.into_owned());
                let base = match entry.header().entry_type() {
                    EntryType::Symlink => Path::new(&name).parent().unwrap_or(Path::new("")).to_owned(),
                    _ => PathBuf::new(),
                };
                if let Some(target) = target.and_then(|target| plain_name(&base.join(target))) {
                    archive.links.insert(name, target);
                }
            }
            _ => {}
        }
    }
    Ok(archive)
}

/// A path without dots, as a name to compare; None if it leads out.
fn plain_name(path: &Path) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => parts.push(name.to_str()?),
            Component::ParentDir => drop(parts.pop()?),
            Component::CurDir | Component::RootDir => {}
            Component::Prefix(_) => return None,
        }
    }
    Some(parts.join("/"))
}

fn document(reader: impl Read, path: &Path) -> Result<Vec<u8>, ImageError> {
    let mut bytes = Vec::new();
    reader.take(DOCUMENT_BYTES + 1).read_to_end(&mut bytes).map_err(ImageError::file("read", path))?;
    let found = bytes.len() as u64;
    if found > DOCUMENT_BYTES {
        return Err(ImageError::Limit { what: "the length of a manifest", found, limit: DOCUMENT_BYTES });
    }
    Ok(bytes)
}

/// The images of a layout's index, for this machine.
fn layout(content: &Content, index: &[u8]) -> Result<Vec<Found>, ImageError> {
    let index: ImageIndex = serde_json::from_slice(index).map_err(|source| malformed(INDEX, source))?;
    let named = index.manifests().iter().map(|entry| {
        let digest = manifest::digest(entry)?;
        let what = format!("manifest {digest}");
        let document = Document::parse(&what, &content.document(&digest)?)?;
        let (manifest, index) = match document {
            Document::Manifest(_) => (digest, None),
            Document::Index(inner) => (manifest::digest(manifest::choose(&digest.to_string(), &inner)?)?, Some(digest)),
        };
        Ok(Found { name: name_of(entry), manifest, index })
    });
    named.collect()
}

fn name_of(entry: &Descriptor) -> Option<String> {
    let annotations = entry.annotations().as_ref()?;
    // The second need only be a tag; the first is a whole name.
    let keys = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];
    keys.iter().find_map(|key| annotations.get(*key)).cloned()
}

/// Makes a manifest of what `docker save` lists: it has none of its own.
fn docker(content: &Content, archive: &Archive, saved: &Saved, path: &Path) -> Result<Vec<Found>, ImageError> {
    let find = |name: &str| {
        let why = || ImageError::NotAnImage { path: path.to_owned(), why: format!("\"{name}\" is not in it") };
        archive.find(name).cloned().ok_or_else(why)
    };
    let size = |digest: &Digest| {
        let path = content.path(digest);
        fs::metadata(&path).map(|of| of.len()).map_err(ImageError::file("look at", &path))
    };
    let described = |digest: &Digest, media: &str| {
        Ok(json!({ "mediaType": media, "digest": digest.to_string(), "size": size(digest)? }))
    };
    let config = find(&saved.config)?;
    let layers = saved.layers.iter().map(|layer| {
        let digest = find(layer)?;
        let packed = is_gzip(&content.path(&digest))?;
        let suffix = if packed { "+gzip" } else { "" };
        described(&digest, &format!("application/vnd.oci.image.layer.v1.tar{suffix}"))
    });
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": described(&config, "application/vnd.oci.image.config.v1+json")?,
        "layers": layers.collect::<Result<Vec<_>, ImageError>>()?,
    });
    let manifest = content.take(&mut manifest.to_string().as_bytes(), None)?;
    let found = |name: Option<String>| Found { name, manifest: manifest.clone(), index: None };
    let tags = saved.repo_tags.clone().unwrap_or_default();
    if tags.is_empty() {
        return Ok(vec![found(None)]);
    }
    Ok(tags.into_iter().map(|tag| found(Some(tag))).collect())
}

fn is_gzip(path: &Path) -> Result<bool, ImageError> {
    let mut magic = Vec::new();
    let file = File::open(path).map_err(ImageError::file("open", path))?;
    file.take(2).read_to_end(&mut magic).map_err(ImageError::file("read", path))?;
    Ok(magic == [0x1f, 0x8b])
}
