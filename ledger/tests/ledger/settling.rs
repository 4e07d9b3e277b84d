//! Spans that settle the others of their member.

use holdfast_ledger::{ReportBody, ReportOutcome, TaskView};
use holdfast_types::{Fault, JobId, JobState, Lsn, RelationId, Settled, SettledDatabase, TaskId};

use crate::specs;
use crate::world::{World, checkpoint, settled, settling_plan_of};

fn planned() -> (World, JobId) {
    let mut world = World::new();
    let job = world.submit(holdfast_types::JobSpec::Backup(specs::full(
        "app",
        &["eu"],
        10,
    )));
    world.done(holdfast_ledger::Action::StartJob { job });
    let plan = world.lease_all(job).remove(0);
    world.accepted(&plan, settling_plan_of(1));
    (world, job)
}

fn last(view: &TaskView) -> ReportBody {
    checkpoint(view, None, 60, true)
}

fn lease(world: &mut World, job: JobId, index: u32) -> Result<TaskView, Fault> {
    let task = TaskId { job, index };
    world.lease(task, "eu")?;
    Ok(world.view(task))
}

#[test]
fn they_wait_until_all_others_are_done() {
    let (mut world, job) = planned();
    let spans = world.lease_all(job);
    assert_eq!(spans.len(), 3, "the two that settle are not to be had");
    let fault = lease(&mut world, job, 4).expect_err("too early");
    assert!(
        fault.message.contains("waits for the other spans"),
        "{fault}"
    );
    for span in &spans[..2] {
        world.accepted(span, last(span));
    }
    assert!(lease(&mut world, job, 4).is_err(), "one is not done");
    world.accepted(&spans[2], last(&spans[2]));
    let settling = world.lease_all(job);
    assert_eq!(settling.len(), 2);
    world.accepted(&settling[1], last(&settling[1]));
    world.accepted(&settling[0], last(&settling[0]));
    let job = world.ledger.job(job).expect("there");
    assert_eq!(job.state(), JobState::Running);
    assert_eq!(job.settled(0), Some(settled(60)));
}

#[test]
fn of_two_ends_the_members_is_the_earlier_position_and_the_later_time() {
    let (mut world, job) = planned();
    for span in world.lease_all(job) {
        world.accepted(&span, last(&span));
    }
    let settling = world.lease_all(job);
    world.accepted(&settling[0], checkpoint(&settling[0], None, 90, true));
    world.accepted(&settling[1], checkpoint(&settling[1], None, 70, true));
    let job = world.ledger.job(job).expect("there");
    let both = Settled {
        position: settled(70).position,
        at: settled(90).at,
    };
    assert_eq!(job.settled(0), Some(both));
}

#[test]
fn only_their_last_checkpoints_say_where_the_member_ended() {
    let (mut world, job) = planned();
    let spans = world.lease_all(job);
    let with_end = |view: &TaskView, settles: bool| {
        let mut body = last(view);
        if let ReportBody::Checkpoint(checkpoint) = &mut body {
            checkpoint.settled = settles.then(|| SettledDatabase {
                end: settled(5),
                relations: Vec::new(),
                keeps_history: true,
            });
        }
        body
    };
    let refused = |world: &mut World, view: &TaskView, body| {
        matches!(
            world.report(view.id, view.epoch, body),
            ReportOutcome::Refused(_)
        )
    };
    assert!(refused(&mut world, &spans[0], with_end(&spans[0], true)));
    for span in &spans {
        world.accepted(span, last(span));
    }
    let settling = world.lease_all(job);
    assert!(refused(
        &mut world,
        &settling[0],
        with_end(&settling[0], false)
    ));
    world.accepted(&settling[0], last(&settling[0]));
}

fn settle_with(view: &TaskView, change: impl FnOnce(&mut SettledDatabase)) -> ReportBody {
    let mut body = last(view);
    if let ReportBody::Checkpoint(checkpoint) = &mut body
        && let Some(settled) = &mut checkpoint.settled
    {
        change(settled);
    }
    body
}

#[test]
fn what_they_found_is_what_the_layer_holds() {
    let (mut world, job) = planned();
    let held = |world: &World| {
        let job = world.ledger.job(job).expect("there");
        let held = job.held_relations(0);
        held.iter()
            .map(|relation| relation.id.0)
            .collect::<Vec<_>>()
    };
    assert_eq!(held(&world), [1, 101], "as planned, so far");
    for span in world.lease_all(job) {
        world.accepted(&span, last(&span));
    }
    let settling = world.lease_all(job);
    let planned: Vec<RelationId> = (world.ledger.job(job).expect("there"))
        .planned_with(settling[0].id)
        .iter()
        .map(|relation| relation.id)
        .collect();
    assert_eq!(planned, [RelationId(1)], "all of the database but itself");
    let found = |id| settle_with(&settling[0], |settled| settled.relations = id);
    world.accepted(
        &settling[0],
        found(vec![crate::world::relation(7), crate::world::relation(8)]),
    );
    assert_eq!(
        held(&world),
        [7, 8, 101],
        "what was found, and the database itself"
    );
    world.accepted(&settling[1], last(&settling[1]));
    let second = 1000 + u64::from(settling[1].id.index);
    assert_eq!(held(&world), [7, 8, 101, second]);
    let other = TaskId {
        job,
        index: settling[1].id.index + 9,
    };
    assert!(
        world
            .ledger
            .job(job)
            .expect("there")
            .planned_with(other)
            .is_empty()
    );
}

#[test]
fn what_no_manifest_can_hold_is_refused() {
    let (mut world, job) = planned();
    for span in world.lease_all(job) {
        world.accepted(&span, last(&span));
    }
    let settling = world.lease_all(job);
    let view = &settling[0];
    let stray = [
        settle_with(view, |settled| settled.end.position = Lsn::at(9).into()),
        settle_with(view, |settled| {
            settled.relations[0].created_at = Lsn::at(9).into();
        }),
        settle_with(view, |settled| {
            settled.relations[0].dropped_at = Some(Lsn::at(9).into());
        }),
        settle_with(view, |settled| {
            settled.relations.push(settled.relations[0].clone());
        }),
    ];
    for body in stray {
        let outcome = world.report(view.id, view.epoch, body.clone());
        assert!(matches!(outcome, ReportOutcome::Refused(_)), "{body:?}");
    }
    world.accepted(view, last(view));
    let again = settle_with(&settling[1], |settled| {
        settled.relations[0].id = RelationId(1000 + u64::from(view.id.index));
    });
    let outcome = world.report(settling[1].id, settling[1].epoch, again);
    assert!(matches!(outcome, ReportOutcome::Refused(_)), "held already");
    world.accepted(&settling[1], last(&settling[1]));
}
