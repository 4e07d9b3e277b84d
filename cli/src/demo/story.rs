//! What happens in the demo, in order.

use futures::StreamExt;
use holdfast_client::{ControlApi, GrpcClient, v1};
use holdfast_env::Env;
use holdfast_types::{ByteCount, Fault, Hlc, JobState, Timestamp};
use std::path::Path;
use std::time::Duration;

use super::bank::{Bank, DATABASE};
use super::compare::compare;
use super::report::Report;
use super::world::{LOCALITIES, SOURCE, World};
use super::wrong;
use crate::args::DemoArgs;
use crate::context::Context;
use crate::follow::state_of;

/// Small parts and spans, so that the demo's little data makes a job of many checkpoints.
const SETTINGS: [(&str, u64); 3] = [
    ("part_size_bytes", 256 * 1024),
    ("span_size_bytes", 2 * 1024 * 1024),
    // Short, because the demo is: a killed worker's tasks go to the other one after this.
    ("lease_ttl_ms", 2_000),
];
/// "In the middle" of a job: not before this share of its bytes, and not after the other.
const MIDDLE: std::ops::Range<f64> = 0.25..0.80;
/// How often a job may be too quick to be met in its middle.
const ATTEMPTS: u32 = 4;
/// How long a paused job is watched to see that it stands still.
const STANDS_STILL: Duration = Duration::from_millis(700);
/// How long writers go on between two things, so that there is a history.
const LIFE_GOES_ON: Duration = Duration::from_millis(600);
/// The longest that one job may take.
const JOB_DEADLINE: Duration = Duration::from_secs(60);
/// The name that the restored database gets.
const RESTORED: &str = "bank_then";

struct Story<'a> {
    env: &'a Env,
    api: &'a GrpcClient,
    world: World,
    collection: String,
    report: &'a mut Report,
}

/// Tells the whole story; the first thing that is not as promised is the error.
pub(super) async fn tell(
    context: &Context,
    arguments: &DemoArgs,
    directory: &Path,
    report: &mut Report,
) -> Result<(), Fault> {
    let env = &context.env;
    let (world, api) = World::start(env, directory, arguments.processes).await?;
    for (name, value) in SETTINGS {
        api.set_setting(name, value).await?;
    }
    report.step(
        "start",
        format!(
            "3 coordinators, 6 workers, 3 members in {} as {}",
            LOCALITIES.join(", "),
            if arguments.processes {
                "processes"
            } else {
                "threads"
            }
        ),
    );
    let bank = Bank::open(env, world.members(), arguments.accounts).await?;
    let writers = bank.start_writers();
    report.step(
        "load",
        format!(
            "{} accounts, {}; a writer in each locality transfers between accounts from now on",
            bank.rows(),
            ByteCount(bank.bytes())
        ),
    );
    let mut story = Story {
        env,
        api: &api,
        world,
        collection: format!("file://{}", directory.join("backups").display()),
        report,
    };
    story.full().await?;
    story.pause_and_resume().await?;
    story.lose_a_worker().await?;
    story.lose_the_leader().await?;
    tokio::time::sleep(LIFE_GOES_ON).await;
    let then = env.clock.now();
    let transfers = writers.transfers();
    tokio::time::sleep(LIFE_GOES_ON).await;
    story.incremental().await?;
    story.restore(then, transfers).await?;
    writers.stop().await?;
    let rows = compare(&bank, DATABASE, RESTORED, Hlc::at(then)).await?;
    story.report.step(
        "compare",
        format!("{rows} rows equal the source's own history at {then}, one by one; no money came or went"),
    );
    Ok(())
}

