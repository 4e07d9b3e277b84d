//! What writing to and reading from each kind of store costs this process: processor seconds for each GB, and requests' wall time for orientation.
//!
//! `cargo run -p holdfast-collection --example store_cost [MiB]`, after `cargo xtask servers`. Servers run beside it and take processor time of their own, so
//! that the speeds say nothing of a real store; the processor seconds are this process's alone.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "it measures its own process, and prints"
)]

use bytes::Bytes;
use holdfast_collection::{
    CollectionStore, CollectionUri, DataName, StoreOptions, StoreProvider, SystemStores,
};
use holdfast_env::Env;
use holdfast_format::{SpanFileOptions, SpanFileWriter};
use holdfast_store_testing::{Azurite, Seaweed};
use holdfast_types::{Epoch, Hlc, JobId, LayerPath, TaskId, Timestamp, full_subdir};
use std::sync::Arc;

/// Bytes of one object.
const OBJECT: usize = 16 << 20;
/// Ticks of the kernel's accounts in a second.
const TICKS: f64 = 100.0;

/// Processor seconds of this process so far, the kernel's for it included.
fn processor() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let after = stat.rsplit_once(')').expect("a name").1;
    let fields: Vec<&str> = after.split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<f64>().expect("a number");
    (ticks(11) + ticks(12)) / TICKS
}

/// A span file of about [`OBJECT`] bytes that no compressor makes less of.
fn object(number: u32) -> (Vec<Bytes>, holdfast_format::SpanFileSummary) {
    let mut writer = SpanFileWriter::new(SpanFileOptions::default()).expect("a level");
    let position = Hlc::at(Timestamp::from_millis(1)).into();
    let mut state = u64::from(number)
        .wrapping_add(1)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut value = vec![0u8; 64 << 10];
    let mut chunks = Vec::new();
    for row in 0..(OBJECT / value.len()) as u32 {
        for word in value.chunks_exact_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes());
        }
        writer
            .push_row(&row.to_be_bytes(), position, Some(&value))
            .expect("in order");
        chunks.push(writer.take());
    }
    let (rest, summary) = writer.finish().expect("closes");
    chunks.push(rest);
    (chunks, summary)
}

async fn measure(what: &str, uri: &str, options: StoreOptions, objects: u32) {
    let env = Env::system();
    let provider: Arc<dyn StoreProvider> = Arc::new(SystemStores::with_options(&env, options));
    let uri: CollectionUri = uri.parse().expect("a legal URI");
    let store = CollectionStore::open(&provider, &uri, &env)
        .await
        .expect("opens");
    let path = LayerPath::full(full_subdir(Timestamp::from_millis(1_790_000_000_000)));
    let mut bytes = 0u64;
    let (mut written, mut read) = (0.0, 0.0);
    for number in 0..objects {
        let (chunks, summary) = object(number);
        let task = TaskId {
            job: JobId(1),
            index: number,
        };
        let started = processor();
        let stored = store
            .put_data(&path, DataName::new(task, Epoch(1), 0), chunks, &summary)
            .await
            .expect("written");
        let between = processor();
        store.get_verified(&path, &stored).await.expect("read");
        read += processor() - between;
        written += between - started;
        bytes += stored.length.0;
    }
    let gb = bytes as f64 / 1e9;
    println!(
        "{what:22} write {:5.2}  read {:5.2}  processor s/GB",
        written / gb,
        read / gb
    );
}

#[tokio::main]
async fn main() {
    let mib = std::env::args()
        .nth(1)
        .map_or(512, |text| text.parse().expect("MiB"));
    let objects = u32::try_from(mib * (1 << 20) / OBJECT).expect("few");
    let directory = tempfile::tempdir().expect("a directory");
    let file = format!("file://{}/c", directory.path().display());
    measure("file", &file, StoreOptions::default(), objects).await;
    let weed = Seaweed::shared();
    let plain = StoreOptions::default;
    measure(
        "s3 http, crc64nvme",
        &weed.uri(&weed.bucket(), ""),
        plain(),
        objects,
    )
    .await;
    let none = weed.uri(&weed.bucket(), "HOLDFAST_CHECKSUM=none");
    measure("s3 http, no checksum", &none, plain(), objects).await;
    let trusting = || StoreOptions {
        certificates: Some(weed.certificate().as_bytes().into()),
        ..StoreOptions::default()
    };
    let secure = weed.secure_endpoint();
    let tls = weed.uri_at(&secure, &weed.bucket(), "");
    measure("s3 TLS, crc64nvme", &tls, trusting(), objects).await;
    let sha = weed.uri_at(&secure, &weed.bucket(), "HOLDFAST_CHECKSUM=sha256");
    measure("s3 TLS, sha256", &sha, trusting(), objects).await;
    let azurite = Azurite::shared();
    measure(
        "azure http",
        &azurite.uri(&azurite.container()),
        plain(),
        objects,
    )
    .await;
}
