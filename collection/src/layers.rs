//! Layers on a store: claim, objects, commit, reading back.

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use holdfast_format::{
    CatalogFile, Envelope, Layer, Manifest, ManifestEntry, PartRef, PartSummary, SpanFileReader,
    SpanFileSummary, TupleFileReader, TupleFileSummary,
};
use holdfast_types::{ByteCount, Digest, ErrorCode, Fault, LayerPath, ObjectKind, ObjectRef};
use object_store::path::Path;

use crate::claim::Claim;
use crate::layout;
use crate::names::{DataName, PartName};
use crate::store::{CONCURRENCY, CollectionStore, Purpose, Stored};

/// Bytes of the words that files start with.
const MAGIC_LENGTH: u64 = 8;

impl CollectionStore {
    /// Claims a layer's directory for a job, before anything is written there. A job's own claim is recognised.
    ///
    /// # Errors
    /// `AlreadyExists` if the directory holds a finished layer of another job, `FailedPrecondition` if another job claimed it, `NotFound` if the
    /// chain has expired.
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
        match self.home().put_once(&at, vec![body]).await {
            Ok(_) => {}
            Err(fault) if fault.code == ErrorCode::AlreadyExists => {
                let found = self.read_claim(path).await?;
                match found {
                    Some(found) if found == claim => {}
                    Some(found) => return Err(found.taken(path)),
                    None => return Err(fault),
                }
            }
            Err(fault) => return Err(fault),
        }
        // Looked at after the claim is there: whoever marks the chain later sees the claim, and what was marked before is seen here.
        self.check_not_expired(&path.full).await?;
        self.describe_places(path, claim).await
    }

    /// The claim on a layer's directory, if there is one.
    ///
    /// # Errors
    /// `Corrupted` if it cannot be read back.
    pub async fn read_claim(&self, path: &LayerPath) -> Result<Option<Claim>, Fault> {
        let at = layout::claim(path);
        match self.get_parsed(&at, |bytes| Claim::decode(&bytes)).await {
            Ok(claim) => Ok(Some(claim)),
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
        let object = summary.object_ref(name.to_string());
        self.put_object(path, ObjectKind::Rows, chunks, object)
            .await
    }

    /// [`CollectionStore::put_data`] of a tuple file, whose name is [`DataName::tuples`].
    ///
    /// # Errors
    /// As [`CollectionStore::put_data`].
    pub async fn put_tuples(
        &self,
        path: &LayerPath,
        name: DataName,
        chunks: Vec<Bytes>,
        summary: &TupleFileSummary,
    ) -> Result<ObjectRef, Fault> {
        let object = summary.object_ref(name.to_string());
        self.put_object(path, ObjectKind::Tuples, chunks, object)
            .await
    }

    /// [`CollectionStore::put_data`] of a catalog file, whose name is [`DataName::catalog`].
    ///
    /// # Errors
    /// As [`CollectionStore::put_data`].
    pub async fn put_catalog(
        &self,
        path: &LayerPath,
        name: DataName,
        file: CatalogFile,
    ) -> Result<ObjectRef, Fault> {
        let object = file.object_ref(name.to_string());
        self.put_object(path, ObjectKind::Catalog, vec![file.bytes], object)
            .await
    }

    async fn put_object(
        &self,
        path: &LayerPath,
        kind: ObjectKind,
        chunks: Vec<Bytes>,
        object: ObjectRef,
    ) -> Result<ObjectRef, Fault> {
        if object.kind() != kind {
            return Err(Fault::new(
                ErrorCode::Internal,
                format!(
                    "object {} is not of the kind that its name says",
                    object.name
                ),
            ));
        }
        let at = layout::data(path).join(object.name.as_str());
        let sealed = self.seal(&at, chunks, object.digest).await?;
        let known = Stored {
            length: object.length,
            digest: object.digest,
        };
        let stored = match self.envelope() {
            // The writer digested these very bytes.
            Envelope::Clear => self.put_known(&at, sealed, known, Purpose::Data).await?,
            _ => self.put_data_once(&at, sealed).await?,
        };
        Ok(ObjectRef {
            length: stored.length,
            digest: stored.digest,
            ..object
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
        let sealed = self.seal(&at, chunks, summary.digest).await?;
        let stored = self.put_once(&at, sealed).await?;
        Ok(PartRef {
            length: stored.length,
            digest: stored.digest,
            store: u16::try_from(self.number()).unwrap_or(u16::MAX),
            ..summary.part_ref(name.to_string())
        })
    }

    /// Makes a layer exist: checks that the parts are there, writes the manifest, and then, for a full, the pointer to it.
    ///
    /// # Errors
    /// `Corrupted` if a part is missing or has another length, `AlreadyExists` if the directory holds another layer, `NotFound` if the chain has
    /// expired meanwhile, otherwise what the store failed with.
    pub async fn commit_layer(&self, manifest: &Manifest) -> Result<Layer, Fault> {
        let path = &manifest.path;
        let checks = manifest.parts.iter().map(|part| async move {
            let at = layout::parts(path).join(part.name.as_str());
            let store = self.numbered(usize::from(part.store))?;
            let found = store.head(&at).await?;
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

        self.check_chain_is_there(path).await?;
        let at = layout::manifest(path);
        let clear = manifest.encode()?;
        let digest = Digest::of(&clear);
        let sealed = self.seal(&at, vec![clear], digest).await?;
        let home = self.home();
        let stored = match home.put_once(&at, sealed).await {
            Err(fault) if fault.code == ErrorCode::AlreadyExists => {
                let found = self.load_layer(path).await?;
                return Err(already_there(path, &found.manifest));
            }
            other => other?,
        };
        if manifest.is_full() {
            let pointer = layout::latest(&path.full, manifest.end);
            home.put_once(&pointer, vec![Bytes::from(path.full.clone())])
                .await?;
        }
        let (pointer, body) = layout::index(manifest, stored.digest, self.envelope().is_sealed());
        home.put_once(&pointer, vec![Bytes::from(body)]).await?;
        Ok(Layer {
            manifest: manifest.clone(),
            digest: stored.digest,
            length: stored.length,
        })
    }

    /// A layer that nobody could restore must not come to be: not in a chain that has expired, and not where its full is gone.
    async fn check_chain_is_there(&self, path: &LayerPath) -> Result<(), Fault> {
        self.check_not_expired(&path.full).await?;
        let full = LayerPath::full(path.full.clone());
        let is_there = path.incremental.is_none()
            || (self.home().head(&layout::manifest(&full)).await?).is_some();
        match is_there {
            true => Ok(()),
            false => Err(Fault::new(
                ErrorCode::NotFound,
                format!(
                    "the full backup in {full} of {} is gone, and {path} goes on with it",
                    self.uri()
                ),
            )
            .hint("take a full backup")),
        }
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

    /// [`CollectionStore::load_layer`] for whoever has no key: `None` if the layer is encrypted.
    ///
    /// # Errors
    /// As [`CollectionStore::load_layer`].
    pub async fn load_layer_unless_sealed(&self, path: &LayerPath) -> Result<Option<Layer>, Fault> {
        let at = layout::manifest(path);
        match self.get_range(&at, None, 0..MAGIC_LENGTH).await {
            Ok(start) if Envelope::looks_sealed(&start) => Ok(None),
            // Or an error, which is then told in the usual words.
            _ => self.load_layer(path).await.map(Some),
        }
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
        let parse = |stored: Bytes| {
            let (digest, length) = (Digest::of(&stored), ByteCount(stored.len() as u64));
            let clear = self.envelope().open(at.as_ref(), stored)?;
            Ok(Layer {
                manifest: Manifest::decode(&clear)?,
                digest,
                length,
            })
        };
        match self.get_parsed(&at, parse).await {
            Ok(layer) if layer.manifest.path == *path => {
                self.placements().note(&layer.manifest);
                Ok(Some(layer))
            }
            Ok(layer) => Err(Fault::new(
                ErrorCode::Corrupted,
                format!(
                    "object {at} is the manifest of layer {}",
                    layer.manifest.path
                ),
            )),
            Err(fault) if fault.code == ErrorCode::NotFound => Ok(None),
            Err(fault) => Err(fault),
        }
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
        let envelope = self.envelope().clone();
        match envelope.is_sealed() {
            true => {
                let open = move || envelope.open(at.as_ref(), bytes);
                self.env().blocking(open).await
            }
            false => envelope.open(at.as_ref(), bytes),
        }
    }

    /// Frames an object whose bytes have this digest.
    async fn seal(
        &self,
        at: &Path,
        clear: Vec<Bytes>,
        digest: Digest,
    ) -> Result<Vec<Bytes>, Fault> {
        let envelope = self.envelope().clone();
        if !envelope.is_sealed() {
            return envelope.seal(at.as_ref(), clear, &digest);
        }
        let at = at.clone();
        let seal = move || envelope.seal(at.as_ref(), clear, &digest);
        self.env().blocking(seal).await
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

    /// Reads a whole tuple file into memory, with its full digest checked.
    ///
    /// # Errors
    /// As [`CollectionStore::get_verified`].
    pub async fn read_tuples(
        &self,
        path: &LayerPath,
        object: &ObjectRef,
    ) -> Result<TupleFileReader<Bytes>, Fault> {
        let bytes = self.get_verified(path, object).await?;
        TupleFileReader::open(bytes)
            .map_err(|fault| fault.context(format!("{path}/data/{}", object.name)))
    }

    /// What a catalog file holds, with its full digest checked.
    ///
    /// # Errors
    /// As [`CollectionStore::get_verified`].
    pub async fn read_catalog(&self, path: &LayerPath, object: &ObjectRef) -> Result<Bytes, Fault> {
        let file = self.get_verified(path, object).await?;
        let content = self
            .env()
            .blocking(move || CatalogFile::decode(&file))
            .await;
        content.map_err(|fault| fault.context(format!("{path}/data/{}", object.name)))
    }
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

/// A part's entry, resolved to the object's key in the collection.
pub(crate) fn data_key(path: &LayerPath, entry: &ManifestEntry) -> Path {
    layout::data(path).join(entry.object.name.as_str())
}
