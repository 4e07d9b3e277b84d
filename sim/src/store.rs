//! The object store that all hosts share. It never loses what it acknowledged; everything else it may do: reject, be slow, do what it was
//! asked and lose the answer. It remembers the content of every key that was ever put, and notes when one is put again with another.

use async_trait::async_trait;
use futures::FutureExt;
use futures::stream::{BoxStream, StreamExt};
use holdfast_collection::faulty::{FaultPlan, FaultyStore, Injection, StoreFault, StoreOp};
use holdfast_collection::{CollectionUri, StoreProvider};
use holdfast_types::Fault;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

use crate::mutant::Mutant;
use crate::places::is_stray;
use crate::trace;

const NAME: &str = "simulated store";
/// Part of the objects that a mutant strikes.
const MUTATION: f64 = 0.05;

/// How long a request waits that is held: longer than its deadline.
const HOLD: Duration = Duration::from_secs(13);

/// What the key of a manifest ends with.
const MANIFEST: &str = "/MANIFEST";

/// How often one object is damaged on its way, in a whole run: readers ask three times.
const MOST_DAMAGES: u32 = 2;

/// How the store misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct StoreFaults {
    /// Part of the requests that are rejected without effect.
    pub(crate) reject: f64,
    /// Part of the changes that take effect, and whose answer is lost.
    pub(crate) lose_answer: f64,
    /// Part of the pieces of answers after which an answer ends early, or breaks off.
    pub(crate) cut_read: f64,
    /// Part of the pieces of answers in which a bit is flipped.
    pub(crate) flip: f64,
    /// Part of the requests that are served only after [`HOLD`].
    pub(crate) hold: f64,
    /// Requests a second beyond which all are rejected.
    pub(crate) throttle: Option<u32>,
    /// The longest that a request waits.
    pub(crate) delay: Duration,
}

#[derive(Debug)]
struct Shared {
    buckets: BTreeMap<String, Arc<InMemory>>,
    /// What was ever put under a key.
    history: BTreeMap<String, u64>,
    faults: StoreFaults,
    rng: StdRng,
    /// What C2 forbids, when it happened.
    overwrites: Vec<String>,
    /// The localities that have stores of their own.
    tiers: Vec<&'static str>,
    /// Objects of data in those stores.
    local_puts: u64,
    /// Data in the store of another locality.
    strays: Vec<String>,
    /// Directories that jobs which rest write to.
    resting: BTreeSet<String>,
    /// Objects that were written for a job that rests.
    late: Vec<String>,
    /// When each object of data was put first, by its name.
    put_at: BTreeMap<String, Duration>,
    /// Manifests that are there.
    manifests: BTreeSet<String>,
    /// Requests on their way.
    sent: Vec<Sent>,
    sent_ever: u64,
    puts: u64,
    deletions: u64,
    /// The second that is running, and the requests in it.
    second: (u64, u32),
    injected: BTreeMap<&'static str, u64>,
    /// How often an object was damaged on its way.
    damages: BTreeMap<String, u32>,
    mutant: Option<Mutant>,
}

/// The store, as the driver sees it. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Vault(Arc<Mutex<Shared>>);

