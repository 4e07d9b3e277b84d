//! A coordinator's wall clock jumps: nobody loses a lease, jobs go on, and what depends on the time is refused with a reason.

mod scene;

use holdfast_client::ControlApi;
use holdfast_collection::{StoreProvider, SystemStores};
use holdfast_coordinator::{Bootstrap, Coordinator};
use holdfast_env::{Clock, Env};
use holdfast_proto::v1;
use holdfast_types::{ErrorCode, Timestamp};
use scene::{Manner, Scene, config, full, incremental, play, source};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

const HOUR: i64 = 3_600_000_000;

/// The machine's clocks; the wall clock is wrong by some microseconds.
#[derive(Debug)]
struct Jumping {
    clock: Arc<dyn Clock>,
    wrong_by: AtomicI64,
}

impl Clock for Jumping {
    fn now(&self) -> Timestamp {
        let wrong_by = self.wrong_by.load(Ordering::Relaxed);
        let now = self.clock.now().as_micros();
        Timestamp::from_micros(now.saturating_add_signed(wrong_by))
    }

    fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }
}

/// A scene whose coordinator has a clock that jumps.
async fn start() -> (Scene, Arc<Jumping>) {
    let real = Env::system();
    let clock = Arc::new(Jumping {
        clock: Arc::clone(&real.clock),
        wrong_by: AtomicI64::new(0),
    });
    let env = Env {
        clock: Arc::clone(&clock) as Arc<dyn Clock>,
        ..real
    };
    let directory = tempfile::tempdir().expect("a directory");
    let stores: Arc<dyn StoreProvider> = Arc::new(SystemStores::new(Arc::clone(&env.disk)));
    let mut config = config(directory.path(), 1);
    config.bootstrap = Bootstrap::Init(Vec::new());
    let handle = Coordinator::start(config, env.clone(), Arc::clone(&stores))
        .await
        .expect("a coordinator");
    let scene = Scene {
        api: handle.api(),
        handle,
        env,
        stores,
        directory,
    };
    scene.in_office().await;
    scene.set("lease_ttl_ms", 500).await;
    scene.set("task_backoff_ms", 50).await;
    scene
        .api
        .register_source(source("bank", &["region=eu"]))
        .await
        .expect("registered");
    (scene, clock)
}

#[test]
fn a_jump_of_the_wall_clock_ends_no_lease_and_no_job() {
    play(async {
        let (scene, clock) = start().await;
        let idle = scene.worker("idle", "region=eu", Manner::Idle(2)).await;
        let job = scene.submit(full()).await;
        let leased = || async { scene.job(job).await.tasks_leased == 2 };
        // The coordinator knows of a lease before its worker does.
        let held = scene::until("both spans are with their worker", || async {
            let held = idle.held();
            (leased().await && held.len() == 2).then_some(held)
        })
        .await;
        for wrong_by in [HOUR, -HOUR, 0, -HOUR] {
            clock.wrong_by.store(wrong_by, Ordering::Relaxed);
            // Longer than a lease and its margin.
            tokio::time::sleep(Duration::from_millis(900)).await;
            assert!(leased().await, "leases are lost by a jump to {wrong_by}");
            assert_eq!(idle.held(), held);
        }
        // A lost worker is noticed all the same, what it held is tried again, and the job succeeds.
        drop(idle);
        let _diligent = scene.worker("w", "region=eu", Manner::Diligent(2)).await;
        let done = scene.job_in(job, "succeeded").await;
        assert_eq!(done.fraction_completed, 1.0);

        // An hour behind the last layer: refused, with the clock named.
        clock.wrong_by.store(-2 * HOUR, Ordering::Relaxed);
        let fault = scene
            .api
            .submit_backup(incremental())
            .await
            .expect_err("before the last end");
        assert_eq!(fault.code, ErrorCode::ChainRule, "{fault}");
        assert!(fault.message.contains("must be greater"), "{fault}");
        let hint = fault.hint.as_deref().unwrap_or_default();
        assert!(hint.contains("clock"), "{hint}");

        // What was given relatively follows this clock; the future is its future.
        clock.wrong_by.store(0, Ordering::Relaxed);
        let ahead = scene.env.clock.now().as_micros() + HOUR as u64;
        let request = v1::SubmitBackupRequest {
            as_of: format!("{ahead}.0000000000"),
            ..incremental()
        };
        let fault = scene.api.submit_backup(request).await.expect_err("future");
        assert!(fault.message.contains("is in the future"), "{fault}");
        let job = scene.submit(incremental()).await;
        scene.job_in(job, "succeeded").await;
    });
}
