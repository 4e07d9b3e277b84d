//! Schedules: what is due, what follows from how a run ends, and what a pair shares.

use holdfast_ledger::{Action, Outcome, ScheduleRecord};
use holdfast_types::{
    CollectionAccess, ControlVerb, ErrorCode, Fault, JobId, JobSpec, Millis, NewSchedule,
    OnFailure, Pairing, RunResult, ScheduleChange, ScheduleId, ScheduleVerb, Timestamp,
};

use crate::specs;
use crate::world::World;

const FULL: ScheduleId = ScheduleId(7);
const INCREMENTAL: ScheduleId = ScheduleId(8);
const MINUTE: Millis = Millis(60_000);

fn at(minute: u64) -> Timestamp {
    Timestamp::from_millis(3_600_000_000).plus(Millis(minute * MINUTE.0))
}

fn create(world: &mut World, change: impl FnOnce(&mut NewSchedule)) {
    let mut schedule = specs::schedule(FULL.0, Some(INCREMENTAL.0), at(10));
    change(&mut schedule);
    world.done(Action::CreateSchedule {
        schedule: Box::new(schedule),
        if_not_exists: false,
    });
}

fn pair() -> World {
    let mut world = World::new();
    world.now = at(0);
    create(&mut world, |_| {});
    world
}

fn record(world: &World, id: ScheduleId) -> ScheduleRecord {
    world.ledger.schedule(id).expect("a schedule").clone()
}

fn control(schedule: ScheduleId, verb: ScheduleVerb) -> Action {
    Action::ControlSchedule { schedule, verb }
}

fn alter(world: &mut World, schedule: ScheduleId, change: ScheduleChange) {
    world.done(Action::AlterSchedule {
        schedule,
        change: Box::new(change),
    });
}

fn fire(schedule: ScheduleId, due: Timestamp, next: Timestamp, result: RunResult) -> Action {
    Action::FireSchedule {
        schedule,
        due,
        next,
        result: Box::new(result),
        opened_by: None,
    }
}

/// A run of incrementals for which keys of this version opened the chain.
fn opened(due: Timestamp, next: Timestamp, version: u32) -> Action {
    Action::FireSchedule {
        schedule: INCREMENTAL,
        due,
        next,
        result: Box::new(RunResult::Skipped),
        opened_by: Some(version),
    }
}

fn change_keys(secret: u8) -> ScheduleChange {
    ScheduleChange {
        keys: Some(specs::schedule_keys(secret)),
        ..ScheduleChange::default()
    }
}

/// The versions of the keys from before that incrementals keep.
fn kept(world: &World) -> Vec<u32> {
    let former = record(world, INCREMENTAL).former_keys;
    former.iter().map(|former| former.version).collect()
}

/// A pair whose incrementals run.
fn active_pair() -> World {
    let mut world = pair();
    run_full(&mut world, 100, at(1_000));
    world.run_to_end();
    world.done(Action::PlanSchedule {
        schedule: INCREMENTAL,
        next: at(20),
    });
    world
}

#[test]
fn keys_from_before_are_kept_until_newer_ones_have_opened_a_chain() {
    let mut world = active_pair();
    for secret in 1..=3 {
        alter(&mut world, FULL, change_keys(secret));
    }
    assert_eq!(kept(&world), [2, 1, 0]);
    let (full, incremental) = (record(&world, FULL), record(&world, INCREMENTAL));
    assert_eq!(full.template.keys, Some(specs::schedule_keys(3)));
    assert_eq!(incremental.template, full.template);
    assert_eq!(full.former_keys, [], "a full begins a chain");
    let former = &incremental.former_keys;
    assert_eq!(former[0].keys, Some(specs::schedule_keys(2)));
    assert_eq!(former[2].keys, None, "not encrypted at first");

    // The chain is still that of before the first change.
    world.done(opened(at(20), at(30), 0));
    assert_eq!(kept(&world), [2, 1, 0]);
    // A full was taken with the keys of the second change.
    world.done(opened(at(30), at(40), 2));
    assert_eq!(kept(&world), [2]);
    // What was read before another change says nothing of the keys that came with it.
    alter(&mut world, INCREMENTAL, change_keys(4));
    world.done(opened(at(40), at(50), 3));
    assert_eq!(kept(&world), [3]);
    // Nobody knows which keys it was.
    world.done(fire(INCREMENTAL, at(50), at(60), RunResult::Skipped));
    assert_eq!(kept(&world), [3]);
    world.done(opened(at(60), at(70), 4));
    assert_eq!(kept(&world), [0; 0]);
}

