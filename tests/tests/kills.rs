//! Nothing is lost, and little is done twice, whatever process is killed with `kill -9` at whatever instant.

use holdfast_client::{ControlApi, v1};
use holdfast_tests::{Accounts, Cluster, Shape, eventually};
use std::time::{Duration, Instant};

const PART: u64 = 256 << 10;
const SPAN: u64 = 2 << 20;
/// Rows on each member, and their size: about 12 MB a member.
const ACCOUNTS: u64 = 12_000;
const ROW: usize = 1_000;

struct World {
    cluster: Cluster,
    accounts: Accounts,
}

impl World {
    async fn start(shape: Shape) -> Self {
        let cluster = Cluster::start(shape).await;
        cluster.small_parts(PART, SPAN).await;
        let accounts = Accounts::create(cluster.member_addresses(), "bank", ACCOUNTS, ROW).await;
        Self { cluster, accounts }
    }

    /// Asserts that no more was read twice than one part for each stream that was lost, by the job's own figure and by what the members
    /// say they have served.
    fn assert_redo(&self, job: &v1::Job, lost_streams: u64, served: u64) {
        // A part is closed by the first batch of rows that makes it full.
        let part = PART + (1 << 20);
        let bound = lost_streams * part;
        assert!(
            job.bytes_redone <= bound,
            "{} redone, bound {bound}",
            job.bytes_redone
        );
        let needed = 3 * ACCOUNTS * ROW as u64;
        let twice = served.saturating_sub(needed + needed / 20);
        assert!(twice <= bound, "{twice} bytes served twice, bound {bound}");
    }

