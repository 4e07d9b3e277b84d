//! Stores that fail and disks that are full.

mod scene;

use holdfast_client::ControlApi;
use holdfast_collection::faulty::{FaultPlan, FaultyStore, Injection, StoreFault, StoreOp};
use holdfast_collection::{CollectionUri, StoreProvider, SystemStores};
use holdfast_coordinator::Coordinator;
use holdfast_env::Env;
use holdfast_types::{ErrorCode, Fault, Millis, Timestamp};
use object_store::ObjectStore;
use scene::{Manner, Scene, config, full, play, until};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Refuses to write manifests while it is told to.
#[derive(Debug, Default)]
struct NoManifests(AtomicBool);

impl FaultPlan for NoManifests {
    fn next(&self, operation: StoreOp, path: &str) -> Injection {
        let refuses = self.0.load(Ordering::Relaxed);
        Injection {
            delay: Duration::ZERO,
            fault: (refuses && operation == StoreOp::Put && path.contains("MANIFEST"))
                .then_some(StoreFault::Reject),
        }
    }
}

/// Stores in memory that follow a plan.
#[derive(Debug)]
struct Faulty {
    inner: SystemStores,
    plan: Arc<NoManifests>,
}

impl StoreProvider for Faulty {
    fn open(&self, uri: &CollectionUri) -> Result<Arc<dyn ObjectStore>, Fault> {
        let plan: Arc<dyn FaultPlan> = Arc::clone(&self.plan) as Arc<dyn FaultPlan>;
        Ok(Arc::new(FaultyStore::new(self.inner.open(uri)?, plan)))
    }

    fn exists(&self, uri: &CollectionUri) -> Result<bool, Fault> {
        self.inner.exists(uri)
    }
}

#[test]
fn a_store_that_refuses_is_shown_and_tried_again() {
    play(async {
        let env = Env::system();
        let plan = Arc::new(NoManifests::default());
        let stores = Arc::new(Faulty {
            inner: SystemStores::new(Arc::clone(&env.disk)),
            plan: Arc::clone(&plan),
        });
        let scene = Scene::start_with(&["region=eu"], stores).await;
        plan.0.store(true, Ordering::Relaxed);
        let _worker = scene.worker("w", "region=eu", Manner::Diligent(2)).await;
        let job = scene.submit(full()).await;
        let waiting = until("the trouble is shown", || async {
            let job = scene.job(job).await;
            assert_ne!(job.state, "succeeded");
            let shown = job
                .waiting
                .iter()
                .find(|reason| reason.contains("writing the manifest"))
                .cloned();
            assert!(shown.is_none() || !job.execution_errors.is_empty());
            shown
        })
        .await;
        assert!(waiting.contains("writing the manifest"), "{waiting}");
        plan.0.store(false, Ordering::Relaxed);
        let done = scene.job_in(job, "succeeded").await;
        assert!(done.waiting.is_empty());
    });
}

#[test]
fn a_member_that_keeps_failing_is_named_with_its_error() {
    play(async {
        let scene = Scene::start(&["region=eu"]).await;
        scene.set("max_task_attempts", 1_000).await;
        scene.set("task_backoff_ms", 300).await;
        let began = scene.env.clock.now();
        let clumsy = scene.worker("w", "region=eu", Manner::Clumsy(1)).await;
        let job = scene.submit(full()).await;
        let waiting = until("the member is named", || async {
            let job = scene.job(job).await;
            job.waiting
                .iter()
                .find(|why| why.contains("not at home"))
                .cloned()
        })
        .await;
        let (text, rest) = waiting.split_once(" since ").expect("since when");
        assert_eq!(text, "member m1 fails");
        let (since, error) = rest.split_once(": ").expect("the error");
        let since: Timestamp = since.parse().expect("a time");
        assert!(since.plus(Millis(1_000)) >= began, "{waiting}");
        assert!(error.contains("relation"), "{waiting}");
        // It stays the time of the first failure, and is shown whether or not the task rests.
        for _ in 0..20 {
            let seen = scene.job(job).await;
            assert_eq!(seen.waiting, [waiting.as_str()]);
            assert_eq!(seen.running_status, waiting);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        drop(clumsy);
        let _worker = scene.worker("w2", "region=eu", Manner::Diligent(1)).await;
        let done = scene.job_in(job, "succeeded").await;
        assert!(done.waiting.is_empty());
    });
}

#[test]
fn a_coordinator_with_a_full_disk_refuses_new_work_and_serves_the_old() {
    play(async {
        let scene = Scene::start(&["region=eu"]).await;
        let _worker = scene.worker("w", "region=eu", Manner::Diligent(1)).await;
        let job = scene.submit(full()).await;
        scene.job_in(job, "succeeded").await;
        let Scene {
            handle,
            env,
            stores,
            directory,
            ..
        } = scene;
        handle.shutdown().await;
        let mut cramped = config(directory.path(), 1);
        cramped.raft.disk_reserve = u64::MAX;
        cramped.raft.disk_check_interval = Duration::from_millis(20);
        let handle = Coordinator::start(cramped, env, stores)
            .await
            .expect("a coordinator");
        let api = handle.api();
        let fault = until("new work is refused", || async {
            api.submit_backup(full())
                .await
                .err()
                .filter(|fault| fault.code == ErrorCode::StorageFull)
        })
        .await;
        assert!(fault.hint.is_some(), "{fault}");
        let old = api.get_job(job).await.expect("what is there is served");
        assert_eq!(old.state, "succeeded");
        assert!(api.cluster_status().await.expect("a status").storage_full);
        handle.shutdown().await;
    });
}
