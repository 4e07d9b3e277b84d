//! The handle: put-once writes, verified reads, retries and deadlines.

use bytes::Bytes;
use futures::TryStreamExt;
use holdfast_env::Env;
use holdfast_format::{Envelope, Manifest};
use holdfast_types::mutant::{self, Promise};
use holdfast_types::{ByteCount, Digest, ErrorCode, Fault, Hasher};
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode,
    PutOptions, PutPayload,
};
use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::error::fault;
use crate::placement::Placements;
use crate::provider::StoreProvider;
use crate::received::received;
use crate::uri::{CollectionUri, Location};

/// How often an operation is tried while its errors may pass. A job retries on top of this, with its task.
pub(crate) const ATTEMPTS: u32 = 6;
/// How often what looks damaged is read before it counts as damaged: lines damage bits, too.
pub(crate) const READS: u32 = 3;
/// The pause before the second attempt; it doubles with each further one. Short: this is for hiccups, outages are the job's business.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest that a small operation may take, and that a stream may stand still.
pub(crate) const CALL_DEADLINE: Duration = Duration::from_secs(30);
/// The longest that writing one object may take: a part of 64 MiB over a line of 2 Mbit/s.
const PUT_DEADLINE: Duration = Duration::from_secs(300);
/// How many small operations run at once.
pub(crate) const CONCURRENCY: usize = 8;

/// A collection. Cheap to clone; every clone is the same collection.
///
/// All methods may be dropped at any await (cancel-safe) and called again with the same arguments (idempotent).
///
/// A collection may have several stores. A handle puts and gets data in one of them, at first in the default one
/// ([`CollectionStore::for_locality`], [`CollectionStore::of_member`]); manifests, claims and pointers are always in the default one.
#[derive(Clone)]
pub struct CollectionStore {
    inner: Arc<Inner>,
    /// Which of its stores data goes to and comes from.
    at: usize,
    /// How the bodies of its objects are framed.
    envelope: Envelope,
}

impl fmt::Debug for CollectionStore {
    /// The place only: a store in memory would print all rows that it holds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CollectionStore({})", self.uri())
    }
}

/// One of its stores.
struct Place {
    uri: CollectionUri,
    objects: Arc<dyn ObjectStore>,
}

struct Inner {
    default: Place,
    /// Those of single localities, numbered from 1.
    others: Vec<Place>,
    location: Location,
    placements: Placements,
    provider: Arc<dyn StoreProvider>,
    env: Env,
}

/// What an object is for. Only data may lie in an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Metadata,
    Data,
}

/// An object as it was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) length: ByteCount,
    pub(crate) digest: Digest,
}

impl CollectionStore {
    /// Opens a collection of one store, making its place if it does not exist.
    ///
    /// # Errors
    /// What the provider failed with.
    pub async fn open(
        provider: &Arc<dyn StoreProvider>,
        uri: &CollectionUri,
        env: &Env,
    ) -> Result<Self, Fault> {
        Self::open_all(provider, &Location::from(uri.clone()), env).await
    }

    /// Opens a collection with all its stores, making their places if they do not exist.
    ///
    /// # Errors
    /// What the provider failed with.
    pub async fn open_all(
        provider: &Arc<dyn StoreProvider>,
        location: &Location,
        env: &Env,
    ) -> Result<Self, Fault> {
        let (opener, all) = (Arc::clone(provider), location.clone());
        let opening = move || {
            let open = |uri: &CollectionUri| {
                Ok::<_, Fault>(Place {
                    uri: uri.clone(),
                    objects: opener.open(uri)?,
                })
            };
            let default = open(all.default_store())?;
            let others = all.stores().iter().skip(1).map(open);
            Ok::<_, Fault>((default, others.collect::<Result<_, _>>()?))
        };
        let (default, others) = env.blocking(opening).await?;
        Ok(Self {
            inner: Arc::new(Inner {
                default,
                others,
                location: location.clone(),
                placements: Placements::default(),
                provider: Arc::clone(provider),
                env: env.clone(),
            }),
            at: 0,
            envelope: Envelope::Clear,
        })
    }

