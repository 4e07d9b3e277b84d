//! What stores cost whoever writes to them and reads from them: `cargo bench -p holdfast-collection`.
//!
//! The same tuple file is put under many names into a store, and read again, by the calls that workers use: length and digest of every object are
//! compared. Servers are real ones, started here, each in its own process, so that the processor time of this process is the client's. Rounds of all
//! stores alternate. A directory is the plainest store that lasts; everything else is shown as a ratio to it as well. Each is measured once more
//! with the objects encrypted, and what digests alone cost is a line of its own.

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use holdfast_collection::{
    CollectionStore, CollectionUri, DataName, StoreOptions, StoreProvider, SystemStores,
};
use holdfast_env::Env;
use holdfast_format::{DataKey, Envelope, TupleFileOptions, TupleFileSummary, TupleFileWriter};
use holdfast_store_testing::{Azurite, Seaweed};
use holdfast_types::{Digest, Epoch, JobId, LayerPath, ObjectRef, TaskId};
use rustix::time::{ClockId, clock_gettime};
use std::sync::Arc;

/// Bytes of an object: about what a part of 16 MiB becomes. All that is written must fit into the servers of the tests.
const OBJECT: usize = 8 << 20;
/// Objects that a round writes and reads.
const OBJECTS: u32 = 8;
/// Requests at once.
const STREAMS: usize = 2;
/// Rounds, after one that does not count.
const ROUNDS: usize = 3;

/// Seconds that this process has computed, in user and kernel mode.
fn computed() -> f64 {
    seconds(ClockId::ProcessCPUTime)
}

/// Seconds that have passed.
fn passed() -> f64 {
    seconds(ClockId::Monotonic)
}

fn seconds(clock: ClockId) -> f64 {
    let time = clock_gettime(clock);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// A tuple file that does not compress, as long as an object is to be.
fn object() -> (Bytes, TupleFileSummary) {
    let mut writer = TupleFileWriter::new(1, TupleFileOptions::default()).expect("a level");
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut rows = Vec::new();
    while rows.len() < OBJECT {
        rows.extend_from_slice(&1_i16.to_be_bytes());
        rows.extend_from_slice(&4096_i32.to_be_bytes());
        for _ in 0..512 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            rows.extend_from_slice(&state.to_be_bytes());
        }
    }
    assert_eq!(writer.push(&rows).expect("rows"), rows.len());
    writer.finish().expect("closes")
}

/// A store, and what was measured of it.
struct Subject {
    name: String,
    store: CollectionStore,
    rounds: Vec<Measured>,
}

/// Seconds for 10^9 bytes.
#[derive(Clone, Copy)]
struct Measured {
    write_computed: f64,
    write_passed: f64,
    read_computed: f64,
    read_passed: f64,
}

impl Subject {
    async fn open(name: &str, uri: &str, options: StoreOptions) -> Self {
        let env = Env::system();
        let provider: Arc<dyn StoreProvider> = Arc::new(SystemStores::with_options(&env, options));
        let uri: CollectionUri = uri.parse().expect("a legal URI");
        let store = CollectionStore::open(&provider, &uri, &env).await;
        Self {
            name: name.to_owned(),
            store: store.expect("opens"),
            rounds: Vec::new(),
        }
    }

    /// The same store, with encrypted objects.
    fn encrypted(&self) -> Self {
        let key = DataKey::from_slice(&[7; 32]).expect("32 bytes");
        Self {
            name: format!("{}, encrypted", self.name),
            store: self.store.with_envelope(Envelope::Sealed(key)),
            rounds: Vec::new(),
        }
    }

