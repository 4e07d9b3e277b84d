//! The lives of jobs.

use holdfast_ledger::{Action, Effect, Outcome, ReportBody, ReportOutcome, TaskKind};
use holdfast_types::{
    ByteCount, ChainKey, ControlVerb, Digest, Epoch, ErrorCode, Fault, JobSpec, JobState, KeyId,
    LayerPath, Phase, RowCount, Sealed,
};

use crate::leader::perform;
use crate::specs;
use crate::world::{World, checkpoint, key, plan_of};

fn failure(code: ErrorCode) -> ReportBody {
    ReportBody::Failed {
        fault: Fault::new(code, "something happened"),
    }
}

/// Performs those effects of the last command that `wanted` picks.
fn perform_told(world: &mut World, wanted: fn(&Effect) -> bool) -> usize {
    let told: Vec<_> = world
        .effects
        .iter()
        .filter(|e| wanted(e))
        .cloned()
        .collect();
    for effect in &told {
        if let Some(action) = perform(world, effect) {
            world.apply(action);
        }
    }
    told.len()
}

#[test]
fn a_backup_goes_through_its_phases() {
    let mut world = World::new();
    world.done(Action::SetSetting {
        name: "part_list_threshold".into(),
        value: 2,
    });
    let job = world.planned_backup();
    assert_eq!(
        world.ledger.job(job).expect("a job").phase(),
        Phase::Transferring
    );
    assert_eq!(world.ledger.job(job).expect("a job").relations(1).len(), 1);
    let spans = world.lease_all(job);
    assert_eq!(spans.len(), 6);
    let mut fraction = 0;
    for view in &spans {
        let half = match view.id.index % 3 {
            2 => "c",
            0 => "k",
            _ => "t",
        };
        world.accepted(view, checkpoint(view, Some(half), 60, true));
        let further = world.view(view.id);
        world.accepted(&further, checkpoint(&further, None, 70, true));
        let progress = world.ledger.progress(job).expect("a job");
        assert!(progress.fraction_millionths > fraction);
        fraction = progress.fraction_millionths;
    }
    let record = world.ledger.job(job).expect("a job");
    assert_eq!(record.phase(), Phase::Finishing);
    assert_eq!(record.counters().objects, 12);
    assert_eq!(record.counters().bytes_redone, ByteCount(0));
    assert!(
        record
            .sealed_part()
            .is_some_and(|(part, entries)| part == 0 && entries.len() == 2)
    );
    while perform_told(&mut world, |effect| {
        matches!(effect, Effect::WritePart { .. })
    }) > 0
    {}
    let record = world.ledger.job(job).expect("a job");
    assert_eq!(
        record.parts().iter().map(|part| part.entries).sum::<u64>(),
        12
    );
    assert_eq!(world.effects, [Effect::CommitLayer { job }]);
    world.done(Action::LayerCommitted {
        job,
        manifest: Digest::of(b"m"),
        length: ByteCount(5),
    });
    assert_eq!(world.state(job), JobState::Succeeded);
    let path = LayerPath::full("full-000010");
    let layer = world.ledger.catalogue().layer(specs::COLLECTION, &path);
    assert_eq!(layer.map(|layer| layer.objects), Some(12));
    assert_eq!(
        world.ledger.holds().count(),
        1,
        "members still keep the hold"
    );
    world.run_to_end();
}

#[test]
fn a_job_without_spans_goes_straight_on() {
    let mut world = World::new();
    for spec in [
        JobSpec::Backup(specs::full("app", &["eu"], 10)),
        specs::verify(),
    ] {
        let job = world.submit(spec);
        world.done(Action::StartJob { job });
        for view in world.lease_all(job) {
            let body = ReportBody::Plan {
                sequence: 0,
                relations: Vec::new(),
                spans: Vec::new(),
                last: true,
            };
            world.accepted(&view, body);
        }
        assert_eq!(
            world.ledger.job(job).expect("a job").phase(),
            Phase::Finishing
        );
    }
    world.run_to_end();
}

