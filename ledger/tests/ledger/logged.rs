//! The life of backups of a source whose history is a log: they end where their members are when all is read, and their chain's hold
//! goes on with them.

use holdfast_ledger::{Action, Effect, HoldRecord, LayerRecord, ReportBody, TaskView};
use holdfast_types::{
    BackupSpec, ControlVerb, ErrorCode, Fault, Hlc, HoldId, HoldUse, JobId, JobSpec, JobState, Lsn,
    MemberName, Position, Relation, RelationId, Settled, SettledDatabase, SourceKind, TableName,
    Target,
};

use crate::leader::perform;
use crate::specs::{self, COLLECTION, hlc};
use crate::world::{World, checkpoint, tile};

const SOURCE: &str = "pg";
const MEMBERS: &[&str] = &["eu", "us"];

fn world() -> World {
    let mut world = World::new();
    let mut source = specs::source(SOURCE, MEMBERS);
    source.kind = SourceKind::Postgres;
    world.done(Action::RegisterSource { source });
    world
}

fn name(text: &str) -> MemberName {
    text.parse().expect("a name")
}

fn place(lsn: u64) -> Position {
    Lsn::at(lsn).into()
}

/// A full that starts a chain.
fn full(second: u64) -> BackupSpec {
    BackupSpec {
        kind: SourceKind::Postgres,
        hold: HoldUse::StartChain,
        ..specs::full(SOURCE, MEMBERS, second)
    }
}

fn on(layer: &LayerRecord, hold: HoldId, second: u64) -> BackupSpec {
    BackupSpec {
        kind: SourceKind::Postgres,
        hold: HoldUse::Chain(hold),
        ..specs::incremental(layer, MEMBERS, second)
    }
}

fn relation(id: u64, name: TableName) -> Relation {
    Relation {
        id: RelationId(id),
        name,
        created_at: place(1),
        dropped_at: None,
        definition: Vec::new(),
    }
}

/// Two databases: `shop` with a table in three spans, and `bank`, which has none. Each is settled by a span of its own.
fn plan() -> ReportBody {
    let mut spans = tile(7, &["g", "p"], 100);
    for database in [1, 2] {
        let mut settling = tile(database, &[], 50);
        settling.iter_mut().for_each(|span| span.settles = true);
        spans.extend(settling);
    }
    ReportBody::Plan {
        sequence: 0,
        relations: vec![
            relation(7, "shop.public.orders".parse().expect("a table")),
            relation(1, TableName::of_database("shop")),
            relation(2, TableName::of_database("bank")),
        ],
        spans,
        last: true,
    }
}

/// The end of a settling span.
fn settle(view: &TaskView, lsn: u64, second: u64) -> ReportBody {
    let mut body = checkpoint(view, None, 60, true);
    if let ReportBody::Checkpoint(checkpoint) = &mut body {
        checkpoint.settled = Some(SettledDatabase {
            end: Settled {
                position: place(lsn),
                at: hlc(second),
            },
            relations: Vec::new(),
            keeps_history: true,
        });
    }
    body
}

fn plan_all(world: &mut World, job: JobId) {
    world.done(Action::StartJob { job });
    for view in world.lease_all(job) {
        world.accepted(&view, plan());
    }
}

/// Reads every span that does not settle.
fn read_all(world: &mut World, job: JobId) {
    loop {
        let spans = world.lease_all(job);
        let (settling, spans): (Vec<_>, Vec<_>) = spans
            .into_iter()
            .partition(|view| format!("{:?}", view.kind).contains("settles: true"));
        for view in &settling {
            world.accepted(view, ReportBody::Released);
        }
        if spans.is_empty() {
            return;
        }
        for view in spans {
            let body = checkpoint(&view, None, 60, true);
            world.accepted(&view, body);
        }
    }
}

/// Settles all databases: member by member, `shop` before `bank`, at these positions and times.
fn settle_all(world: &mut World, job: JobId, ends: [(u64, u64); 4]) {
    let settling = world.lease_all(job);
    assert_eq!(settling.len(), 4);
    for (view, (lsn, second)) in settling.iter().zip(ends) {
        world.accepted(view, settle(view, lsn, second));
    }
}

