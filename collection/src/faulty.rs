//! A store that fails on command: for tests, and for the simulator.

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use std::fmt::{self, Debug, Display};
use std::sync::Arc;
use std::time::Duration;

/// What is being asked of a store, or what is passing through an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StoreOp {
    /// An object is written.
    Put,
    /// An object, or a range of it, is asked for.
    Get,
    /// Only its description is asked for.
    Head,
    /// The next piece of an object is delivered.
    Chunk,
    /// A directory is listed.
    List,
    /// The next name of a listing is delivered.
    Listed,
    /// An object is removed.
    Delete,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreFault {
    /// The operation is refused, and has no effect.
    Reject,
    /// The operation is not permitted, and has no effect.
    Deny,
    /// The operation takes effect, and its answer is lost.
    LoseAnswer,
    /// The store has no room ([`StoreOp::Put`] only; elsewhere like [`StoreFault::Reject`]).
    Full,
    /// The object ends here ([`StoreOp::Chunk`] only).
    Truncate,
    /// One bit of the piece is flipped ([`StoreOp::Chunk`] only): this one, counted from its start, modulo its length.
    Flip(u64),
}

/// What happens to one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Injection {
    /// How long it waits first.
    pub delay: Duration,
    /// What goes wrong then.
    pub fault: Option<StoreFault>,
}

impl Injection {
    /// Nothing happens.
    pub const NONE: Self = Self {
        delay: Duration::ZERO,
        fault: None,
    };
}

/// Decides what goes wrong. Asked before each operation, and before each piece inside a stream, in the order in which they happen.
pub trait FaultPlan: Debug + Send + Sync {
    /// What happens to this operation on this object (for listings: this directory).
    fn next(&self, operation: StoreOp, path: &str) -> Injection;
}

/// A store that passes everything on to another one, except what its plan says.
#[derive(Clone)]
pub struct FaultyStore {
    inner: Arc<dyn ObjectStore>,
    plan: Arc<dyn FaultPlan>,
}

impl FaultyStore {
    /// Puts a plan before a store.
    #[must_use]
    pub fn new(inner: Arc<dyn ObjectStore>, plan: Arc<dyn FaultPlan>) -> Self {
        Self { inner, plan }
    }

    /// Waits as the plan says, and gives the fault, if any.
    async fn gate(&self, operation: StoreOp, path: &str) -> Option<StoreFault> {
        let Injection { delay, fault } = self.plan.next(operation, path);
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        fault
    }

    /// Runs an operation through the gate.
    async fn through<T>(
        &self,
        operation: StoreOp,
        path: &Path,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        match self.gate(operation, path.as_ref()).await {
            None => call.await,
            Some(StoreFault::LoseAnswer) => {
                call.await?;
                Err(lost("the answer was lost"))
            }
            Some(StoreFault::Deny) => Err(Error::PermissionDenied {
                path: path.to_string(),
                source: "403 Forbidden: AccessDenied".into(),
            }),
            Some(StoreFault::Full) if operation == StoreOp::Put => Err(Error::Generic {
                store: "FaultyStore",
                source: Box::new(std::io::Error::from(std::io::ErrorKind::StorageFull)),
            }),
            Some(_) => Err(lost("the store refused")),
        }
    }

    fn pieces(
        &self,
        at: &Path,
        pieces: BoxStream<'static, Result<Bytes>>,
    ) -> BoxStream<'static, Result<Bytes>> {
        let (store, at) = (self.clone(), at.to_string());
        let gated = futures::stream::try_unfold(Some(pieces), move |pieces| {
            let (store, at) = (store.clone(), at.clone());
            async move {
                let Some(mut pieces) = pieces else {
                    return Ok(None);
                };
                let Some(piece) = pieces.try_next().await? else {
                    return Ok(None);
                };
                match store.gate(StoreOp::Chunk, &at).await {
                    None => Ok(Some((piece, Some(pieces)))),
                    Some(StoreFault::Truncate) => {
                        let half = piece.slice(..piece.len() / 2);
                        Ok(Some((half, None)))
                    }
                    Some(StoreFault::Flip(bit)) => Ok(Some((flipped(&piece, bit), Some(pieces)))),
                    Some(_) => Err(lost("the stream was cut")),
                }
            }
        });
        gated.boxed()
    }
}

fn flipped(piece: &Bytes, bit: u64) -> Bytes {
    let mut bytes = piece.to_vec();
    let bits = (bytes.len() as u64).saturating_mul(8).max(1);
    let bit = bit % bits;
    if let Some(byte) = usize::try_from(bit / 8)
        .ok()
        .and_then(|at| bytes.get_mut(at))
    {
        *byte ^= 1 << (bit % 8);
    }
    bytes.into()
}

fn lost(what: &'static str) -> Error {
    Error::Generic {
        store: "FaultyStore",
        source: what.into(),
    }
}

impl Debug for FaultyStore {
    /// Not what is in it: a store in memory would print all rows that it holds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyStore")
            .field("plan", &self.plan)
            .finish_non_exhaustive()
    }
}

impl Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultyStore({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        let put = self.inner.put_opts(location, payload, opts);
        self.through(StoreOp::Put, location, put).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let put = self.inner.put_multipart_opts(location, opts);
        self.through(StoreOp::Put, location, put).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let operation = if options.head {
            StoreOp::Head
        } else {
            StoreOp::Get
        };
        let get = self.inner.get_opts(location, options);
        let result = self.through(operation, location, get).await?;
        if operation == StoreOp::Head {
            return Ok(result);
        }
        let (meta, range) = (result.meta.clone(), result.range.clone());
        let (attributes, extensions) = (result.attributes.clone(), result.extensions.clone());
        let pieces = self.pieces(location, result.into_stream());
        Ok(GetResult {
            payload: GetResultPayload::Stream(pieces),
            meta,
            range,
            attributes,
            extensions,
        })
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        locations
            .and_then(move |at| {
                let store = store.clone();
                async move {
                    let one = futures::stream::iter([Ok(at.clone())]).boxed();
                    let delete = store.inner.delete_stream(one).try_collect::<Vec<_>>();
                    store.through(StoreOp::Delete, &at, delete).await?;
                    Ok(at)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let store = self.clone();
        let directory = prefix.cloned().unwrap_or_default();
        let listed = self.inner.list(prefix);
        let gate = self.clone();
        let start = {
            let directory = directory.clone();
            async move {
                gate.through(StoreOp::List, &directory, async { Ok(listed) })
                    .await
            }
        };
        futures::stream::once(start)
            .try_flatten()
            .and_then(move |meta| {
                let (store, directory) = (store.clone(), directory.clone());
                async move {
                    store
                        .through(StoreOp::Listed, &directory, async { Ok(meta) })
                        .await
                }
            })
            .boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let directory = prefix.cloned().unwrap_or_default();
        let list = self.inner.list_with_delimiter(prefix);
        self.through(StoreOp::List, &directory, list).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let copy = self.inner.copy_opts(from, to, options);
        self.through(StoreOp::Put, to, copy).await
    }
}
