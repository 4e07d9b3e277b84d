//! Which reports are taken: the table of `apply/reports.rs`, row by row.

use holdfast_ledger::{Action, Checkpoint, Report, ReportBody, ReportOutcome, TaskView};
use holdfast_types::{ByteCount, Epoch, RowCount, TaskId};

use crate::world::{World, checkpoint, key, object, plan_of, relation, tile};

fn delta(from: &str, to: &str, last: bool) -> ReportBody {
    ReportBody::Checkpoint(Checkpoint {
        from: key(from),
        to: key(to),
        last,
        objects: vec![object(format!("{from}-{to}"), 10)],
        read: ByteCount(10),
        written: ByteCount(5),
        rows: RowCount(1),
        settled: None,
    })
}

/// The middle span, `[g, p)`, leased and durable up to `k`.
fn middle() -> (World, TaskView) {
    let mut world = World::new();
    let job = world.planned_backup();
    let view = world.lease_all(job).swap_remove(1);
    world.accepted(&view, delta("g", "k", false));
    (world, view)
}

#[test]
fn the_acceptance_table() {
    use ReportOutcome::{Accepted, Stale};
    let current = Epoch(1);
    // Report, and what becomes of it; `None`: refused.
    let table = [
        (Epoch(0), delta("k", "m", false), Some(Stale)),
        (Epoch(2), delta("k", "m", false), Some(Stale)),
        (Epoch(2), ReportBody::Released, Some(Stale)),
        (current, delta("k", "m", false), Some(Accepted)),
        (current, delta("k", "p", true), Some(Accepted)),
        (current, delta("k", "p", false), Some(Accepted)),
        (current, delta("g", "k", false), Some(Accepted)),
        (current, delta("g", "k", true), None),
        (current, delta("k", "m", true), None),
        (current, delta("k", "", false), None),
        (current, delta("k", "", true), None),
        (current, delta("k", "k", false), None),
        (current, delta("g", "m", false), None),
        (current, delta("m", "p", true), None),
        (current, plan_of(1), None),
        (
            current,
            ReportBody::Done {
                rows: RowCount(0),
                fingerprint: None,
            },
            None,
        ),
        (current, ReportBody::Released, Some(Accepted)),
    ];
    for (epoch, body, expected) in table {
        let (mut world, view) = middle();
        let outcome = world.report(view.id, epoch, body.clone());
        match expected {
            Some(expected) => assert_eq!(outcome, expected, "{epoch} {body:?}"),
            None => assert!(
                matches!(outcome, ReportOutcome::Refused(_)),
                "{epoch} {body:?}: {outcome:?}"
            ),
        }
    }
}

#[test]
fn a_repetition_counts_once() {
    let (mut world, view) = middle();
    let before = *world.ledger.job(view.id.job).expect("a job").counters();
    world.accepted(&view, delta("g", "k", false));
    assert_eq!(
        *world.ledger.job(view.id.job).expect("a job").counters(),
        before
    );
    world.accepted(&view, delta("k", "p", true));
    let before = *world.ledger.job(view.id.job).expect("a job").counters();
    world.accepted(&view, delta("k", "p", true));
    world.accepted(&view, ReportBody::Released);
    assert_eq!(
        *world.ledger.job(view.id.job).expect("a job").counters(),
        before
    );
    let outcome = world.report(view.id, view.epoch, delta("g", "k", false));
    assert_eq!(
        outcome,
        ReportOutcome::Stale,
        "the lease ended with the task"
    );
}

#[test]
fn the_end_may_be_reached_before_it_is_known_to_be_the_end() {
    let (mut world, view) = middle();
    world.accepted(&view, delta("k", "p", false));
    assert!(world.ledger.task(view.id).is_some(), "it is not finished");
    world.accepted(&view, delta("p", "p", true));
    assert!(world.ledger.task(view.id).is_none());
}

#[test]
fn a_released_lease_ends_once() {
    let (mut world, view) = middle();
    world.accepted(&view, ReportBody::Released);
    world.accepted(&view, ReportBody::Released);
    let outcome = world.report(view.id, view.epoch, delta("k", "m", false));
    assert_eq!(outcome, ReportOutcome::Stale);
    assert_eq!(world.lease(view.id, "eu"), Ok(Epoch(2)));
    let outcome = world.report(view.id, view.epoch, ReportBody::Released);
    assert_eq!(
        outcome,
        ReportOutcome::Stale,
        "it must not end the next lease"
    );
}

