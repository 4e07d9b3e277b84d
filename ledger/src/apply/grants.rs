//! Leases are given.

use holdfast_types::{Epoch, ErrorCode, Fault};

use super::Apply;
use crate::command::Grant;
use crate::outcome::Outcome;
use crate::pending::Stage;
use crate::tasks::{Lease, Place};

impl Apply<'_> {
    pub(super) fn grant_leases(&mut self, grants: &[Grant]) -> Outcome {
        Outcome::Leases(grants.iter().map(|grant| self.grant_lease(grant)).collect())
    }

    fn grant_lease(&mut self, grant: &Grant) -> Result<Epoch, Fault> {
        let task = grant.task;
        self.check_grant(grant)?;
        let lease = Lease {
            worker: grant.worker.clone(),
            incarnation: grant.incarnation,
            granted_at: self.at,
        };
        self.ledger.bind_lease(task, lease, self.at);
        let job = self.job(task.job)?;
        let work = job.tasks.work(task.index);
        Ok(work.map(|work| work.epoch).unwrap_or_default())
    }

    fn check_grant(&self, grant: &Grant) -> Result<(), Fault> {
        let task = grant.task;
        let refuse = |code, what: String| Err(Fault::new(code, what));
        let job = self.job(task.job)?;
        let wanted = job.stage();
        let place = job.tasks.locate(task.index);
        let stage = match place {
            None => {
                return refuse(
                    ErrorCode::NotFound,
                    format!("job {} has no task {}", job.id, task.index),
                );
            }
            Some(Place::Plan(_)) => Stage::Plans,
            Some(Place::Span { .. }) => Stage::Spans,
            Some(Place::Finish(_)) => Stage::Finishes,
            Some(Place::Revert(_)) => Stage::Reverts,
        };
        if stage != wanted {
            return refuse(
                ErrorCode::FailedPrecondition,
                format!(
                    "task {task} of a job that is {} is not to be leased",
                    job.state
                ),
            );
        }
        if job.tasks.awaits_others(task.index) {
            return refuse(
                ErrorCode::FailedPrecondition,
                format!("task {task} waits for the other spans of the job"),
            );
        }
        if !job.tasks.is_free(task.index) {
            return refuse(
                ErrorCode::FailedPrecondition,
                format!("task {task} is leased or finished already"),
            );
        }
        let worker = self.ledger.workers.get(&grant.worker);
        let Some(worker) = worker.filter(|worker| worker.incarnation == grant.incarnation) else {
            return refuse(
                ErrorCode::NotFound,
                format!(
                    "worker {} is gone, or another process has its id",
                    grant.worker
                ),
            );
        };
        if worker.free_slots() == 0 {
            return refuse(
                ErrorCode::ResourceExhausted,
                format!("worker {} has no free slot", grant.worker),
            );
        }
        Ok(())
    }
}