#[test]
fn a_move_leaves_the_keys_of_the_chains_that_it_leaves() {
    let mut world = active_pair();
    alter(&mut world, FULL, change_keys(1));
    let moved = ScheduleChange {
        collection: Some(("file:///other".to_owned(), CollectionAccess::default())),
        ..change_keys(2)
    };
    alter(&mut world, FULL, moved);
    let record = record(&world, INCREMENTAL);
    assert_eq!(record.former_keys, []);
    assert_eq!(record.template.keys, Some(specs::schedule_keys(2)));
    assert!(record.waits_for_full && record.next_run.is_none());
}

#[test]
fn keys_are_not_changed_without_end() {
    let mut world = active_pair();
    for secret in 1..=8 {
        alter(&mut world, FULL, change_keys(secret));
    }
    let change = Action::AlterSchedule {
        schedule: INCREMENTAL,
        change: Box::new(change_keys(9)),
    };
    let fault = world.refused(change.clone());
    assert_eq!(fault.code, ErrorCode::FailedPrecondition);
    assert!(fault.message.contains("changed 8 times"), "{fault}");
    world.done(opened(at(20), at(30), 8));
    world.done(change);
}

#[test]
fn a_schedule_shows_no_key() {
    let mut world = active_pair();
    alter(&mut world, FULL, change_keys(0x5a));
    alter(&mut world, FULL, change_keys(0x5b));
    let shown = format!("{:?}", record(&world, INCREMENTAL));
    assert!(shown.contains("Sealed(24 bytes)"), "{shown}");
    assert!(
        !shown.contains("90, 90") && !shown.contains("5a5a"),
        "{shown}"
    );
}

/// Submits a full and says that it is the run of the schedule of fulls that is due.
fn run_full(world: &mut World, second: u64, next: Timestamp) -> JobId {
    let job = world.submit(JobSpec::Backup(specs::full("app", &["eu", "us"], second)));
    let due = record(world, FULL).next_run.expect("it runs");
    world.done(fire(FULL, due, next, RunResult::Job(job)));
    job
}

fn cancel(world: &mut World, job: JobId) {
    world.control(job, ControlVerb::Cancel);
    world.run_to_end();
}

#[test]
fn incrementals_wait_until_a_full_has_succeeded() {
    let mut world = pair();
    let waiting = record(&world, INCREMENTAL);
    assert!(waiting.waits_for_full && !waiting.is_active());
    assert_eq!(record(&world, FULL).next_run, Some(at(10)));

    let job = run_full(&mut world, 100, at(20));
    assert!(record(&world, INCREMENTAL).waits_for_full);
    cancel(&mut world, job);
    assert!(record(&world, INCREMENTAL).waits_for_full, "it failed");

    run_full(&mut world, 200, at(30));
    assert!(
        record(&world, INCREMENTAL).waits_for_full,
        "it is under way"
    );
    world.run_to_end();
    let ready = record(&world, INCREMENTAL);
    assert!(!ready.waits_for_full && ready.needs_next());
    world.done(Action::PlanSchedule {
        schedule: INCREMENTAL,
        next: at(40),
    });
    assert_eq!(record(&world, INCREMENTAL).next_run, Some(at(40)));
    let again = Action::PlanSchedule {
        schedule: INCREMENTAL,
        next: at(50),
    };
    assert_eq!(world.apply(again), Outcome::NoOp, "it has its time");
}

