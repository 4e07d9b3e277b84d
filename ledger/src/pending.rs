//! Effects that are owed, computed from the state alone.

use holdfast_types::{HoldId, Incarnation, JobId, JobKind, JobState, Phase, TaskId, WorkerId};

use crate::effect::Effect;
use crate::job::Job;
use crate::ledger::Ledger;
use crate::tasks::Lease;

impl Ledger {
    /// Everything that the leader still has to make happen, in a fixed order. A new leader starts from this. Cheap: what it
    /// looks at are the jobs that are not over, their leases, and the holds that are being released.
    #[must_use]
    pub fn pending_effects(&self) -> Vec<Effect> {
        let mut effects = Vec::new();
        for job in self.attention.iter().filter_map(|id| self.jobs.get(id)) {
            owed_by_job(job, &mut effects);
        }
        for &hold in self.holds.keys() {
            self.owed_by_hold(hold, &mut effects);
        }
        effects
    }

    /// What a hold owes: its release on the members that may have placed it, once no worker can place it any more.
    pub(crate) fn owed_by_hold(&self, id: HoldId, effects: &mut Vec<Effect>) {
        let Some(hold) = self.holds.get(&id) else {
            return;
        };
        let quiet = self
            .jobs
            .get(&hold.job)
            .is_none_or(|job| job.lingering.is_empty());
        if !quiet {
            return;
        }
        if let (None, Some(chain)) = (&hold.releasing, &hold.chain) {
            for (member, to) in &chain.behind {
                effects.push(Effect::AdvanceHold {
                    hold: id,
                    source: hold.source.clone(),
                    member: member.clone(),
                    layer: chain.layer.clone(),
                    to: *to,
                });
            }
        }
        for member in hold.releasing.iter().flatten() {
            effects.push(Effect::ReleaseHold {
                hold: id,
                source: hold.source.clone(),
                member: member.clone(),
            });
        }
    }

    /// Jobs that have tasks to lease.
    pub(crate) fn dispatchable(&self) -> impl Iterator<Item = JobId> + '_ {
        self.attention
            .iter()
            .filter_map(|id| self.jobs.get(id))
            .filter(|job| job.has_ready())
            .map(|job| job.id)
    }
}

/// What a job owes.
pub(crate) fn owed_by_job(job: &Job, effects: &mut Vec<Effect>) {
    let id = job.id;
    for (task, epoch, lease) in job.lingering() {
        effects.push(stop(task, epoch, lease));
    }
    match job.state {
        JobState::Pending => effects.push(Effect::StartJob { job: id }),
        JobState::Running => {
            if job.has_ready() {
                effects.push(Effect::Dispatch { job: id });
            }
            if let Some((part, _)) = job.list.sealed() {
                effects.push(Effect::WritePart { job: id, part });
            }
            if job.committing && !job.committed {
                effects.push(Effect::CommitLayer { job: id });
            }
            if let (Phase::Finishing, Some(chain)) = (job.phase, job.next_to_expire()) {
                effects.push(expire(id, chain));
            }
        }
        JobState::PauseRequested | JobState::CancelRequested => {
            for &index in job.tasks.leased() {
                if let Some(work) = job.tasks.work(index)
                    && let Some(lease) = &work.lease
                {
                    effects.push(stop(TaskId { job: id, index }, work.epoch, lease));
                }
            }
            // A chain that is half gone is of no use to anybody.
            effects.extend(job.expiring().map(|chain| expire(id, chain)));
        }
        JobState::Reverting => {
            if job.has_ready() {
                effects.push(Effect::Dispatch { job: id });
            }
        }
        JobState::Paused => {}
        JobState::Succeeded | JobState::Failed | JobState::Canceled | JobState::RevertFailed => {
            if job.needs_sweep() && job.lingering.is_empty() {
                effects.push(Effect::SweepJob { job: id });
            }
        }
    }
}

fn expire(job: JobId, chain: &str) -> Effect {
    Effect::ExpireChain {
        job,
        chain: chain.to_owned(),
    }
}

fn stop(task: TaskId, epoch: holdfast_types::Epoch, lease: &Lease) -> Effect {
    let worker: WorkerId = lease.worker.clone();
    let incarnation: Incarnation = lease.incarnation;
    Effect::StopTask {
        task,
        epoch,
        worker,
        incarnation,
    }
}

/// Which tasks of a job may be leased at present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// None.
    Idle,
    /// The plans.
    Plans,
    /// The spans.
    Spans,
    /// The finishes.
    Finishes,
    /// The reverts.
    Reverts,
}

impl Job {
    /// Which tasks may be leased at present.
    pub(crate) fn stage(&self) -> Stage {
        match (self.state, self.phase) {
            (JobState::Reverting, _) if self.lingering.is_empty() => Stage::Reverts,
            (JobState::Running, Phase::Planning) => Stage::Plans,
            (JobState::Running, Phase::Transferring) => Stage::Spans,
            (JobState::Running, Phase::Finishing) if self.kind() == JobKind::Restore => {
                Stage::Finishes
            }
            _ => Stage::Idle,
        }
    }

    /// Whether a task waits for a worker.
    pub(crate) fn has_ready(&self) -> bool {
        match self.stage() {
            Stage::Idle => false,
            Stage::Plans => self.tasks.plans.ready().next().is_some(),
            Stage::Spans => self.tasks.segments.iter().any(|run| run.has_ready()),
            Stage::Finishes => self.tasks.finishes.ready().next().is_some(),
            Stage::Reverts => self.tasks.reverts.ready().next().is_some(),
        }
    }
}
