//! Images from registries.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use oci_client::client::{BlobResponse, ClientConfig, ClientProtocol};
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::{Client, Reference, RegistryOperation};
use oci_spec::image::Descriptor;
use tokio::sync::mpsc;

use super::ImageError;
use super::content::Content;
use super::credentials::Credentials;
use super::digest::Digest;
use super::manifest::{self, Document};

/// A registry that is silent for so long has failed.
const SILENCE: Duration = Duration::from_secs(30);
const CONNECT: Duration = Duration::from_secs(10);
/// How often the rest of a blob is asked for after a break.
const TRIES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Blobs of one image that are fetched at a time.
const AT_ONCE: usize = 3;
/// Pieces of a blob between network and disk.
const PIECES: usize = 16;

/// A configuration that is larger is none.
const MAX_CONFIG: usize = 4 << 20;

const MANIFESTS: &[&str] = &[
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

/// What a registry says of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// What the name stands for now: of a manifest, or of the index of several.
    pub digest: Digest,
    /// The kind of document that it is.
    pub media_type: String,
    /// Its bytes.
    pub size: u64,
    /// What it runs on: operating system and architecture.
    pub platforms: Vec<(String, String)>,
}

/// A client of one registry for one user. The library remembers the first credentials that it is
/// given for a registry, so another user needs another client.
#[derive(Clone)]
pub(super) struct Registry {
    client: Client,
    credentials: Credentials,
}