#[test]
fn a_restore_is_finished_member_by_member() {
    let mut world = World::new();
    let job = world.submit(specs::restore("app", &["eu", "us"]));
    world.done(Action::StartJob { job });
    world.plan(job);
    for view in world.lease_all(job) {
        let with_object = world.report(view.id, view.epoch, checkpoint(&view, None, 9, true));
        assert!(
            matches!(with_object, ReportOutcome::Refused(_)),
            "{with_object:?}"
        );
        world.accepted(&view, checkpoint(&view, None, 9, false));
    }
    let finishes = world.lease_all(job);
    assert_eq!(finishes.len(), 2);
    for view in &finishes {
        assert_eq!(view.kind, TaskKind::Finish);
        assert_eq!(world.state(job), JobState::Running);
        world.accepted(
            view,
            ReportBody::Done {
                rows: RowCount(9),
                fingerprint: Some(Digest::of(b"rows")),
            },
        );
    }
    assert_eq!(world.state(job), JobState::Succeeded);
    assert_eq!(
        world.ledger.job(job).expect("a job").finish_results().len(),
        2
    );
    assert!(world.ledger.unsettled_jobs().next().is_none());
}

#[test]
fn paused_means_that_every_lease_is_gone() {
    let mut world = World::new();
    let job = world.planned_backup();
    let leased = world.lease_all(job);
    world.control(job, ControlVerb::Pause);
    assert_eq!(world.state(job), JobState::PauseRequested);
    let stops = world.effects.iter();
    assert_eq!(
        stops
            .filter(|e| matches!(e, Effect::StopTask { .. }))
            .count(),
        6
    );
    assert!(world.lease(leased[0].id, "eu").is_err());
    // What was in flight when the pause came still counts.
    world.accepted(&leased[0], checkpoint(&leased[0], Some("c"), 10, true));
    world.accepted(&leased[1], checkpoint(&leased[1], None, 10, true));
    for view in &leased {
        assert_eq!(world.state(job), JobState::PauseRequested);
        world.accepted(view, ReportBody::Released);
    }
    assert_eq!(world.state(job), JobState::Paused);
    assert_eq!(world.ledger.pending_effects(), []);
    assert_eq!(
        world.ledger.holds().count(),
        1,
        "a paused job keeps its hold"
    );

    world.control(job, ControlVerb::Resume);
    assert_eq!(world.effects, [Effect::Dispatch { job }]);
    let resumed = world.lease_all(job);
    assert_eq!(resumed.len(), 5);
    let TaskKind::Span { frontier, .. } = &resumed[0].kind else {
        panic!("no span");
    };
    assert_eq!(*frontier, key("c"), "it goes on inside the span");
    assert_eq!(resumed[0].epoch, Epoch(2));
    world.run_to_end();
    assert_eq!(world.state(job), JobState::Succeeded);
    let counters = *world.ledger.job(job).expect("a job").counters();
    assert_eq!(counters.bytes_redone, ByteCount(0), "nothing was lost");
}

#[test]
fn what_a_lost_worker_had_in_flight_counts_as_redone() {
    let mut world = World::new();
    let job = world.planned_backup();
    let leased = world.lease_all(job);
    world.expire("eu", 1, false);
    let again = world.report(
        leased[0].id,
        leased[0].epoch,
        checkpoint(&leased[0], Some("c"), 10, true),
    );
    assert_eq!(again, ReportOutcome::Stale, "the dead do not speak");
    world.register("eu", 2);
    assert!(world.effects.contains(&Effect::Dispatch { job }));
    let view = world
        .lease_all(job)
        .into_iter()
        .find(|view| view.id == leased[0].id)
        .expect("it is leased again");
    world.accepted(&view, checkpoint(&view, Some("c"), 30, true));
    let redone = world
        .ledger
        .job(job)
        .expect("a job")
        .counters()
        .bytes_redone;
    assert_eq!(redone, ByteCount(30));
    let view = world.view(view.id);
    world.accepted(&view, checkpoint(&view, None, 50, true));
    let redone = world
        .ledger
        .job(job)
        .expect("a job")
        .counters()
        .bytes_redone;
    assert_eq!(
        redone,
        ByteCount(30),
        "only the first checkpoint after the loss"
    );
    world.run_to_end();
}

