//! The suite over every store of this build, working and failing.

use holdfast_collection::conformance;
use holdfast_collection::faulty::{FaultPlan, FaultyStore, Injection, StoreFault, StoreOp};
use holdfast_collection::{CollectionStore, CollectionUri, StoreProvider, SystemStores};
use holdfast_env::Env;
use holdfast_types::Fault;
use object_store::ObjectStore;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

fn stores(env: &Env) -> Arc<dyn StoreProvider> {
    Arc::new(SystemStores::new(Arc::clone(&env.disk)))
}

async fn run(provider: Arc<dyn StoreProvider>, uri: &str, env: &Env) {
    let uri: CollectionUri = uri.parse().expect("a legal URI");
    let store = CollectionStore::open(&provider, &uri, env)
        .await
        .expect("opens");
    if let Err(violation) = conformance::run(&store).await {
        panic!("{violation}");
    }
}

#[tokio::test]
async fn memory_keeps_every_promise() {
    let env = Env::system();
    run(stores(&env), "memory://suite", &env).await;
}

#[tokio::test]
async fn a_directory_keeps_every_promise() {
    let env = Env::system();
    let directory = tempfile::tempdir().expect("a directory");
    let uri = format!("file://{}/collection", directory.path().display());
    run(stores(&env), &uri, &env).await;
}

/// One operation in sixteen fails, drawn from a seed, in one of the ways that a store may fail for a moment.
#[derive(Debug)]
struct Sometimes {
    seed: u64,
    count: AtomicU64,
}

impl FaultPlan for Sometimes {
    fn next(&self, operation: StoreOp, _path: &str) -> Injection {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        // splitmix64
        let mut drawn = (self.seed << 32).wrapping_add(count.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        drawn = (drawn ^ (drawn >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        drawn = (drawn ^ (drawn >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        drawn ^= drawn >> 31;
        if !drawn.is_multiple_of(16) {
            return Injection::NONE;
        }
        let fault = match (operation, (drawn >> 8) % 3) {
            (StoreOp::Chunk, 0) => StoreFault::Truncate,
            (StoreOp::Chunk, 1) => StoreFault::Flip(drawn >> 16),
            (StoreOp::Put | StoreOp::Delete, 0 | 1) => StoreFault::LoseAnswer,
            _ => StoreFault::Reject,
        };
        Injection {
            delay: Duration::from_millis((drawn >> 12) % 5),
            fault: Some(fault),
        }
    }
}

#[derive(Debug)]
struct FaultyStores {
    inner: Arc<dyn StoreProvider>,
    plan: Arc<dyn FaultPlan>,
}

impl StoreProvider for FaultyStores {
    fn open(&self, uri: &CollectionUri) -> Result<Arc<dyn ObjectStore>, Fault> {
        let inner = self.inner.open(uri)?;
        Ok(Arc::new(FaultyStore::new(inner, Arc::clone(&self.plan))))
    }
}

#[tokio::test(start_paused = true)]
async fn a_failing_store_keeps_every_promise_too() {
    let env = Env::system();
    for seed in 0..4 {
        let provider = Arc::new(FaultyStores {
            inner: stores(&env),
            plan: Arc::new(Sometimes {
                seed,
                count: AtomicU64::new(0),
            }),
        });
        run(provider, "memory://suite", &env).await;
    }
}
