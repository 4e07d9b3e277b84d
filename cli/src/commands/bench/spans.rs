//! `holdfast bench spans`: a backup of very many spans through real coordinators, each a process of its own, with a log on disk. The workers
//! are in this process and only say that they did what they were told ([`super::fake_worker`]). The collection is in memory where there is
//! such a directory: a million empty files on a disk that raft's log syncs as well would hold up the workers, not the coordinators.

use hdrhistogram::Histogram;
use holdfast_client::ControlApi;
use holdfast_node::ClusterKey;
use holdfast_types::{ByteCount, ErrorCode, Fault};
use serde::Serialize;
use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use super::cluster::{BenchCluster, SOURCE};
use super::data::MIB;
use super::fake_worker::{Fakes, Tally, serve};
use super::{broken, scratch};
use crate::context::Context;
use crate::exit::Exit;

/// Members of the source: each is planned by a task of its own.
const MEMBERS: u32 = 4;
/// Between two looks at the size of the snapshot.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// A directory in memory, on Linux.
const IN_MEMORY: &str = "/dev/shm";
/// What a coordinator may use at most.
const MEMORY_LIMIT: u64 = 256 * MIB;
/// Checkpoints a second that there should be at least.
const CHECKPOINTS_PER_SECOND: f64 = 20_000.0;

/// What is run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) spans: u32,
    pub(super) coordinators: u64,
    pub(super) workers: u32,
    pub(super) slots: u32,
}

#[derive(Serialize)]
struct SpansView {
    spans: u32,
    coordinators: u64,
    seconds: f64,
    planning_seconds: f64,
    checkpoints_per_second: f64,
    checkpoints_against_limit: f64,
    acknowledged_p50_ms: f64,
    acknowledged_p99_ms: f64,
    raft_commits: u64,
    raft_commit_p50_ms: f64,
    raft_commit_p99_ms: f64,
    leader_peak_bytes: u64,
    leader_peak_against_limit: f64,
    leader_cpu_seconds: f64,
    largest_snapshot_bytes: u64,
}

pub(super) async fn run(
    context: &Context,
    plan: Plan,
    directory: Option<String>,
) -> Result<Exit, Fault> {
    let cluster = BenchCluster::start(context, plan.coordinators, directory).await?;
    // Nobody listens there: coordinators never speak with members.
    let members = (0..MEMBERS).map(|number| (format!("m{number}"), "127.0.0.1:9".to_owned()));
    cluster.register(SOURCE, members).await?;
    let in_memory = Path::new(IN_MEMORY).is_dir().then(|| IN_MEMORY.to_owned());
    let objects = match in_memory {
        Some(parent) => Some(scratch(Some(parent))?),
        None => None,
    };
    let collection = objects
        .as_ref()
        .map_or(cluster.directory(), |objects| objects.path())
        .join("backups");
    let fakes = Rc::new(Fakes {
        env: context.env.clone(),
        key: ClusterKey::read(context.env.disk.as_ref(), cluster.key_file())?,
        spans: plan.spans.div_ceil(MEMBERS),
        slots: plan.slots,
        collection,
        tally: RefCell::new(Tally {
            latency: Histogram::new(3).map_err(|error| broken("count", &error))?,
            first: None,
            last: Duration::ZERO,
        }),
    });
    let view = measure(context, plan, &cluster, &fakes).await?;
    context.output.result(&view, || view.text());
    Ok(Exit::Ok)
}