#[test]
fn a_worker_that_said_goodbye_lost_nothing() {
    let mut world = World::new();
    let job = world.planned_backup();
    world.lease_all(job);
    world.expire("eu", 1, true);
    world.run_to_end();
    let counters = *world.ledger.job(job).expect("a job").counters();
    assert_eq!(counters.bytes_redone, ByteCount(0));
}

#[test]
fn a_task_is_tried_again_until_it_made_no_progress_too_often() {
    let mut world = World::new();
    let job = world.planned_backup();
    let task = world.ledger.ready_tasks(job).next().expect("a task").task;
    for attempt in 1..=4 {
        world.lease(task, "eu").expect("a lease");
        let view = world.view(task);
        world.accepted(&view, failure(ErrorCode::Unavailable));
        assert_eq!(world.view(task).attempts, attempt);
        let rests = world
            .ledger
            .ready_tasks(job)
            .next()
            .expect("ready")
            .rests_until;
        assert!(rests.is_some_and(|until| until > world.now));
    }
    world.lease(task, "eu").expect("a lease");
    let view = world.view(task);
    world.accepted(&view, checkpoint(&view, Some("c"), 10, true));
    assert_eq!(
        world.view(task).attempts,
        0,
        "progress starts the count over"
    );
    for _ in 0..5 {
        assert_eq!(world.state(job), JobState::Running);
        let view = world.view(task);
        world.accepted(&view, failure(ErrorCode::Unavailable));
        let _ = world.lease(task, "eu");
    }
    assert_eq!(world.state(job), JobState::Failed);
    let record = world.ledger.job(job).expect("a job");
    let fault = record.fault().expect("a fault").to_string();
    assert!(fault.contains("member eu, relation db.t1"), "{fault}");
    assert!(fault.contains("5 attempts"), "{fault}");
    assert_eq!(record.errors().len(), 9);
    world.run_to_end();
}

#[test]
fn a_permanent_error_revokes_every_lease_and_waits_for_the_workers_to_stop() {
    let mut world = World::new();
    let job = world.submit(specs::restore("app", &["eu", "us"]));
    world.done(Action::StartJob { job });
    world.plan(job);
    let leased = world.lease_all(job);
    world.accepted(&leased[0], failure(ErrorCode::Corrupted));
    assert_eq!(world.state(job), JobState::Reverting);
    let stops = world.effects.iter();
    assert_eq!(
        stops
            .filter(|e| matches!(e, Effect::StopTask { .. }))
            .count(),
        5
    );
    assert_eq!(
        world.ledger.ready_tasks(job).count(),
        0,
        "workers may still write"
    );
    let eu = world.ledger.worker(&"worker-eu".parse().expect("a name"));
    assert_eq!(
        eu.map(|worker| worker.free_slots()),
        Some(2),
        "they occupy slots"
    );

    let late = world.report(
        leased[1].id,
        leased[1].epoch,
        checkpoint(&leased[1], None, 10, false),
    );
    assert_eq!(late, ReportOutcome::Stale);
    for view in &leased[1..3] {
        world.accepted(view, ReportBody::Released);
    }
    world.expire("us", 1, false);
    let reverts: Vec<_> = world.ledger.ready_tasks(job).collect();
    assert_eq!(reverts.len(), 2, "now the undoing may begin");
    assert_eq!(world.effects, [Effect::Dispatch { job }]);
    world.run_to_end();
    assert_eq!(world.state(job), JobState::Failed);
}

#[test]
fn an_undoing_that_fails_needs_care() {
    let mut world = World::new();
    let job = world.submit(specs::restore("app", &["eu"]));
    world.done(Action::StartJob { job });
    world.plan(job);
    world.control(job, ControlVerb::Cancel);
    assert_eq!(world.state(job), JobState::Reverting);
    let view = world.lease_all(job).pop().expect("a revert");
    assert_eq!(view.kind, TaskKind::Revert);
    world.accepted(&view, failure(ErrorCode::Unavailable));
    assert_eq!(world.state(job), JobState::Reverting);
    let view = world.lease_all(job).pop().expect("a revert");
    world.accepted(&view, failure(ErrorCode::Internal));
    assert_eq!(world.state(job), JobState::RevertFailed);
}

