//! The operator who keeps schedules: makes them, and pauses, resumes, changes and runs them while everything fails. When the faults have ended, each
//! must run once more, and its backup must succeed.

use holdfast_client::{ControlApi, GrpcClient, v1};
use holdfast_env::Env;
use holdfast_types::{Fault, Millis};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use std::time::Duration;

use crate::config::Config;
use crate::oracle::judge;
use crate::outcome::Failure;
use crate::places::{LOG_SOURCE, LOG_TIMETABLE, SOURCE, TIMETABLE};
use crate::script::{Script, surely};
use crate::stage::{Progress, Stage};
use crate::trace;

/// Between two requests, in milliseconds.
const PAUSE: std::ops::RangeInclusive<u64> = 500..=6_000;
/// How soon the first full is due, in milliseconds.
const FIRST: std::ops::RangeInclusive<u64> = 500..=15_000;
/// How often it is looked whether a run has begun.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Within which a run begins that was asked for while nothing fails.
const BEGINS: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Debug)]
pub(crate) struct Timekeeper {
    client: GrpcClient,
    env: Env,
    config: Config,
    progress: Progress,
    rng: StdRng,
}

impl Timekeeper {
    /// With a client of all coordinators.
    pub(crate) fn new(
        client: GrpcClient,
        env: Env,
        config: Config,
        progress: Progress,
        seed: u64,
    ) -> Self {
        Self {
            client,
            env,
            config,
            progress,
            rng: StdRng::seed_from_u64(seed),
        }
    }

    /// Works until the faults end. Nothing is made if the faults end before.
    pub(crate) async fn work(mut self) -> Result<(), Failure> {
        let mut wanted = vec![(SOURCE, TIMETABLE, "@hourly")];
        if self.config.log_source {
            wanted.push((LOG_SOURCE, LOG_TIMETABLE, "ALWAYS"));
        }
        while self.progress.stage() == Stage::Chaos {
            let done = match wanted.last() {
                Some((source, into, fulls)) => {
                    let made = self.create(source, into, fulls).await;
                    if made.is_ok() {
                        wanted.pop();
                    }
                    made
                }
                None => self.change().await,
            };
            if let Err(fault) = done {
                judge(&fault)?;
                trace::event("user", format_args!("timekeeper: {fault}"));
            }
            let pause = self.rng.random_range(PAUSE);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        Ok(())
    }

    async fn create(&mut self, source: &str, into: &str, fulls: &str) -> Result<(), Fault> {
        let first = Millis(self.rng.random_range(FIRST));
        let (into, more_into) = self.config.stores_to_write(into);
        let request = v1::CreateScheduleRequest {
            label: source.to_owned(),
            // So that an answer that was lost does no harm.
            if_not_exists: true,
            source: source.to_owned(),
            into,
            more_into,
            revision_history: self.rng.random_bool(0.5),
            recurring: "* * * * *".to_owned(),
            full_backup: fulls.to_owned(),
            first_run: self.env.clock.now().plus(first).to_string(),
            on_execution_failure: self.word(&["", "retry", "reschedule", "pause"]),
            on_previous_running: self.word(&["", "start", "skip", "wait"]),
            ..v1::CreateScheduleRequest::default()
        };
        trace::event("user", format_args!("timekeeper: schedule of {source}"));
        self.client.create_schedule(request).await?;
        self.progress.mark("schedules made");
        Ok(())
    }

    fn word(&mut self, words: &[&str]) -> String {
        words
            .choose(&mut self.rng)
            .map(|word| (*word).to_owned())
            .unwrap_or_default()
    }

    /// Pauses, resumes, runs or changes one of the schedules.
    async fn change(&mut self) -> Result<(), Fault> {
        let all = self.client.list_schedules().await?.schedules;
        let Some(schedule) = all.choose(&mut self.rng) else {
            return Ok(());
        };
        let verb = match (schedule.status.as_str(), self.rng.random_range(0..10)) {
            ("PAUSED", ..8) => "resume",
            (_, ..3) => "pause",
            (_, 3..7) => "run",
            _ => {
                let request = v1::AlterScheduleRequest {
                    schedule: schedule.id,
                    recurring: Some(self.word(&["* * * * *", "*/2 * * * *"])),
                    revision_history: Some(self.rng.random_bool(0.5)),
                    ..v1::AlterScheduleRequest::default()
                };
                trace::event("user", format_args!("timekeeper: alter {}", schedule.id));
                self.client.alter_schedule(request).await?;
                self.progress.mark("schedules altered");
                return Ok(());
            }
        };
        trace::event("user", format_args!("timekeeper: {verb} {}", schedule.id));
        let request = v1::ControlScheduleRequest {
            schedule: schedule.id,
            verb: verb.to_owned(),
        };
        self.client.control_schedule(request).await?;
        self.progress.mark("schedules controlled");
        Ok(())
    }
}

/// Nothing fails any more: each schedule that takes fulls runs once more, and its backup succeeds. Then all are dropped, so that nothing new begins.
pub(crate) async fn run_each_and_drop(script: &Script) -> Result<(), Failure> {
    let all = surely(|| script.client.list_schedules()).await?.schedules;
    for schedule in all.iter().filter(|it| it.backup_type == "FULL") {
        if schedule.status == "PAUSED" {
            control(script, schedule.id, "resume").await?;
        }
        control(script, schedule.id, "run").await?;
        let job = begun_after(script, schedule).await?;
        script.succeed(job, "scheduled backup").await?;
        script.progress.mark("schedules served");
    }
    // Of a pair, that of the fulls takes the other along.
    for schedule in surely(|| script.client.list_schedules()).await?.schedules {
        control(script, schedule.id, "drop").await?;
    }
    Ok(())
}

async fn control(script: &Script, schedule: u64, verb: &str) -> Result<(), Failure> {
    let request = v1::ControlScheduleRequest {
        schedule,
        verb: verb.to_owned(),
    };
    let done = surely(|| async {
        match script.client.control_schedule(request.clone()).await {
            // Its pair has taken it along.
            Err(fault) if verb == "drop" && fault.code == holdfast_types::ErrorCode::NotFound => {
                Ok(())
            }
            other => other.map(|_| ()),
        }
    });
    done.await
}

/// The job of the first run after the one that is known.
async fn begun_after(script: &Script, before: &v1::Schedule) -> Result<u64, Failure> {
    let deadline = trace::now() + BEGINS;
    loop {
        script
            .progress
            .doing(format!("waiting for a run of schedule {}", before.id));
        let all = surely(|| script.client.list_schedules()).await?.schedules;
        let now = all.into_iter().find(|it| it.id == before.id);
        match now {
            Some(now) if now.last_job != before.last_job && now.last_job != 0 => {
                return Ok(now.last_job);
            }
            Some(_) if trace::now() < deadline => {}
            now => {
                return Err(Failure::Liveness(format!(
                    "L1: schedule {} was to run, with nothing failing any more, and does not: {now:?}",
                    before.id
                )));
            }
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}
