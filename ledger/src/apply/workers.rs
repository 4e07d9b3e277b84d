//! Workers come and go.

use holdfast_types::{ErrorCode, Fault, Incarnation, Locality, TaskId, WorkerId};

use super::Apply;
use crate::outcome::Outcome;
use crate::worker::WorkerRecord;

/// The most tasks that a worker may ask for at once: each costs it a part in memory.
const MAX_SLOTS: u32 = 1024;

impl Apply<'_> {
    pub(super) fn register_worker(
        &mut self,
        id: &WorkerId,
        incarnation: Incarnation,
        locality: &Locality,
        slots: u32,
        version: &str,
    ) -> Result<Outcome, Fault> {
        if !(1..=MAX_SLOTS).contains(&slots) {
            return Err(Fault::new(
                ErrorCode::InvalidArgument,
                format!("worker {id} offers {slots} slots"),
            )
            .hint(format!("offer 1 to {MAX_SLOTS}")));
        }
        let mut record = WorkerRecord {
            id: id.clone(),
            incarnation,
            locality: locality.clone(),
            slots,
            version: version.to_owned(),
            registered_at: self.at,
            leases: Default::default(),
            lingering: 0,
        };
        if let Some(before) = self.ledger.workers.get(id) {
            if before.incarnation != incarnation {
                return Err(Fault::new(
                    ErrorCode::AlreadyExists,
                    format!("another process is registered as worker {id}"),
                )
                .hint(
                    "give every worker its own id; if this one was restarted, its predecessor is \
                     forgotten once its lease has run out",
                ));
            }
            let held = u32::try_from(before.leases.len()).unwrap_or(u32::MAX);
            if slots < held {
                return Err(Fault::new(
                    ErrorCode::FailedPrecondition,
                    format!("worker {id} holds {held} tasks and offers {slots} slots"),
                )
                .hint("give leases back before offering less"));
            }
            record.registered_at = before.registered_at;
            record.leases = before.leases.clone();
            record.lingering = before.lingering;
            if *before == record {
                return Ok(Outcome::NoOp);
            }
        }
        self.ledger.workers.insert(id.clone(), record);
        self.dispatch = true;
        Ok(Outcome::Done)
    }

    pub(super) fn expire_worker(
        &mut self,
        id: &WorkerId,
        incarnation: Incarnation,
        clean: bool,
    ) -> Outcome {
        let Some(worker) = self.ledger.workers.get(id) else {
            return Outcome::NoOp;
        };
        if worker.incarnation != incarnation {
            return Outcome::NoOp;
        }
        let leases: Vec<TaskId> = worker.leases().collect();
        for &task in &leases {
            self.end_lease(task, !clean);
        }
        let lingering: Vec<_> = self
            .ledger
            .unsettled_jobs()
            .filter(|job| !job.lingering.is_empty())
            .flat_map(|job| {
                let own = job.lingering().filter(|(_, _, lease)| lease.worker == *id);
                own.map(|(task, epoch, _)| (task, epoch))
            })
            .collect();
        for &(task, epoch) in &lingering {
            self.end_lingering(task, epoch);
        }
        self.ledger.workers.remove(id);
        let mut jobs: Vec<_> = leases
            .iter()
            .chain(lingering.iter().map(|(task, _)| task))
            .map(|task| task.job)
            .collect();
        jobs.dedup();
        for job in jobs {
            self.settle(job);
        }
        Outcome::Done
    }
}
