//! The suite over real servers: S3 (plain, TLS, roles, object lock), Azure Blob Storage, and Google's protocol as far as it can be had.

use holdfast_collection::{
    CollectionStore, CollectionUri, StoreOptions, StoreProvider, SystemStores, conformance,
};
use holdfast_env::Env;
use holdfast_store_testing::{Azurite, GoogleManners, Proxy, Seaweed, SeaweedOptions, encoded};
use std::collections::BTreeSet;
use std::sync::Arc;

async fn open(uri: &str, options: StoreOptions) -> CollectionStore {
    let env = Env::system();
    let provider: Arc<dyn StoreProvider> = Arc::new(SystemStores::with_options(&env, options));
    let uri: CollectionUri = uri.parse().expect("a legal URI");
    CollectionStore::open(&provider, &uri, &env)
        .await
        .expect("opens")
}

async fn run(uri: &str, options: StoreOptions) {
    let store = open(uri, options).await;
    if let Err(violation) = conformance::run(&store).await {
        panic!("{violation}");
    }
}

#[tokio::test]
async fn s3_keeps_every_promise() {
    let weed = Seaweed::shared();
    run(&weed.uri(&weed.bucket(), ""), StoreOptions::default()).await;
}

#[tokio::test]
async fn s3_with_sha256_and_without_checksums_keeps_every_promise() {
    let weed = Seaweed::shared();
    for checksum in ["sha256", "none"] {
        let more = format!("HOLDFAST_CHECKSUM={checksum}");
        run(&weed.uri(&weed.bucket(), &more), StoreOptions::default()).await;
    }
}

#[tokio::test]
async fn s3_over_tls_keeps_every_promise() {
    let weed = Seaweed::shared();
    let uri = weed.uri_at(&weed.secure_endpoint(), &weed.bucket(), "");
    let options = StoreOptions {
        certificates: Some(weed.certificate().as_bytes().into()),
        ..StoreOptions::default()
    };
    run(&uri, options).await;
    let trusting_nobody = open(&uri, StoreOptions::default()).await;
    let fault = trusting_nobody
        .list_chains()
        .await
        .expect_err("not trusted");
    assert!(!fault.to_string().contains(weed.secret()), "{fault}");
}

#[tokio::test]
async fn s3_under_an_assumed_role_keeps_every_promise() {
    let weed = Seaweed::shared();
    let more = format!("ASSUME_ROLE={}", encoded(weed.role()));
    run(&weed.uri(&weed.bucket(), &more), StoreOptions::default()).await;
    let more = format!("ASSUME_ROLE={}", encoded("arn:aws:iam::role/stranger"));
    let store = open(&weed.uri(&weed.bucket(), &more), StoreOptions::default()).await;
    let fault = store.list_chains().await.expect_err("no such role");
    assert!(!fault.to_string().contains(weed.secret()), "{fault}");
}

#[tokio::test]
async fn a_wrong_secret_is_refused_and_not_repeated() {
    let weed = Seaweed::shared();
    let uri = weed.uri(&weed.bucket(), "");
    let wrong = uri.replace(&encoded(weed.secret()), "holdfast-canary-wrong");
    let store = open(&wrong, StoreOptions::default()).await;
    let fault = store.list_chains().await.expect_err("refused");
    let text = fault.to_string();
    assert!(
        !text.contains("canary") && text.contains("permission denied"),
        "{text}"
    );
}

/// No key has two versions, and none of them can be removed.
fn assert_immutable(weed: &Seaweed, bucket: &str) {
    let versions = weed.versions(bucket);
    let keys: BTreeSet<&String> = versions.iter().map(|(key, _)| key).collect();
    assert!(keys.len() > 50, "{} keys", keys.len());
    assert_eq!(keys.len(), versions.len(), "nothing was overwritten");
    for (key, version) in versions.iter().take(5) {
        assert!(!weed.lets_go(bucket, key, version), "{key} is retained");
    }
}

#[tokio::test]
async fn s3_with_a_default_retention_keeps_every_promise_and_loses_nothing() {
    let weed = Seaweed::shared();
    let bucket = weed.locked_bucket();
    weed.retain(&bucket, "COMPLIANCE", 1);
    run(&weed.uri(&bucket, ""), StoreOptions::default()).await;
    assert_immutable(weed, &bucket);
}

#[tokio::test]
async fn s3_with_a_retention_for_each_object_keeps_every_promise_and_loses_nothing() {
    let weed = Seaweed::shared();
    let bucket = weed.locked_bucket();
    let more = "HOLDFAST_OBJECT_LOCK_MODE=COMPLIANCE&HOLDFAST_OBJECT_LOCK_RETAIN_DAYS=2";
    run(&weed.uri(&bucket, more), StoreOptions::default()).await;
    assert_immutable(weed, &bucket);
    let (key, _) = weed.versions(&bucket).remove(0);
    let retention = weed.retention(&bucket, &key);
    assert!(retention.contains("COMPLIANCE"), "{retention}");
}

#[tokio::test]
async fn azure_keeps_every_promise() {
    let azurite = Azurite::shared();
    run(&azurite.uri(&azurite.container()), StoreOptions::default()).await;
}

/// Google's client against another server, through a translator: the promises are kept by that client's requests as far as
/// this can show. Google's own service was never asked.
#[tokio::test]
async fn the_client_for_google_keeps_every_promise() {
    let weed = Seaweed::start(SeaweedOptions { anonymous: true });
    let bucket = weed.bucket();
    let proxy = Proxy::start(weed.port(), Arc::new(GoogleManners)).await;
    let uri = format!(
        "gs://{bucket}/a/collection?BEARER_TOKEN=none&HOLDFAST_ENDPOINT={}",
        encoded(&proxy.endpoint())
    );
    run(&uri, StoreOptions::default()).await;
}