#[test]
fn a_run_is_told_once_and_only_when_it_is_due() {
    let mut world = pair();
    let job = world.submit(JobSpec::Backup(specs::full("app", &["eu", "us"], 100)));
    let early = fire(FULL, at(9), at(20), RunResult::Job(job));
    assert_eq!(world.refused(early).code, ErrorCode::FailedPrecondition);
    let run = fire(FULL, at(10), at(20), RunResult::Job(job));
    world.done(run.clone());
    world.refused(run);
    let under_way: Vec<_> = world.ledger.runs_under_way(FULL).collect();
    assert_eq!(under_way.len(), 1);
    assert_eq!(under_way[0].id(), job);
    // A job is the run of one schedule.
    let other = fire(FULL, at(20), at(30), RunResult::Job(job));
    world.refused(other);
    assert_eq!(record(&world, FULL).next_run, Some(at(20)));
}

#[test]
fn the_clock_of_another_leader_never_makes_a_run_due_again() {
    let mut world = pair();
    world.done(fire(FULL, at(10), at(3), RunResult::Skipped));
    let next = record(&world, FULL).next_run.expect("it runs");
    assert!(next > at(10), "{next}");
}

#[test]
fn what_follows_a_failure_is_as_wished() {
    let cases = [
        (OnFailure::Reschedule, Some(at(100))),
        (OnFailure::Retry, Some(at(31))),
        (OnFailure::Pause, None),
    ];
    for (wish, expected) in cases {
        let mut world = pair();
        let change = ScheduleChange {
            on_failure: Some(wish),
            ..ScheduleChange::default()
        };
        alter(&mut world, INCREMENTAL, change);
        world.now = at(30);
        let fault = Fault::new(ErrorCode::Unavailable, "no store");
        let run = fire(FULL, at(10), at(100), RunResult::Refused(fault));
        world.done(run);
        let failed = record(&world, FULL);
        let soon = failed.next_run.map(|next| {
            // The world's clock goes on a little with every command.
            next.minus(Millis(next.as_millis() % MINUTE.0))
        });
        assert_eq!(soon, expected, "{wish}");
        assert_eq!(failed.paused, wish == OnFailure::Pause);
        assert_eq!(failed.failures_in_a_row, 1);
        let last = failed.last.and_then(|last| last.result).expect("it ended");
        assert_eq!(last.expect_err("it failed").message, "no store");
    }
}

#[test]
fn a_broken_chain_is_followed_by_a_full_at_once() {
    let mut world = pair();
    run_full(&mut world, 100, at(1000));
    world.run_to_end();
    world.done(Action::PlanSchedule {
        schedule: INCREMENTAL,
        next: at(20),
    });
    world.now = at(30);
    let broken = Fault::new(ErrorCode::ChainRule, "its hold was given up");
    world.done(fire(
        INCREMENTAL,
        at(20),
        at(80),
        RunResult::Refused(broken),
    ));
    let next = record(&world, FULL).next_run.expect("it runs");
    assert!(next < at(31), "{next}");
}

#[test]
fn a_full_elsewhere_does_not_end_the_wait() {
    let mut world = pair();
    run_full(&mut world, 100, at(20));
    let change = ScheduleChange {
        collection: Some(("file:///elsewhere".to_owned(), CollectionAccess::default())),
        ..ScheduleChange::default()
    };
    alter(&mut world, FULL, change);
    world.run_to_end();
    assert!(record(&world, INCREMENTAL).waits_for_full);
    let template = record(&world, INCREMENTAL).template;
    assert_eq!(template.collection, "file:///elsewhere");
}

