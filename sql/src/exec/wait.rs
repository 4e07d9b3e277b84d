//! Waiting for jobs.

use futures::StreamExt;
use holdfast_client::v1::Job;
use holdfast_proto::wire_to_fault;
use holdfast_types::JobState;
use std::time::Duration;

use super::{Run, canceled};
use crate::error::{SqlError, state};

/// For how long `WHEN COMPLETE` waits, as in the model system.
const MOST_PATIENCE: Duration = Duration::from_secs(24 * 3600);

/// The state of a job; `None` of a newer release's.
pub(super) fn state_of(job: &Job) -> Option<JobState> {
    JobState::ALL
        .into_iter()
        .find(|state| state.as_str() == job.state)
}

fn is_over(job: &Job) -> bool {
    state_of(job).is_some_and(JobState::is_terminal)
}

/// What is said to somebody who waits no more for a job.
fn goes_on(job: u64, error: SqlError) -> SqlError {
    error
        .detail(format!("job {job} goes on in the background"))
        .hint(format!(
            "look at it with SHOW JOB {job}, wait for it with SHOW JOB WHEN COMPLETE {job}, stop it with CANCEL JOB {job}"
        ))
}

impl Run<'_> {
    /// Waits for the success of a job that was just submitted.
    ///
    /// # Errors
    /// It failed, was cancelled or paused; or the wait ended though the job goes on, which the error says.
    pub(super) async fn wait_for(&self, job: u64) -> Result<Job, SqlError> {
        let following = async {
            let mut stream = self.api().watch_job(job).await?;
            let mut last = None;
            while let Some(seen) = stream.next().await {
                let seen = seen?;
                let is_paused = state_of(&seen) == Some(JobState::Paused);
                if is_paused || is_over(&seen) {
                    return Ok(Some(seen));
                }
                last = Some(seen);
            }
            Ok::<_, holdfast_types::Fault>(last)
        };
        let followed = tokio::select! {
            biased;
            followed = following => followed,
            () = self.cancelled.cancelled() => return Err(goes_on(job, canceled())),
        };
        let seen = match followed {
            Ok(Some(seen)) if is_over(&seen) || state_of(&seen) == Some(JobState::Paused) => seen,
            Ok(_) => {
                let error = SqlError::new(
                    state::SYSTEM_ERROR,
                    format!("the watch of job {job} ended before the job did"),
                );
                return Err(goes_on(job, error));
            }
            Err(fault) => {
                let error = SqlError::from(fault.context(format_args!("waiting for job {job}")));
                return Err(goes_on(job, error));
            }
        };
        for note in &seen.notes {
            self.notice(note.as_str(), None).await;
        }
        outcome(seen)
    }

    /// A job when it is over.
    pub(super) async fn wait_until_over(&self, job: u64) -> Result<Job, SqlError> {
        let following = async {
            let mut stream = self.api().watch_job(job).await?;
            while let Some(seen) = stream.next().await {
                let seen = seen?;
                if is_over(&seen) {
                    return Ok(seen);
                }
            }
            Err(SqlError::new(
                state::SYSTEM_ERROR,
                format!("the watch of job {job} ended before the job did"),
            ))
        };
        match tokio::time::timeout(MOST_PATIENCE, following).await {
            Ok(job) => job,
            Err(_) => Err(SqlError::new(
                state::NOT_IN_PREREQUISITE_STATE,
                "timed out waiting for jobs",
            )),
        }
    }
}

/// What a job came to.
fn outcome(job: Job) -> Result<Job, SqlError> {
    let id = job.id;
    match state_of(&job) {
        Some(JobState::Succeeded) => Ok(job),
        Some(JobState::Paused) => {
            let why = match job.pause_reason.as_str() {
                "" => String::new(),
                reason => format!(" with reason: {reason}"),
            };
            Err(SqlError::new(
                state::NOT_IN_PREREQUISITE_STATE,
                format!("job {id} was paused before it completed{why}"),
            )
            .hint(format!(
                "let it go on with RESUME JOB {id}, and wait for it with SHOW JOB WHEN COMPLETE {id}"
            )))
        }
        Some(JobState::Canceled) => Err(SqlError::new(
            state::QUERY_CANCELED,
            format!("job {id} was canceled"),
        )),
        _ => Err(match job.error {
            Some(fault) => SqlError::from(wire_to_fault(fault).context(format_args!("job {id}"))),
            None => SqlError::new(
                state::INTERNAL_ERROR,
                format!("job {id} ended with status {}", job.state),
            ),
        }),
    }
}
