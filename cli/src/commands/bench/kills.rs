//! `holdfast bench kills`: three coordinators and two workers, each a process, and backups in whose middle the leader, or a worker, is killed
//! by `kill -9`: how long the job stands still, and how much is done again.

use hdrhistogram::Histogram;
use holdfast_client::{ControlApi, v1};
use holdfast_types::{ByteCount, ErrorCode, Fault};
use serde::Serialize;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use super::broken;
use super::cluster::{BenchCluster, SOURCE};
use super::data::{MIB, fill};
use super::process::Process;
use crate::context::Context;
use crate::exit::Exit;

const COORDINATORS: u64 = 3;
const WORKERS: [&str; 2] = ["one", "two"];
/// Streams of each worker.
const SLOTS: u32 = 2;
/// Spans are as many parts as by default.
const PARTS_PER_SPAN: u64 = 4;
/// In the middle: not before this share of the job.
const MIDDLE: f64 = 0.2;
/// A job that is further is too far to be killed in.
const TOO_LATE: f64 = 0.8;
/// Between two looks at how far a job is.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// How often a job may be over too quickly.
const ATTEMPTS: u32 = 10;
/// What a job may stand still at most when its leader is killed.
const GAP_LIMIT: f64 = 3.0;

/// What is run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) rounds: u32,
    pub(super) size_mib: u64,
    pub(super) part_kib: u64,
}

#[derive(Serialize)]
struct KillsView {
    rounds: u32,
    part_bytes: u64,
    leader_killed_idle_p50_seconds: f64,
    leader_killed_idle_max_seconds: f64,
    leader_killed_idle_against_limit: f64,
    leader_killed_redone_bytes: u64,
    streams_of_a_worker: u32,
    worker_killed_redone_max_bytes: u64,
    worker_killed_redone_mean_bytes: u64,
    worker_killed_redone_against_parts: f64,
}

struct World<'a> {
    context: &'a Context,
    cluster: BenchCluster,
    workers: Vec<Process>,
    plan: Plan,
    collections: u32,
}

pub(super) async fn run(
    context: &Context,
    plan: Plan,
    directory: Option<String>,
) -> Result<Exit, Fault> {
    let cluster = BenchCluster::start(context, COORDINATORS, directory).await?;
    let part = plan.part_kib * 1024;
    cluster.api.set_setting("part_size_bytes", part).await?;
    cluster
        .api
        .set_setting("span_size_bytes", part * PARTS_PER_SPAN)
        .await?;
    let member = cluster.start_member("member").await?;
    let registered = ("member".to_owned(), member.address().to_owned());
    cluster
        .register(SOURCE, std::iter::once(registered))
        .await?;
    fill(context, member.address(), plan.size_mib * MIB).await?;
    let mut workers = Vec::new();
    for name in WORKERS {
        workers.push(cluster.start_worker(context, name, SLOTS).await?);
    }
    let mut world = World {
        context,
        cluster,
        workers,
        plan,
        collections: 0,
    };
    let view = world.measure().await?;
    context.output.result(&view, || view.text());
    Ok(Exit::Ok)
}

