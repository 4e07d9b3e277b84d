//! The state itself.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_types::{
    ClusterId, ConnectionName, ConnectionRecord, Digest, HoldId, JobId, RequestKey, ScheduleId,
    SourceName, SourceRecord, TaskId, Timestamp, UserName, UserRecord, WorkerId,
};
use serde::{Deserialize, Serialize};

use crate::apply::Apply;
use crate::catalogue::Catalogue;
use crate::command::Command;
use crate::effect::Effect;
use crate::hold::HoldRecord;
use crate::job::Job;
use crate::outcome::Outcome;
use crate::schedule::ScheduleRecord;
use crate::settings::Settings;
use crate::snapshot;
use crate::tasks::Lease;
use crate::worker::WorkerRecord;

/// The place of an entry in the replicated log.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct LogPosition {
    /// The term in which it was proposed.
    pub term: u64,
    /// Its index; the first is 1, and 0 means that nothing was applied yet.
    pub index: u64,
}

/// The state of a cluster. See the crate's documentation.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    pub(crate) applied: LogPosition,
    pub(crate) chain: Digest,
    pub(crate) cluster: Option<ClusterId>,
    pub(crate) settings: Settings,
    pub(crate) sources: BTreeMap<SourceName, SourceRecord>,
    pub(crate) workers: BTreeMap<WorkerId, WorkerRecord>,
    pub(crate) jobs: BTreeMap<JobId, Job>,
    pub(crate) holds: BTreeMap<HoldId, HoldRecord>,
    pub(crate) catalogue: Catalogue,
    pub(crate) connections: BTreeMap<ConnectionName, ConnectionRecord>,
    pub(crate) users: BTreeMap<UserName, UserRecord>,
    pub(crate) requests: BTreeMap<RequestKey, JobId>,
    pub(crate) schedules: BTreeMap<ScheduleId, ScheduleRecord>,
    /// Jobs that may owe an effect or hold a lease: those that are not terminal, and terminal ones with something left to clear
    /// away. Computed from the rest, so that the thousands of jobs that are kept for show cost nothing.
    pub(crate) attention: BTreeSet<JobId>,
}

impl Ledger {
    /// The state before the first command.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Applies the entry at `position`. A refused command changes nothing but the position and the chain digest. The
    /// effects are what this command made newly owed, in a fixed order, each once.
    pub fn apply(&mut self, position: LogPosition, command: &Command) -> (Outcome, Vec<Effect>) {
        let mut step = Apply::new(self, command.at);
        let outcome = step.perform(&command.action);
        let effects = step.into_effects();
        self.applied = position;
        self.chain = snapshot::fold_chain(self.chain, position, command, &outcome);
        (outcome, effects)
    }

    /// Notes that an entry without a command (a membership change, a leader's blank entry) was applied.
    pub fn advance_to(&mut self, position: LogPosition) {
        self.applied = position;
    }

    /// The last entry that was applied.
    #[must_use]
    pub fn applied(&self) -> LogPosition {
        self.applied
    }

    /// A digest of all commands and outcomes so far: O(1) to read, and equal on two nodes only if they went the same way.
    #[must_use]
    pub fn chain_digest(&self) -> Digest {
        self.chain
    }

    /// The digest of the whole state: of the bytes that [`Ledger::write_snapshot`] writes. It costs as much as writing them.
    #[must_use]
    pub fn digest(&self) -> Digest {
        snapshot::digest(self)
    }

    /// The cluster's identity, once it has one.
    #[must_use]
    pub fn cluster(&self) -> Option<ClusterId> {
        self.cluster
    }

    /// Gives a lease: the one place where the task, its job and the worker learn of it.
    pub(crate) fn bind_lease(&mut self, task: TaskId, lease: Lease, at: Timestamp) {
        if let Some(worker) = self.workers.get_mut(&lease.worker) {
            worker.leases.insert(task);
        }
        if let Some(job) = self.jobs.get_mut(&task.job) {
            job.tasks.grant(task.index, lease, at);
        }
    }

    /// Ends a lease: the one place where the task, its job and the worker learn of it. The task is ready again.
    pub(crate) fn unbind_lease(&mut self, task: TaskId) -> Option<Lease> {
        let lease = self.jobs.get_mut(&task.job)?.tasks.release(task.index)?;
        if let Some(worker) = self.workers.get_mut(&lease.worker) {
            worker.leases.remove(&task);
        }
        Some(lease)
    }

    /// Recomputes what is not stored: after a snapshot was read.
    pub(crate) fn rebuild(&mut self) {
        self.attention = self
            .jobs
            .values()
            .filter(|job| job.needs_attention())
            .map(|job| job.id)
            .collect();
        for job in self.jobs.values_mut() {
            job.tasks.rebuild();
            for &index in job.tasks.leased() {
                let task = TaskId { job: job.id, index };
                if let Some(lease) = job.tasks.lease(index)
                    && let Some(worker) = self.workers.get_mut(&lease.worker)
                {
                    worker.leases.insert(task);
                }
            }
            for lingering in job.lingering.values() {
                if let Some(worker) = self.workers.get_mut(&lingering.worker) {
                    worker.lingering += 1;
                }
            }
        }
    }
}