    /// Writes objects under names that nobody had, and reads them. `round` is different each time, for each subject.
    async fn measure(&self, round: u64, file: &Bytes, summary: &TupleFileSummary) -> Measured {
        let path = LayerPath::full("2026/12/01-120000.00");
        let task = TaskId {
            job: JobId(round + 1),
            index: 0,
        };
        let name = |number| DataName::tuples(task, Epoch(1), number);
        let started = (computed(), passed());
        let objects: Vec<ObjectRef> = stream::iter(0..OBJECTS)
            .map(|number| {
                let chunks = vec![file.clone()];
                self.store.put_tuples(&path, name(number), chunks, summary)
            })
            .buffered(STREAMS)
            .try_collect()
            .await
            .expect("is written");
        let written = (computed(), passed());
        stream::iter(&objects)
            .map(|object| self.store.get_verified(&path, object))
            .buffered(STREAMS)
            .try_for_each(|bytes| async move {
                assert_eq!(bytes.len(), file.len());
                Ok(())
            })
            .await
            .expect("is read");
        let read = (computed(), passed());
        let bytes = file.len() as f64 * f64::from(OBJECTS) / 1e9;
        Measured {
            write_computed: (written.0 - started.0) / bytes,
            write_passed: (written.1 - started.1) / bytes,
            read_computed: (read.0 - written.0) / bytes,
            read_passed: (read.1 - written.1) / bytes,
        }
    }

    fn median(&self, of: impl Fn(&Measured) -> f64) -> f64 {
        let mut values: Vec<f64> = self.rounds.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    }
}

/// Seconds that the digest of 10^9 bytes takes.
fn digesting(file: &Bytes) -> f64 {
    let mut rounds: Vec<f64> = (0..=ROUNDS)
        .map(|_| {
            let started = computed();
            std::hint::black_box(Digest::of(std::hint::black_box(file)));
            (computed() - started) * 1e9 / file.len() as f64
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    rounds[rounds.len() / 2]
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let (file, summary) = object();
    let directory = tempfile::tempdir().expect("a directory");
    let (weed, azurite) = (Seaweed::shared(), Azurite::shared());
    let file_uri = format!("file://{}", directory.path().join("c").display());
    let usual = StoreOptions::default;
    let trusting = StoreOptions {
        certificates: Some(weed.certificate().as_bytes().into()),
        ..usual()
    };
    let s3 = |more: &str| weed.uri(&weed.bucket(), more);
    let tls = weed.uri_at(&weed.secure_endpoint(), &weed.bucket(), "");
    let clear = [
        Subject::open("directory", &file_uri, usual()).await,
        Subject::open("S3, CRC64NVME", &s3(""), usual()).await,
        Subject::open("S3, SHA-256", &s3("HOLDFAST_CHECKSUM=sha256"), usual()).await,
        Subject::open("S3, TLS", &tls, trusting).await,
        Subject::open("Azure", &azurite.uri(&azurite.container()), usual()).await,
    ];
    let mut subjects: Vec<Subject> = Vec::new();
    for subject in clear {
        let encrypted = subject.encrypted();
        subjects.extend([subject, encrypted]);
    }
    let mut number = 0;
    for round in 0..=ROUNDS {
        for subject in &mut subjects {
            number += 1;
            let measured = subject.measure(number, &file, &summary).await;
            // The first opens connections.
            if round > 0 {
                subject.rounds.push(measured);
            }
        }
    }
    println!(
        "{:<26} processor seconds for 10^9 bytes    10^6 bytes a second   of a directory's seconds",
        ""
    );
    println!(
        "{:<26} {:>10} {:>10} {:>14} {:>10} {:>14} {:>8}",
        "", "write", "read", "write", "read", "write", "read"
    );
    let base = (
        subjects[0].median(|it| it.write_computed),
        subjects[0].median(|it| it.read_computed),
    );
    for subject in &subjects {
        let write = subject.median(|it| it.write_computed);
        let read = subject.median(|it| it.read_computed);
        println!(
            "{:<26} {write:>10.3} {read:>10.3} {:>14.0} {:>10.0} {:>14.2} {:>8.2}",
            subject.name,
            1000.0 / subject.median(|it| it.write_passed),
            1000.0 / subject.median(|it| it.read_passed),
            write / base.0,
            read / base.1,
        );
    }
    let digest = digesting(&file);
    println!("{:<26} {digest:>10.3} {digest:>10.3}", "a digest alone");
}
