//! Faults stay where they are: in one task, with a reason.

use holdfast_collection::faulty::Injection;
use holdfast_proto::{Lease, LeaseReportBody};
use holdfast_types::{ErrorCode, Fault, JobSpec};
use std::time::Duration;

use crate::support::{Leader, World, checkpoint, fill, full, grant, local, span};

fn lease(task: u32) -> Lease {
    Lease::new(70, task, 2)
}

fn failure(body: LeaseReportBody) -> Fault {
    match body {
        LeaseReportBody::Failed { fault } => fault,
        other => panic!("not a failure: {other:?}"),
    }
}

#[test]
fn a_panic_in_a_stage_fails_its_own_task_only() {
    local(async {
        let leader = Leader::start().await;
        let world = World::start(2, &[&leader]).await;
        let bad = fill(&world.source, 1, "bad", 100);
        let good = fill(&world.source, 2, "good", 100);
        world.source.panic_on(bad.id);
        let mut present = leader.welcomed().await;
        for (task, relation) in (0..).zip([&bad, &good]) {
            let work = span(relation, b"");
            present
                .grant(&grant(JobSpec::Backup(full()), lease(task), work))
                .await;
        }
        let (mut failed, mut finished) = (false, false);
        while !(failed && finished) {
            let report = present.report().await;
            present.accept(&report).await;
            if report.lease == lease(0) {
                let fault = failure(report.body);
                assert!(fault.is_retryable());
                assert!(fault.message.contains("reader"), "{fault}");
                failed = true;
            } else {
                finished = checkpoint(&report.body).last;
            }
        }
        let again = Lease::new(70, 2, 1);
        present
            .grant(&grant(JobSpec::Backup(full()), again, span(&good, b"")))
            .await;
        present.accept_all(again).await;
    });
}

#[test]
fn a_refused_report_drops_the_task() {
    local(async {
        let leader = Leader::start().await;
        let world = World::start(1, &[&leader]).await;
        let relation = fill(&world.source, 1, "t", 500);
        let mut present = leader.welcomed().await;
        present
            .grant(&grant(
                JobSpec::Backup(full()),
                lease(1),
                span(&relation, b""),
            ))
            .await;
        let report = present.report().await;
        present.refuse(&report).await;
        let last = present.report().await;
        assert_eq!(
            (last.lease, last.body),
            (lease(1), LeaseReportBody::Released)
        );
        world.assert_quiet(Duration::from_millis(300)).await;
        assert_eq!(world.collection.objects().await.len(), 1);
        // The slot is free again.
        let again = Lease::new(70, 1, 3);
        present
            .grant(&grant(JobSpec::Backup(full()), again, span(&relation, b"")))
            .await;
        assert_eq!(present.report().await.lease, again);
    });
}

#[test]
fn a_full_store_is_a_reason_that_passes() {
    local(async {
        let leader = Leader::start().await;
        let world = World::start(1, &[&leader]).await;
        let relation = fill(&world.source, 1, "t", 100);
        world.stores.fill_up();
        let mut present = leader.welcomed().await;
        present
            .grant(&grant(
                JobSpec::Backup(full()),
                lease(1),
                span(&relation, b""),
            ))
            .await;
        let report = present.report().await;
        present.accept(&report).await;
        let fault = failure(report.body);
        assert_eq!(fault.code, ErrorCode::StorageFull);
        assert!(fault.is_retryable() && fault.hint.is_some());
        world.stores.inject(Injection::NONE);
        let again = Lease::new(70, 1, 3);
        present
            .grant(&grant(JobSpec::Backup(full()), again, span(&relation, b"")))
            .await;
        present.accept_all(again).await;
    });
}

#[test]
fn an_upload_in_flight_is_waited_for_before_the_lease_is_given_back() {
    local(async {
        let leader = Leader::start().await;
        let world = World::start(1, &[&leader]).await;
        let relation = fill(&world.source, 1, "t", 100);
        world.stores.inject(Injection {
            delay: Duration::from_millis(700),
            fault: None,
        });
        let mut present = leader.welcomed().await;
        present
            .grant(&grant(
                JobSpec::Backup(full()),
                lease(1),
                span(&relation, b""),
            ))
            .await;
        present.silence(Duration::from_millis(300)).await;
        present.stop(lease(1)).await;
        let report = present.report().await;
        // The part was durable in time, so it is not thrown away.
        let done = checkpoint(&report.body);
        assert_eq!(world.collection.objects().await.len(), 1);
        assert_eq!(done.objects.len(), 1);
        present.accept(&report).await;
        if !done.last {
            let released = present.report().await;
            assert_eq!(released.body, LeaseReportBody::Released);
        }
        world.assert_quiet(Duration::from_millis(300)).await;
    });
}

#[test]
fn tasks_beyond_the_slots_wait() {
    local(async {
        let leader = Leader::start().await;
        let world = World::start(1, &[&leader]).await;
        let relation = fill(&world.source, 1, "t", 100);
        let mut present = leader.welcomed().await;
        for task in 0..2 {
            let work = span(&relation, b"");
            present
                .grant(&grant(JobSpec::Backup(full()), lease(task), work))
                .await;
        }
        let report = present.report().await;
        assert_eq!(report.lease, lease(0));
        present.silence(Duration::from_millis(200)).await;
        assert_eq!(world.source.reads().len(), 1);
        let mut report = report;
        loop {
            present.accept(&report).await;
            if report.body.is_final() {
                break;
            }
            report = present.report().await;
        }
        assert_eq!(present.report().await.lease, lease(1));
    });
}
