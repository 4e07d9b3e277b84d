//! Scripts of the simulator (`sim/src/scenario.rs`), one for one, with real processes and a real PostgreSQL behind a proxy that can be cut. What the simulator shows
//! of thousands of worlds is shown of this one.

use holdfast_client::{ControlApi, v1};
use holdfast_postgres_testing::{Options, Proxy, Server};
use holdfast_tests::{Cluster, Pgbench, Shape, adds_up, eventually, make_bank};
use std::time::Duration;

const SOURCE: &str = "shop";
/// A worker reads this slowly, so that things happen in the middle.
const BYTES_PER_SECOND: u64 = 2 << 20;
const LEASE: Duration = Duration::from_secs(2);
const PART: u64 = 128 << 10;
/// What one stream may do again: a part, which is closed by the first rows that make it full.
const REDONE: u64 = PART + (1 << 20);

/// A cluster, a server that is written to all the while, and the proxy between the two.
struct World {
    cluster: Cluster,
    server: Server,
    proxy: Proxy,
    bank: String,
    writers: Pgbench,
}

impl World {
    async fn start() -> Self {
        let server = Server::start(Options::default());
        let bank = server.create_database("bank");
        make_bank(&server, &bank, 2);
        let shape = Shape {
            coordinators: 3,
            zones: 1,
            workers_per_zone: 2,
            slots: 2,
        };
        let cluster = Cluster::start(shape).await;
        cluster.small_parts(PART, 1 << 20).await;
        let lease = u64::try_from(LEASE.as_millis()).expect("a short lease");
        for (name, value) in [
            ("lease_ttl_ms", lease),
            ("task_backoff_ms", 100),
            ("max_task_attempts", 1_000),
        ] {
            let set = cluster.client().set_setting(name, value).await;
            set.expect("a legal setting");
        }
        let proxy = Proxy::start(server.port()).await;
        let direct = format!(":{}/", server.port());
        let through = format!(":{}/", proxy.port());
        let address = server.dsn("postgres").replace(&direct, &through);
        assert!(address.contains(&through), "{address}");
        let member = v1::Member {
            name: "m0".to_owned(),
            locality: "zone=z0".to_owned(),
            address,
            bytes_per_second: Some(BYTES_PER_SECOND),
            ..v1::Member::default()
        };
        let request = v1::RegisterSourceRequest {
            name: SOURCE.to_owned(),
            kind: "postgres".to_owned(),
            members: vec![member],
        };
        let registered = cluster.client().register_source(request).await;
        registered.expect("a new source");
        let writers = Pgbench::start(&server, &bank);
        Self {
            cluster,
            server,
            proxy,
            bank,
            writers,
        }
    }

    fn target(&self) -> Option<v1::Target> {
        Some(v1::Target {
            databases: vec![self.bank.clone()],
            tables: Vec::new(),
        })
    }

    async fn backup(&self) -> u64 {
        let request = v1::SubmitBackupRequest {
            source: SOURCE.to_owned(),
            target: self.target(),
            ..self.cluster.backup_request(false, false)
        };
        let submitted = self.cluster.client().submit_backup(request).await;
        submitted.expect("a backup job").job
    }

    /// Waits for the backup, restores it beside the original, and sees that no transfer was cut in half.
    async fn succeeds(self, job: u64) -> v1::Job {
        let done = self.cluster.succeeded(job).await;
        self.writers.stop();
        let request = v1::SubmitRestoreRequest {
            from: self.cluster.collection(),
            subdir: "LATEST".to_owned(),
            target: Some(v1::Target {
                databases: vec![self.bank.clone()],
                tables: Vec::new(),
            }),
            new_db_name: "copy".to_owned(),
            ..v1::SubmitRestoreRequest::default()
        };
        let submitted = self.cluster.client().submit_restore(request).await;
        let restore = submitted.expect("a restore job").job;
        self.cluster.succeeded(restore).await;
        assert!(adds_up(&self.server, "copy"), "a transfer was cut in half");
        let rows = "SELECT count(*) FROM pgbench_accounts";
        assert_eq!(self.server.psql("copy", rows), "200000");
        done
    }

