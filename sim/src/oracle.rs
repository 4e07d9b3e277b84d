//! What the user was told: jobs, and the backups that were acknowledged. It never holds an opinion about what the user was not told.

use holdfast_client::v1;
use holdfast_types::{ErrorCode, Fault, JobState};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use crate::outcome::Failure;
use crate::trace;

/// A job as it was last seen.
#[derive(Debug, Clone)]
pub(crate) struct JobSeen {
    /// The last answer about it.
    pub(crate) job: v1::Job,
    /// When it was seen first.
    first: Duration,
    /// When it was first seen at its end.
    ended: Option<Duration>,
    /// Whether it was seen going on after it was paused.
    resumed: bool,
}

/// What the user was told. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Oracle(Rc<RefCell<BTreeMap<u64, JobSeen>>>);

const NEVER_BACK: &str =
    "reads of one client never go back: a job's state and progress only move forward";

/// The state of this name.
pub(crate) fn state(job: &v1::Job) -> Option<JobState> {
    JobState::ALL
        .into_iter()
        .find(|state| state.as_str() == job.state)
}

/// Whether the job has come to its end.
pub(crate) fn is_terminal(job: &v1::Job) -> bool {
    state(job).is_some_and(JobState::is_terminal)
}

/// A fault that no run may show: nothing in the simulation damages data, and a defect is a defect.
pub(crate) fn judge(fault: &Fault) -> Result<(), Failure> {
    match fault.code {
        ErrorCode::Internal => Err(Failure::Crash(format!("a defect was reported: {fault}"))),
        ErrorCode::Corrupted => Err(Failure::safety(
            "C1",
            "every object that a live manifest names exists, with its length and digest",
            fault.to_string(),
        )),
        _ => Ok(()),
    }
}

impl Oracle {
    /// Takes note of an answer about a job.
    pub(crate) fn note(&self, job: v1::Job) -> Result<(), Failure> {
        if let Some(wire) = &job.error {
            judge(&holdfast_proto::wire_to_fault(wire.clone()))?;
        }
        if job.state == "revert-failed" {
            let error = job.error.as_ref().map(|fault| fault.message.clone());
            return Err(Failure::Crash(format!(
                "job {} could not be undone: {error:?}",
                job.id
            )));
        }
        let mut jobs = self.0.borrow_mut();
        if let Some(before) = jobs.get(&job.id).map(|seen| &seen.job) {
            if job.applied_index < before.applied_index {
                // Another node, an older state: the answer says so itself.
                return Ok(());
            }
            let back = job.fraction_completed + 1e-9 < before.fraction_completed;
            let revived = is_terminal(before) && job.state != before.state;
            if revived || (back && !is_terminal(&job) && state(&job) != Some(JobState::Reverting)) {
                let seen = format!(
                    "job {} went from {} {} to {} {}",
                    job.id,
                    before.state,
                    before.fraction_completed,
                    job.state,
                    job.fraction_completed
                );
                return Err(Failure::safety("A1", NEVER_BACK, seen));
            }
        }
        let changed = jobs.get(&job.id).is_none_or(|seen| {
            seen.job.state != job.state || seen.job.running_status != job.running_status
        });
        if changed {
            trace::event(
                "user",
                format_args!(
                    "job {} {} {} {:.3} {}",
                    job.id, job.kind, job.state, job.fraction_completed, job.running_status
                ),
            );
        }
        let now = trace::now();
        let before = jobs.get(&job.id);
        let seen = JobSeen {
            first: before.map_or(now, |seen| seen.first),
            ended: before
                .and_then(|seen| seen.ended)
                .or(is_terminal(&job).then_some(now)),
            resumed: before.is_some_and(|seen| {
                seen.resumed || (seen.job.state == "paused" && job.state == "running")
            }),
            job,
        };
        jobs.insert(seen.job.id, seen);
        Ok(())
    }

    /// How long the job took as its user saw it, if it is at its end.
    pub(crate) fn took(&self, job: u64) -> Option<Duration> {
        let jobs = self.0.borrow();
        let seen = jobs.get(&job)?;
        Some(seen.ended?.saturating_sub(seen.first))
    }

    /// Whether the job was seen going on after it was paused.
    pub(crate) fn was_resumed(&self, job: u64) -> bool {
        self.0.borrow().get(&job).is_some_and(|seen| seen.resumed)
    }

    /// Every job that was seen, oldest first.
    pub(crate) fn jobs(&self) -> Vec<v1::Job> {
        self.0
            .borrow()
            .values()
            .map(|seen| seen.job.clone())
            .collect()
    }

    /// The backups that were acknowledged.
    pub(crate) fn backups(&self) -> Vec<v1::Job> {
        self.jobs()
            .into_iter()
            .filter(|job| job.kind == "BACKUP" && job.state == "succeeded")
            .collect()
    }

    /// Jobs that are not at their end, as one line.
    pub(crate) fn unfinished(&self) -> String {
        let lines: Vec<_> = self
            .jobs()
            .iter()
            .filter(|job| !is_terminal(job))
            .map(|job| {
                format!(
                    "{} {} {} {:.2} {} {} {:?}",
                    job.id,
                    job.kind,
                    job.state,
                    job.fraction_completed,
                    job.running_status,
                    job.waiting.join(","),
                    job.execution_errors.last()
                )
            })
            .collect();
        lines.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(state: &str, fraction: f64, index: u64) -> v1::Job {
        v1::Job {
            id: 1,
            kind: "BACKUP".to_owned(),
            state: state.to_owned(),
            fraction_completed: fraction,
            applied_index: index,
            ..v1::Job::default()
        }
    }

    #[test]
    fn going_back_is_found_and_an_older_answer_is_not_going_back() {
        let oracle = Oracle::default();
        assert!(oracle.note(job("running", 0.5, 10)).is_ok());
        assert!(oracle.note(job("running", 0.1, 5)).is_ok());
        assert!(oracle.note(job("running", 0.4, 11)).is_err());
        assert!(oracle.note(job("succeeded", 1.0, 12)).is_ok());
        assert!(oracle.note(job("running", 1.0, 13)).is_err());
        assert_eq!(oracle.backups().len(), 1);
        assert!(oracle.unfinished().is_empty());
    }
}
