//! The handle: put-once writes, verified reads, retries and deadlines.

use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt};
use holdfast_env::Env;
use holdfast_format::{
    Envelope, Layer, Manifest, ManifestEntry, PartRef, PartSummary, SpanFileReader, SpanFileSummary,
};
use holdfast_types::{ByteCount, Digest, ErrorCode, Fault, Hasher, LayerPath, ObjectRef};
use object_store::path::Path;
use object_store::{
    GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
};
use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::claim::Claim;
use crate::error::fault;
use crate::layout;
use crate::names::{DataName, PartName};
use crate::provider::StoreProvider;
use crate::uri::CollectionUri;

/// How often an operation is tried while its errors may pass. A job retries on top of this, with its task.
const ATTEMPTS: u32 = 4;
/// The pause before the second attempt; it doubles with each further one. Short: this is for hiccups, outages are the job's business.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest that a small operation may take, and that a stream may stand still.
const CALL_DEADLINE: Duration = Duration::from_secs(30);
/// The longest that writing one object may take: a part of 64 MiB over a line of 2 Mbit/s.
const PUT_DEADLINE: Duration = Duration::from_secs(300);
/// How many small operations run at once.
pub(crate) const CONCURRENCY: usize = 8;

/// A collection. Cheap to clone; every clone is the same collection.
///
/// All methods may be dropped at any await (cancel-safe) and called again with the same arguments (idempotent).
#[derive(Debug, Clone)]
pub struct CollectionStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    uri: CollectionUri,
    objects: Arc<dyn ObjectStore>,
    provider: Arc<dyn StoreProvider>,
    env: Env,
    envelope: Envelope,
}

/// An object as it was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) length: ByteCount,
    pub(crate) digest: Digest,
}

impl CollectionStore {
    /// Opens a collection, making its place if it does not exist.
    ///
    /// # Errors
    /// What the provider failed with.
    pub async fn open(
        provider: &Arc<dyn StoreProvider>,
        uri: &CollectionUri,
        env: &Env,
    ) -> Result<Self, Fault> {
        let (opener, place) = (Arc::clone(provider), uri.clone());
        let objects = env.blocking(move || opener.open(&place)).await?;
        Ok(Self {
            inner: Arc::new(Inner {
                uri: uri.clone(),
                objects,
                provider: Arc::clone(provider),
                env: env.clone(),
                envelope: Envelope::Clear,
            }),
        })
    }

    /// Opens a collection that must exist, for reading.
    ///
    /// # Errors
    /// `NotFound` if it does not, otherwise what the provider failed with.
    pub async fn open_existing(
        provider: &Arc<dyn StoreProvider>,
        uri: &CollectionUri,
        env: &Env,
    ) -> Result<Self, Fault> {
        let (opener, place) = (Arc::clone(provider), uri.clone());
        if env.blocking(move || opener.exists(&place)).await? {
            Self::open(provider, uri, env).await
        } else {
            Err(Fault::new(
                ErrorCode::NotFound,
                format!("collection {uri} does not exist"),
            )
            .hint("check the location; a collection is made by the first backup into it"))
        }
    }

    /// Where the collection is.
    #[must_use]
    pub fn uri(&self) -> &CollectionUri {
        &self.inner.uri
    }

    pub(crate) fn env(&self) -> &Env {
        &self.inner.env
    }

    pub(crate) fn envelope(&self) -> &Envelope {
        &self.inner.envelope
    }

    pub(crate) fn objects(&self) -> &Arc<dyn ObjectStore> {
        &self.inner.objects
    }

    /// Claims a layer's directory for a job, before anything is written there. A job's own claim is recognised.
    ///
    /// # Errors
    /// `AlreadyExists` if the directory holds a finished layer of another job, `FailedPrecondition` if another job claimed it.
    pub async fn claim(&self, path: &LayerPath, claim: Claim) -> Result<(), Fault> {
        if let Some(layer) = self.find_layer(path).await? {
            let manifest = &layer.manifest;
            return if (manifest.cluster, manifest.job) == (claim.cluster, claim.job) {
                Ok(())
            } else {
                Err(already_there(path, manifest))
            };
        }
        let at = layout::claim(path);
        let body = Bytes::from(claim.encode());
        match self.put_once(&at, vec![body]).await {
            Ok(_) => Ok(()),
            Err(fault) if fault.code == ErrorCode::AlreadyExists => {
                let found = self.read_claim(path).await?;
                match found {
                    Some(found) if found == claim => Ok(()),
                    Some(found) => Err(found.taken(path)),
                    None => Err(fault),
                }
            }
            Err(fault) => Err(fault),
        }
    }

