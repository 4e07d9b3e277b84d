//! J3 (within one state), B1, and the lease half of K1.

use holdfast_types::{Epoch, TaskId};

use super::{Findings, InvariantId};
use crate::job::Job;
use crate::ledger::Ledger;
use crate::tasks::Segment;

pub(super) fn check_job(ledger: &Ledger, job: &Job, findings: &mut Findings) {
    let id = job.id;
    for &index in job.tasks.leased() {
        let task = TaskId { job: id, index };
        let Some(work) = job.tasks.work(index) else {
            findings.expect(InvariantId::K1, false, || {
                format!("task {task} is leased and does not exist")
            });
            continue;
        };
        let worker = work
            .lease
            .as_ref()
            .and_then(|lease| Some((lease, ledger.workers.get(&lease.worker)?)));
        findings.expect(
            InvariantId::J3,
            worker.is_some_and(|(lease, worker)| lease.incarnation == worker.incarnation),
            || format!("task {task} is leased to a worker that is gone"),
        );
        findings.expect(
            InvariantId::K1,
            worker.is_some_and(|(_, worker)| worker.leases.contains(&task)),
            || format!("task {task} is leased to a worker that does not know it"),
        );
        findings.expect(
            InvariantId::J3,
            work.epoch > Epoch::ZERO && job.tasks.finished(index).is_none(),
            || format!("task {task} is leased without an epoch, or finished"),
        );
    }
    let mut recount = job.tasks.clone();
    recount.rebuild();
    findings.expect(
        InvariantId::K1,
        recount.leased() == job.tasks.leased()
            && recount
                .segments
                .iter()
                .map(|segment| segment.ready_slots().collect::<Vec<_>>())
                .eq(job
                    .tasks
                    .segments
                    .iter()
                    .map(|segment| segment.ready_slots().collect::<Vec<_>>())),
        || format!("job {id} knows other leased or ready tasks than it has"),
    );
    let is_read = job.tasks.segments.iter().all(Segment::is_read);
    let mut active = job.tasks.segments.iter().flat_map(|segment| {
        let active = segment.active();
        active.map(move |(slot, _)| segment.settles(slot))
    });
    findings.expect(
        InvariantId::J11,
        is_read || !active.any(|settles| settles),
        || format!("job {id} leased a settling span while others were not done"),
    );
    for &(index, epoch) in job.lingering.keys() {
        let current = job
            .tasks
            .work(index)
            .is_some_and(|work| work.epoch <= epoch && work.lease.is_some());
        findings.expect(InvariantId::J3, !current, || {
            format!("task {id}/{index} is leased under a revoked epoch")
        });
    }
}

pub(super) fn check_workers(ledger: &Ledger, findings: &mut Findings) {
    for worker in ledger.workers() {
        let id = &worker.id;
        findings.expect(
            InvariantId::B1,
            worker.leases.len() <= worker.slots as usize,
            || {
                format!(
                    "worker {id} holds {} tasks in {} slots",
                    worker.leases.len(),
                    worker.slots
                )
            },
        );
        for task in worker.leases() {
            let lease = ledger
                .job(task.job)
                .and_then(|job| job.tasks.lease(task.index));
            findings.expect(
                InvariantId::K1,
                lease.is_some_and(|lease| lease.worker == *id),
                || format!("worker {id} is believed to hold task {task}"),
            );
        }
    }
    let mut lingering = std::collections::BTreeMap::new();
    for (_, _, lease) in ledger.jobs().flat_map(Job::lingering) {
        *lingering.entry(&lease.worker).or_insert(0u32) += 1;
    }
    for (id, count) in &lingering {
        findings.expect(
            InvariantId::K1,
            ledger
                .worker(id)
                .is_some_and(|worker| worker.lingering == *count),
            || format!("worker {id} has {count} revoked leases and counts otherwise"),
        );
    }
}