impl Story<'_> {
    async fn submit_backup(&self, append: bool) -> Result<u64, Fault> {
        use v1::submit_backup_request::Layer;
        let request = v1::SubmitBackupRequest {
            source: SOURCE.to_owned(),
            into: self.collection.clone(),
            layer: Some(if append {
                Layer::AppendToLatest(true)
            } else {
                Layer::Full(true)
            }),
            revision_history: append,
            ..v1::SubmitBackupRequest::default()
        };
        Ok(self.api.submit_backup(request).await?.job)
    }

    /// Follows a job until it is as wanted. A job that ends otherwise is an error, except a success if that is not too early.
    async fn follow(
        &self,
        job: u64,
        mut wanted: impl FnMut(&v1::Job) -> bool,
    ) -> Result<v1::Job, Fault> {
        let watching = async {
            let mut stream = self.api.watch_job(job).await?;
            while let Some(now) = stream.next().await.transpose()? {
                let ended = state_of(&now).is_some_and(JobState::is_terminal);
                if wanted(&now) || now.state == JobState::Succeeded.as_str() {
                    return Ok(now);
                }
                if ended {
                    let why = now.error.map(|fault| fault.message).unwrap_or_default();
                    return Err(wrong(format!("job {job} is {}: {why}", now.state)));
                }
            }
            Err(wrong(format!("the watch of job {job} ended early")))
        };
        tokio::time::timeout(JOB_DEADLINE, watching)
            .await
            .unwrap_or_else(|_| Err(wrong(format!("job {job} takes longer than a minute"))))
    }

    async fn succeeded(&mut self, job: u64) -> Result<v1::Job, Fault> {
        let job = self.follow(job, |_| false).await?;
        self.report.count(&job);
        Ok(job)
    }

    /// Starts a full backup and meets it in its middle.
    async fn full_in_its_middle(&mut self) -> Result<v1::Job, Fault> {
        for _ in 0..ATTEMPTS {
            let job = self.submit_backup(false).await?;
            let now = self
                .follow(job, |job| {
                    job.fraction_completed >= MIDDLE.start && job.tasks_leased > 0
                })
                .await?;
            if MIDDLE.contains(&now.fraction_completed) {
                return Ok(now);
            }
            self.succeeded(job).await?;
        }
        Err(
            wrong("every backup was over before it could be met in its middle")
                .hint("give it more to do with --accounts"),
        )
    }

    async fn full(&mut self) -> Result<(), Fault> {
        let job = self.submit_backup(false).await?;
        let started = self.env.clock.monotonic();
        let job = self.succeeded(job).await?;
        let seconds = (self.env.clock.monotonic() - started).as_secs_f64();
        self.report.step(
            "full backup",
            format!(
                "job {}: {} rows, {} read, {} stored, {seconds:.1} s",
                job.id,
                job.rows,
                ByteCount(job.bytes_read),
                ByteCount(job.bytes_written)
            ),
        );
        Ok(())
    }

    async fn control(&self, job: u64, verb: &str) -> Result<(), Fault> {
        let request = v1::ControlJobRequest {
            job,
            verb: verb.to_owned(),
            reason: "demo".to_owned(),
        };
        self.api.control_job(request).await.map(|_| ())
    }

    async fn pause_and_resume(&mut self) -> Result<(), Fault> {
        let met = self.full_in_its_middle().await?;
        self.control(met.id, "pause").await?;
        let paused = self
            .follow(met.id, |job| job.state == JobState::Paused.as_str())
            .await?;
        if paused.state != JobState::Paused.as_str() {
            return Err(wrong(format!(
                "job {} did not pause: {}",
                met.id, paused.state
            )));
        }
        tokio::time::sleep(STANDS_STILL).await;
        let later = self.api.get_job(met.id).await?;
        let moved = |job: &v1::Job| (job.bytes_read, job.bytes_written, job.done_weight);
        if moved(&later) != moved(&paused) {
            return Err(wrong(format!("job {} moved while it was paused", met.id)));
        }
        self.control(met.id, "resume").await?;
        let job = self.succeeded(met.id).await?;
        self.report.step(
            "pause",
            format!(
                "job {}: paused at {:.0}%, stood still, resumed to its end; {} redone",
                job.id,
                paused.fraction_completed * 100.0,
                ByteCount(job.bytes_redone)
            ),
        );
        Ok(())
    }

    async fn lose_a_worker(&mut self) -> Result<(), Fault> {
        let met = self.full_in_its_middle().await?;
        let victim = met
            .members
            .iter()
            .flat_map(|member| &member.running)
            .map(|task| task.worker.clone())
            .next()
            .ok_or_else(|| wrong(format!("job {} names no running task", met.id)))?;
        self.world.kill_worker(&victim).await?;
        let job = self.succeeded(met.id).await?;
        self.report.step(
            "kill worker",
            format!(
                "job {}: {victim} killed at {:.0}%, the other one of its locality went on; {} redone",
                job.id,
                met.fraction_completed * 100.0,
                ByteCount(job.bytes_redone)
            ),
        );
        Ok(())
    }

    async fn lose_the_leader(&mut self) -> Result<(), Fault> {
        let met = self.full_in_its_middle().await?;
        let leader = self.api.cluster_status().await?.leader;
        self.world.kill_coordinator(leader).await?;
        let killed = self.env.clock.monotonic();
        let before = self.api.get_job(met.id).await?.done_weight;
        self.follow(met.id, |job| job.done_weight > before).await?;
        let gap = (self.env.clock.monotonic() - killed).as_secs_f64();
        let job = self.succeeded(met.id).await?;
        let successor = self.api.cluster_status().await?.leader;
        if successor == leader {
            return Err(wrong(format!(
                "coordinator {leader} leads though it was killed"
            )));
        }
        self.report.step(
            "kill leader",
            format!(
                "job {}: coordinator {leader} killed at {:.0}%, {successor} leads, work moved on after {gap:.1} s; {} redone",
                job.id,
                met.fraction_completed * 100.0,
                ByteCount(job.bytes_redone)
            ),
        );
        Ok(())
    }

    async fn incremental(&mut self) -> Result<(), Fault> {
        let job = self.submit_backup(true).await?;
        let job = self.succeeded(job).await?;
        self.report.step(
            "incremental",
            format!(
                "job {}: {} row versions with their history, {}",
                job.id,
                job.rows,
                ByteCount(job.bytes_read)
            ),
        );
        Ok(())
    }

    async fn restore(&mut self, then: Timestamp, transfers: u64) -> Result<(), Fault> {
        let request = v1::SubmitRestoreRequest {
            from: self.collection.clone(),
            subdir: "LATEST".to_owned(),
            target: Some(v1::Target {
                databases: vec![DATABASE.to_owned()],
                tables: Vec::new(),
            }),
            as_of: then.to_string(),
            new_db_name: RESTORED.to_owned(),
            ..v1::SubmitRestoreRequest::default()
        };
        let job = self.api.submit_restore(request).await?.job;
        let job = self.succeeded(job).await?;
        self.report.step(
            "restore",
            format!(
                "job {}: AS OF {then}, between the two backups, after {transfers} transfers: {} rows into {RESTORED}",
                job.id, job.rows
            ),
        );
        Ok(())
    }
}