async fn measure(
    context: &Context,
    plan: Plan,
    cluster: &BenchCluster,
    fakes: &Rc<Fakes>,
) -> Result<SpansView, Fault> {
    let leader = cluster.leader().await?;
    let process = cluster
        .coordinators
        .get(leader)
        .ok_or_else(|| Fault::new(ErrorCode::Internal, "nobody leads"))?;
    let workers = (0..plan.workers).map(|number| {
        let address = process.address().to_owned();
        tokio::task::spawn_local(serve(Rc::clone(fakes), address, format!("fake-{number}")))
    });
    let workers: Vec<_> = workers.collect();
    let snapshot = Rc::new(Cell::new(0));
    let directory = cluster.coordinator_directory(leader as u64 + 1);
    let watching = tokio::task::spawn_local(watch_snapshot(directory, Rc::clone(&snapshot)));
    let before = process.usage()?;
    let started = context.env.clock.monotonic();
    let job = cluster
        .backup(&format!("file://{}", fakes.collection.display()))
        .await?;
    let trouble = futures::future::select_all(workers);
    tokio::select! {
        biased;
        (ended, ..) = trouble => {
            return Err(match ended {
                Ok(Err(fault)) => fault,
                _ => Fault::new(ErrorCode::Internal, "a fake worker ended"),
            });
        }
        done = cluster.succeeded(context, job) => done.map(drop)?,
    }
    let seconds = (context.env.clock.monotonic() - started).as_secs_f64();
    watching.abort();
    let usage = process.usage()?;
    let status = cluster.api.cluster_status().await?;
    let tally = fakes.tally.borrow();
    let first = tally.first.unwrap_or(started);
    let rate = tally.latency.len() as f64 / (tally.last.saturating_sub(first)).as_secs_f64();
    let quantile = |quantile| tally.latency.value_at_quantile(quantile) as f64 / 1e3;
    Ok(SpansView {
        spans: fakes.spans * MEMBERS,
        coordinators: plan.coordinators,
        seconds,
        planning_seconds: first.saturating_sub(started).as_secs_f64(),
        checkpoints_per_second: rate,
        checkpoints_against_limit: rate / CHECKPOINTS_PER_SECOND,
        acknowledged_p50_ms: quantile(0.5),
        acknowledged_p99_ms: quantile(0.99),
        raft_commits: status.proposals,
        raft_commit_p50_ms: status.propose_p50_us as f64 / 1e3,
        raft_commit_p99_ms: status.propose_p99_us as f64 / 1e3,
        leader_peak_bytes: usage.peak.0,
        leader_peak_against_limit: usage.peak.0 as f64 / MEMORY_LIMIT as f64,
        leader_cpu_seconds: usage.cpu_seconds - before.cpu_seconds,
        largest_snapshot_bytes: snapshot.get(),
    })
}

/// Notes the largest snapshot that a coordinator makes.
async fn watch_snapshot(directory: PathBuf, largest: Rc<Cell<u64>>) {
    loop {
        largest.set(largest.get().max(snapshot_length(&directory)));
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

fn snapshot_length(directory: &Path) -> u64 {
    let files = std::fs::read_dir(directory).into_iter().flatten().flatten();
    files
        .filter(|file| file.file_name().to_string_lossy().starts_with("snapshot-"))
        .filter_map(|file| file.metadata().ok())
        .map(|metadata| metadata.len())
        .max()
        .unwrap_or(0)
}

impl SpansView {
    fn text(&self) -> String {
        format!(
            "{} spans, {} coordinator(s), {:.1} s, {:.1} s of it planning\n\
             checkpoints     {:.0}/s, {:.2} times what is asked for\n\
             acknowledged    p50 {:.1} ms, p99 {:.1} ms after they were sent\n\
             raft            {} commits, p50 {:.1} ms, p99 {:.1} ms\n\
             leader          {} at its peak, {:.2} of the limit; {:.1} s of CPU\n\
             largest snapshot {}",
            self.spans,
            self.coordinators,
            self.seconds,
            self.planning_seconds,
            self.checkpoints_per_second,
            self.checkpoints_against_limit,
            self.acknowledged_p50_ms,
            self.acknowledged_p99_ms,
            self.raft_commits,
            self.raft_commit_p50_ms,
            self.raft_commit_p99_ms,
            ByteCount(self.leader_peak_bytes),
            self.leader_peak_against_limit,
            self.leader_cpu_seconds,
            ByteCount(self.largest_snapshot_bytes)
        )
    }
}
