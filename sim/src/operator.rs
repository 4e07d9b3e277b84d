//! The operators: they submit, pause, resume and cancel jobs while everything fails around them, and write down what they are told.

use holdfast_client::{ControlApi, GrpcClient, v1};
use holdfast_types::Fault;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::time::Duration;

use crate::bank::DATABASE;
use crate::config::Config;
use crate::oracle::{Oracle, is_terminal, judge};
use crate::outcome::Failure;
use crate::places::{COLLECTION, LOG_COLLECTION, LOG_SOURCE, LOG_SPARE, SOURCE, SPARE};
use crate::stage::{Progress, Stage};
use crate::trace;

/// Jobs that may be unfinished before the operators stop submitting.
const MOST_UNFINISHED: usize = 5;
/// How often the list of jobs is asked for.
const LOOK_INTERVAL: Duration = Duration::from_millis(700);

/// One operator with their client.
#[derive(Debug, Clone)]
pub(crate) struct Operator {
    pub(crate) client: GrpcClient,
    pub(crate) config: Config,
    pub(crate) oracle: Oracle,
    pub(crate) progress: Progress,
    /// Tells the requests of operators apart.
    pub(crate) name: &'static str,
}

impl Operator {
    /// Submits and controls until faults end.
    pub(crate) async fn work(&self, seed: u64) -> Result<(), Failure> {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut number = 0;
        while self.progress.stage() == Stage::Chaos {
            number += 1;
            let pause = self.config.operator_pause.as_millis() as u64;
            tokio::time::sleep(Duration::from_millis(rng.random_range(50..=pause))).await;
            let unfinished = self
                .oracle
                .jobs()
                .iter()
                .filter(|job| !is_terminal(job))
                .count();
            let dice = match self.config.pauses_only && unfinished > 0 {
                true => 99,
                false => rng.random_range(0..100),
            };
            let result = match dice {
                0..40 if unfinished < MOST_UNFINISHED => self.backup(&mut rng, number).await,
                40..52 if unfinished < MOST_UNFINISHED => self.restore(&mut rng, number).await,
                52..58 if unfinished < MOST_UNFINISHED => self.verify(number).await,
                _ => self.control(&mut rng).await,
            };
            if let Err(fault) = result {
                judge(&fault)?;
                self.progress.mark("requests failed");
                trace::event("user", format_args!("{}: {fault}", self.name));
            }
        }
        Ok(())
    }

