//! Lists and chains of large collections: requests in proportion to what is shown.

use holdfast_collection::faulty::{FaultPlan, FaultyStore, Injection, StoreOp};
use holdfast_collection::{Claim, CollectionStore, CollectionUri, StoreProvider, SystemStores};
use holdfast_env::Env;
use holdfast_format::{LayerTotals, Manifest};
use holdfast_types::{
    ClusterId, Fault, Hlc, JobId, LayerPath, ParentLayer, SourceKind, Target, Timestamp,
    full_subdir, incremental_subdir,
};
use object_store::ObjectStore;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// Counts what is asked of a store.
#[derive(Debug, Default)]
struct Counts(Mutex<BTreeMap<StoreOp, u64>>);

impl Counts {
    /// What was asked since the last question.
    fn take(&self) -> BTreeMap<StoreOp, u64> {
        std::mem::take(&mut *self.0.lock().expect("the lock"))
    }
}

impl FaultPlan for Counts {
    fn next(&self, operation: StoreOp, _: &str) -> Injection {
        *(self.0.lock().expect("the lock"))
            .entry(operation)
            .or_default() += 1;
        Injection::NONE
    }
}

#[derive(Debug)]
struct Counted {
    inner: SystemStores,
    counts: Arc<Counts>,
}

impl StoreProvider for Counted {
    fn open(&self, uri: &CollectionUri) -> Result<Arc<dyn ObjectStore>, Fault> {
        let plan = Arc::clone(&self.counts);
        Ok(Arc::new(FaultyStore::new(self.inner.open(uri)?, plan)))
    }
}

struct World {
    store: CollectionStore,
    counts: Arc<Counts>,
    raw: Arc<dyn ObjectStore>,
}

async fn world() -> World {
    let env = Env::system();
    let counts = Arc::<Counts>::default();
    let provider = Arc::new(Counted {
        inner: SystemStores::new(Arc::clone(&env.disk)),
        counts: Arc::clone(&counts),
    });
    let uri: CollectionUri = "memory://large".parse().expect("legal");
    let raw = provider.inner.open(&uri).expect("opens");
    let provider: Arc<dyn StoreProvider> = provider;
    let store = CollectionStore::open(&provider, &uri, &env)
        .await
        .expect("opens");
    World { store, counts, raw }
}

fn at(seconds: u64) -> Hlc {
    Hlc::at(Timestamp::from_millis(1_790_000_000_000 + seconds * 1000))
}

fn manifest(path: LayerPath, parent: Option<ParentLayer>, end: Hlc) -> Manifest {
    Manifest {
        cluster: ClusterId([3; 16]),
        job: JobId(end.wall.as_millis()),
        source: "fleet".parse().expect("legal"),
        kind: SourceKind::Mvcc,
        path,
        parent,
        target: Target::Source,
        complete: Vec::new(),
        end,
        history: false,
        revision_start: None,
        members: Vec::new(),
        totals: LayerTotals::default(),
        parts: Vec::new(),
        tiers: Vec::new(),
    }
}

/// A chain of so many layers, an hour apart, whose full is at a second.
async fn chain(store: &CollectionStore, start: u64, layers: u64) -> String {
    let full = full_subdir(at(start).wall);
    let mut parent: Option<ParentLayer> = None;
    for number in 0..layers {
        let end = at(start + number * 3600);
        let path = match &parent {
            None => LayerPath::full(full.clone()),
            Some(parent) => {
                let own = incremental_subdir(parent.end.wall, end.wall);
                LayerPath::incremental(full.clone(), own)
            }
        };
        let claim = Claim {
            cluster: ClusterId([3; 16]),
            job: JobId(end.wall.as_millis()),
        };
        store.claim(&path, claim).await.expect("free");
        let layer = store
            .commit_layer(&manifest(path.clone(), parent, end))
            .await
            .expect("committed");
        parent = Some(ParentLayer {
            path,
            manifest: layer.digest,
            end,
        });
    }
    full
}

