//! A store that is asked for no more than it may be.

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use holdfast_env::Clock;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use std::collections::BTreeMap;
use std::fmt::{self, Debug, Display};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::options::{Limited, StoreLimit};
use crate::uri::Scheme;

/// The limits of a process, by kind of store: all stores of one kind share them.
#[derive(Debug)]
pub(crate) struct Limits(BTreeMap<Scheme, Arc<Limit>>);

/// Those of one kind.
#[derive(Debug)]
pub(crate) struct Limit {
    read: Option<Bucket>,
    write: Option<Bucket>,
    requests: Option<Bucket>,
}

impl Limits {
    pub(crate) fn new(clock: Arc<dyn Clock>, limits: &[StoreLimit]) -> Self {
        let schemes = limits.iter().map(|limit| limit.scheme);
        let of = |scheme: Scheme| {
            let bucket = |what| {
                let of_this = limits
                    .iter()
                    .filter(|limit| limit.scheme == scheme && limit.what == what);
                let least = of_this.map(|limit| limit.per_second).min()?;
                Some(Bucket::new(Arc::clone(&clock), least))
            };
            let limit = Limit {
                read: bucket(Limited::Read),
                write: bucket(Limited::Write),
                requests: bucket(Limited::Requests),
            };
            (scheme, Arc::new(limit))
        };
        Self(schemes.map(of).collect())
    }

    /// What holds for stores of a kind, if anything does.
    pub(crate) fn of(&self, scheme: Scheme) -> Option<Arc<Limit>> {
        self.0.get(&scheme).map(Arc::clone)
    }
}

/// So much a second, and at most one second's worth at once. What is larger than that is let through, and waited for afterwards: whoever
/// comes next pays.
#[derive(Debug)]
struct Bucket {
    clock: Arc<dyn Clock>,
    per_second: u64,
    /// When everything that was let through so far will have been earned, on the monotonic clock.
    paid_until: Mutex<Duration>,
}

impl Bucket {
    fn new(clock: Arc<dyn Clock>, per_second: u64) -> Self {
        Self {
            clock,
            per_second,
            paid_until: Mutex::default(),
        }
    }

    /// How long to wait before so much more may pass.
    fn claim(&self, amount: u64, now: Duration) -> Duration {
        const BURST: Duration = Duration::from_secs(1);
        let cost = Duration::from_nanos(nanos(amount, self.per_second));
        let mut paid = self
            .paid_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let start = (*paid).max(now.saturating_sub(BURST));
        *paid = start.saturating_add(cost);
        start.saturating_sub(now)
    }

    async fn take(&self, amount: u64) {
        let wait = self.claim(amount, self.clock.monotonic());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }
}

fn nanos(amount: u64, per_second: u64) -> u64 {
    let nanos = u128::from(amount) * 1_000_000_000 / u128::from(per_second.max(1));
    u64::try_from(nanos).unwrap_or(u64::MAX)
}

async fn take(bucket: Option<&Bucket>, amount: u64) {
    if let Some(bucket) = bucket {
        bucket.take(amount).await;
    }
}

/// See the module.
#[derive(Clone)]
pub(crate) struct LimitedStore {
    inner: Arc<dyn ObjectStore>,
    limit: Arc<Limit>,
}

impl LimitedStore {
    pub(crate) fn new(inner: Arc<dyn ObjectStore>, limit: Arc<Limit>) -> Self {
        Self { inner, limit }
    }

    async fn request(&self) {
        take(self.limit.requests.as_ref(), 1).await;
    }

    fn pieces(
        &self,
        pieces: BoxStream<'static, Result<Bytes>>,
    ) -> BoxStream<'static, Result<Bytes>> {
        let limit = Arc::clone(&self.limit);
        pieces
            .and_then(move |piece| {
                let limit = Arc::clone(&limit);
                async move {
                    take(limit.read.as_ref(), piece.len() as u64).await;
                    Ok(piece)
                }
            })
            .boxed()
    }
}