    /// Looks at all jobs, again and again, until the run is over.
    pub(crate) async fn watch(&self) -> Result<(), Failure> {
        while self.progress.stage() < Stage::Audit {
            if let Err(fault) = self.look().await? {
                trace::event("user", format_args!("{}: {fault}", self.name));
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        Ok(())
    }

    /// Looks at all jobs once.
    pub(crate) async fn look(&self) -> Result<Result<(), Fault>, Failure> {
        let request = v1::ListJobsRequest {
            all: true,
            limit: 1_000,
            ..v1::ListJobsRequest::default()
        };
        match self.client.list_jobs(request).await {
            Ok(list) => {
                for job in list.jobs {
                    self.oracle.note(job)?;
                }
                Ok(Ok(()))
            }
            Err(fault) => {
                judge(&fault)?;
                Ok(Err(fault))
            }
        }
    }

    fn key(&self, number: u64) -> String {
        format!("{}-{number}", self.name)
    }

    async fn backup(&self, rng: &mut StdRng, number: u64) -> Result<(), Fault> {
        use v1::submit_backup_request::Layer;
        let (layer, history) = match rng.random_range(0..10) {
            0..4 => (Layer::Full(true), rng.random_bool(0.3)),
            4..7 => (Layer::AppendToLatest(true), false),
            _ => (Layer::AppendToLatest(true), true),
        };
        let is_log = self.config.log_source && rng.random_bool(0.5);
        let (source, into) = match is_log {
            true => (LOG_SOURCE, LOG_COLLECTION),
            false => (SOURCE, COLLECTION),
        };
        let (into, more_into) = self.config.stores_to_write(into);
        let request = v1::SubmitBackupRequest {
            request_key: self.key(number),
            source: source.to_owned(),
            into,
            more_into,
            revision_history: history,
            layer: Some(layer),
            ..v1::SubmitBackupRequest::default()
        };
        let asked = trace::now();
        let first = self.client.submit_backup(request.clone()).await?;
        self.submitted("backup", &first, asked);
        if rng.random_bool(0.1) {
            let second = self.client.submit_backup(request).await?;
            self.same(&first, &second);
        }
        Ok(())
    }

    async fn restore(&self, rng: &mut StdRng, number: u64) -> Result<(), Fault> {
        let backups = self.oracle.backups();
        if backups.is_empty() {
            return Ok(());
        }
        let backup = &backups[rng.random_range(0..backups.len())];
        let request = v1::SubmitRestoreRequest {
            request_key: self.key(number),
            from: backup.collection.clone(),
            more_from: self.config.further_stores(&backup.collection),
            subdir: chain_of(&backup.path),
            as_of: backup.as_of.clone(),
            into_source: match backup.source.as_str() {
                LOG_SOURCE => LOG_SPARE.to_owned(),
                _ => SPARE.to_owned(),
            },
            target: Some(v1::Target {
                databases: vec![DATABASE.to_owned()],
                tables: Vec::new(),
            }),
            new_db_name: format!("{}_{number}", self.name),
            ..v1::SubmitRestoreRequest::default()
        };
        let asked = trace::now();
        let answer = self.client.submit_restore(request).await?;
        self.submitted("restore", &answer, asked);
        Ok(())
    }

    async fn verify(&self, number: u64) -> Result<(), Fault> {
        if self.oracle.backups().is_empty() {
            return Ok(());
        }
        let request = v1::SubmitVerifyRequest {
            request_key: self.key(number),
            from: COLLECTION.to_owned(),
            more_from: self.config.further_stores(COLLECTION),
            subdir: "LATEST".to_owned(),
            ..v1::SubmitVerifyRequest::default()
        };
        let asked = trace::now();
        let answer = self.client.submit_verify(request).await?;
        self.submitted("verify", &answer, asked);
        Ok(())
    }

    async fn control(&self, rng: &mut StdRng) -> Result<(), Fault> {
        let jobs: Vec<_> = self
            .oracle
            .jobs()
            .into_iter()
            .filter(|job| !is_terminal(job))
            .collect();
        if jobs.is_empty() {
            return Ok(());
        }
        let job = &jobs[rng.random_range(0..jobs.len())];
        let verb = match (job.state.as_str(), rng.random_range(0..20)) {
            (_, 0) if !self.config.pauses_only => "cancel",
            ("paused" | "pause-requested", _) => "resume",
            (_, ..8) => "pause",
            _ => return Ok(()),
        };
        let request = v1::ControlJobRequest {
            job: job.id,
            verb: verb.to_owned(),
            reason: "as the simulation wishes".to_owned(),
        };
        let asked = trace::now();
        self.client.control_job(request).await?;
        self.progress
            .took("control", trace::now().saturating_sub(asked));
        self.progress.mark(match verb {
            "cancel" => "cancels",
            "resume" => "resumes",
            _ => "pauses",
        });
        trace::event("user", format_args!("{} {verb} job {}", self.name, job.id));
        Ok(())
    }

    fn submitted(&self, what: &'static str, answer: &v1::SubmitJobResponse, asked: Duration) {
        self.progress.mark("submitted");
        self.progress
            .took("submission", trace::now().saturating_sub(asked));
        trace::event(
            "user",
            format_args!(
                "{} {what} is job {} at {}",
                self.name, answer.job, answer.path
            ),
        );
    }

    fn same(&self, first: &v1::SubmitJobResponse, second: &v1::SubmitJobResponse) {
        if first.job != second.job {
            self.progress.fail(Failure::safety(
                "J8",
                "the same request key never makes two jobs",
                format!("one key made jobs {} and {}", first.job, second.job),
            ));
        }
    }
}

/// The subdirectory of the chain that a layer's path belongs to.
pub(crate) fn chain_of(path: &str) -> String {
    match path.strip_prefix("incrementals/") {
        // `incrementals/YYYY/MM/DD-HHMMSS.ss/…`
        Some(rest) => rest.splitn(4, '/').take(3).collect::<Vec<_>>().join("/"),
        None => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_belongs_to_the_chain_of_its_full() {
        let full = "2026/01/01-000102.03";
        assert_eq!(chain_of(full), full);
        let incremental = format!("incrementals/{full}/20260101/000103.00-20260101-000102.03");
        assert_eq!(chain_of(&incremental), full);
    }
}
