//! The images of a node: content, names and unpacked layers, and what may go when room is needed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use oci_client::Reference;
use tokio::sync::{OwnedRwLockReadGuard, RwLock, RwLockWriteGuard};

use super::ImageError;
use super::content::Content;
use super::credentials::Credentials;
use super::digest::Digest;
use super::import::{self, Found};
use super::layers::Layers;
use super::manifest::{self, Image};
use super::pull::{Described, Registry, blocking};
use super::references::{self, Named, References};
use crate::runtime::turns::Turns;

/// How often, and how far apart, the right to remove is tried for.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(20);
/// Registries and users that a node knows at a time.
const CLIENTS: usize = 64;

/// How a node keeps images.
#[derive(Clone, Debug)]
pub struct ImageOptions {
    /// Below it lies everything.
    pub root: PathBuf,
    /// Bytes on disk beyond which images that no container uses are removed, oldest use first.
    pub limit: u64,
    /// Bytes that one layer may unpack to.
    pub layer_limit: u64,
    /// Registries that speak HTTP, as `host:port`; those of this host always do.
    pub plain_registries: Vec<String>,
}

impl ImageOptions {
    /// The defaults: 50 GB of images, 32 GB for a layer.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self { root, limit: 50 << 30, layer_limit: 32 << 30, plain_registries: Vec::new() }
    }
}

/// The images of a node. A clone is the same store.
#[derive(Clone)]
pub struct ImageStore(Arc<Inner>);

struct Inner {
    options: ImageOptions,
    content: Arc<Content>,
    layers: Layers,
    references: Mutex<References>,
    /// Whoever adds content that no name leads to yet holds it shared; whoever removes, alone.
    gate: Arc<RwLock<()>>,
    /// One at a time pulls an image, or unpacks a layer.
    busy: Turns,
    clients: Mutex<BTreeMap<(String, Credentials), Registry>>,
    clock: fn() -> Timestamp,
    used: Used,
}

/// Says which images containers need, by manifest, with one container each.
pub type Used = Box<dyn Fn() -> BTreeMap<Digest, String> + Send + Sync>;

/// While it lives, no image is removed.
pub struct Hold(#[expect(dead_code, reason = "its life is its meaning")] OwnedRwLockReadGuard<()>);

/// One image, as a list shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageSummary {
    /// Its names; none if only a container still needs it.
    pub names: Vec<String>,
    /// Digest of its manifest.
    pub manifest: Digest,
    /// Digest of the index that it came by.
    pub index: Option<Digest>,
    /// Digest of its configuration.
    pub id: Digest,
    /// When it was made, as it says.
    pub created: Option<String>,
    /// Its blobs and unpacked layers, which others may have as well, and the bytes of each.
    pub parts: BTreeMap<Digest, u64>,
}

impl ImageSummary {
    /// All of its bytes, also those that it shares.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.parts.values().sum()
    }
}

impl ImageStore {
    /// Opens the store; what a crash left half is removed.
    ///
    /// # Errors
    /// The directory cannot be made, or holds what is not ours.
    pub fn open(options: ImageOptions, clock: fn() -> Timestamp, used: Used) -> Result<Self, ImageError> {
        let content = Arc::new(Content::open(&options.root)?);
        let layers = Layers::open(options.root.join("layers"))?;
        let references = Mutex::new(References::open(options.root.join("images.json"))?);
        let (gate, busy, clients) = (Arc::default(), Turns::default(), Mutex::default());
        Ok(Self(Arc::new(Inner { options, content, layers, references, gate, busy, clients, clock, used })))
    }

    /// Keeps every image as long as the returned value lives.
    pub async fn hold(&self) -> Hold {
        Hold(self.0.gate.clone().read_owned().await)
    }

    /// The image of a reference, if it is on this node.
    ///
    /// # Errors
    /// It is no reference, or what lies on disk is damaged.
    pub fn find(&self, _hold: &Hold, reference: &str) -> Result<Option<Image>, ImageError> {
        let parsed = references::parse(reference)?;
        let found = self.references().find(&parsed).map(|(_, named)| named.manifest.clone());
        found.map(|manifest| manifest::read(&self.0.content, &manifest)).transpose()
    }