/// Performs what is owed of these kinds, until nothing of them is.
fn perform_all(world: &mut World, wanted: impl Fn(&Effect) -> bool) {
    loop {
        let owed = world.ledger.pending_effects();
        let mut actions = owed.iter().filter(|effect| wanted(effect));
        let Some(effect) = actions.next() else { return };
        let action = perform(world, effect).expect("something to do");
        world.apply(action);
    }
}

fn commit(world: &mut World) {
    perform_all(world, |effect| {
        matches!(
            effect,
            Effect::WritePart { .. } | Effect::CommitLayer { .. }
        )
    });
}

fn run(world: &mut World, spec: BackupSpec, ends: [(u64, u64); 4]) -> LayerRecord {
    let path = spec.path.clone();
    let job = world.submit(JobSpec::Backup(spec));
    plan_all(world, job);
    read_all(world, job);
    settle_all(world, job, ends);
    commit(world);
    assert_eq!(world.state(job), JobState::Succeeded);
    let layer = world.ledger.catalogue().layer(COLLECTION, &path).cloned();
    layer.expect("a layer")
}

fn only(world: &World) -> HoldRecord {
    let holds: Vec<_> = world.ledger.holds().cloned().collect();
    assert_eq!(holds.len(), 1, "{holds:?}");
    holds[0].clone()
}

/// To where each member's history may go now.
fn advances(world: &World) -> Vec<(MemberName, Position)> {
    let owed = world.ledger.pending_effects().into_iter();
    owed.filter_map(|effect| match effect {
        Effect::AdvanceHold { member, to, .. } => Some((member, to)),
        _ => None,
    })
    .collect()
}

fn advance_all(world: &mut World) {
    perform_all(world, |effect| matches!(effect, Effect::AdvanceHold { .. }));
}

const FIRST: [(u64, u64); 4] = [(50, 12), (40, 15), (900, 14), (950, 13)];

#[test]
fn a_full_ends_where_its_members_are_and_its_hold_follows() {
    let mut world = world();
    let spec = full(10);
    let job = world.submit(JobSpec::Backup(spec.clone()));
    assert_eq!(only(&world).position, hlc(10));
    plan_all(&mut world, job);
    read_all(&mut world, job);
    settle_all(&mut world, job, FIRST);
    let settled = world.ledger.job(job).expect("a job");
    let end = |member| settled.settled(member).map(|settled| settled.position);
    assert_eq!((end(0), end(1)), (Some(place(40)), Some(place(900))));
    let until = |member| settled.complete_until(member);
    assert_eq!((until(0), until(1)), (Some(hlc(12)), Some(hlc(13))));
    assert_eq!(settled.end(&spec), hlc(15), "the latest of them all");
    // History may go only when the layer is durable and committed.
    assert_eq!(advances(&world), []);
    commit(&mut world);
    assert_eq!(world.state(job), JobState::Succeeded);
    let layer = world.ledger.catalogue().iter().next().cloned();
    assert_eq!(layer.expect("a layer").end, hlc(15));
    let hold = only(&world);
    assert_eq!((hold.position, hold.releasing), (hlc(15), None));
    assert_eq!(
        advances(&world),
        [(name("eu"), place(40)), (name("us"), place(900))]
    );
    advance_all(&mut world);
    assert_eq!(advances(&world), []);
    world.run_to_end();
    assert_eq!(only(&world).chain.map(|chain| chain.behind.len()), Some(0));
}

#[test]
fn a_layer_does_not_end_before_it_was_asked_for() {
    let mut world = world();
    // The servers' clocks are behind.
    let layer = run(&mut world, full(100), FIRST);
    assert_eq!(layer.end, hlc(100));
    assert_eq!(only(&world).position, hlc(100));
}