#[tokio::test]
async fn a_list_of_ten_thousand_layers_takes_as_many_requests_as_it_has_pages_and_months() {
    const CHAINS: u64 = 25;
    const LAYERS: u64 = 400;
    let world = world().await;
    for number in 0..CHAINS {
        // Each starts when the one before it ends: a chain is sixteen days long.
        chain(&world.store, number * LAYERS * 3600, LAYERS).await;
    }
    world.counts.take();
    let chains = world.store.summaries().await.expect("listed");
    let counts = world.counts.take();
    assert_eq!(chains.len() as u64, CHAINS);
    assert!(chains.iter().all(|chain| u64::from(chain.layers) == LAYERS));
    assert!(chains.windows(2).all(|pair| pair[0].end < pair[1].end));
    // A page of a listing has a thousand names. 25 chains of 16 days are in 15 months of 3 years.
    let listed = counts.get(&StoreOp::Listed).copied().unwrap_or_default();
    assert_eq!(listed, CHAINS * LAYERS, "{counts:?}");
    let lists = counts.get(&StoreOp::List).copied().unwrap_or_default();
    // And the marks of expired chains.
    assert!(lists <= 1 + 1 + 1 + 3 + 15, "{counts:?}");
    for other in [StoreOp::Get, StoreOp::Head] {
        assert_eq!(counts.get(&other), None, "{counts:?}");
    }
}

#[tokio::test]
async fn a_chain_of_four_hundred_layers_takes_a_request_for_each_and_one_for_each_day() {
    let world = world().await;
    let full = chain(&world.store, 0, 400).await;
    world.counts.take();
    let loaded = world.store.load_chain(&full).await.expect("loaded");
    let counts = world.counts.take();
    assert_eq!(loaded.all_layers().count(), 400);
    assert_eq!(counts.get(&StoreOp::Get), Some(&400), "{counts:?}");
    // Whether it has expired.
    assert_eq!(counts.get(&StoreOp::Head), Some(&1), "{counts:?}");
    // The days' directories, the list of them, and the index.
    let lists = counts.get(&StoreOp::List).copied().unwrap_or_default();
    assert!(lists <= 18 + 1 + 1, "{counts:?}");
}

#[tokio::test]
async fn what_the_index_lacks_is_found_and_what_is_foreign_is_passed_over() {
    let world = world().await;
    let full = chain(&world.store, 0, 3).await;
    let other = chain(&world.store, 1_000_000, 2).await;
    // A copy that was made without the index of one chain, with placeholders, and with strangers.
    let index = format!("metadata/index/{}", full.replace('/', ""));
    let mut doomed = Vec::new();
    let mut listed = world.raw.list(Some(&Path::from(index.as_str())));
    while let Some(meta) = futures::TryStreamExt::try_next(&mut listed)
        .await
        .expect("listed")
    {
        doomed.push(meta.location);
    }
    assert_eq!(doomed.len(), 3);
    for at in doomed {
        world.raw.delete(&at).await.expect("removed");
    }
    for foreign in [
        "metadata/index/README",
        "metadata/index/20260101-000000.00/zz_full",
        "metadata/latest/notes.txt",
        "2026/readme.txt",
        "2026/01/01-000000.00/data/x.hfs",
        "incrementals/other/thing",
    ] {
        let body = "somebody else's".into();
        world
            .raw
            .put(&Path::from(foreign), body)
            .await
            .expect("put");
    }
    let placeholder = format!("{index}/00_full");
    let empty = Vec::new().into();
    world
        .raw
        .put(&Path::from(placeholder), empty)
        .await
        .expect("put");
    let chains = world.store.summaries().await.expect("listed");
    let found: Vec<(&str, u32)> = chains
        .iter()
        .map(|chain| (chain.full.as_str(), chain.layers))
        .collect();
    assert_eq!(found, [(full.as_str(), 3), (other.as_str(), 2)]);
    let fulls = world.store.list_chains().await.expect("listed");
    assert_eq!(fulls.len(), 2);
    let chain = world.store.load_chain(&full).await.expect("loaded");
    assert_eq!(chain.all_layers().count(), 3);
}

#[tokio::test]
async fn a_layer_whose_manifest_was_removed_breaks_the_chain_and_is_named() {
    let world = world().await;
    let full = chain(&world.store, 0, 4).await;
    let layers = world.store.list_layers(&full).await.expect("listed");
    let gone = Path::from(format!("{}/MANIFEST", layers[2]));
    world.raw.delete(&gone).await.expect("removed");
    let chain = world.store.load_chain(&full).await.expect("loaded");
    assert_eq!(chain.layers().count(), 2, "up to the hole");
    let broken: Vec<String> = chain
        .broken()
        .iter()
        .map(|(path, _)| path.to_string())
        .collect();
    assert!(broken.contains(&layers[2].to_string()), "{broken:?}");
}
