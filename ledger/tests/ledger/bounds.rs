//! Slots, worker ids, and how long jobs are kept.

use holdfast_ledger::Action;
use holdfast_types::{ErrorCode, Incarnation};

use crate::specs;
use crate::world::World;

#[test]
fn a_worker_never_gets_more_than_its_slots() {
    let mut world = World::new();
    let job = world.planned_backup();
    world.expire("us", 1, true);
    let mut granted = 0;
    for ready in world.ledger.ready_tasks(job).collect::<Vec<_>>() {
        match world.lease(ready.task, "eu") {
            Ok(_) => granted += 1,
            Err(fault) => assert_eq!(fault.code, ErrorCode::ResourceExhausted),
        }
    }
    assert_eq!(granted, 4);
}

#[test]
fn a_second_process_with_the_same_worker_id_is_refused() {
    let mut world = World::new();
    let register = |incarnation| Action::RegisterWorker {
        worker: "worker-eu".parse().expect("a name"),
        incarnation: Incarnation(incarnation),
        locality: specs::locality("region=eu"),
        slots: 4,
        version: "1".into(),
    };
    let fault = world.refused(register(2));
    assert_eq!(fault.code, ErrorCode::AlreadyExists);
    assert!(fault.message.contains("worker-eu"));
    assert_eq!(world.apply(register(1)), holdfast_ledger::Outcome::NoOp);
    world.apply(Action::ExpireWorker {
        worker: "worker-eu".parse().expect("a name"),
        incarnation: Incarnation(2),
        clean: false,
    });
    assert!(
        world
            .ledger
            .worker(&"worker-eu".parse().expect("a name"))
            .is_some()
    );
}

#[test]
fn old_jobs_are_forgotten_with_their_keys() {
    let mut world = World::new();
    let mut action = world.submission(specs::verify());
    if let Action::SubmitJob { request, .. } = &mut action {
        *request = Some("again".parse().expect("a key"));
    }
    world.apply(action.clone());
    let job = holdfast_types::JobId(1);
    assert_eq!(
        world.apply(action.clone()),
        holdfast_ledger::Outcome::Job { job, existed: true }
    );
    world.run_to_end();
    let forget = Action::ForgetJobs { jobs: vec![job] };
    assert_eq!(world.apply(forget.clone()), holdfast_ledger::Outcome::NoOp);
    world.now = world
        .now
        .plus(holdfast_types::Millis(15 * 24 * 3600 * 1000));
    world.done(forget);
    assert!(world.ledger.job(job).is_none());
    assert_eq!(
        world.apply(action),
        holdfast_ledger::Outcome::Job {
            job,
            existed: false
        }
    );
}
