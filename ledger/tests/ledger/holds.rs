//! Holds of jobs and of chains.

use holdfast_ledger::{Action, Effect, HoldRecord, LayerRecord, ReportBody};
use holdfast_types::{
    BackupSpec, ControlVerb, ErrorCode, Fault, HoldId, HoldUse, JobSpec, JobState,
};

use crate::specs::{self, COLLECTION, full, incremental};
use crate::world::World;

const MEMBERS: &[&str] = &["eu", "us"];

fn starting(second: u64) -> BackupSpec {
    BackupSpec {
        hold: HoldUse::StartChain,
        ..full("app", MEMBERS, second)
    }
}

fn run(world: &mut World, spec: BackupSpec) -> LayerRecord {
    let path = spec.path.clone();
    world.submit(JobSpec::Backup(spec));
    world.run_to_end();
    let layer = world.ledger.catalogue().layer(COLLECTION, &path).cloned();
    layer.expect("a layer")
}

fn only(world: &World) -> HoldRecord {
    let holds: Vec<_> = world.ledger.holds().cloned().collect();
    assert_eq!(holds.len(), 1, "{holds:?}");
    holds[0].clone()
}

fn with_chain() -> (World, LayerRecord, HoldId) {
    let mut world = World::new();
    let layer = run(&mut world, starting(10));
    let hold = only(&world);
    assert!(hold.is_of_chain(COLLECTION, &layer.path.full));
    assert_eq!(hold.position, layer.end);
    assert_eq!(hold.releasing, None);
    assert!(hold.chain.is_some_and(|chain| chain.behind.is_empty()));
    (world, layer, hold.id)
}

fn on(layer: &LayerRecord, hold: HoldId, second: u64) -> BackupSpec {
    BackupSpec {
        hold: HoldUse::Chain(hold),
        ..incremental(layer, MEMBERS, second)
    }
}

fn refusal(world: &mut World, spec: BackupSpec) -> Fault {
    let action = world.submission(JobSpec::Backup(spec));
    world.refused(action)
}

#[test]
fn a_job_lets_its_own_hold_go() {
    let mut world = World::new();
    run(&mut world, full("app", MEMBERS, 10));
    assert_eq!(world.ledger.holds().count(), 0);
}

#[test]
fn a_chain_keeps_its_hold_and_moves_it() {
    let (mut world, base, hold) = with_chain();
    let first = run(&mut world, on(&base, hold, 20));
    assert_eq!(only(&world).position, first.end);
    assert_eq!(
        only(&world).chain.map(|chain| chain.layer),
        Some(first.path.clone())
    );
    // It can only go on where the newest layer ended, and only with the chain's own hold.
    let fault = refusal(&mut world, on(&first, HoldId(77), 30));
    assert_eq!(fault.code, ErrorCode::HistoryGone, "{fault}");
    run(&mut world, on(&first, hold, 30));
}

#[test]
fn a_failed_incremental_leaves_the_hold_where_it_was() {
    let (mut world, base, hold) = with_chain();
    let job = world.submit(JobSpec::Backup(on(&base, hold, 20)));
    world.done(Action::StartJob { job });
    let plan = world.lease_all(job).remove(0);
    let fault = Fault::new(ErrorCode::Corrupted, "as the test wishes");
    world.accepted(&plan, ReportBody::Failed { fault });
    world.run_to_end();
    assert_eq!(world.state(job), JobState::Failed);
    let kept = only(&world);
    assert_eq!((kept.position, kept.releasing), (base.end, None));
    run(&mut world, on(&base, hold, 21));
}

/// Found by the marathon's seed 1000000168: the job has given the hold back to its chain, and its last worker has yet to stop.
#[test]
fn a_hold_that_is_given_up_waits_for_the_last_worker_and_no_longer() {
    let (mut world, base, hold) = with_chain();
    let job = world.submit(JobSpec::Backup(on(&base, hold, 20)));
    world.done(Action::StartJob { job });
    let plans = world.lease_all(job);
    let fault = Fault::new(ErrorCode::Corrupted, "as the test wishes");
    world.accepted(&plans[0], ReportBody::Failed { fault });
    assert_eq!(world.state(job), JobState::Failed);
    world.done(Action::DropHold { hold });
    let releases = |world: &World| {
        let released = |effect: &&Effect| matches!(effect, Effect::ReleaseHold { .. });
        world.effects.iter().filter(released).count()
    };
    assert_eq!(releases(&world), 0, "a worker may still place it");
    world.accepted(&plans[1], ReportBody::Released);
    assert_eq!(releases(&world), MEMBERS.len());
}

#[test]
fn a_failed_full_starts_no_chain() {
    let mut world = World::new();
    let job = world.submit(JobSpec::Backup(starting(10)));
    world.done(Action::StartJob { job });
    world.lease_all(job);
    world.control(job, ControlVerb::Cancel);
    world.run_to_end();
    assert_eq!(world.ledger.holds().count(), 0);
}

#[test]
fn a_new_chain_supersedes_the_old_one() {
    let (mut world, base, old) = with_chain();
    // The old one is in use while the new one is started: it goes when that use ends.
    let job = world.submit(JobSpec::Backup(on(&base, old, 20)));
    world.done(Action::StartJob { job });
    let newer = run(&mut world, starting(30));
    assert_eq!(world.state(job), JobState::Succeeded);
    let hold = only(&world);
    assert!(hold.is_of_chain(COLLECTION, &newer.path.full));
    let layer = (world.ledger.catalogue().newest(COLLECTION, &base.path.full)).cloned();
    let fault = refusal(&mut world, on(&layer.expect("a layer"), old, 40));
    assert_eq!(fault.code, ErrorCode::HistoryGone, "{fault}");
}

#[test]
fn a_source_is_not_forgotten_while_it_keeps_history() {
    let (mut world, base, hold) = with_chain();
    let dropping = || Action::DropSource {
        source: "app".parse().expect("a name"),
    };
    let fault = world.refused(dropping());
    assert!(fault.message.contains("keeps history"), "{fault}");
    let fault = world.refused(Action::UpdateSource {
        source: specs::source("app", &["eu"]),
    });
    assert!(fault.message.contains("member us"), "{fault}");

    let job = world.submit(JobSpec::Backup(on(&base, hold, 20)));
    let fault = world.refused(Action::DropHold { hold });
    assert!(fault.message.contains(&format!("job {job}")), "{fault}");
    world.run_to_end();
    world.done(Action::DropHold { hold });
    world.run_to_end();
    assert_eq!(world.ledger.holds().count(), 0);
    world.done(dropping());
}