#[test]
fn incrementals_go_on_with_the_hold_even_if_a_member_was_not_told_of_the_last() {
    let mut world = world();
    let base = run(&mut world, full(10), FIRST);
    let hold = only(&world).id;
    let owed = world.ledger.pending_effects();
    let told = owed
        .iter()
        .find(|effect| matches!(effect, Effect::AdvanceHold { .. }));
    let action = perform(&world, told.expect("owed")).expect("an action");
    world.done(action);
    let next = run(
        &mut world,
        on(&base, hold, 20),
        [(70, 22), (60, 23), (1000, 24), (1100, 25)],
    );
    assert_eq!((next.start, next.end), (Some(hlc(15)), hlc(25)));
    assert_eq!(only(&world).position, hlc(25));
    // Both are told of the newest layer only.
    assert_eq!(
        advances(&world),
        [(name("eu"), place(60)), (name("us"), place(1000))]
    );
    // An answer about the layer before comes late, and counts for nothing.
    let late = Action::HoldAdvanced {
        hold,
        member: name("us"),
        layer: base.path.clone(),
    };
    world.apply(late);
    assert_eq!(advances(&world).len(), 2);
    world.run_to_end();
}

#[test]
fn of_two_incrementals_at_once_the_second_is_refused() {
    let mut world = world();
    let base = run(&mut world, full(10), FIRST);
    let hold = only(&world).id;
    let job = world.submit(JobSpec::Backup(on(&base, hold, 20)));
    let second = world.submission(JobSpec::Backup(on(&base, hold, 30)));
    let fault = world.refused(second);
    assert_eq!(fault.code, ErrorCode::FailedPrecondition);
    assert!(fault.message.contains(&format!("job {job}")), "{fault}");
    // Nor is the hold to be had for a chain's dropping meanwhile.
    assert!(world.refused(Action::DropHold { hold }).hint.is_some());
    world.run_to_end();
}

#[test]
fn a_full_that_fails_or_is_cancelled_keeps_nothing_and_one_that_starts_no_chain_neither() {
    let fail = |world: &mut World, job: JobId| {
        let view = world.lease_all(job).remove(0);
        let fault = Fault::new(ErrorCode::FailedPrecondition, "as the test wishes");
        world.accepted(&view, ReportBody::Failed { fault });
    };
    let cancel = |world: &mut World, job: JobId| {
        world.control(job, ControlVerb::Cancel);
    };
    type End<'a> = &'a dyn Fn(&mut World, JobId);
    for end in [&fail as End<'_>, &cancel] {
        for is_read in [false, true] {
            let mut world = world();
            let job = world.submit(JobSpec::Backup(full(10)));
            plan_all(&mut world, job);
            if is_read {
                read_all(&mut world, job);
            }
            end(&mut world, job);
            world.run_to_end();
            assert_ne!(world.state(job), JobState::Succeeded);
            assert_eq!(world.ledger.holds().count(), 0);
        }
    }
    let mut world = world();
    let spec = BackupSpec {
        hold: HoldUse::Job,
        ..full(10)
    };
    run(&mut world, spec, FIRST);
    assert!(only(&world).releasing.is_some());
    world.run_to_end();
    assert_eq!(world.ledger.holds().count(), 0);
}

#[test]
fn a_failed_or_cancelled_incremental_leaves_the_hold_where_it_was() {
    for is_cancelled in [false, true] {
        let mut world = world();
        let base = run(&mut world, full(10), FIRST);
        advance_all(&mut world);
        let hold = only(&world).id;
        let job = world.submit(JobSpec::Backup(on(&base, hold, 20)));
        plan_all(&mut world, job);
        read_all(&mut world, job);
        let settling = world.lease_all(job);
        world.accepted(&settling[0], settle(&settling[0], 70, 22));
        if is_cancelled {
            world.control(job, ControlVerb::Cancel);
        } else {
            let fault = Fault::new(ErrorCode::HistoryGone, "as the test wishes");
            world.accepted(&settling[1], ReportBody::Failed { fault });
        }
        perform_all(&mut world, |effect| {
            !matches!(effect, Effect::AdvanceHold { .. })
        });
        assert!(world.state(job).is_terminal());
        let kept = only(&world);
        assert_eq!((kept.position, kept.releasing), (hlc(15), None));
        assert_eq!(advances(&world), [], "nothing may go");
        let next = run(&mut world, on(&base, hold, 30), [(80, 32); 4]);
        assert_eq!(next.start, Some(hlc(15)));
    }
}

