//! SHOW JOBS, and PAUSE, RESUME and CANCEL.

use std::cmp::Reverse;

use holdfast_client::v1;
use holdfast_types::{ErrorCode, JobState};

use super::wait::state_of;
use super::{Answer, Run};
use crate::error::SqlError;
use crate::rows::{Rows, Value};
use crate::syntax::ast::{ControlJobs, JobSet, JobType, JobVerb, ShowJobs};

/// Jobs that a list asks for at most: the cluster's own bound.
const MOST_JOBS: u32 = 10_000;
/// Characters of a description in the list.
const DESCRIPTION: usize = 100;
/// Jobs that are waited for at once.
const WAITED_FOR: usize = 64;

impl Run<'_> {
    async fn list_jobs(&self, all: bool) -> Result<Vec<v1::Job>, SqlError> {
        let request = v1::ListJobsRequest {
            all,
            limit: MOST_JOBS,
            ..v1::ListJobsRequest::default()
        };
        let mut jobs = self.api().list_jobs(request).await?.jobs;
        jobs.sort_by_key(order);
        Ok(jobs)
    }

    pub(super) async fn show_jobs(
        &self,
        show: &ShowJobs,
        mut rows: Rows,
    ) -> Result<Rows, SqlError> {
        let is_list = show.jobs.is_none();
        let jobs = match &show.jobs {
            // No job starts by itself.
            None if show.is_automatic => Vec::new(),
            None => self.list_jobs(false).await?,
            Some(JobSet::Query(query)) => {
                let ids = Box::pin(self.ids(query)).await?;
                match show.when_complete {
                    true => self.jobs_when_over(&ids).await?,
                    false => self.jobs(&ids).await?,
                }
            }
            // These are not of SHOW.
            Some(JobSet::All(_)) => Vec::new(),
            Some(JobSet::ForSchedules(schedules)) => {
                let mut jobs = self.jobs_of_schedules(schedules).await?;
                jobs.sort_by_key(order);
                jobs
            }
        };
        let leader = match jobs.is_empty() {
            true => 0,
            false => self.api().cluster_status().await?.leader,
        };
        for job in jobs {
            rows.push(row(job, is_list, leader));
        }
        Ok(rows)
    }

    /// The jobs with these ids; those that are forgotten are left out, as in the model system.
    async fn jobs(&self, ids: &[u64]) -> Result<Vec<v1::Job>, SqlError> {
        let mut jobs = Vec::new();
        for id in ids {
            match self.api().get_job(*id).await {
                Ok(job) => jobs.push(job),
                Err(fault) if fault.code == ErrorCode::NotFound => {}
                Err(fault) => return Err(fault.into()),
            }
        }
        Ok(jobs)
    }

    async fn jobs_when_over(&self, ids: &[u64]) -> Result<Vec<v1::Job>, SqlError> {
        let known = self.jobs(ids).await?;
        let mut jobs = Vec::new();
        for jobs_at_once in known.chunks(WAITED_FOR) {
            let waiting = jobs_at_once.iter().map(|job| self.wait_until_over(job.id));
            jobs.extend(futures::future::try_join_all(waiting).await?);
        }
        Ok(jobs)
    }

    pub(super) async fn control_jobs(&self, control: &ControlJobs) -> Result<Answer, SqlError> {
        let (ids, is_all) = match &control.jobs {
            JobSet::Query(query) => (Box::pin(self.ids(query)).await?, false),
            JobSet::All(kind) => (self.jobs_to_control(control.verb, *kind).await?, true),
            JobSet::ForSchedules(schedules) => {
                let jobs = self.jobs_of_schedules(schedules).await?;
                let changes = |job: &&v1::Job| changes(control.verb, job);
                (
                    jobs.iter().filter(changes).map(|job| job.id).collect(),
                    true,
                )
            }
        };
        let reason = control.reason.as_ref();
        let reason = reason.map(|reason| self.text(reason)).transpose()?;
        let mut count = 0;
        for id in ids {
            let request = v1::ControlJobRequest {
                job: id,
                verb: control.verb.as_str().to_ascii_lowercase(),
                reason: reason.clone().unwrap_or_default(),
            };
            match self.api().control_job(request).await {
                Ok(_) => count += 1,
                // One of all that ended in the meantime needs nothing any more.
                Err(fault)
                    if is_all
                        && matches!(
                            fault.code,
                            ErrorCode::FailedPrecondition | ErrorCode::NotFound
                        ) => {}
                Err(fault) => {
                    let mut error = SqlError::from(fault);
                    if count > 0 {
                        error = error.detail(format!("{count} jobs before it were changed"));
                    }
                    return Err(error);
                }
            }
        }
        Ok(Answer::Done(format!(
            "{} JOBS {count}",
            control.verb.as_str()
        )))
    }

    /// All jobs of a kind that a verb would change.
    async fn jobs_to_control(&self, verb: JobVerb, kind: JobType) -> Result<Vec<u64>, SqlError> {
        let wanted = |job: &v1::Job| job.kind == kind.as_str() && changes(verb, job);
        let jobs = self.list_jobs(false).await?;
        Ok(jobs
            .iter()
            .filter(|job| wanted(job))
            .map(|job| job.id)
            .collect())
    }
}

/// Whether a verb would change a job.
fn changes(verb: JobVerb, job: &v1::Job) -> bool {
    let is_live = matches!(state_of(job), Some(JobState::Pending | JobState::Running));
    let is_paused = state_of(job) == Some(JobState::Paused);
    match verb {
        JobVerb::Pause => is_live,
        JobVerb::Resume => is_paused,
        JobVerb::Cancel => is_live || is_paused,
    }
}

/// What jobs are ordered by: see [`order`].
type Place = (bool, Reverse<[Option<u64>; 2]>, Reverse<u64>);

/// Unfinished jobs first, then by the time of their end, the newest first, then by that of their start.
fn order(job: &v1::Job) -> Place {
    let micros = |text: &str| {
        let time: Option<holdfast_types::Timestamp> = text.parse().ok();
        time.map(holdfast_types::Timestamp::as_micros)
    };
    let finished = micros(&job.finished);
    let times = [finished, micros(&job.started)];
    (finished.is_some(), Reverse(times), Reverse(job.id))
}

/// The row of a job, in the order of `columns_of_jobs`.
fn row(job: v1::Job, is_list: bool, leader: u64) -> Vec<Value> {
    let is_over = state_of(&job).is_some_and(JobState::is_terminal);
    let description = match is_list && job.description.chars().count() > DESCRIPTION {
        true => job.description.chars().take(DESCRIPTION).collect(),
        false => job.description,
    };
    let error = job.error.map(|fault| fault.message).unwrap_or_default();
    let running_status = match job.pause_reason.as_str() {
        "" => job.running_status,
        reason => reason.to_owned(),
    };
    vec![
        Value::count(job.id),
        Value::Text(job.kind),
        Value::Text(description),
        Value::Null,
        Value::Null,
        Value::Text(job.state),
        Value::some_text(running_status),
        Value::time(&job.created),
        Value::time(&job.started),
        Value::time(&job.finished),
        Value::time(&job.finished),
        Value::Float(job.fraction_completed),
        Value::some_text(error),
        match leader {
            0 => Value::Null,
            _ if is_over => Value::Null,
            leader => Value::count(leader),
        },
        Value::Null,
        Value::time(&job.started),
        Value::Null,
        Value::Int(i64::from(!job.started.is_empty())),
        Value::TextArray(job.execution_errors),
    ]
}