impl Vault {
    /// An empty store without faults.
    pub(crate) fn new(seed: u64, mutant: Option<Mutant>) -> Self {
        Self(Arc::new(Mutex::new(Shared {
            buckets: BTreeMap::new(),
            history: BTreeMap::new(),
            faults: StoreFaults::default(),
            rng: StdRng::seed_from_u64(seed),
            overwrites: Vec::new(),
            tiers: Vec::new(),
            local_puts: 0,
            strays: Vec::new(),
            resting: BTreeSet::new(),
            late: Vec::new(),
            put_at: BTreeMap::new(),
            manifests: BTreeSet::new(),
            sent: Vec::new(),
            sent_ever: 0,
            puts: 0,
            deletions: 0,
            second: (0, 0),
            injected: BTreeMap::new(),
            damages: BTreeMap::new(),
            mutant,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on it misbehaves like this.
    pub(crate) fn set_faults(&self, faults: StoreFaults) {
        self.lock().faults = faults;
    }

    /// Keys that were put twice with different bytes, or were asked to be overwritten.
    pub(crate) fn overwrites(&self) -> Vec<String> {
        self.lock().overwrites.clone()
    }

    /// Data of these localities belongs into stores of their own.
    pub(crate) fn set_tiers(&self, tiers: &[&'static str]) {
        self.lock().tiers = tiers.to_vec();
    }

    /// Objects of data that were written into stores of localities.
    pub(crate) fn local_puts(&self) -> u64 {
        self.lock().local_puts
    }

    /// Data that was written into the store of another locality.
    pub(crate) fn strays(&self) -> Vec<String> {
        self.lock().strays.clone()
    }

    /// The directories, as `place/path/data/`, of all jobs that rest now: nothing is written there until they go on.
    pub(crate) fn rest(&self, resting: BTreeSet<String>) {
        self.lock().resting = resting;
    }

    /// Objects that were written for a job that rests.
    pub(crate) fn late(&self) -> Vec<String> {
        self.lock().late.clone()
    }

    /// A put is on its way: from here on it takes effect whatever becomes of the process that has sent it.
    fn send(
        &self,
        bucket: &Bucket,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> oneshot::Receiver<Result<PutResult>> {
        let (answer, receiver) = oneshot::channel();
        let mut shared = self.lock();
        let due = trace::now() + shared.delay();
        shared.sent_ever += 1;
        let sent = Sent {
            due,
            number: shared.sent_ever,
            bucket: bucket.clone(),
            location: location.clone(),
            payload,
            options,
            answer,
        };
        shared.sent.push(sent);
        receiver
    }

    /// What is due by now takes effect, in the order in which it arrives.
    pub(crate) fn arrive(&self, now: Duration) {
        let mut arrived: Vec<Sent> = {
            let mut shared = self.lock();
            if shared.sent.is_empty() {
                return;
            }
            shared.sent.extract_if(.., |sent| sent.due <= now).collect()
        };
        arrived.sort_by_key(|sent| (sent.due, sent.number));
        for sent in arrived {
            let bucket = &sent.bucket;
            let put = bucket.put_now(&sent.location, sent.payload, sent.options);
            // A store in memory does everything at once.
            let result = put.now_or_never().unwrap_or_else(|| Err(refused("put")));
            if sent.answer.send(result).is_err() {
                let class = "took effect, nobody waits";
                *self.lock().injected.entry(class).or_default() += 1;
            }
        }
    }

    /// When an object of data of this name was put.
    pub(crate) fn put_at(&self, name: &str) -> Option<Duration> {
        self.lock().put_at.get(name).copied()
    }

    /// The manifests that are there, as `place/path/MANIFEST`.
    pub(crate) fn manifests(&self) -> BTreeSet<String> {
        self.lock().manifests.clone()
    }

    /// Puts that took effect, and deletions.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let shared = self.lock();
        (shared.puts, shared.deletions)
    }

    /// What went wrong with requests, by class.
    pub(crate) fn injected(&self) -> BTreeMap<&'static str, u64> {
        self.lock().injected.clone()
    }

    /// The keys of a bucket, in order.
    pub(crate) async fn keys(&self, place: &str) -> Vec<String> {
        let objects = self.lock().buckets.get(place).cloned();
        let mut keys = Vec::new();
        if let Some(objects) = objects {
            let mut list = objects.list(None);
            while let Some(Ok(meta)) = list.next().await {
                keys.push(meta.location.to_string());
            }
        }
        keys.sort();
        keys
    }

    /// The door to the store of one life of a host.
    pub(crate) fn provider(&self, host: &str) -> Arc<HostStores> {
        Arc::new(HostStores {
            vault: self.clone(),
            host: host.to_owned(),
            alive: Arc::new(AtomicBool::new(true)),
        })
    }
}

/// Opens stores for one life of a host. After [`HostStores::crash`] nothing of that life reaches the store any more.
#[derive(Debug)]
pub(crate) struct HostStores {
    vault: Vault,
    host: String,
    alive: Arc<AtomicBool>,
}

impl HostStores {
    /// The host's life is over.
    pub(crate) fn crash(&self) {
        self.alive.store(false, Ordering::Relaxed);
    }
}

impl StoreProvider for HostStores {
    fn open(&self, uri: &CollectionUri) -> std::result::Result<Arc<dyn ObjectStore>, Fault> {
        let place = uri.place().to_owned();
        let objects = Arc::clone(self.vault.lock().buckets.entry(place.clone()).or_default());
        let bucket = Bucket {
            objects,
            place,
            vault: self.vault.clone(),
            host: self.host.clone(),
        };
        let way = Way {
            vault: self.vault.clone(),
            alive: Arc::clone(&self.alive),
        };
        Ok(Arc::new(FaultyStore::new(Arc::new(bucket), Arc::new(way))))
    }
}

/// What one life of a host meets on its way to the store.
#[derive(Debug)]
struct Way {
    vault: Vault,
    alive: Arc<AtomicBool>,
}

impl FaultPlan for Way {
    fn next(&self, operation: StoreOp, path: &str) -> Injection {
        if !self.alive.load(Ordering::Relaxed) {
            return Injection {
                delay: Duration::ZERO,
                fault: Some(StoreFault::Reject),
            };
        }
        let mut shared = self.vault.lock();
        let (injection, class) = shared.draw(operation, path);
        if let Some(class) = class {
            *shared.injected.entry(class).or_default() += 1;
        }
        injection
    }
}

impl Shared {
    /// How long a request takes.
    fn delay(&mut self) -> Duration {
        let longest = u64::try_from(self.faults.delay.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(self.rng.random_range(0..=longest))
    }

    /// Whether an object may be damaged on its way once more: one that is damaged whenever it is read cannot be told from a damaged object.
    fn may_damage(&mut self, path: &str) -> bool {
        let count = self.damages.entry(path.to_owned()).or_default();
        *count += 1;
        *count <= MOST_DAMAGES
    }

    /// What happens to a request or a piece of an answer, and how that is called.
    fn draw(&mut self, operation: StoreOp, path: &str) -> (Injection, Option<&'static str>) {
        let faults = self.faults;
        let at_once = |fault, class| {
            let injection = Injection {
                delay: Duration::ZERO,
                fault: Some(fault),
            };
            (injection, Some(class))
        };
        match operation {
            StoreOp::Chunk if self.rng.random_bool(faults.cut_read) => {
                return if self.rng.random_bool(0.5) && self.may_damage(path) {
                    at_once(StoreFault::Truncate, "truncated read")
                } else {
                    at_once(StoreFault::Reject, "broken read")
                };
            }
            StoreOp::Chunk if self.rng.random_bool(faults.flip) && self.may_damage(path) => {
                return at_once(StoreFault::Flip(self.rng.random()), "flipped bit");
            }
            StoreOp::Chunk | StoreOp::Listed => return (Injection::NONE, None),
            _ => {}
        }
        if let Some(most) = faults.throttle {
            let now = trace::now().as_secs();
            self.second = match self.second {
                (second, count) if second == now => (now, count + 1),
                _ => (now, 1),
            };
            if self.second.1 > most {
                return at_once(StoreFault::Reject, "throttled");
            }
        }
        let mut delay = match operation {
            // It takes its time on the other side: see [`Vault::send`].
            StoreOp::Put => Duration::ZERO,
            _ => self.delay(),
        };
        let changes = matches!(operation, StoreOp::Put | StoreOp::Delete);
        let (fault, mut class) = if self.rng.random_bool(faults.reject) {
            (Some(StoreFault::Reject), Some("rejected"))
        } else if changes && self.rng.random_bool(faults.lose_answer) {
            (Some(StoreFault::LoseAnswer), Some("answer lost"))
        } else {
            (None, None)
        };
        if faults.hold > 0.0 && self.rng.random_bool(faults.hold) {
            delay += HOLD;
            class = class.or(Some("held"));
        }
        (Injection { delay, fault }, class)
    }
}

/// A request to put an object that is on its way.
struct Sent {
    due: Duration,
    number: u64,
    bucket: Bucket,
    location: Path,
    payload: PutPayload,
    options: PutOptions,
    answer: oneshot::Sender<Result<PutResult>>,
}

impl fmt::Debug for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sent")
            .field("due", &self.due)
            .field("location", &self.location)
            .finish_non_exhaustive()
    }
}

/// One bucket, with a memory of everything that was ever put into it.
#[derive(Debug, Clone)]
struct Bucket {
    objects: Arc<InMemory>,
    place: String,
    vault: Vault,
    host: String,
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{NAME} {}", self.place)
    }
}

fn refused(operation: &str) -> Error {
    Error::NotImplemented {
        operation: operation.to_owned(),
        implementer: NAME.to_owned(),
    }
}

impl Bucket {
    /// Stores an object, unless this world breaks the promise to.
    async fn keep(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let strikes = location.as_ref().contains("/data/") && {
            let mut shared = self.vault.lock();
            shared.mutant.is_some() && shared.rng.random_bool(MUTATION)
        };
        let mutant = self.vault.lock().mutant.filter(|_| strikes);
        match mutant {
            Some(Mutant::ForgetfulStore) => Ok(PutResult {
                e_tag: None,
                version: None,
                extensions: Default::default(),
            }),
            Some(Mutant::RottenStore) => {
                let mut bytes: Vec<u8> = payload.iter().flatten().copied().collect();
                if let Some(byte) = bytes.last_mut() {
                    *byte ^= 1;
                }
                self.objects.put_opts(location, bytes.into(), options).await
            }
            _ => self.objects.put_opts(location, payload, options).await,
        }
    }

    /// The put takes effect.
    async fn put_now(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let result = self.keep(location, payload.clone(), options).await?;
        self.witness(location, &payload);
        self.note("put", location, payload.content_length());
        Ok(result)
    }

    fn note(&self, what: &str, location: &Path, length: usize) {
        trace::event(
            &self.host,
            format_args!("store {what} {}/{location} {length}", self.place),
        );
    }

    /// Remembers what a key holds; a key that held something else is a violation.
    fn witness(&self, location: &Path, payload: &PutPayload) {
        let mut bytes = Vec::with_capacity(payload.content_length());
        payload
            .iter()
            .for_each(|chunk| bytes.extend_from_slice(chunk));
        let content = trace::fingerprint(&bytes);
        let key = format!("{}/{location}", self.place);
        let mut shared = self.vault.lock();
        shared.puts += 1;
        if let Some((_, name)) = key.split_once("/data/") {
            let now = trace::now();
            shared.put_at.entry(name.to_owned()).or_insert(now);
            if self.place.contains('-') {
                shared.local_puts += 1;
            }
            if is_stray(&shared.tiers, &self.place, &self.host) {
                shared.strays.push(format!("{key} by {}", self.host));
            }
        }
        if key.ends_with(MANIFEST) {
            shared.manifests.insert(key.clone());
        }
        if shared.resting.iter().any(|path| key.starts_with(path)) {
            shared.late.push(key.clone());
        }
        match shared.history.insert(key.clone(), content) {
            Some(before) if before != content => shared.overwrites.push(key),
            _ => {}
        }
    }
}

#[async_trait]
impl ObjectStore for Bucket {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        if options.mode != PutMode::Create {
            let key = format!("{}/{location} (not put-once)", self.place);
            self.vault.lock().overwrites.push(key);
        }
        let answer = self.vault.send(self, location, payload, options);
        answer.await.unwrap_or_else(|_| Err(refused("put")))
    }

    async fn put_multipart_opts(
        &self,
        _: &Path,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Err(refused("put_multipart_opts"))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.objects.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let bucket = self.clone();
        let deleted = self.objects.delete_stream(locations);
        deleted
            .inspect(move |result| {
                if let Ok(location) = result {
                    let key = format!("{}/{location}", bucket.place);
                    let mut shared = bucket.vault.lock();
                    shared.deletions += 1;
                    shared.manifests.remove(&key);
                    drop(shared);
                    bucket.note("delete", location, 0);
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.objects.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.objects.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(refused("copy_opts"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::ObjectStoreExt;

    fn open(provider: &HostStores) -> Arc<dyn ObjectStore> {
        provider
            .open(&"memory://vault".parse().expect("a URI"))
            .expect("a store")
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime")
            .block_on(future)
    }

    /// Puts an object; it arrives at once.
    async fn create(
        vault: &Vault,
        store: &dyn ObjectStore,
        key: &str,
        bytes: &'static [u8],
    ) -> Result<PutResult> {
        let options = PutOptions {
            mode: PutMode::Create,
            ..PutOptions::default()
        };
        let location = Path::from(key);
        let put = store.put_opts(&location, bytes.into(), options);
        let (result, ()) = futures::join!(put, async { vault.arrive(Duration::MAX) });
        result
    }

    #[test]
    fn a_lost_answer_leaves_the_object() {
        block_on(async {
            let vault = Vault::new(1, None);
            let store = open(&vault.provider("a"));
            vault.set_faults(StoreFaults {
                lose_answer: 1.0,
                ..StoreFaults::default()
            });
            assert!(create(&vault, &*store, "k", b"x").await.is_err());
            vault.set_faults(StoreFaults::default());
            assert!(store.get(&Path::from("k")).await.is_ok());
            assert!(vault.overwrites().is_empty());
        });
    }

    #[test]
    fn a_crashed_host_reaches_nothing_and_others_do() {
        block_on(async {
            let vault = Vault::new(1, None);
            let provider = vault.provider("a");
            let store = open(&provider);
            create(&vault, &*store, "k", b"x").await.expect("a put");
            provider.crash();
            assert!(create(&vault, &*store, "l", b"x").await.is_err());
            let other = open(&vault.provider("b"));
            assert!(other.get(&Path::from("k")).await.is_ok());
            assert!(other.get(&Path::from("l")).await.is_err());
        });
    }

    #[test]
    fn what_is_written_for_a_job_that_rests_is_noticed() {
        block_on(async {
            let vault = Vault::new(1, None);
            let store = open(&vault.provider("a"));
            vault.rest(BTreeSet::from(["vault/2026/layer/data/".to_owned()]));
            create(&vault, &*store, "2026/other/data/k", b"x")
                .await
                .expect("another's");
            assert!(vault.late().is_empty());
            create(&vault, &*store, "2026/layer/data/k", b"x")
                .await
                .expect("a put");
            assert_eq!(vault.late(), ["vault/2026/layer/data/k"]);
            vault.rest(BTreeSet::new());
            create(&vault, &*store, "2026/layer/data/l", b"x")
                .await
                .expect("a put");
            assert_eq!(vault.late().len(), 1, "it goes on");
        });
    }

    #[test]
    fn another_content_under_one_key_is_noticed_even_after_a_deletion() {
        block_on(async {
            let vault = Vault::new(1, None);
            let store = open(&vault.provider("a"));
            create(&vault, &*store, "k", b"x").await.expect("a put");
            store.delete(&Path::from("k")).await.expect("a deletion");
            create(&vault, &*store, "k", b"x")
                .await
                .expect("the same again");
            assert!(vault.overwrites().is_empty());
            store.delete(&Path::from("k")).await.expect("a deletion");
            create(&vault, &*store, "k", b"y").await.expect("another");
            assert_eq!(vault.overwrites(), ["vault/k"]);
        });
    }

    #[test]
    fn what_was_sent_arrives_although_its_sender_is_gone() {
        block_on(async {
            let vault = Vault::new(1, None);
            let provider = vault.provider("a");
            let store = open(&provider);
            let location = Path::from("k");
            {
                let put = store.put_opts(&location, b"x".as_slice().into(), PutMode::Create.into());
                assert!(put.now_or_never().is_none(), "it is on its way");
            }
            provider.crash();
            let other = open(&vault.provider("b"));
            assert!(other.get(&location).await.is_err());
            vault.arrive(Duration::MAX);
            assert!(other.get(&location).await.is_ok());
            assert_eq!(vault.counts(), (1, 0));
        });
    }
}