    /// Opens a collection of one store that must exist, for reading.
    ///
    /// # Errors
    /// `NotFound` if it does not, otherwise what the provider failed with.
    pub async fn open_existing(
        provider: &Arc<dyn StoreProvider>,
        uri: &CollectionUri,
        env: &Env,
    ) -> Result<Self, Fault> {
        Self::open_all_existing(provider, &Location::from(uri.clone()), env).await
    }

    /// Opens a collection with all its stores, which must exist, for reading.
    ///
    /// # Errors
    /// `NotFound` if one does not, otherwise what the provider failed with.
    pub async fn open_all_existing(
        provider: &Arc<dyn StoreProvider>,
        location: &Location,
        env: &Env,
    ) -> Result<Self, Fault> {
        let (opener, all) = (Arc::clone(provider), location.clone());
        let looking = move || {
            for uri in all.stores() {
                if !opener.exists(uri)? {
                    return Ok(Some(uri.clone()));
                }
            }
            Ok::<_, Fault>(None)
        };
        match env.blocking(looking).await? {
            None => Self::open_all(provider, location, env).await,
            Some(uri) => Err(Fault::new(
                ErrorCode::NotFound,
                format!("collection {uri} does not exist"),
            )
            .hint("check the location; a collection is made by the first backup into it")),
        }
    }

    /// The same collection, whose objects are framed so.
    #[must_use]
    pub fn with_envelope(&self, envelope: Envelope) -> Self {
        Self {
            envelope,
            ..self.clone()
        }
    }

    /// Where the collection is: its default store.
    #[must_use]
    pub fn uri(&self) -> &CollectionUri {
        &self.inner.default.uri
    }

    /// All its stores.
    #[must_use]
    pub fn location(&self) -> &Location {
        &self.inner.location
    }

    /// How many stores it has.
    pub(crate) fn stores(&self) -> usize {
        self.inner.others.len().saturating_add(1)
    }

    /// The number of the store that this handle puts data to.
    pub(crate) fn number(&self) -> usize {
        self.at
    }

    /// A handle of the default store.
    pub(crate) fn home(&self) -> Self {
        Self {
            at: 0,
            ..self.clone()
        }
    }

    /// A handle of one of its stores.
    ///
    /// # Errors
    /// `FailedPrecondition` if there is no such one.
    pub fn numbered(&self, number: usize) -> Result<Self, Fault> {
        match number < self.stores() {
            true => Ok(Self {
                at: number,
                ..self.clone()
            }),
            false => Err(Fault::new(
                ErrorCode::FailedPrecondition,
                format!(
                    "{} was opened with {} stores, and number {number} is needed",
                    self.uri(),
                    self.stores()
                ),
            )
            .hint("give the URIs of all its stores")),
        }
    }

    fn place(&self) -> &Place {
        let of_locality = self.at.checked_sub(1);
        let found = of_locality.and_then(|at| self.inner.others.get(at));
        found.unwrap_or(&self.inner.default)
    }

    pub(crate) fn placements(&self) -> &Placements {
        &self.inner.placements
    }

    /// Where the store of this handle is.
    #[must_use]
    pub fn store_uri(&self) -> &CollectionUri {
        &self.place().uri
    }

    pub(crate) fn env(&self) -> &Env {
        &self.inner.env
    }