#[test]
fn a_layer_that_came_to_be_after_its_job_was_cancelled_is_gone_on_with() {
    let mut world = world();
    let base = run(&mut world, full(10), FIRST);
    advance_all(&mut world);
    let hold = only(&world).id;
    let spec = on(&base, hold, 20);
    let path = spec.path.clone();
    let job = world.submit(JobSpec::Backup(spec));
    plan_all(&mut world, job);
    read_all(&mut world, job);
    settle_all(&mut world, job, [(70, 22); 4]);
    perform_all(&mut world, |effect| {
        matches!(effect, Effect::WritePart { .. })
    });
    assert!(world.ledger.job(job).expect("a job").is_committing());
    world.control(job, ControlVerb::Cancel);
    assert_eq!(world.state(job), JobState::Canceled);
    // The manifest had become durable.
    let commit = perform(&world, &Effect::CommitLayer { job }).expect("an action");
    world.done(commit);
    let layer = world.ledger.catalogue().layer(COLLECTION, &path).cloned();
    let layer = layer.expect("a layer");
    let kept = only(&world);
    assert_eq!(
        (kept.position, layer.end),
        (hlc(15), hlc(22)),
        "it keeps more than is needed"
    );
    let next = run(&mut world, on(&layer, hold, 30), [(80, 32); 4]);
    assert_eq!(next.start, Some(hlc(22)));
    assert_eq!(only(&world).position, hlc(32));
    world.run_to_end();
}

#[test]
fn an_operator_gives_a_chain_up() {
    let mut world = world();
    let base = run(&mut world, full(10), FIRST);
    let hold = only(&world).id;
    world.done(Action::DropHold { hold });
    assert_eq!(advances(&world), [], "it ends, and is not moved");
    let action = world.submission(JobSpec::Backup(on(&base, hold, 20)));
    let fault = world.refused(action);
    assert_eq!(fault.code, ErrorCode::HistoryGone, "{fault}");
    world.run_to_end();
    assert_eq!(world.ledger.holds().count(), 0);
    let action = world.submission(JobSpec::Backup(on(&base, hold, 20)));
    assert_eq!(world.refused(action).code, ErrorCode::HistoryGone);
}

/// A plan of a member that has nothing of what is backed up.
fn nothing() -> ReportBody {
    ReportBody::Plan {
        sequence: 0,
        relations: Vec::new(),
        spans: Vec::new(),
        last: true,
    }
}

#[test]
fn what_no_member_of_a_fleet_has_is_found_missing_before_anything_is_read() {
    let tables = |names: &[&str]| {
        let tables = names.iter().map(|name| name.parse().expect("a table"));
        Target::Tables(tables.collect())
    };
    let databases =
        |names: &[&str]| Target::Databases(names.iter().map(ToString::to_string).collect());
    let cases = [
        (tables(&["shop.public.orders"]), None),
        (tables(&["shop.public.*", "bank.*"]), None),
        (databases(&["shop", "bank"]), None),
        (
            tables(&["shop.public.orders", "shop.public.nowhere"]),
            Some("table \"shop.public.nowhere\""),
        ),
        (tables(&["shop.publik.*"]), Some("table \"shop.publik.*\"")),
        (tables(&["nowhere.*"]), Some("table \"nowhere.*\"")),
        (
            databases(&["shop", "nowhere"]),
            Some("database \"nowhere\""),
        ),
    ];
    for (target, missing) in cases {
        let mut world = world();
        let spec = BackupSpec {
            target: target.clone(),
            ..full(10)
        };
        let job = world.submit(JobSpec::Backup(spec));
        world.done(Action::StartJob { job });
        let views = world.lease_all(job);
        world.accepted(&views[0], nothing());
        assert_eq!(
            world.state(job),
            JobState::Running,
            "the other is not planned"
        );
        world.accepted(&views[1], plan());
        let fault = world.ledger.job(job).and_then(|job| job.fault().cloned());
        match (fault, missing) {
            (None, None) => assert_eq!(world.state(job), JobState::Running, "{target}"),
            (Some(fault), Some(text)) => {
                assert_eq!(fault.code, ErrorCode::NotFound, "{fault}");
                assert!(fault.message.contains(text), "{fault}");
                world.run_to_end();
                assert_eq!(world.state(job), JobState::Failed);
                assert_eq!(world.ledger.holds().count(), 0);
            }
            (fault, missing) => panic!("{target}: {fault:?}, {missing:?}"),
        }
    }
}

