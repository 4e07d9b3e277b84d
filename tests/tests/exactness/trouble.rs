//! What happens to a cluster while it works.

use holdfast_client::{ControlApi, v1};
use holdfast_postgres_testing::Server;
use holdfast_tests::{Cluster, eventually};
use rand::RngExt;
use rand::rngs::StdRng;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long a job takes, trouble included, before the tables are left alone.
const SOON: Duration = Duration::from_secs(20);

/// How long a job may take, trouble included.
const PATIENCE: Duration = Duration::from_secs(180);

/// The most that happens to one job.
const MOST: u32 = 6;

/// What has happened, by name.
pub(crate) type Told = std::collections::BTreeMap<&'static str, u32>;

pub(crate) fn is_over(job: &v1::Job) -> bool {
    matches!(
        job.state.as_str(),
        "succeeded" | "failed" | "canceled" | "revert-failed"
    )
}

pub(crate) async fn look(cluster: &Cluster, job: u64) -> v1::Job {
    eventually("a job is shown", || async {
        cluster.client().get_job(job).await.ok()
    })
    .await
}

/// Does things to the cluster until the job is over.
pub(crate) async fn until_over(
    cluster: &mut Cluster,
    server: &Server,
    job: u64,
    random: &mut StdRng,
    told: &mut Told,
    is_late: &AtomicBool,
) -> v1::Job {
    let started = Instant::now();
    let troubles = random.random_range(2..=MOST);
    let mut done = 0;
    loop {
        let now = look(cluster, job).await;
        let late = started.elapsed() > SOON && !is_over(&now);
        is_late.store(late, Ordering::Relaxed);
        if is_over(&now) {
            return now;
        }
        assert!(started.elapsed() < PATIENCE, "it does not end: {now:#?}");
        let pause = random.random_range(20..500);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        if done < troubles {
            let name = trouble(cluster, server, job, random).await;
            *told.entry(name).or_default() += 1;
            done += 1;
        }
    }
}

async fn trouble(
    cluster: &mut Cluster,
    server: &Server,
    job: u64,
    random: &mut StdRng,
) -> &'static str {
    let worker = random.random_range(0..cluster.workers.len());
    let moment = Duration::from_millis(random.random_range(50..2500));
    match random.random_range(0..10u32) {
        0..=2 => {
            cluster.workers[worker].kill();
            tokio::time::sleep(moment).await;
            cluster.workers[worker].restart();
            "worker killed"
        }
        3 | 4 => {
            let leader = cluster.leader().await;
            cluster.coordinators[leader].kill();
            tokio::time::sleep(moment).await;
            cluster.coordinators[leader].restart();
            "leader killed"
        }
        5 => {
            // Longer than a lease, mostly: others take over what it goes on with when it wakes up.
            cluster.workers[worker].freeze(true);
            tokio::time::sleep(moment * 2).await;
            cluster.workers[worker].freeze(false);
            "worker frozen"
        }
        6 => {
            let leader = cluster.leader().await;
            cluster.coordinators[leader].freeze(true);
            tokio::time::sleep(moment * 2).await;
            cluster.coordinators[leader].freeze(false);
            "leader frozen"
        }
        7 => {
            // It may be over, or paused for another reason, by then.
            if cluster.control(job, "pause").await.is_ok() {
                let paused = eventually("it pauses or ends", || async {
                    let now = look(cluster, job).await;
                    (is_over(&now) || now.state == "paused").then_some(now)
                })
                .await;
                tokio::time::sleep(moment).await;
                if paused.state == "paused" {
                    eventually("it goes on", || async {
                        cluster.control(job, "resume").await.ok()
                    })
                    .await;
                }
            }
            "job paused"
        }
        8 => {
            server.psql(
                "postgres",
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'holdfast%' AND application_name <> 'holdfast-test' AND backend_type = 'client backend' ORDER BY random() LIMIT 2",
            );
            "sessions cut"
        }
        _ => {
            for process in cluster.workers.iter_mut().chain(&mut cluster.coordinators) {
                process.kill();
            }
            tokio::time::sleep(moment / 4).await;
            for process in cluster.workers.iter_mut().chain(&mut cluster.coordinators) {
                process.restart();
            }
            "everything killed"
        }
    }
}