impl World<'_> {
    async fn measure(&mut self) -> Result<KillsView, Fault> {
        let mut idle = Histogram::<u64>::new(3).map_err(|error| broken("count", &error))?;
        let (mut leader_redone, mut most_redone, mut all_redone) = (0, 0, 0);
        for round in 0..self.plan.rounds {
            let (gap, redone) = self.kill_leader().await?;
            idle += u64::try_from(gap.as_millis()).unwrap_or(u64::MAX);
            leader_redone += redone;
            let redone = self.kill_worker(round as usize % WORKERS.len()).await?;
            most_redone = most_redone.max(redone);
            all_redone += redone;
            self.context.output.note(format!(
                "round {}: idle for {:.2} s without its leader; {} redone without a worker",
                round + 1,
                gap.as_secs_f64(),
                ByteCount(redone)
            ));
        }
        let part = self.plan.part_kib * 1024;
        let seconds = |quantile| idle.value_at_quantile(quantile) as f64 / 1e3;
        Ok(KillsView {
            rounds: self.plan.rounds,
            part_bytes: part,
            leader_killed_idle_p50_seconds: seconds(0.5),
            leader_killed_idle_max_seconds: seconds(1.0),
            leader_killed_idle_against_limit: seconds(1.0) / GAP_LIMIT,
            leader_killed_redone_bytes: leader_redone,
            streams_of_a_worker: SLOTS,
            worker_killed_redone_max_bytes: most_redone,
            worker_killed_redone_mean_bytes: all_redone / u64::from(self.plan.rounds),
            worker_killed_redone_against_parts: most_redone as f64
                / (u64::from(SLOTS) * part) as f64,
        })
    }

    /// How long the job had no new object, and what was done again.
    async fn kill_leader(&mut self) -> Result<(Duration, u64), Fault> {
        let (job, collection) = self.backup_in_its_middle().await?;
        let leader = self.cluster.leader().await?;
        let killed = Duration::from_millis(self.context.env.clock.now().as_millis());
        let process = self
            .cluster
            .coordinators
            .get_mut(leader)
            .ok_or_else(|| Fault::new(ErrorCode::Internal, "nobody leads"))?;
        process.kill().await;
        let job = self.cluster.succeeded(self.context, job).await?;
        if let Some(process) = self.cluster.coordinators.get_mut(leader) {
            process.restart().await?;
        }
        let data = self.cluster.directory().join(collection).join(&job.path);
        let gap = longest_gap(&data.join("data"), killed)?;
        Ok((gap, job.bytes_redone))
    }

    /// What was done again.
    async fn kill_worker(&mut self, index: usize) -> Result<u64, Fault> {
        let (job, _) = self.backup_in_its_middle().await?;
        if let Some(worker) = self.workers.get_mut(index) {
            worker.kill().await;
            worker.restart().await?;
        }
        let job = self.cluster.succeeded(self.context, job).await?;
        Ok(job.bytes_redone)
    }

    /// Starts a backup and waits until it is in its middle; gives it and its collection's name.
    async fn backup_in_its_middle(&mut self) -> Result<(u64, String), Fault> {
        for _ in 0..ATTEMPTS {
            self.collections += 1;
            let collection = format!("backups-{}", self.collections);
            let job = self
                .cluster
                .backup(&self.cluster.collection(&collection))
                .await?;
            let now = self.until_middle(job).await?;
            if now.fraction_completed < TOO_LATE {
                return Ok((job, collection));
            }
            self.cluster.succeeded(self.context, job).await?;
        }
        Err(Fault::new(
            ErrorCode::FailedPrecondition,
            "every backup was over before something could be killed in its middle",
        )
        .hint("give it more to do with --size-mib"))
    }

    async fn until_middle(&self, job: u64) -> Result<v1::Job, Fault> {
        loop {
            let now = self.cluster.api.get_job(job).await?;
            if now.fraction_completed >= MIDDLE || now.error.is_some() {
                return Ok(now);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

/// The longest time without a new object that ended after an instant.
fn longest_gap(data: &Path, instant: Duration) -> Result<Duration, Fault> {
    let unreadable = |error| broken("read the objects' times", &error as &std::io::Error);
    let mut times = Vec::new();
    for file in std::fs::read_dir(data).map_err(unreadable)? {
        let modified = file.and_then(|file| file.metadata()?.modified());
        times.push(
            modified
                .map_err(unreadable)?
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default(),
        );
    }
    times.sort_unstable();
    let gaps = times.windows(2).filter_map(|pair| match pair {
        [before, after] if *after > instant => Some(*after - *before),
        _ => None,
    });
    gaps.max().ok_or_else(|| {
        Fault::new(
            ErrorCode::FailedPrecondition,
            "the backup was over before its leader was killed",
        )
        .hint("give it more to do with --size-mib")
    })
}

impl KillsView {
    fn text(&self) -> String {
        format!(
            "{} rounds, parts of {}\n\
             leader killed   job idle p50 {:.2} s, longest {:.2} s, {:.2} of the limit; {} redone in all\n\
             worker killed   {} redone at most, {} on average; the most is {:.2} of one part for each of its {} streams",
            self.rounds,
            ByteCount(self.part_bytes),
            self.leader_killed_idle_p50_seconds,
            self.leader_killed_idle_max_seconds,
            self.leader_killed_idle_against_limit,
            ByteCount(self.leader_killed_redone_bytes),
            ByteCount(self.worker_killed_redone_max_bytes),
            ByteCount(self.worker_killed_redone_mean_bytes),
            self.worker_killed_redone_against_parts,
            self.streams_of_a_worker
        )
    }
}