impl Registry {
    /// `plain` is for registries that speak HTTP.
    pub(super) fn new(reference: &Reference, credentials: &Credentials, plain: bool) -> Result<Self, ImageError> {
        let protocol = if plain { ClientProtocol::Http } else { ClientProtocol::Https };
        let config = ClientConfig {
            protocol,
            read_timeout: Some(SILENCE),
            connect_timeout: Some(CONNECT),
            user_agent: concat!("meshd/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        };
        let client = Client::try_from(config).map_err(|source| failed(reference, credentials, source))?;
        Ok(Self { client, credentials: credentials.clone() })
    }

    /// Fetches what is missing of an image; returns the digests of its manifest and, if there is
    /// one, of the index that names it.
    pub(super) async fn pull(
        &self,
        content: &Arc<Content>,
        reference: &Reference,
    ) -> Result<(Digest, Option<Digest>), ImageError> {
        let auth = self.credentials.for_client();
        let error = |source| self.failed(reference, source);
        self.client.auth(reference, &auth, RegistryOperation::Pull).await.map_err(error)?;
        let (top, bytes) = self.document(content, reference).await?;
        let (manifest, index, parts) = match Document::parse(&format!("manifest {top}"), &bytes)? {
            Document::Manifest(parts) => (top, None, parts),
            Document::Index(index) => {
                let chosen = manifest::digest(manifest::choose(&reference.whole(), &index)?)?;
                let (manifest, bytes) =
                    self.document(content, &reference.clone_with_digest(chosen.to_string())).await?;
                let what = format!("manifest {manifest}");
                let Document::Manifest(parts) = Document::parse(&what, &bytes)? else {
                    return Err(manifest::malformed(&what, "an index stands where a manifest should"));
                };
                (manifest, Some(top), parts)
            }
        };
        let blobs: Vec<Descriptor> = std::iter::once(parts.config()).chain(parts.layers()).cloned().collect();
        let fetched = blobs.into_iter().map(|blob| self.blob(content, reference, blob));
        futures_util::stream::iter(fetched).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        Ok((manifest, index))
    }

    /// What a name stands for, without fetching more than its documents; nothing is kept.
    pub(super) async fn describe(&self, reference: &Reference) -> Result<Described, ImageError> {
        let auth = self.credentials.for_client();
        let error = |source| self.failed(reference, source);
        self.client.auth(reference, &auth, RegistryOperation::Pull).await.map_err(error)?;
        let (bytes, digest) = self.client.pull_manifest_raw(reference, &auth, MANIFESTS).await.map_err(error)?;
        let what = format!("manifest {digest}");
        let document = Document::parse(&what, &bytes)?;
        let is_index = matches!(document, Document::Index(_));
        let platforms = match document {
            Document::Index(index) => manifest::platforms(&index),
            Document::Manifest(parts) => {
                let config = parts.config().digest().to_string();
                let mut pieces = self.client.pull_blob_stream(reference, config.as_str()).await.map_err(error)?.stream;
                let mut config = Vec::new();
                while let Some(piece) = pieces.try_next().await.map_err(|source| error(source.into()))? {
                    config.extend_from_slice(&piece);
                    if config.len() > MAX_CONFIG {
                        let (found, limit) = (config.len() as u64, MAX_CONFIG as u64);
                        return Err(ImageError::Limit { what: "the size of the configuration", found, limit });
                    }
                }
                vec![manifest::platform(&what, &config)?]
            }
        };
        let digest = digest.parse()?;
        Ok(Described {
            digest,
            media_type: manifest::media_type(&bytes, is_index),
            size: bytes.len() as u64,
            platforms,
        })
    }

    /// A manifest or index, checked against the digest by which it was asked for, and kept.
    async fn document(&self, content: &Arc<Content>, reference: &Reference) -> Result<(Digest, Bytes), ImageError> {
        let auth = self.credentials.for_client();
        let pulled = self.client.pull_manifest_raw(reference, &auth, MANIFESTS).await;
        let (bytes, _) = pulled.map_err(|source| self.failed(reference, source))?;
        let expected = reference.digest().map(str::parse::<Digest>).transpose()?;
        let (content, kept) = (content.clone(), bytes.clone());
        let digest = blocking(move || content.take(&mut kept.as_ref(), expected.as_ref())).await?;
        Ok((digest, bytes))
    }

    async fn blob(&self, content: &Arc<Content>, reference: &Reference, blob: Descriptor) -> Result<(), ImageError> {
        let digest = manifest::digest(&blob)?;
        if content.has(&digest) {
            return Ok(());
        }
        let (pieces, arriving) = mpsc::channel(PIECES);
        let (content, length) = (content.clone(), blob.size());
        let writing = blocking(move || write(&content, arriving, &digest, length));
        let fetching = async {
            let fetched = self.fetch(reference, &blob, pieces).await;
            fetched.map_err(|source| self.failed(reference, source))
        };
        let (fetched, written) = tokio::join!(fetching, writing);
        match (fetched, written) {
            // Half a blob is what a failed fetch leaves to the writer; a full disk is its own reason.
            (Err(failed), Err(ImageError::Length { .. } | ImageError::Mismatch { .. })) => Err(failed),
            (_, written) => written,
        }
    }

    /// Passes a blob on piece by piece; after a break goes on where it was.
    async fn fetch(
        &self,
        reference: &Reference,
        blob: &Descriptor,
        pieces: mpsc::Sender<Bytes>,
    ) -> Result<(), OciDistributionError> {
        let digest = blob.digest().to_string();
        let (mut have, mut pause) = (0_u64, FIRST_PAUSE);
        for left in (0..TRIES).rev() {
            let failure = match self.rest(reference, &digest, &mut have, &pieces).await {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            let lasting = !matches!(
                failure,
                OciDistributionError::RequestError(_)
                    | OciDistributionError::IoError(_)
                    | OciDistributionError::ServerError { code: 500.., .. }
            );
            if lasting || left == 0 {
                return Err(failure);
            }
            tracing::debug!(%digest, have, error = %failure, "a pull broke off and goes on");
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        Ok(())
    }

    async fn rest(
        &self,
        reference: &Reference,
        digest: &str,
        have: &mut u64,
        pieces: &mpsc::Sender<Bytes>,
    ) -> Result<(), OciDistributionError> {
        // From its start the library checks the digest too; of a rest it cannot.
        let (mut stream, mut skip) = if *have == 0 {
            (self.client.pull_blob_stream(reference, digest).await?, 0)
        } else {
            match self.client.pull_blob_stream_partial(reference, digest, *have, None).await? {
                BlobResponse::Partial(stream) => (stream, 0),
                BlobResponse::Full(stream) => (stream, *have),
            }
        };
        while let Some(mut piece) = stream.stream.try_next().await? {
            let known = skip.min(piece.len() as u64);
            skip -= known;
            let piece = piece.split_off(usize::try_from(known).unwrap_or(piece.len()));
            *have += piece.len() as u64;
            if pieces.send(piece).await.is_err() {
                // The writer has failed and says why.
                return Ok(());
            }
        }
        Ok(())
    }

    fn failed(&self, reference: &Reference, source: OciDistributionError) -> ImageError {
        failed(reference, &self.credentials, source)
    }
}

fn write(
    content: &Content,
    mut arriving: mpsc::Receiver<Bytes>,
    digest: &Digest,
    length: u64,
) -> Result<(), ImageError> {
    let mut ingest = content.begin(Some(length))?;
    while let Some(piece) = arriving.blocking_recv() {
        ingest.write(&piece)?;
        // What is longer than announced ends here and not at the end of the disk.
        if ingest.written() > length {
            break;
        }
    }
    ingest.commit(Some(digest)).map(drop)
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
) -> Result<T, ImageError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| ImageError::Thread)?
}

fn failed(reference: &Reference, credentials: &Credentials, source: OciDistributionError) -> ImageError {
    use OciDistributionError as E;
    let (registry, name) = (reference.resolve_registry().to_owned(), reference.whole());
    let unauthorised = || ImageError::Unauthorised {
        registry: registry.clone(),
        reference: name.clone(),
        anonymous: *credentials == Credentials::Anonymous,
    };
    let not_found = || ImageError::NotFound { registry: registry.clone(), reference: name.clone() };
    match &source {
        E::UnauthorizedError { .. } | E::AuthenticationFailure(_) | E::ServerError { code: 401 | 403, .. } => {
            unauthorised()
        }
        E::ImageManifestNotFoundError(_) | E::ServerError { code: 404, .. } => not_found(),
        E::RegistryError { envelope, .. } => match envelope.errors.first().map(|error| &error.code) {
            Some(OciErrorCode::Unauthorized | OciErrorCode::Denied) => unauthorised(),
            Some(OciErrorCode::ManifestUnknown | OciErrorCode::NameUnknown | OciErrorCode::NotFound) => not_found(),
            _ => ImageError::Registry { registry, reference: name, source: Box::new(source) },
        },
        _ => ImageError::Registry { registry, reference: name, source: Box::new(source) },
    }
}