    async fn restore_and_compare(&self, backup: &v1::Job, name: &str) {
        let job = self.cluster.restore(&backup.as_of, name).await;
        self.cluster.succeeded(job).await;
        self.accounts.assert_restored(name, &backup.as_of).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_is_killed_in_the_middle_of_a_backup_and_of_a_restore() {
    let mut world = World::start(Shape::default()).await;
    // No writers yet: their reads would count among the bytes that the members have served.
    let before = world.accounts.bytes_served().await;
    let job = world.cluster.backup(false, false).await;
    world.cluster.until_fraction(job, 0.2).await;
    world.cluster.workers[0].kill();
    let backup = world.cluster.succeeded(job).await;
    let served = world.accounts.bytes_served().await - before;
    world.assert_redo(&backup, 2, served);
    world.cluster.workers[0].restart();
    let writers = world.accounts.start_writers(ROW);

    let restore = world.cluster.restore(&backup.as_of, "copy").await;
    world.cluster.until_fraction(restore, 0.2).await;
    world.cluster.workers[3].kill();
    let restored = world.cluster.succeeded(restore).await;
    assert!(
        restored.bytes_redone <= 2 * (PART + (1 << 20)),
        "{}",
        restored.bytes_redone
    );
    assert!(writers.stop().await > 0);
    world.accounts.assert_restored("copy", &backup.as_of).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_is_killed_and_nothing_is_done_again() {
    let mut world = World::start(Shape::default()).await;
    let before = world.accounts.bytes_served().await;
    let job = world.cluster.backup(false, false).await;
    world.cluster.until_fraction(job, 0.2).await;
    let leader = world.cluster.leader().await;
    world.cluster.coordinators[leader].kill();
    let killed = Instant::now();
    let client = world.cluster.client().clone();
    let first = eventually("somebody answers again", || async {
        client.get_job(job).await.ok()
    })
    .await;
    eventually("the job moves under a new leader", || async {
        let now = client.get_job(job).await.ok()?;
        (now.bytes_written > first.bytes_written || now.state == "succeeded").then_some(())
    })
    .await;
    eprintln!(
        "leader failover: the job moved again after {:?}",
        killed.elapsed()
    );
    let backup = world.cluster.succeeded(job).await;
    let served = world.accounts.bytes_served().await - before;
    assert_eq!(
        backup.bytes_redone, 0,
        "workers keep what they hold when the leader dies"
    );
    world.assert_redo(&backup, 0, served);
    world.cluster.coordinators[leader].restart();
    world.restore_and_compare(&backup, "copy").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_is_killed_and_nobody_notices() {
    let mut world = World::start(Shape::default()).await;
    let job = world.cluster.backup(false, false).await;
    world.cluster.until_fraction(job, 0.1).await;
    let follower = (world.cluster.leader().await + 1) % 3;
    world.cluster.coordinators[follower].kill();
    let backup = world.cluster.succeeded(job).await;
    assert_eq!(backup.bytes_redone, 0);
    world.cluster.coordinators[follower].restart();
    world.restore_and_compare(&backup, "copy").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_process_is_killed_at_once_and_the_job_goes_on() {
    let mut world = World::start(Shape::default()).await;
    let before = world.accounts.bytes_served().await;
    let job = world.cluster.backup(false, false).await;
    let stopped = world.cluster.until_fraction(job, 0.3).await;
    for process in &mut world.cluster.workers {
        process.kill();
    }
    for process in &mut world.cluster.coordinators {
        process.kill();
    }
    let served_until_kill = world.accounts.bytes_served().await - before;
    for process in &mut world.cluster.members {
        process.kill();
        process.restart();
    }
    for process in &mut world.cluster.coordinators {
        process.restart();
    }
    for process in &mut world.cluster.workers {
        process.restart();
    }
    let backup = world.cluster.succeeded(job).await;
    assert!(
        backup.done_weight >= stopped.done_weight,
        "progress never goes back"
    );
    // The members count from zero again.
    let served = served_until_kill + world.accounts.bytes_served().await;
    world.assert_redo(&backup, 12, served);
    world.restore_and_compare(&backup, "copy").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_kills_at_random_instants_in_one_run() {
    let mut world = World::start(Shape::default()).await;
    let writers = world.accounts.start_writers(ROW);
    let mut state = 0x5DEE_CE66_D1CE_4E5B_u64;
    let mut draw = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let mut backups = Vec::new();
    let mut kills = 0;
    let mut lost_streams = 0;
    let mut redone = 0;
    while kills < 20 {
        let job = world.cluster.backup(!backups.is_empty(), true).await;
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_millis(200 + draw(1_300))).await;
            let victim = draw(9) as usize;
            let process = match victim {
                0..3 => &mut world.cluster.coordinators[victim],
                _ => {
                    lost_streams += 2;
                    &mut world.cluster.workers[victim - 3]
                }
            };
            process.kill();
            kills += 1;
            tokio::time::sleep(Duration::from_millis(draw(500))).await;
            process.restart();
        }
        let backup = world.cluster.succeeded(job).await;
        redone += backup.bytes_redone;
        backups.push(backup);
    }
    let transfers = writers.stop().await;
    let bound = lost_streams * (PART + (1 << 20));
    eprintln!(
        "{kills} kills, {} jobs, {transfers} transfers, {redone} bytes redone, bound {bound}",
        backups.len()
    );
    assert!(redone <= bound, "{redone} redone, bound {bound}");
    for (index, backup) in backups.iter().enumerate() {
        world
            .restore_and_compare(backup, &format!("copy{index}"))
            .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pause_while_a_worker_is_being_killed() {
    let mut world = World::start(Shape::default()).await;
    let job = world.cluster.backup(false, false).await;
    world.cluster.until_fraction(job, 0.2).await;
    world
        .cluster
        .control(job, "pause")
        .await
        .expect("a running job can be paused");
    world.cluster.workers[1].kill();
    let paused = world
        .cluster
        .until(job, "paused", |job| job.state == "paused")
        .await;
    let served = world.accounts.bytes_served().await;
    let objects = count_objects(world.cluster.directory());
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(
        world.accounts.bytes_served().await,
        served,
        "no worker reads while paused"
    );
    assert_eq!(
        count_objects(world.cluster.directory()),
        objects,
        "no worker writes while paused"
    );
    assert!(paused.hold != 0, "a paused job keeps its hold");
    world
        .cluster
        .control(job, "resume")
        .await
        .expect("a paused job can be resumed");
    let backup = world.cluster.succeeded(job).await;
    world.restore_and_compare(&backup, "copy").await;
}

fn count_objects(directory: &std::path::Path) -> usize {
    fn walk(directory: &std::path::Path) -> usize {
        let Ok(entries) = std::fs::read_dir(directory) else {
            return 0;
        };
        entries
            .flatten()
            .map(|entry| match entry.file_type() {
                Ok(kind) if kind.is_dir() => walk(&entry.path()),
                _ => 1,
            })
            .sum()
    }
    walk(&directory.join("backups"))
}