    /// The image of a reference: that of this node, or else from its registry.
    ///
    /// # Errors
    /// It is neither here nor there.
    pub async fn ensure(&self, hold: &Hold, reference: &str, who: &Credentials) -> Result<Image, ImageError> {
        if let Some(image) = self.find(hold, reference)? {
            self.touch(reference)?;
            return Ok(image);
        }
        self.pull(hold, reference, who).await
    }

    /// Fetches an image, or what is missing of it.
    ///
    /// # Errors
    /// The registry cannot be reached, refuses, or sends what is not what was asked for; or the disk
    /// is full. Nothing of a blob stays that is not whole.
    pub async fn pull(&self, hold: &Hold, reference: &str, who: &Credentials) -> Result<Image, ImageError> {
        let parsed = references::parse(reference)?;
        let _turn = self.0.busy.take(format!("pull {}", parsed.whole())).await;
        // Whoever had the turn before may have brought it.
        if parsed.digest().is_some()
            && let Some(image) = self.find(hold, reference)?
        {
            return Ok(image);
        }
        let registry = self.registry(&parsed, who)?;
        let (manifest, index) = registry.pull(&self.0.content, &parsed).await?;
        let image = manifest::read(&self.0.content, &manifest)?;
        self.references().put(parsed.whole(), Named { manifest, index, used: (self.0.clock)() })?;
        Ok(image)
    }

    /// What a name stands for in its registry now.
    ///
    /// # Errors
    /// The registry cannot be reached, refuses, or does not have it.
    pub async fn describe(&self, reference: &str, who: &Credentials) -> Result<Described, ImageError> {
        let parsed = references::parse(reference)?;
        self.registry(&parsed, who)?.describe(&parsed).await
    }

    /// Takes every image of a file or directory: an OCI layout, or what `docker save` writes. `name` is for
    /// a single image, and stands in for the one it carries. Returns the names.
    ///
    /// # Errors
    /// It is neither, or damaged, or has no name and none is given; or the disk is full.
    pub async fn import(&self, path: &Path, name: Option<&str>) -> Result<Vec<String>, ImageError> {
        let result = self.import_held(path, name).await;
        if result.is_err() {
            self.sweep_if_idle().await;
        }
        result
    }

    async fn import_held(&self, path: &Path, name: Option<&str>) -> Result<Vec<String>, ImageError> {
        let _hold = self.hold().await;
        let (content, from) = (self.0.content.clone(), path.to_owned());
        let found = blocking(move || import::import(&content, &from)).await?;
        if name.is_some() && found.len() != 1 {
            let why = format!("it holds {} images, so one name does not fit", found.len());
            return Err(ImageError::NotAnImage { path: path.to_owned(), why });
        }
        let named = found.into_iter().map(|found| self.name(path, name, found)).collect::<Result<Vec<_>, _>>()?;
        for (name, named) in &named {
            self.references().put(name.clone(), named.clone())?;
        }
        Ok(named.into_iter().map(|(name, _)| name).collect())
    }

    /// The name of an imported image, after a look whether it is whole.
    fn name(&self, path: &Path, given: Option<&str>, found: Found) -> Result<(String, Named), ImageError> {
        let image = manifest::read(&self.0.content, &found.manifest)?;
        let nameless =
            || ImageError::NotAnImage { path: path.to_owned(), why: "it has no name: give it one".to_owned() };
        let name = references::parse(&given.map(str::to_owned).or(found.name).ok_or_else(nameless)?)?;
        if let Some(lacking) = image.layers.iter().find(|layer| !self.0.content.has(&layer.blob)) {
            let why = format!("layer {} is not in it", lacking.blob);
            return Err(ImageError::NotAnImage { path: path.to_owned(), why });
        }
        let named = Named { manifest: found.manifest, index: found.index, used: (self.0.clock)() };
        Ok((name.whole(), named))
    }