    /// The claim on a layer's directory, if there is one.
    ///
    /// # Errors
    /// `Corrupted` if it cannot be read back.
    pub async fn read_claim(&self, path: &LayerPath) -> Result<Option<Claim>, Fault> {
        let at = layout::claim(path);
        match self.get_small(&at).await {
            Ok(bytes) => Claim::decode(&bytes)
                .map(Some)
                .map_err(|fault| fault.context(&at)),
            Err(fault) if fault.code == ErrorCode::NotFound => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// Writes a finished span file, and gives the reference that checkpoints and manifests carry. Durable when it returns.
    ///
    /// `chunks` are all bytes of the file in order, `summary` is what its writer said of them.
    ///
    /// # Errors
    /// `AlreadyExists` if the name holds other content, otherwise what the store failed with.
    pub async fn put_data(
        &self,
        path: &LayerPath,
        name: DataName,
        chunks: Vec<Bytes>,
        summary: &SpanFileSummary,
    ) -> Result<ObjectRef, Fault> {
        let at = layout::data(path).join(name.to_string());
        let sealed = self.inner.envelope.seal(at.as_ref(), chunks)?;
        let stored = match self.inner.envelope {
            // The writer digested these very bytes.
            Envelope::Clear => self.put_known(&at, sealed, stored_of(summary)).await?,
            _ => self.put_once(&at, sealed).await?,
        };
        Ok(ObjectRef {
            length: stored.length,
            digest: stored.digest,
            ..summary.object_ref(name.to_string())
        })
    }

    /// Writes a finished part of a layer's file list. Durable when it returns.
    ///
    /// # Errors
    /// As [`CollectionStore::put_data`].
    pub async fn put_part(
        &self,
        path: &LayerPath,
        name: PartName,
        chunks: Vec<Bytes>,
        summary: &PartSummary,
    ) -> Result<PartRef, Fault> {
        let at = layout::parts(path).join(name.to_string());
        let sealed = self.inner.envelope.seal(at.as_ref(), chunks)?;
        let stored = self.put_once(&at, sealed).await?;
        Ok(PartRef {
            length: stored.length,
            digest: stored.digest,
            ..summary.part_ref(name.to_string())
        })
    }

    /// Makes a layer exist: checks that the parts are there, writes the manifest, and then, for a full, the pointer to it.
    ///
    /// # Errors
    /// `Corrupted` if a part is missing or has another length, `AlreadyExists` if the directory holds another layer, otherwise what
    /// the store failed with.
    pub async fn commit_layer(&self, manifest: &Manifest) -> Result<Layer, Fault> {
        let path = &manifest.path;
        let checks = manifest.parts.iter().map(|part| async move {
            let at = layout::parts(path).join(part.name.as_str());
            let found = self.head(&at).await?;
            match found {
                Some(meta) if meta.size == part.length.0 => Ok(()),
                found => Err(Fault::new(
                    ErrorCode::Corrupted,
                    format!(
                        "object {at} has {} bytes and should have {}",
                        found.map_or(0, |meta| meta.size),
                        part.length.0
                    ),
                )),
            }
        });
        futures::stream::iter(checks)
            .buffer_unordered(CONCURRENCY)
            .try_collect::<()>()
            .await?;

        let at = layout::manifest(path);
        let sealed = self
            .inner
            .envelope
            .seal(at.as_ref(), vec![manifest.encode()?])?;
        let stored = match self.put_once(&at, sealed).await {
            Err(fault) if fault.code == ErrorCode::AlreadyExists => {
                let found = self.load_layer(path).await?;
                return Err(already_there(path, &found.manifest));
            }
            other => other?,
        };
        if manifest.is_full() {
            let pointer = layout::latest(manifest.end);
            self.put_once(&pointer, vec![Bytes::from(path.full.clone())])
                .await?;
        }
        Ok(Layer {
            manifest: manifest.clone(),
            digest: stored.digest,
            length: stored.length,
        })
    }

    /// Reads a layer's manifest.
    ///
    /// # Errors
    /// `NotFound` if there is no finished layer, `Corrupted` if the manifest is damaged or belongs elsewhere.
    pub async fn load_layer(&self, path: &LayerPath) -> Result<Layer, Fault> {
        self.find_layer(path).await?.ok_or_else(|| {
            Fault::new(
                ErrorCode::NotFound,
                format!(
                    "{path} in {} does not contain a completed backup",
                    self.uri()
                ),
            )
            .hint("list what there is with `holdfast backups`")
        })
    }

    /// Reads a layer's manifest, and checks that it is the expected one.
    ///
    /// # Errors
    /// As [`CollectionStore::load_layer`]; `Corrupted` if the digest is another.
    pub async fn load_layer_as(&self, path: &LayerPath, digest: Digest) -> Result<Layer, Fault> {
        let layer = self.load_layer(path).await?;
        if layer.digest == digest {
            Ok(layer)
        } else {
            Err(Fault::new(
                ErrorCode::Corrupted,
                format!("the manifest of layer {path} is not the one that was expected"),
            )
            .hint("somebody replaced it; restore the object, or take a new full backup"))
        }
    }

    /// A layer's manifest, if there is one.
    pub(crate) async fn find_layer(&self, path: &LayerPath) -> Result<Option<Layer>, Fault> {
        let at = layout::manifest(path);
        let stored = match self.get_small(&at).await {
            Ok(stored) => stored,
            Err(fault) if fault.code == ErrorCode::NotFound => return Ok(None),
            Err(fault) => return Err(fault),
        };
        let (digest, length) = (Digest::of(&stored), ByteCount(stored.len() as u64));
        let clear = self.inner.envelope.open(at.as_ref(), stored)?;
        let manifest = Manifest::decode(&clear).map_err(|fault| fault.context(&at))?;
        if manifest.path != *path {
            return Err(Fault::new(
                ErrorCode::Corrupted,
                format!("object {at} is the manifest of layer {}", manifest.path),
            ));
        }
        Ok(Some(Layer {
            manifest,
            digest,
            length,
        }))
    }

    /// Reads a whole data object, and checks its length and digest.
    ///
    /// # Errors
    /// `NotFound` or `Corrupted`, naming the object; otherwise what the store failed with.
    pub async fn get_verified(&self, path: &LayerPath, object: &ObjectRef) -> Result<Bytes, Fault> {
        let at = layout::data(path).join(object.name.as_str());
        let stored = Stored {
            length: object.length,
            digest: object.digest,
        };
        let bytes = self.get_exactly(&at, stored).await?;
        self.inner.envelope.open(at.as_ref(), bytes)
    }

    /// Reads a whole span file into memory, with its full digest checked.
    ///
    /// # Errors
    /// As [`CollectionStore::get_verified`].
    pub async fn read_span(
        &self,
        path: &LayerPath,
        object: &ObjectRef,
    ) -> Result<SpanFileReader<Bytes>, Fault> {
        let bytes = self.get_verified(path, object).await?;
        SpanFileReader::open(bytes)
            .map_err(|fault| fault.context(format!("{path}/data/{}", object.name)))
    }

    /// Reads an object and compares it with what it should be. A damaged answer is asked for again, for lines damage bits too; an
    /// object that stays damaged is.
    pub(crate) async fn get_exactly(&self, at: &Path, expected: Stored) -> Result<Bytes, Fault> {
        self.retrying(|| async {
            let bytes = self.get_once(at, Some(expected.length.0)).await?;
            let checked = bytes.clone();
            let digest = self.env().blocking(move || Digest::of(&checked)).await;
            if digest == expected.digest {
                Ok(bytes)
            } else {
                Err(damaged(at, "its digest does not match"))
            }
        })
        .await
    }

    /// Reads a small object whose length and digest nobody knows.
    pub(crate) async fn get_small(&self, at: &Path) -> Result<Bytes, Fault> {
        self.retrying(|| self.get_once(at, None)).await
    }

    async fn get_once(&self, at: &Path, length: Option<u64>) -> Result<Bytes, Fault> {
        let get = self.inner.objects.get_opts(at, GetOptions::default());
        let result = within(CALL_DEADLINE, "reading", at, get).await?;
        let size = result.meta.size;
        if length.is_some_and(|length| length != size) {
            return Err(damaged(
                at,
                &format!(
                    "it has {size} bytes and should have {}",
                    length.unwrap_or_default()
                ),
            ));
        }
        if size > Manifest::MAX_LENGTH.max(length.unwrap_or_default()) {
            return Err(damaged(at, "it is larger than any object of its kind"));
        }
        let mut stream = result.into_stream();
        let mut bytes = BytesMut::new();
        while let Some(chunk) = within(CALL_DEADLINE, "reading", at, stream.try_next()).await? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() as u64 > size {
                break;
            }
        }
        if bytes.len() as u64 == size {
            Ok(bytes.freeze())
        } else {
            Err(damaged(
                at,
                &format!("{} of {size} bytes came", bytes.len()),
            ))
        }
    }

    /// Reads and digests an object without holding it: for comparing, and for verification.
    pub(crate) async fn digest_of(&self, at: &Path) -> Result<Stored, Fault> {
        self.retrying(|| async {
            let get = self.inner.objects.get_opts(at, GetOptions::default());
            let result = within(CALL_DEADLINE, "reading", at, get).await?;
            let size = result.meta.size;
            let mut stream = result.into_stream();
            let (mut hasher, mut length) = (Hasher::new(), 0u64);
            while let Some(chunk) = within(CALL_DEADLINE, "reading", at, stream.try_next()).await? {
                length = length.saturating_add(chunk.len() as u64);
                hasher = self
                    .env()
                    .blocking(move || {
                        hasher.update(&chunk);
                        hasher
                    })
                    .await;
            }
            if length != size {
                return Err(damaged(at, &format!("{length} of {size} bytes came")));
            }
            Ok(Stored {
                length: ByteCount(length),
                digest: hasher.finish(),
            })
        })
        .await
    }

    /// Reads a range of an object; an answer of another length is an error.
    pub(crate) async fn get_range(&self, at: &Path, range: Range<u64>) -> Result<Bytes, Fault> {
        let expected = range.end.saturating_sub(range.start);
        self.retrying(|| async {
            let options = GetOptions {
                range: Some(GetRange::Bounded(range.clone())),
                ..GetOptions::default()
            };
            let get = self.inner.objects.get_opts(at, options);
            let result = within(CALL_DEADLINE, "reading", at, get).await?;
            let mut stream = result.into_stream();
            let mut bytes = BytesMut::new();
            while let Some(chunk) = within(CALL_DEADLINE, "reading", at, stream.try_next()).await? {
                bytes.extend_from_slice(&chunk);
                if bytes.len() as u64 > expected {
                    break;
                }
            }
            if bytes.len() as u64 == expected {
                Ok(bytes.freeze())
            } else {
                Err(damaged(at, "it is shorter than its manifest says"))
            }
        })
        .await
    }

    /// An object's description; `None` if there is no such object.
    pub(crate) async fn head(&self, at: &Path) -> Result<Option<ObjectMeta>, Fault> {
        let found = self
            .retrying(|| within(CALL_DEADLINE, "reading", at, self.inner.objects.head(at)))
            .await;
        match found {
            Ok(meta) => Ok(Some(meta)),
            Err(fault) if fault.code == ErrorCode::NotFound => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// Removes an object; one that is not there is no error.
    pub(crate) async fn remove(&self, at: &Path) -> Result<(), Fault> {
        let removed = self
            .retrying(|| within(CALL_DEADLINE, "removing", at, self.inner.objects.delete(at)))
            .await;
        match removed {
            Err(fault) if fault.code == ErrorCode::NotFound => Ok(()),
            other => other,
        }
    }

    pub(crate) async fn remove_drafts(
        &self,
        directory: &Path,
        prefix: String,
    ) -> Result<u64, Fault> {
        let (provider, uri) = (Arc::clone(&self.inner.provider), self.inner.uri.clone());
        let directory = directory.to_string();
        self.env()
            .blocking(move || provider.remove_drafts(&uri, &directory, &prefix))
            .await
    }

    /// Writes an object that must not exist, or must have this very content.
    pub(crate) async fn put_once(&self, at: &Path, chunks: Vec<Bytes>) -> Result<Stored, Fault> {
        let digested = chunks.clone();
        let stored = self.env().blocking(move || {
            let mut hasher = Hasher::new();
            digested.iter().for_each(|chunk| {
                hasher.update(chunk);
            });
            Stored {
                length: ByteCount(digested.iter().map(|chunk| chunk.len() as u64).sum()),
                digest: hasher.finish(),
            }
        });
        let stored = stored.await;
        self.put_known(at, chunks, stored).await
    }

    /// [`CollectionStore::put_once`] with length and digest known.
    ///
    /// "Already exists" is settled by comparing content: the object may be our own, from an attempt whose answer was lost.
    async fn put_known(
        &self,
        at: &Path,
        chunks: Vec<Bytes>,
        stored: Stored,
    ) -> Result<Stored, Fault> {
        let payload: PutPayload = chunks.into_iter().collect();
        let put = self
            .retrying(|| {
                let options = PutOptions {
                    mode: PutMode::Create,
                    ..PutOptions::default()
                };
                let put = self.inner.objects.put_opts(at, payload.clone(), options);
                within(PUT_DEADLINE, "writing", at, put)
            })
            .await;
        match put {
            Ok(_) => Ok(stored),
            Err(fault) if fault.code == ErrorCode::AlreadyExists => {
                let found = self.digest_of(at).await?;
                if found != stored {
                    return Err(Fault::new(
                        ErrorCode::AlreadyExists,
                        format!("object {at} exists already, with other content"),
                    )
                    .hint("nothing is ever overwritten: find out who else writes into this collection"));
                }
                let (provider, uri) = (Arc::clone(&self.inner.provider), self.inner.uri.clone());
                let key = at.to_string();
                self.env()
                    .blocking(move || provider.settle(&uri, &key))
                    .await?;
                Ok(stored)
            }
            Err(fault) => Err(fault),
        }
    }

    /// Repeats an idempotent operation while its error may pass.
    pub(crate) async fn retrying<T, F>(&self, operation: impl Fn() -> F) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        let mut pause = FIRST_PAUSE;
        for _ in 1..ATTEMPTS {
            match operation().await {
                Err(fault) if may_pass(&fault) => {
                    tracing::debug!(collection = %self.uri(), %fault, "store operation is tried again");
                    tokio::time::sleep(pause).await;
                    pause = pause.saturating_mul(2);
                }
                other => return other,
            }
        }
        operation().await
    }
}

/// Whether an error may pass within a second. A full store stays full; a damaged answer may have been damaged on its way.
fn may_pass(fault: &Fault) -> bool {
    fault.code == ErrorCode::Corrupted
        || (fault.is_retryable() && fault.code != ErrorCode::StorageFull)
}

fn stored_of(summary: &SpanFileSummary) -> Stored {
    Stored {
        length: summary.length,
        digest: summary.digest,
    }
}

/// The error for an object that is not what its manifest says.
pub(crate) fn damaged(at: &Path, why: &str) -> Fault {
    Fault::new(
        ErrorCode::Corrupted,
        format!("object {at} is damaged: {why}"),
    )
    .hint("`holdfast verify` finds all damaged objects of a chain")
}

fn already_there(path: &LayerPath, found: &Manifest) -> Fault {
    let what = match path.incremental {
        None => format!("a full backup already exists in {path}"),
        Some(_) => format!("{path} already contains a {}", layout::MANIFEST),
    };
    Fault::new(
        ErrorCode::AlreadyExists,
        format!(
            "{what}: it was written by job {} of cluster {}",
            found.job, found.cluster
        ),
    )
    .hint("start the backup again, at a later time")
}

/// Runs one call of a store under a deadline.
pub(crate) async fn within<T>(
    deadline: Duration,
    action: &str,
    at: &Path,
    call: impl Future<Output = object_store::Result<T>>,
) -> Result<T, Fault> {
    match tokio::time::timeout(deadline, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(fault(action, at.as_ref(), &error)),
        Err(_) => Err(Fault::new(
            ErrorCode::DeadlineExceeded,
            format!("{action} {at}: no answer within {} s", deadline.as_secs()),
        )),
    }
}

/// The deadline of one step of a listing.
pub(crate) const LIST_DEADLINE: Duration = CALL_DEADLINE;

/// A part's entry, resolved to the object's key in the collection.
pub(crate) fn data_key(path: &LayerPath, entry: &ManifestEntry) -> Path {
    layout::data(path).join(entry.object.name.as_str())
}