impl Debug for LimitedStore {
    /// Not what is in it: a store in memory would print all rows that it holds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LimitedStore")
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

impl Display for LimitedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LimitedStore({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for LimitedStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        self.request().await;
        take(self.limit.write.as_ref(), payload.content_length() as u64).await;
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.request().await;
        let inner = self.inner.put_multipart_opts(location, opts).await?;
        Ok(Box::new(LimitedUpload {
            inner,
            limit: Arc::clone(&self.limit),
        }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.request().await;
        let is_head = options.head;
        let result = self.inner.get_opts(location, options).await?;
        if is_head || self.limit.read.is_none() {
            return Ok(result);
        }
        let (meta, range) = (result.meta.clone(), result.range.clone());
        let (attributes, extensions) = (result.attributes.clone(), result.extensions.clone());
        Ok(GetResult {
            payload: GetResultPayload::Stream(self.pieces(result.into_stream())),
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
        let paced = locations.and_then(move |at| {
            let store = store.clone();
            async move {
                store.request().await;
                Ok(at)
            }
        });
        self.inner.delete_stream(paced.boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (store, listed) = (self.clone(), self.inner.list(prefix));
        // Pages after the first are the client's own business: there is one for a thousand names.
        stream::once(async move {
            store.request().await;
            Ok::<_, object_store::Error>(listed)
        })
        .try_flatten()
        .boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.request().await;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.request().await;
        self.inner.copy_opts(from, to, options).await
    }
}

/// An upload in parts, paced.
#[derive(Debug)]
struct LimitedUpload {
    inner: Box<dyn MultipartUpload>,
    limit: Arc<Limit>,
}

#[async_trait]
impl MultipartUpload for LimitedUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let length = data.content_length() as u64;
        let (limit, part) = (Arc::clone(&self.limit), self.inner.put_part(data));
        Box::pin(async move {
            take(limit.requests.as_ref(), 1).await;
            take(limit.write.as_ref(), length).await;
            part.await
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.inner.complete().await
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_env::Env;
    use object_store::ObjectStoreExt;
    use object_store::memory::InMemory;

    #[test]
    fn a_rate_holds_over_time_and_lets_a_second_through_at_once() {
        let bucket = Bucket::new(Env::system().clock, 100);
        let second = Duration::from_secs(1);
        let at = |seconds: u32| second * 100 + second * seconds;
        assert_eq!(bucket.claim(100, at(0)), Duration::ZERO);
        assert_eq!(
            bucket.claim(100, at(0)),
            Duration::ZERO,
            "now all is used up"
        );
        assert_eq!(bucket.claim(50, at(0)), second);
        assert_eq!(bucket.claim(1, at(1)), second / 2);
        // Much more than a second's worth passes, and those after it wait.
        assert_eq!(bucket.claim(1000, at(10)), Duration::ZERO);
        assert_eq!(bucket.claim(1, at(10)), second * 9);
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the runtime's paused clock is what is measured"
    )]
    #[tokio::test(start_paused = true)]
    async fn reading_and_writing_wait_for_their_limits() {
        let limit = |what, per_second| StoreLimit {
            scheme: Scheme::S3,
            what,
            per_second,
        };
        let clock = Env::system().clock;
        let limits = [
            limit(Limited::Write, 1000),
            limit(Limited::Write, 500),
            limit(Limited::Requests, 1000),
        ];
        let limits = Limits::new(clock, &limits);
        assert!(limits.of(Scheme::Google).is_none());
        let limit = limits.of(Scheme::S3).expect("a limit");
        let store = LimitedStore::new(Arc::new(InMemory::new()), limit);
        let path = Path::from("x");
        let started = tokio::time::Instant::now();
        for _ in 0..6 {
            let body = PutPayload::from(vec![0; 500]);
            store.put(&path, body).await.expect("written");
        }
        // The real clock stands still here: each waits for all before it.
        assert!(
            started.elapsed() >= Duration::from_secs(4),
            "{:?}",
            started.elapsed()
        );
        let read = store.get(&path).await.expect("there").bytes().await;
        assert_eq!(read.expect("whole").len(), 500);
    }
}
