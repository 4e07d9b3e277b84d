//! An encrypted collection over three kinds of object stores at once: Amazon's protocol, Azure's, and Google's as far as it can be had.

use futures::TryStreamExt;
use holdfast_collection::{CollectionUri, StoreProvider, SystemStores};
use holdfast_env::Env;
use holdfast_store_testing::{Azurite, GoogleManners, Proxy, Seaweed, SeaweedOptions, encoded};
use object_store::ObjectStoreExt;
use std::path::Path;
use std::sync::Arc;

use crate::cycle::{assert_comes_back, assert_each_at_home, canaries, start, write_chain};
use crate::search::assert_nothing_is_seen;
use crate::{Cli, PASSPHRASE};

/// Copies every object of a store below a directory; gives their number.
async fn fetch(uri: &str, into: &Path) -> usize {
    let uri: CollectionUri = uri.parse().expect("a legal URI");
    let store = SystemStores::new(Env::system().disk).open(&uri);
    let store = store.expect("opens");
    let objects: Vec<_> = store.list(None).try_collect().await.expect("a list");
    for object in &objects {
        let got = store.get(&object.location).await.expect("is there");
        let bytes = got.bytes().await.expect("is read");
        let path = into.join(object.location.as_ref());
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        std::fs::write(path, bytes).expect("written");
    }
    objects.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_encrypted_cycle_in_three_clouds_survives_kills_and_shows_nothing() {
    let (amazon, azure) = (Seaweed::shared(), Azurite::shared());
    let google = Seaweed::start(SeaweedOptions { anonymous: true });
    let proxy = Proxy::start(google.port(), Arc::new(GoogleManners)).await;
    let (mut cluster, accounts) = start(3).await;
    let rows = canaries(&accounts).await;
    let stores = [
        amazon.uri(&amazon.bucket(), "HOLDFAST_LOCALITY=default"),
        format!(
            "{}&HOLDFAST_LOCALITY=zone%3Dz1",
            azure.uri(&azure.container())
        ),
        format!(
            "gs://{}/a/collection?BEARER_TOKEN=none&HOLDFAST_ENDPOINT={}&HOLDFAST_LOCALITY=zone%3Dz2",
            google.bucket(),
            encoded(&proxy.endpoint())
        ),
    ];

    let mut instants = write_chain(&mut cluster, &accounts, &stores).await;
    // An instant inside of a layer, and its end: these servers are slow, and every instant is compared where the stores are directories.
    instants.retain(|(name, _)| ["middle", "last"].contains(name));
    assert_comes_back(&cluster, &accounts, &stores, &instants).await;

    let other = tempfile::tempdir().expect("a directory");
    let pass = other.path().join("pass");
    std::fs::write(&pass, PASSPHRASE).expect("written");
    let given = format!("--passphrase-file {}", pass.display());
    assert_each_at_home(&Cli(&cluster), &stores, &given).await;

    let place = |number: usize| cluster.directory().join(format!("fetched-{number}"));
    let places = [place(0), place(1), place(2)];
    for (uri, place) in stores.iter().zip(&places) {
        let objects = fetch(uri, place).await;
        assert!(objects > 10, "{objects} objects");
    }
    let secrets = [PASSPHRASE, amazon.secret(), azure.secret()];
    assert_nothing_is_seen(&cluster, &places, &[PASSPHRASE], &secrets, &rows).await;
}