    pub(crate) fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    pub(crate) fn objects(&self) -> &Arc<dyn ObjectStore> {
        &self.place().objects
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

    /// Reads a small object of the default store whose length and digest nobody knows, and parses it. What cannot be parsed is read again.
    pub(crate) async fn get_parsed<T>(
        &self,
        at: &Path,
        parse: impl Fn(Bytes) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let home = self.home();
        let parsed = self.retrying(|| async {
            let bytes = home.get_once(at, None).await?;
            parse(bytes).map_err(|fault| fault.context(at))
        });
        parsed.await
    }

    /// Reads an object of a known length, as it is.
    pub(crate) async fn get_whole(&self, at: &Path, length: u64) -> Result<Bytes, Fault> {
        self.retrying(|| self.get_once(at, Some(length))).await
    }

    /// Reads a small object of this handle's store, as it is.
    pub(crate) async fn get_small(&self, at: &Path) -> Result<Bytes, Fault> {
        self.retrying(|| self.get_once(at, None)).await
    }

    async fn get_once(&self, at: &Path, length: Option<u64>) -> Result<Bytes, Fault> {
        let get = self.objects().get_opts(at, GetOptions::default());
        let result = within(CALL_DEADLINE, "reading", at, get).await?;
        let size = result.meta.size;
        check_length(at, size, length.unwrap_or(size))?;
        if size > Manifest::MAX_LENGTH.max(length.unwrap_or_default()) {
            return Err(damaged(at, "it is larger than any object of its kind"));
        }
        let bytes = received(result, at, size).await?;
        check_length(at, bytes.len() as u64, size)?;
        Ok(bytes)
    }

    /// Whether an object is what it should be, without holding it: for settling, and for verification.
    ///
    /// # Errors
    /// `Corrupted` if it stays different however often it is read.
    pub(crate) async fn compare(&self, at: &Path, expected: Stored) -> Result<(), Fault> {
        let compared = self.retrying(|| async {
            let found = self.digest_once(at, expected.length.0).await?;
            if found == expected.digest {
                Ok(())
            } else {
                Err(damaged(at, "its digest does not match"))
            }
        });
        compared.await
    }

    async fn digest_once(&self, at: &Path, length: u64) -> Result<Digest, Fault> {
        let get = self.objects().get_opts(at, GetOptions::default());
        let result = within(CALL_DEADLINE, "reading", at, get).await?;
        check_length(at, result.meta.size, length)?;
        let mut stream = result.into_stream();
        let (mut hasher, mut came) = (Hasher::new(), 0u64);
        while let Some(chunk) = within(CALL_DEADLINE, "reading", at, stream.try_next()).await? {
            came = came.saturating_add(chunk.len() as u64);
            let digesting = move || {
                hasher.update(&chunk);
                hasher
            };
            hasher = self.env().blocking(digesting).await;
        }
        check_length(at, came, length)?;
        Ok(hasher.finish())
    }

    /// Reads a range of an object; an answer of another length is an error, and so is an object of another length than it should have.
    pub(crate) async fn get_range(
        &self,
        at: &Path,
        stored: Option<u64>,
        range: Range<u64>,
    ) -> Result<Bytes, Fault> {
        let expected = range.end.saturating_sub(range.start);
        self.retrying(|| async {
            let options = GetOptions {
                range: Some(GetRange::Bounded(range.clone())),
                ..GetOptions::default()
            };
            let get = self.objects().get_opts(at, options);
            let result = within(CALL_DEADLINE, "reading", at, get).await?;
            check_length(at, result.meta.size, stored.unwrap_or(result.meta.size))?;
            let bytes = received(result, at, expected).await?;
            if bytes.len() as u64 == expected {
                Ok(bytes)
            } else {
                Err(damaged(at, "it is shorter than its manifest says"))
            }
        })
        .await
    }

    /// An object's description; `None` if there is no such object.
    pub(crate) async fn head(&self, at: &Path) -> Result<Option<ObjectMeta>, Fault> {
        let found = self
            .retrying(|| within(CALL_DEADLINE, "reading", at, self.objects().head(at)))
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
            .retrying(|| within(CALL_DEADLINE, "removing", at, self.objects().delete(at)))
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
        let (provider, uri) = (Arc::clone(&self.inner.provider), self.store_uri().clone());
        let directory = directory.to_string();
        self.env()
            .blocking(move || provider.remove_drafts(&uri, &directory, &prefix))
            .await
    }

    async fn digested(&self, chunks: &[Bytes]) -> Stored {
        let chunks = chunks.to_vec();
        let digesting = move || {
            let mut hasher = Hasher::new();
            chunks.iter().for_each(|chunk| {
                hasher.update(chunk);
            });
            Stored {
                length: ByteCount(chunks.iter().map(|chunk| chunk.len() as u64).sum()),
                digest: hasher.finish(),
            }
        };
        self.env().blocking(digesting).await
    }

    /// Writes a metadata object that must not exist, or must have this very content.
    pub(crate) async fn put_once(&self, at: &Path, chunks: Vec<Bytes>) -> Result<Stored, Fault> {
        let stored = self.digested(&chunks).await;
        self.put_known(at, chunks, stored, Purpose::Metadata).await
    }

    /// [`CollectionStore::put_once`] of a data object.
    pub(crate) async fn put_data_once(
        &self,
        at: &Path,
        chunks: Vec<Bytes>,
    ) -> Result<Stored, Fault> {
        let stored = self.digested(&chunks).await;
        self.put_known(at, chunks, stored, Purpose::Data).await
    }

    /// [`CollectionStore::put_once`] with length and digest known.
    ///
    /// "Already exists" is settled by comparing content: the object may be our own, from an attempt whose answer was lost.
    pub(crate) async fn put_known(
        &self,
        at: &Path,
        chunks: Vec<Bytes>,
        stored: Stored,
        purpose: Purpose,
    ) -> Result<Stored, Fault> {
        let mut attributes = Attributes::new();
        let class = self.store_uri().data_class();
        if let (Purpose::Data, Some(class)) = (purpose, class) {
            attributes.insert(Attribute::StorageClass, class.to_owned().into());
        }
        let payload: PutPayload = chunks.into_iter().collect();
        let put = self
            .retrying(|| {
                let options = PutOptions {
                    mode: match mutant::is_broken(Promise::WrittenOnce) {
                        true => PutMode::Overwrite,
                        false => PutMode::Create,
                    },
                    attributes: attributes.clone(),
                    ..PutOptions::default()
                };
                let put = self.objects().put_opts(at, payload.clone(), options);
                within(PUT_DEADLINE, "writing", at, put)
            })
            .await;
        match put {
            Ok(_) => Ok(stored),
            Err(fault) if fault.code == ErrorCode::AlreadyExists => {
                let is_ours = self.compare(at, stored).await;
                is_ours.map_err(|fault| match fault.code {
                    ErrorCode::Corrupted => other_content(at),
                    _ => fault,
                })?;
                let (provider, uri) = (Arc::clone(&self.inner.provider), self.store_uri().clone());
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
        let (mut failures, mut damages) = (1, 1);
        loop {
            let fault = match operation().await {
                Err(fault) if may_pass(&fault) => fault,
                other => return other,
            };
            let (count, limit) = match fault.code {
                ErrorCode::Corrupted => (&mut damages, READS),
                _ => (&mut failures, ATTEMPTS),
            };
            if *count >= limit {
                return Err(fault);
            }
            *count += 1;
            tracing::debug!(collection = %self.uri(), %fault, "store operation is tried again");
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(2);
        }
    }
}

/// Whether an error may pass within a second. A full store stays full; a damaged answer may have been damaged on its way.
fn may_pass(fault: &Fault) -> bool {
    fault.code == ErrorCode::Corrupted
        || (fault.is_retryable() && fault.code != ErrorCode::StorageFull)
}

/// The error for an object that is not what its manifest says.
pub(crate) fn damaged(at: &Path, why: &str) -> Fault {
    Fault::new(
        ErrorCode::Corrupted,
        format!("object {at} is damaged: {why}"),
    )
    .hint("`holdfast verify` finds all damaged objects of a chain")
}

/// Requires a length.
fn check_length(at: &Path, found: u64, expected: u64) -> Result<(), Fault> {
    if found == expected {
        Ok(())
    } else {
        let why = format!("it has {found} bytes and should have {expected}");
        Err(damaged(at, &why))
    }
}

fn other_content(at: &Path) -> Fault {
    Fault::new(
        ErrorCode::AlreadyExists,
        format!("object {at} exists already, with other content"),
    )
    .hint("nothing is ever overwritten: find out who else writes into this collection")
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