/// Lets a backup through of which `eu` has nothing.
fn run_without_eu(world: &mut World, spec: BackupSpec) -> LayerRecord {
    let path = spec.path.clone();
    let job = world.submit(JobSpec::Backup(spec));
    world.done(Action::StartJob { job });
    let views = world.lease_all(job);
    world.accepted(&views[0], nothing());
    world.accepted(&views[1], plan());
    read_all(world, job);
    for (view, lsn) in world.lease_all(job).iter().zip([700, 800]) {
        world.accepted(view, settle(view, lsn, 50));
    }
    let found = world.ledger.job(job).expect("a job");
    assert_eq!((found.settled(0), found.held_relations(0).len()), (None, 0));
    commit(world);
    assert_eq!(world.state(job), JobState::Succeeded);
    let layer = world.ledger.catalogue().layer(COLLECTION, &path).cloned();
    layer.expect("a layer")
}

#[test]
fn a_member_may_have_nothing_of_a_layer_and_may_have_something_of_the_next() {
    let mut world = world();
    let spec = BackupSpec {
        target: Target::Databases(vec!["shop".into(), "bank".into()]),
        ..full(10)
    };
    let base = run_without_eu(&mut world, spec);
    let hold = only(&world);
    let chain = hold.chain.expect("a chain");
    assert_eq!(chain.members.len(), 2, "what may be there is released");
    assert_eq!(advances(&world), [(name("us"), place(700))]);
    advance_all(&mut world);
    // What the chain covers need not be anywhere any more.
    let spec = BackupSpec {
        target: Target::Databases(vec!["shop".into(), "dropped".into()]),
        ..on(&base, hold.id, 60)
    };
    let next = run(
        &mut world,
        spec,
        [(90, 62), (80, 62), (1000, 62), (1100, 62)],
    );
    assert_eq!(next.start, Some(base.end));
    assert_eq!(
        advances(&world),
        [(name("eu"), place(80)), (name("us"), place(1000))]
    );
    world.done(Action::DropHold { hold: hold.id });
    world.run_to_end();
    assert_eq!(world.ledger.holds().count(), 0);
}

#[test]
fn a_backup_after_which_nothing_is_kept_leaves_no_hold() {
    let run_loose = |world: &mut World, spec: BackupSpec| {
        let path = spec.path.clone();
        let job = world.submit(JobSpec::Backup(spec));
        plan_all(world, job);
        read_all(world, job);
        for (number, view) in world.lease_all(job).iter().enumerate() {
            let mut body = settle(view, 50, 12);
            if let ReportBody::Checkpoint(checkpoint) = &mut body
                && let Some(settled) = &mut checkpoint.settled
            {
                settled.keeps_history = number != 1;
            }
            world.accepted(view, body);
        }
        commit(world);
        assert_eq!(world.state(job), JobState::Succeeded);
        let layer = world.ledger.catalogue().layer(COLLECTION, &path).cloned();
        layer.expect("a layer")
    };
    let mut world = world();
    let layer = run_loose(&mut world, full(10));
    assert!(!layer.keeps_history);
    assert!(only(&world).releasing.is_some());
    world.run_to_end();
    assert_eq!(world.ledger.holds().count(), 0);
    // A chain ends with an incremental after which nothing is kept.
    let base = run(&mut world, full(20), FIRST);
    assert!(base.keeps_history);
    let hold = only(&world).id;
    let layer = run_loose(&mut world, on(&base, hold, 30));
    assert!(!layer.keeps_history);
    assert_eq!(only(&world).releasing.map(|members| members.len()), Some(2));
    assert_eq!(advances(&world), []);
    world.run_to_end();
    assert_eq!(world.ledger.holds().count(), 0);
}

#[test]
fn a_chain_without_its_positions_does_not_go_back() {
    let mut world = world();
    let base = run(&mut world, full(10), FIRST);
    let hold = only(&world).id;
    let mut early = on(&base, hold, 20);
    early.end = Hlc::at(base.end.wall);
    let action = world.submission(JobSpec::Backup(early));
    assert_eq!(world.refused(action).code, ErrorCode::ChainRule);
}
