//! How leases end.

use holdfast_types::{Epoch, JobId, TaskId};

use super::Apply;

impl Apply<'_> {
    /// Ends a lease; the task is ready again. `lost` says that its holder may have had work in flight that will be done again.
    pub(super) fn end_lease(&mut self, task: TaskId, lost: bool) {
        if self.ledger.unbind_lease(task).is_some() {
            self.dispatch = true;
            if lost
                && let Some(job) = self.known(task.job)
                && let Some(active) = job.tasks.active_mut(task.index)
            {
                active.redo_pending = true;
            }
        }
    }

    /// Revokes every lease of a job: the epochs grow, so that nothing more is accepted under the old ones. The leases linger until
    /// their workers have said that they stopped.
    pub(super) fn revoke_leases(&mut self, id: JobId) {
        let Some(job) = self.known(id) else { return };
        let leased: Vec<u32> = job.tasks.leased().iter().copied().collect();
        for index in leased {
            let Some(lease) = self.ledger.unbind_lease(TaskId { job: id, index }) else {
                continue;
            };
            if let Some(worker) = self.ledger.workers.get_mut(&lease.worker) {
                worker.lingering += 1;
            }
            if let Some(job) = self.known(id)
                && let Some(work) = job.tasks.work_mut(index)
            {
                let epoch = work.epoch;
                work.epoch = epoch.next();
                job.lingering.insert((index, epoch), lease);
            }
        }
    }

    /// A worker has stopped a revoked task. Returns whether there was such a lease.
    pub(super) fn end_lingering(&mut self, task: TaskId, epoch: Epoch) -> bool {
        let Some(lease) = self
            .known(task.job)
            .and_then(|job| job.lingering.remove(&(task.index, epoch)))
        else {
            return false;
        };
        if let Some(worker) = self.ledger.workers.get_mut(&lease.worker) {
            worker.lingering = worker.lingering.saturating_sub(1);
        }
        self.dispatch = true;
        true
    }
}
