//! How far a job is, and what it waits for. The state has no clock: rates, ETAs and "stuck" are the reader's arithmetic.

use holdfast_types::{
    JobId, JobSpec, JobState, Locality, MemberName, Phase, TaskId, Timestamp, WorkerId,
};

use crate::job::Job;
use crate::ledger::Ledger;
use crate::queries::segment_of;

/// How far a job is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobProgress {
    /// Its state.
    pub state: JobState,
    /// What it is busy with.
    pub phase: Phase,
    /// Its progress in millionths. It never goes back, and is a million when the job has succeeded and only then.
    pub fraction_millionths: u32,
    /// Estimated bytes of all spans.
    pub weight_total: u64,
    /// The part of it that is done.
    pub weight_done: u64,
    /// Each member's part (of a verification one, of no member).
    pub members: Vec<MemberProgress>,
}

impl JobProgress {
    /// Progress from 0 to 1.
    #[must_use]
    pub fn fraction(&self) -> f64 {
        f64::from(self.fraction_millionths) / 1e6
    }
}

/// How far a job is on one member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberProgress {
    /// The member; `None` in a verification.
    pub member: Option<MemberName>,
    /// Estimated bytes of its spans.
    pub weight_total: u64,
    /// The part of it that is done.
    pub weight_done: u64,
    /// Its spans.
    pub spans_total: u32,
    /// Those that are finished.
    pub spans_done: u32,
    /// Tasks of it that wait for a worker.
    pub ready: u32,
    /// Tasks of it under a lease.
    pub running: Vec<RunningTask>,
}

/// A task under a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningTask {
    /// Which.
    pub task: TaskId,
    /// What it is about, in words: `member eu-1, relation bank.accounts`.
    pub name: String,
    /// Who holds it.
    pub worker: WorkerId,
    /// When it last made progress; before that, when it was first leased: a stuck task is stuck since then.
    pub moved_at: Timestamp,
    /// Failures since then.
    pub attempts: u32,
}

/// A member whose tasks no registered worker may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Starved {
    /// The member; `None` in a verification.
    pub member: Option<MemberName>,
    /// Where a worker would have to be: in both.
    pub needs: (Locality, Locality),
}

/// The part of the whole that transferring is; the rest is finishing.
const TRANSFER_MILLIONTHS: u64 = 990_000;
const WHOLE_MILLIONTHS: u64 = 1_000_000;

impl Ledger {
    /// How far a job is. Costs as much as the job has members and leases, however many tasks it has.
    #[must_use]
    pub fn progress(&self, id: JobId) -> Option<JobProgress> {
        let job = self.jobs.get(&id)?;
        let specified = job.spec.members();
        let mut members: Vec<_> = (job.members().into_iter())
            .zip(&job.lanes)
            .map(|(member, lane)| MemberProgress {
                member: member
                    .and_then(|index| specified.get(index as usize))
                    .map(|record| record.name.clone()),
                weight_total: lane.weight_total,
                weight_done: lane.weight_done,
                spans_total: lane.spans_total,
                spans_done: lane.spans_done,
                ready: self.ready_count(job, member),
                running: Vec::new(),
            })
            .collect();
        for &index in job.tasks.leased() {
            let lane = job.tasks.member(index).unwrap_or_default() as usize;
            if let Some(work) = job.tasks.work(index)
                && let Some(lease) = &work.lease
                && let Some(member) = members.get_mut(lane)
            {
                member.running.push(RunningTask {
                    task: TaskId { job: id, index },
                    name: job.describe_task(index),
                    worker: lease.worker.clone(),
                    moved_at: work.moved_at,
                    attempts: work.attempts,
                });
            }
        }
        Some(JobProgress {
            state: job.state,
            phase: job.phase,
            fraction_millionths: fraction_millionths(job),
            weight_total: job.counters.weight_total,
            weight_done: job.counters.weight_done,
            members,
        })
    }

    /// Members of a job that have tasks waiting while no registered worker is where they need one. The job waits for such a
    /// worker, and goes on when one comes.
    #[must_use]
    pub fn starved_members(&self, id: JobId) -> Vec<Starved> {
        let Some(job) = self.jobs.get(&id) else {
            return Vec::new();
        };
        let specified = job.spec.members();
        job.members()
            .into_iter()
            .filter(|&member| self.ready_tasks_of(id, member).next().is_some())
            .filter(|&member| {
                !self
                    .workers
                    .values()
                    .any(|worker| job.admits(&worker.locality, member))
            })
            .map(|member| Starved {
                member: member
                    .and_then(|index| specified.get(index as usize))
                    .map(|record| record.name.clone()),
                needs: job.needed_localities(member),
            })
            .collect()
    }
}

/// A job's progress. Monotone: in planning it is 0, and every count that it is made of only grows afterwards.
pub(crate) fn fraction_millionths(job: &Job) -> u32 {
    let counters = &job.counters;
    let millionths = if job.state == JobState::Succeeded {
        WHOLE_MILLIONTHS
    } else if let JobSpec::Expire(spec) = job.spec.as_ref() {
        // One more than there are chains, so that the whole is reached by success alone.
        let total = spec.chains.len() as u64 + 1;
        share(WHOLE_MILLIONTHS, job.expired.len() as u64, total)
    } else {
        match job.phase {
            Phase::Planning => 0,
            Phase::Transferring => share(
                TRANSFER_MILLIONTHS,
                counters.weight_done,
                counters.weight_total,
            ),
            Phase::Finishing => {
                // One more than there are finishes, so that the whole is reached by success alone.
                let total = u64::from(counters.finishes_total) + 1;
                TRANSFER_MILLIONTHS
                    + share(
                        WHOLE_MILLIONTHS - TRANSFER_MILLIONTHS,
                        u64::from(counters.finishes_done),
                        total,
                    )
            }
        }
    };
    u32::try_from(millionths).unwrap_or(u32::MAX)
}

fn share(of: u64, done: u64, total: u64) -> u64 {
    let share = u128::from(of) * u128::from(done.min(total)) / u128::from(total.max(1));
    u64::try_from(share).unwrap_or(of)
}

/// The spans of a member, for the invariants.
pub(crate) fn member_spans(job: &Job, member: Option<u32>) -> Option<(u32, u32)> {
    segment_of(&job.tasks.segments, member).map(|segment| (segment.len(), segment.done()))
}
