//! What became of a command.

use holdfast_types::{Epoch, Fault, JobId, JobState};
use serde::{Deserialize, Serialize};

/// What became of a command. A refusal changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Done.
    Done,
    /// The command asked for what already is.
    NoOp,
    /// Refused.
    Refused(Fault),
    /// The job that the submission made, or, with the same request key, had made before.
    Job {
        /// The job.
        job: JobId,
        /// Whether it was there before.
        existed: bool,
    },
    /// The job's state after a control request.
    State(JobState),
    /// For each grant, the lease's epoch.
    Leases(Vec<Result<Epoch, Fault>>),
    /// For each report, whether it counts.
    Reports(Vec<ReportOutcome>),
    /// The outcome of each part of a batch.
    Batch(Vec<Outcome>),
}

/// What became of a worker's report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReportOutcome {
    /// It counts; also the answer to a report that is repeated after a lost answer.
    Accepted,
    /// It does not, and the worker must drop the task: the lease is not current.
    Stale,
    /// It does not: it contradicts what is known.
    Refused(Fault),
}