#[test]
fn reports_of_one_command_build_on_each_other() {
    let (mut world, view) = middle();
    let report = |body| Report {
        task: view.id,
        epoch: view.epoch,
        body,
    };
    let unknown = Report {
        task: TaskId {
            index: 99,
            ..view.id
        },
        ..report(ReportBody::Released)
    };
    let outcome = world.apply(Action::Reports {
        reports: vec![
            report(delta("k", "m", false)),
            unknown,
            report(delta("m", "n", false)),
            report(delta("n", "p", true)),
        ],
    });
    let expected = [
        ReportOutcome::Accepted,
        ReportOutcome::Stale,
        ReportOutcome::Accepted,
        ReportOutcome::Accepted,
    ];
    assert_eq!(
        outcome,
        holdfast_ledger::Outcome::Reports(expected.to_vec())
    );
}

fn batch(sequence: u32, id: u64, bounds: &[&str], last: bool) -> ReportBody {
    ReportBody::Plan {
        sequence,
        relations: vec![relation(id)],
        spans: tile(id, bounds, 5),
        last,
    }
}

#[test]
fn plans_come_in_batches_and_start_over_with_each_lease() {
    let mut world = World::new();
    let job = world.started_backup();
    let plan = world.lease_all(job).swap_remove(0);
    world.accepted(&plan, batch(0, 1, &["d"], false));
    world.accepted(&plan, batch(0, 1, &["d"], false));
    let outcome = world.report(plan.id, plan.epoch, batch(2, 2, &[], true));
    assert!(
        matches!(outcome, ReportOutcome::Refused(_)),
        "a batch is missing"
    );
    world.accepted(&plan, batch(1, 2, &[], false));
    world.accepted(&plan, ReportBody::Released);

    assert_eq!(world.lease(plan.id, "eu"), Ok(Epoch(2)));
    let plan = world.view(plan.id);
    world.accepted(&plan, batch(0, 1, &["x"], true));
    world.accepted(&plan, batch(0, 1, &["x"], true));
    let other = world
        .ledger
        .job(job)
        .and_then(|job| job.leased_tasks().next())
        .expect("the other plan");
    world.accepted(&other, batch(0, 1, &[], true));
    let counters = world.ledger.job(job).expect("a job").counters();
    assert_eq!(
        counters.spans_total, 3,
        "the first lease's batches are gone"
    );
    world.run_to_end();
}

#[test]
fn a_plan_that_does_not_tile_is_refused() {
    let mut world = World::new();
    let job = world.started_backup();
    let plan = world.lease_all(job).swap_remove(0);
    let mut spans = tile(1, &["d", "k"], 5);
    spans.remove(1);
    let body = ReportBody::Plan {
        sequence: 0,
        relations: vec![relation(1)],
        spans,
        last: true,
    };
    let ReportOutcome::Refused(fault) = world.report(plan.id, plan.epoch, body) else {
        panic!("taken");
    };
    assert!(fault.message.contains("relation 1"), "{fault}");
    world.accepted(&plan, batch(0, 1, &["d"], true));
}

#[test]
fn spans_in_hundreds_shrink_when_they_are_done() {
    let mut world = World::new();
    let job = world.submit(crate::specs::restore("app", &["eu"]));
    world.done(Action::StartJob { job });
    let plan = world.lease_all(job).swap_remove(0);
    let names: Vec<String> = (0..700).map(|n| format!("{n:04}")).collect();
    let bounds: Vec<&str> = names.iter().map(String::as_str).collect();
    world.accepted(&plan, batch(0, 1, &bounds, true));
    let mut before = Vec::new();
    world.ledger.write_snapshot(&mut before).expect("written");
    // From both ends, so that finished chunks lie on both sides of unfinished ones.
    for round in 0..350usize {
        let ready: Vec<_> = world
            .ledger
            .ready_tasks(job)
            .map(|ready| ready.task)
            .collect();
        assert_eq!(ready.len(), 701 - 2 * round);
        for task in [ready[0], ready[ready.len() - 1]] {
            world.lease(task, "eu").expect("a lease");
            let view = world.view(task);
            world.accepted(&view, checkpoint(&view, None, 1, false));
        }
    }
    let view = world.lease_all(job).swap_remove(0);
    let mut after = Vec::new();
    world.ledger.write_snapshot(&mut after).expect("written");
    assert!(
        after.len() < before.len() / 2,
        "{} {}",
        after.len(),
        before.len()
    );
    world.accepted(&view, checkpoint(&view, None, 1, false));
    world.run_to_end();
}