#[test]
fn an_undoing_can_be_paused() {
    let mut world = World::new();
    let job = world.submit(specs::restore("app", &["eu"]));
    world.done(Action::StartJob { job });
    world.plan(job);
    world.control(job, ControlVerb::Cancel);
    let view = world.lease_all(job).pop().expect("a revert");
    world.control(job, ControlVerb::Pause);
    world.accepted(&view, ReportBody::Released);
    assert_eq!(world.state(job), JobState::Paused);
    world.control(job, ControlVerb::Resume);
    assert_eq!(world.state(job), JobState::Reverting);
    world.run_to_end();
    assert_eq!(world.state(job), JobState::Canceled);
}

#[test]
fn a_restore_that_prepared_nothing_has_nothing_to_undo() {
    let mut world = World::new();
    let job = world.submit(specs::restore("app", &["eu"]));
    world.done(Action::StartJob { job });
    world.control(job, ControlVerb::Cancel);
    assert_eq!(world.state(job), JobState::Canceled);
}

#[test]
fn a_full_store_pauses_the_job() {
    let mut world = World::new();
    let job = world.planned_backup();
    let leased = world.lease_all(job);
    world.accepted(&leased[0], failure(ErrorCode::StorageFull));
    assert_eq!(world.state(job), JobState::PauseRequested);
    for view in &leased[1..] {
        world.accepted(view, ReportBody::Released);
    }
    assert_eq!(world.state(job), JobState::Paused);
    let reason = world
        .ledger
        .job(job)
        .expect("a job")
        .reason()
        .map(str::to_owned);
    assert!(reason.expect("a reason").contains("make room"));
    world.run_to_end();
    assert_eq!(world.state(job), JobState::Succeeded);
}

#[test]
fn a_canceled_backup_is_swept_and_its_hold_released() {
    let mut world = World::new();
    let job = world.submit(JobSpec::Backup(specs::full("app", &["eu", "us"], 10)));
    world.done(Action::StartJob { job });
    let plan = world.ledger.ready_tasks(job).next().expect("a plan").task;
    world.lease(plan, "eu").expect("a lease");
    world.control(job, ControlVerb::Cancel);
    assert_eq!(world.state(job), JobState::CancelRequested);
    let view = world.view(plan);
    world.accepted(&view, ReportBody::Released);
    assert_eq!(world.state(job), JobState::Canceled);
    let hold = world
        .ledger
        .job(job)
        .expect("a job")
        .hold()
        .expect("a hold");
    let release = Effect::ReleaseHold {
        hold,
        source: "app".parse().expect("a name"),
        member: "eu".parse().expect("a name"),
    };
    assert_eq!(
        world.effects,
        [Effect::SweepJob { job }, release],
        "the other member was never asked to hold"
    );
    world.run_to_end();
    assert!(world.ledger.job(job).expect("a job").swept().is_some());
}

/// The chain's key, sealed, as a job has it.
fn chain_key() -> Option<ChainKey> {
    Some(ChainKey {
        id: KeyId([7; 16]),
        sealed: Sealed::from_sealed(vec![1; 48]),
        info: vec![2; 300],
    })
}

#[test]
fn the_key_of_an_encrypted_chain_is_forgotten_when_nothing_needs_it() {
    let mut world = World::new();
    let holds_key = |world: &World, job| {
        let job = world.ledger.job(job).expect("a job");
        let key = job.spec().encryption().cloned().expect("encrypted");
        assert_eq!(key.id, KeyId([7; 16]));
        assert_eq!(key.sealed.is_open_end(), key.info.is_empty());
        !key.sealed.is_open_end()
    };
    let backup = world.submit(JobSpec::Backup(holdfast_types::BackupSpec {
        encryption: chain_key(),
        ..specs::full("app", &["eu", "us"], 10)
    }));
    world.done(Action::StartJob { job: backup });
    world.control(backup, ControlVerb::Cancel);
    assert_eq!(world.state(backup), JobState::Canceled);
    // What it left is swept first, and for that its manifest may have to be read.
    assert!(holds_key(&world, backup));
    world.run_to_end();
    assert!(world.ledger.job(backup).expect("a job").swept().is_some());
    assert!(!holds_key(&world, backup));

    let mut spec = specs::verify();
    if let JobSpec::Verify(verify) = &mut spec {
        verify.encryption = chain_key();
    }
    let verify = world.submit(spec);
    world.done(Action::StartJob { job: verify });
    assert!(holds_key(&world, verify));
    world.control(verify, ControlVerb::Cancel);
    world.run_to_end();
    assert!(world.state(verify).is_terminal());
    assert!(!holds_key(&world, verify));
}