    /// Unpacks the layers of an image that are not yet.
    ///
    /// # Errors
    /// A layer is damaged or leads out of itself, or the disk is full.
    pub async fn unpack(&self, _hold: &Hold, image: &Image) -> Result<(), ImageError> {
        for layer in &image.layers {
            let _turn = self.0.busy.take(format!("unpack {}", layer.chain)).await;
            if self.0.layers.has(layer) {
                continue;
            }
            let (inner, layer) = (self.0.clone(), layer.clone());
            blocking(move || inner.layers.unpack(&inner.content, &layer, inner.options.layer_limit)).await?;
        }
        Ok(())
    }

    /// Where unpacked layers lie, and the directories of this image in it, the highest first, as
    /// overlayfs wants them.
    #[must_use]
    pub fn lower(&self, image: &Image) -> (&Path, Vec<String>) {
        let names = image.layers.iter().rev().map(|layer| Layers::name(layer).to_owned());
        (self.0.layers.root(), names.collect())
    }

    /// What is here, by name.
    ///
    /// # Errors
    /// What lies on disk is damaged.
    pub fn list(&self, _hold: &Hold) -> Result<Vec<ImageSummary>, ImageError> {
        let mut by_manifest: BTreeMap<Digest, (Vec<String>, Option<Digest>)> = BTreeMap::new();
        for (name, named) in self.references().iter() {
            let (names, index) = by_manifest.entry(named.manifest.clone()).or_default();
            names.push(name.to_owned());
            *index = index.take().or_else(|| named.index.clone());
        }
        let sizes = self.0.sizes()?;
        let summary = |(manifest, (names, index)): (Digest, (Vec<String>, Option<Digest>))| {
            let image = manifest::read(&self.0.content, &manifest)?;
            let size = |part: Digest| sizes.get(&part).map(|bytes| (part, *bytes));
            let parts = parts(&image).into_iter().filter_map(size).collect();
            Ok(ImageSummary { names, manifest, index, id: image.id, created: image.created, parts })
        };
        by_manifest.into_iter().map(summary).collect()
    }

    /// Forgets a name; content that nothing else needs goes with it.
    ///
    /// # Errors
    /// There is no such image, or a container needs it and this is its last name.
    pub async fn remove(&self, reference: &str) -> Result<(), ImageError> {
        let parsed = references::parse(reference)?;
        let _alone = self.alone().await.ok_or_else(|| ImageError::Busy { reference: reference.to_owned() })?;
        let used = (self.0.used)();
        let unknown = || ImageError::Unknown { reference: reference.to_owned() };
        let (name, manifest) = {
            let references = self.references();
            let (name, named) = references.find(&parsed).ok_or_else(unknown)?;
            let last = references.iter().filter(|(_, other)| other.manifest == named.manifest).count() == 1;
            if let Some(container) = used.get(&named.manifest).filter(|_| last) {
                let (reference, container) = (reference.to_owned(), container.clone());
                return Err(ImageError::InUse { reference, container });
            }
            (name.to_owned(), named.manifest.clone())
        };
        self.references().remove(&name)?;
        tracing::debug!(name, %manifest, "image removed");
        self.sweep(used.into_keys().collect()).await
    }

    /// Removes images, least recently used first, until the rest is within the limit; and all content that no
    /// image needs. Returns the names removed.
    ///
    /// # Errors
    /// A file cannot be read or removed.
    pub async fn collect(&self) -> Result<Vec<String>, ImageError> {
        // A pull takes what it takes; the next collection comes.
        let Some(_alone) = self.alone().await else { return Ok(Vec::new()) };
        let used: BTreeSet<Digest> = (self.0.used)().into_keys().collect();
        let sizes = self.0.sizes()?;
        let mut removed = Vec::new();
        loop {
            let needed = self.0.needed(&used)?;
            let total: u64 = needed.iter().filter_map(|part| sizes.get(part)).sum();
            let oldest = || {
                let references = self.references();
                let idle = references.iter().filter(|(_, named)| !used.contains(&named.manifest));
                idle.min_by_key(|(_, named)| named.used).map(|(name, _)| name.to_owned())
            };
            let Some(name) = (total > self.0.options.limit).then(oldest).flatten() else { break };
            self.references().remove(&name)?;
            removed.push(name);
        }
        self.sweep(used).await?;
        Ok(removed)
    }

