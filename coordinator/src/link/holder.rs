//! Who may report: only the process that holds the lease.

use holdfast_ledger::Ledger;
use holdfast_proto::Lease;
use holdfast_types::{ErrorCode, Fault, Incarnation, WorkerId};

/// The error for a worker that reports under a lease that is not its own, or that nobody was given yet. The ledger judges leases by their epochs
/// alone, since a report in its log does not say who sent it; so the stream that it came over must be looked at here. An epoch
/// belongs to one lease for ever: what is true now is true when the report is applied.
pub(super) fn check_holder(
    ledger: &Ledger,
    lease: Lease,
    worker: &WorkerId,
    incarnation: Incarnation,
) -> Result<(), Fault> {
    let is_own =
        |held: &holdfast_ledger::Lease| held.worker == *worker && held.incarnation == incarnation;
    if let Some(task) = ledger.task(lease.task) {
        if lease.epoch > task.epoch {
            return Err(foreign(lease, worker, "has not been given to anybody"));
        }
        if let Some(held) = &task.lease
            && lease.epoch == task.epoch
            && !is_own(held)
        {
            return Err(foreign(lease, worker, "belongs to another worker"));
        }
    }
    let revoked = ledger.job(lease.task.job).and_then(|job| {
        job.lingering()
            .find(|(task, epoch, _)| (*task, *epoch) == (lease.task, lease.epoch))
            .map(|(_, _, held)| is_own(held))
    });
    match revoked {
        Some(false) => Err(foreign(lease, worker, "belonged to another worker")),
        Some(true) | None => Ok(()),
    }
}

fn foreign(lease: Lease, worker: &WorkerId, why: &str) -> Fault {
    Fault::new(
        ErrorCode::StaleEpoch,
        format!(
            "worker {worker} reports under a lease that is not its own: that of task {} under epoch {} {why}",
            lease.task, lease.epoch
        ),
    )
}