    async fn look(&self, job: u64) -> v1::Job {
        eventually("a job is shown", || async {
            self.cluster.client().get_job(job).await.ok()
        })
        .await
    }
}

/// `zombie`: a worker is frozen for longer than its lease and then goes on. It is fenced, and what it wrote is swept.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_slept_through_its_lease_is_fenced() {
    let world = World::start().await;
    let job = world.backup().await;
    world.cluster.until_fraction(job, 0.2).await;
    world.cluster.workers[0].freeze(true);
    tokio::time::sleep(LEASE * 3).await;
    world.cluster.workers[0].freeze(false);
    let fenced = |log: &str| {
        log.contains("the leader refused a report, dropping its task")
            || log.contains("the leader no longer knows this lease, dropping its task")
    };
    eventually("the zombie finds out", || async {
        fenced(&world.cluster.workers[0].log()).then_some(())
    })
    .await;
    let done = world.succeeds(job).await;
    assert!(done.bytes_redone <= 2 * REDONE, "{}", done.bytes_redone);
}

/// `leader-lost`: the leader dies again and again, at last when the backup is about to finish. Nothing is done again.
#[tokio::test(flavor = "multi_thread")]
async fn the_leader_dies_again_and_again_until_the_manifest() {
    let mut world = World::start().await;
    let job = world.backup().await;
    for fraction in [0.2, 0.6, 0.95] {
        world.cluster.until_fraction(job, fraction).await;
        let leader = world.cluster.leader().await;
        world.cluster.coordinators[leader].kill();
        world.cluster.leader().await;
        world.cluster.coordinators[leader].restart();
    }
    let done = world.succeeds(job).await;
    assert_eq!(done.bytes_redone, 0, "workers keep what they hold");
}

/// `rolling-restart`: coordinators are restarted in good order, one after the other, while a backup runs.
#[tokio::test(flavor = "multi_thread")]
async fn coordinators_are_restarted_in_turn() {
    let mut world = World::start().await;
    let job = world.backup().await;
    world.cluster.until_fraction(job, 0.1).await;
    for node in 0..3 {
        world.cluster.coordinators[node].terminate(Duration::from_secs(20));
        world.cluster.coordinators[node].restart();
        world.cluster.leader().await;
    }
    let done = world.succeeds(job).await;
    assert_eq!(done.bytes_redone, 0, "workers keep what they hold");
}

/// `pause-storm`: paused and resumed again and again; every pause holds what it promises.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_paused_and_resumed_again_and_again() {
    let world = World::start().await;
    let job = world.backup().await;
    let mut pauses = 0;
    for fraction in [0.1, 0.3, 0.5, 0.7] {
        world.cluster.until_fraction(job, fraction).await;
        // It may have come to its end meanwhile.
        if world.cluster.control(job, "pause").await.is_err() {
            break;
        }
        let paused = eventually("it pauses or ends", || async {
            let now = world.look(job).await;
            matches!(now.state.as_str(), "paused" | "succeeded").then_some(now)
        })
        .await;
        if paused.state == "succeeded" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        let later = world.look(job).await;
        assert_eq!(later.bytes_written, paused.bytes_written, "it rests");
        let resumed = world.cluster.control(job, "resume").await;
        resumed.expect("a paused job can be resumed");
        pauses += 1;
    }
    assert!(pauses > 1, "{pauses}");
    world.succeeds(job).await;
}

/// `fuzzy-base` with the drawn class `source-connections`: every connection to the server is cut again and again while it is read.
#[tokio::test(flavor = "multi_thread")]
async fn connections_to_the_source_are_cut_again_and_again() {
    let world = World::start().await;
    let job = world.backup().await;
    let mut cut = 0;
    for fraction in [0.1, 0.2, 0.4, 0.6, 0.8] {
        world.cluster.until_fraction(job, fraction).await;
        cut += world.proxy.cut();
    }
    assert!(cut > 0, "there was nothing to cut");
    let done = world.succeeds(job).await;
    let bound = 5 * 4 * REDONE;
    assert!(done.bytes_redone <= bound, "{}", done.bytes_redone);
}