    /// After a failure: what it brought and nobody needs goes, unless others are at work, whose own
    /// content has no name yet. Then the next collection does it.
    async fn sweep_if_idle(&self) {
        let Ok(_alone) = self.0.gate.try_write() else { return };
        if let Err(error) = self.sweep((self.0.used)().into_keys().collect()).await {
            tracing::warn!(%error, "content of a failed image stays for now");
        }
    }

    /// The right to remove, if nobody holds images for a moment. It is not waited for in line: whoever wants
    /// to hold would wait behind us, and so for the slowest pull.
    async fn alone(&self) -> Option<RwLockWriteGuard<'_, ()>> {
        for _ in 0..TRIES {
            if let Ok(alone) = self.0.gate.try_write() {
                return Some(alone);
            }
            tokio::time::sleep(PAUSE).await;
        }
        None
    }

    async fn sweep(&self, used: BTreeSet<Digest>) -> Result<(), ImageError> {
        let inner = self.0.clone();
        blocking(move || inner.sweep(&used)).await
    }

    fn touch(&self, reference: &str) -> Result<(), ImageError> {
        let parsed = references::parse(reference)?;
        let mut references = self.references();
        let found = references.find(&parsed).map(|(name, named)| (name.to_owned(), named.clone()));
        let Some((name, named)) = found else { return Ok(()) };
        references.put(name, Named { used: (self.0.clock)(), ..named })
    }

    fn registry(&self, reference: &Reference, who: &Credentials) -> Result<Registry, ImageError> {
        let address = reference.resolve_registry();
        let mut clients = self.0.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (address.to_owned(), who.clone());
        if let Some(client) = clients.get(&key) {
            return Ok(client.clone());
        }
        if clients.len() >= CLIENTS {
            // They hold nothing but connections and tokens.
            clients.clear();
        }
        let plain = self.0.options.plain_registries.iter().any(|plain| plain == address) || is_this_host(address);
        let client = Registry::new(reference, who, plain)?;
        clients.insert(key, client.clone());
        Ok(client)
    }

    fn references(&self) -> MutexGuard<'_, References> {
        self.0.references.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Every blob and layer that names and these images lead to. A digest names content, so blobs
    /// and chains do not meet, but for a lowest layer that is not packed: it is both.
    fn needed(&self, used: &BTreeSet<Digest>) -> Result<BTreeSet<Digest>, ImageError> {
        let references = self.references.lock().unwrap_or_else(PoisonError::into_inner);
        let named: Vec<Named> = references.iter().map(|(_, named)| named.clone()).collect();
        drop(references);
        let mut needed: BTreeSet<Digest> = named.iter().filter_map(|named| named.index.clone()).collect();
        let manifests: BTreeSet<Digest> =
            named.into_iter().map(|named| named.manifest).chain(used.iter().cloned()).collect();
        for manifest in manifests {
            needed.extend(parts(&manifest::read(&self.content, &manifest)?));
        }
        Ok(needed)
    }

    fn sizes(&self) -> Result<BTreeMap<Digest, u64>, ImageError> {
        let mut sizes = BTreeMap::new();
        for (part, bytes) in self.content.list()?.into_iter().chain(self.layers.list()?) {
            *sizes.entry(part).or_default() += bytes;
        }
        Ok(sizes)
    }

    fn sweep(&self, used: &BTreeSet<Digest>) -> Result<(), ImageError> {
        let needed = self.needed(used)?;
        for (chain, _) in self.layers.list()?.iter().filter(|(chain, _)| !needed.contains(chain)) {
            self.layers.remove(chain)?;
        }
        let blobs = self.content.list()?;
        blobs.iter().filter(|(blob, _)| !needed.contains(blob)).try_for_each(|(blob, _)| self.content.remove(blob))
    }
}

/// Everything an image consists of: its documents, blobs and unpacked layers.
fn parts(image: &Image) -> Vec<Digest> {
    let documents = [image.manifest.clone(), image.id.clone()];
    let layers = image.layers.iter().flat_map(|layer| [layer.blob.clone(), layer.chain.clone()]);
    documents.into_iter().chain(layers).collect()
}

/// As Docker has it: a registry of this host need not have a certificate.
fn is_this_host(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host == "localhost" || host == "[::1]" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
