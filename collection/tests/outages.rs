//! A store that fails for a while: what is tried again, what is settled by looking, and what is said at last.

use bytes::Bytes;
use holdfast_collection::{
    CollectionStore, CollectionUri, DataName, StoreOptions, StoreProvider, SystemStores,
};
use holdfast_env::Env;
use holdfast_format::{SpanFileOptions, SpanFileSummary, SpanFileWriter};
use holdfast_store_testing::{Act, Faults, Proxy, Seaweed};
use holdfast_types::{Epoch, ErrorCode, Hlc, JobId, LayerPath, TaskId, Timestamp, full_subdir};
use http::Method;
use std::sync::Arc;
use std::time::Duration;

struct Way {
    faults: Arc<Faults>,
    store: CollectionStore,
    /// Kept alive.
    _proxy: Proxy,
}

async fn way(weed: &Seaweed) -> Way {
    let faults = Arc::new(Faults::default());
    let proxy = Proxy::start(weed.port(), Arc::<Faults>::clone(&faults) as _).await;
    let uri: CollectionUri = weed
        .uri_at(&proxy.endpoint(), &weed.bucket(), "")
        .parse()
        .expect("a legal URI");
    let env = Env::system();
    let provider: Arc<dyn StoreProvider> =
        Arc::new(SystemStores::with_options(&env, StoreOptions::default()));
    Way {
        faults,
        store: CollectionStore::open(&provider, &uri, &env)
            .await
            .expect("opens"),
        _proxy: proxy,
    }
}

fn file() -> (Vec<Bytes>, SpanFileSummary) {
    let mut writer = SpanFileWriter::new(SpanFileOptions::default()).expect("a level");
    for row in 0..20_000u32 {
        let value = format!("{:x}", row.wrapping_mul(0x9e37_79b9));
        let position = Hlc::at(Timestamp::from_millis(1)).into();
        writer
            .push_row(&row.to_be_bytes(), position, Some(value.as_bytes()))
            .expect("in order");
    }
    let (bytes, summary) = writer.finish().expect("closes");
    (vec![bytes], summary)
}

fn path() -> LayerPath {
    LayerPath::full(full_subdir(Timestamp::from_millis(1_790_000_000_000)))
}

fn name(sequence: u32) -> DataName {
    let task = TaskId {
        job: JobId(5),
        index: 0,
    };
    DataName::new(task, Epoch(1), sequence)
}

#[tokio::test]
async fn what_passes_is_tried_again_until_it_has_passed() {
    let way = way(Seaweed::shared()).await;
    let (chunks, summary) = file();
    way.faults.expect(
        Method::PUT,
        [Act::SlowDown, Act::SlowDown, Act::Expired, Act::SlowDown],
    );
    let object = way
        .store
        .put_data(&path(), name(0), chunks.clone(), &summary)
        .await
        .expect("written at last");
    // Done, and said to have failed: what is there is compared, and is ours.
    way.faults.expect(Method::PUT, [Act::FailAfter; 3]);
    way.store
        .put_data(&path(), name(1), chunks.clone(), &summary)
        .await
        .expect("recognised");
    way.faults.expect(
        Method::GET,
        [
            Act::Cut(1000),
            Act::SlowDown,
            Act::Cut(50_000),
            Act::Expired,
        ],
    );
    let read = way
        .store
        .get_verified(&path(), &object)
        .await
        .expect("read at last");
    assert_eq!(read, chunks.concat());
    assert_eq!(way.faults.left(), 0, "all of it happened");
}

#[tokio::test]
async fn what_never_answers_is_given_up_and_tried_again() {
    let way = way(Seaweed::shared()).await;
    way.faults.expect(Method::GET, [Act::Hang]);
    let chains = tokio::time::timeout(Duration::from_secs(100), way.store.list_chains());
    let chains = chains.await.expect("not for ever").expect("listed at last");
    assert!(chains.is_empty() && way.faults.left() == 0);
}

#[tokio::test]
async fn a_server_that_is_gone_is_named_and_comes_back() {
    let weed = Seaweed::start(holdfast_store_testing::SeaweedOptions::default());
    let bucket = weed.bucket();
    let env = Env::system();
    let provider: Arc<dyn StoreProvider> =
        Arc::new(SystemStores::with_options(&env, StoreOptions::default()));
    let uri: CollectionUri = weed.uri(&bucket, "").parse().expect("a legal URI");
    let store = CollectionStore::open(&provider, &uri, &env)
        .await
        .expect("opens");
    let (chunks, summary) = file();
    let object = store
        .put_data(&path(), name(0), chunks.clone(), &summary)
        .await
        .expect("written");
    weed.kill();
    let fault = store
        .get_verified(&path(), &object)
        .await
        .expect_err("nobody is there");
    assert_eq!(fault.code, ErrorCode::Unavailable);
    assert!(!fault.to_string().contains(weed.secret()), "{fault}");
    weed.restart();
    let read = store
        .get_verified(&path(), &object)
        .await
        .expect("what was acknowledged is there");
    assert_eq!(read, chunks.concat());
}