#[test]
fn pausing_and_resuming_goes_by_schedule() {
    let mut world = pair();
    world.done(control(FULL, ScheduleVerb::Pause));
    assert_eq!(
        world.apply(control(FULL, ScheduleVerb::Pause)),
        Outcome::NoOp
    );
    assert_eq!(record(&world, FULL).next_run, None);
    let fault = world.refused(control(FULL, ScheduleVerb::RunNow));
    assert!(fault.message.contains("paused"), "{fault}");
    world.done(control(FULL, ScheduleVerb::Resume { next: at(50) }));
    assert_eq!(record(&world, FULL).next_run, Some(at(50)));
    world.done(control(FULL, ScheduleVerb::RunNow));
    assert!(record(&world, FULL).next_run < Some(at(50)));
    let fault = world.refused(control(INCREMENTAL, ScheduleVerb::RunNow));
    assert!(fault.message.contains("first full"), "{fault}");
}

#[test]
fn incrementals_go_with_their_fulls_and_fulls_go_on_alone() {
    let mut world = pair();
    world.done(control(INCREMENTAL, ScheduleVerb::Drop));
    assert_eq!(record(&world, FULL).partner, None);
    let change = ScheduleChange {
        pairing: Some(Pairing::Pair(ScheduleId(9), "@hourly".to_owned())),
        ..ScheduleChange::default()
    };
    alter(&mut world, FULL, change);
    assert!(record(&world, ScheduleId(9)).waits_for_full);
    world.done(control(FULL, ScheduleVerb::Drop));
    assert_eq!(world.ledger.schedules().count(), 0);
}

#[test]
fn a_source_on_schedule_is_not_dropped() {
    let mut world = pair();
    let drop = Action::DropSource {
        source: "app".parse().expect("a name"),
    };
    let fault = world.refused(drop.clone());
    assert!(fault.message.contains("schedule"), "{fault}");
    world.done(control(INCREMENTAL, ScheduleVerb::Drop));
    world.done(control(FULL, ScheduleVerb::Drop));
    world.done(drop);
}

#[test]
fn labels_make_creation_idempotent_where_asked() {
    let mut world = pair();
    let again = |if_not_exists| Action::CreateSchedule {
        schedule: Box::new(NewSchedule {
            label: format!("schedule {FULL}"),
            ..specs::schedule(20, Some(21), at(5))
        }),
        if_not_exists,
    };
    assert_eq!(world.apply(again(true)), Outcome::NoOp);
    world.done(again(false));
    assert_eq!(world.ledger.schedules().count(), 4);
    world.refused(again(false));
}

#[test]
fn what_cannot_be_changed_leaves_everything_as_it_was() {
    let mut world = pair();
    world.done(control(INCREMENTAL, ScheduleVerb::Drop));
    let before = record(&world, FULL);
    let taken = ScheduleChange {
        label: Some("new".to_owned()),
        pairing: Some(Pairing::Pair(FULL, "@hourly".to_owned())),
        ..ScheduleChange::default()
    };
    let nameless = ScheduleChange {
        label: Some(String::new()),
        history: Some(true),
        ..ScheduleChange::default()
    };
    for change in [taken, nameless] {
        world.refused(Action::AlterSchedule {
            schedule: FULL,
            change: Box::new(change),
        });
        assert_eq!(record(&world, FULL), before);
    }
}

#[test]
fn a_connection_that_a_schedule_uses_stays() {
    let mut world = World::new();
    let name = "store".parse().expect("a name");
    let with_connection = |schedule: &mut NewSchedule| {
        schedule.template.access.connections = vec!["store".parse().expect("a name")];
    };
    let mut schedule = specs::schedule(FULL.0, None, at(10));
    with_connection(&mut schedule);
    let fault = world.refused(Action::CreateSchedule {
        schedule: Box::new(schedule),
        if_not_exists: false,
    });
    assert_eq!(fault.code, ErrorCode::NotFound);
    world.done(Action::PutConnection {
        connection: specs::connection("store", "s3://bucket", 1),
        alter: false,
    });
    create(&mut world, with_connection);
    let drop = Action::DropConnection { connection: name };
    let fault = world.refused(drop.clone());
    assert!(fault.message.contains("schedule"), "{fault}");
    world.done(control(FULL, ScheduleVerb::Drop));
    world.done(drop);
}