#[test]
fn a_manifest_that_lands_after_the_cancellation_is_a_layer() {
    let mut world = World::new();
    let job = world.planned_backup();
    for view in world.lease_all(job) {
        world.accepted(&view, checkpoint(&view, None, 10, true));
    }
    perform_told(&mut world, |effect| {
        matches!(effect, Effect::WritePart { .. })
    });
    assert_eq!(world.effects, [Effect::CommitLayer { job }]);
    world.control(job, ControlVerb::Cancel);
    assert_eq!(world.state(job), JobState::Canceled);
    let again = JobSpec::Backup(specs::full("app", &["eu"], 10));
    let action = world.submission(again.clone());
    let fault = world.refused(action);
    assert!(
        fault.message.contains(&format!("job {job} ended while")),
        "{fault}"
    );
    let committed = Action::LayerCommitted {
        job,
        manifest: Digest::of(b"m"),
        length: ByteCount(5),
    };
    let mut other = World {
        ledger: world.ledger.clone(),
        ..World::default()
    };
    world.done(committed.clone());
    assert_eq!(world.state(job), JobState::Canceled);
    assert_eq!(world.ledger.catalogue().iter().count(), 1);
    world.run_to_end();

    // Had it not landed before the sweep, it would be too late for it, and the place is free.
    other.done(Action::JobSwept {
        job,
        objects: 6,
        bytes: ByteCount(60),
    });
    other.refused(committed);
    other.next_id = 50;
    other.submit(again);
    other.run_to_end();
    assert_eq!(other.ledger.catalogue().iter().count(), 1);
}

/// Otherwise a job that is cancelled while it rests would be shown as canceled, with a layer that anybody can restore.
#[test]
fn a_manifest_that_lands_during_a_pause_ends_the_job_well() {
    let mut world = World::new();
    let job = world.planned_backup();
    for view in world.lease_all(job) {
        world.accepted(&view, checkpoint(&view, None, 10, false));
    }
    world.control(job, ControlVerb::Pause);
    assert_eq!(world.state(job), JobState::Paused);
    world.done(Action::LayerCommitted {
        job,
        manifest: Digest::of(b"m"),
        length: ByteCount(5),
    });
    assert_eq!(world.state(job), JobState::Succeeded);
    let refused = world.control(job, ControlVerb::Cancel);
    assert!(matches!(refused, Outcome::Refused(_)), "{refused:?}");
    world.run_to_end();
}

#[test]
fn a_job_names_the_locality_that_it_waits_for() {
    let mut world = World::new();
    world.expire("us", 1, true);
    let job = world.planned_backup_in_eu_only();
    let starved = world.ledger.starved_members(job);
    assert_eq!(starved.len(), 1);
    assert_eq!(
        starved[0].member.as_ref().map(|name| name.as_str()),
        Some("us")
    );
    assert_eq!(starved[0].needs.0, specs::locality("region=us"));
    world.register("us", 2);
    assert!(world.effects.contains(&Effect::Dispatch { job }));
    assert_eq!(world.ledger.starved_members(job), []);
}

impl World {
    /// A backup of which only the plan of `eu` can be leased.
    fn planned_backup_in_eu_only(&mut self) -> holdfast_types::JobId {
        let job = self.started_backup();
        for view in self.lease_all(job) {
            self.accepted(&view, plan_of(1));
        }
        job
    }
}
