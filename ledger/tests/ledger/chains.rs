//! What is accepted as a job, and what is refused in which words.

use holdfast_ledger::{Action, LayerRecord};
use holdfast_types::{ErrorCode, JobId, JobSpec, LayerPath};

use crate::specs::{self, COLLECTION, full, incremental};
use crate::world::World;

/// A world with one full layer.
fn with_full() -> (World, LayerRecord) {
    let mut world = World::new();
    world.submit(JobSpec::Backup(full("app", &["eu", "us"], 10)));
    world.run_to_end();
    let layer = world.ledger.catalogue().iter().next().cloned();
    (world, layer.expect("a layer"))
}

fn refusal(world: &mut World, spec: JobSpec) -> (ErrorCode, String) {
    let action = world.submission(spec);
    let fault = world.refused(action);
    assert!(
        fault.hint.is_some() || fault.code == ErrorCode::InvalidArgument,
        "{fault}"
    );
    (fault.code, fault.message)
}

#[test]
fn incrementals_continue_the_newest_layer() {
    let (mut world, base) = with_full();
    world.submit(JobSpec::Backup(incremental(&base, &["eu", "us"], 20)));
    world.run_to_end();
    let chain = world.ledger.catalogue().chain(COLLECTION, &base.path.full);
    let ends: Vec<_> = chain.iter().map(|layer| layer.end).collect();
    assert_eq!(ends, [specs::hlc(10), specs::hlc(20)]);
    assert_eq!(chain[1].start, Some(specs::hlc(10)));

    let (code, message) = refusal(
        &mut world,
        JobSpec::Backup(incremental(&base, &["eu", "us"], 30)),
    );
    assert_eq!(code, ErrorCode::ChainRule);
    assert!(message.contains("day/000020"), "{message}");
}

#[test]
fn a_chain_takes_one_backup_at_a_time() {
    let (mut world, base) = with_full();
    let first = world.submit(JobSpec::Backup(incremental(&base, &["eu"], 20)));
    let (code, message) = refusal(&mut world, JobSpec::Backup(incremental(&base, &["eu"], 21)));
    assert_eq!(code, ErrorCode::FailedPrecondition);
    assert!(message.contains(&format!("job {first}")), "{message}");
    let other = full("app", &["eu"], 30);
    world.submit(JobSpec::Backup(other.clone()));
    let (code, _) = refusal(&mut world, JobSpec::Backup(other));
    assert_eq!(code, ErrorCode::FailedPrecondition);
    world.run_to_end();
}

#[test]
fn the_rules_of_a_chain() {
    let (mut world, base) = with_full();
    let mut cases = vec![
        (
            full("app", &["eu"], 10),
            ErrorCode::AlreadyExists,
            "already contains a backup",
        ),
        (
            incremental(&base, &["eu"], 10),
            ErrorCode::ChainRule,
            "must be greater than the previous backup's end time",
        ),
        (
            full("nowhere", &["eu"], 20),
            ErrorCode::NotFound,
            "no source nowhere",
        ),
        (
            full("app", &["mars"], 20),
            ErrorCode::NotFound,
            "no member mars",
        ),
        (
            full("app", &[], 20),
            ErrorCode::InvalidArgument,
            "no member",
        ),
        (
            full("app", &["eu", "eu"], 20),
            ErrorCode::InvalidArgument,
            "named twice",
        ),
    ];
    let mut odd = incremental(&base, &["eu"], 20);
    odd.parent = None;
    cases.push((odd, ErrorCode::InvalidArgument, "incremental"));
    let mut replaced = incremental(&base, &["eu"], 20);
    if let Some(parent) = &mut replaced.parent {
        parent.manifest = holdfast_types::Digest::of(b"another");
    }
    cases.push((replaced, ErrorCode::ChainRule, "the newest layer"));
    world.done(Action::RegisterSource {
        source: specs::source("other", &["eu"]),
    });
    let mut foreign = incremental(&base, &["eu"], 20);
    foreign.source = "other".parse().expect("a name");
    cases.push((foreign, ErrorCode::ChainRule, "is of source app"));
    for (spec, code, words) in cases {
        let (found, message) = refusal(&mut world, JobSpec::Backup(spec));
        assert_eq!(found, code, "{message}");
        assert!(message.contains(words), "{message}");
    }
}

#[test]
fn a_chain_of_another_cluster_is_continued_on_trust() {
    let (_, base) = with_full();
    let mut world = World::new();
    world.submit(JobSpec::Backup(incremental(&base, &["eu", "us"], 20)));
    world.run_to_end();
    let path = LayerPath::incremental("full-000010", "day/000020");
    assert!(world.ledger.catalogue().layer(COLLECTION, &path).is_some());
}

#[test]
fn there_is_a_bound_on_jobs() {
    let mut world = World::new();
    world.done(Action::SetSetting {
        name: "max_jobs".into(),
        value: 1,
    });
    world.submit(specs::verify());
    let (code, message) = refusal(&mut world, specs::verify());
    assert_eq!(code, ErrorCode::ResourceExhausted);
    assert!(message.contains("no more than 1"), "{message}");
    world.run_to_end();
    world.submit(specs::verify());
}

#[test]
fn a_source_in_use_stays_as_it_is() {
    let mut world = World::new();
    let job = world.submit(specs::restore("app", &["eu"]));
    let name = "app".parse().expect("a name");
    for action in [
        Action::DropSource { source: name },
        Action::UpdateSource {
            source: specs::source("app", &["eu"]),
        },
    ] {
        let fault = world.refused(action);
        assert!(fault.message.contains(&format!("job {job}")), "{fault}");
    }
    world.run_to_end();
    world.done(Action::UpdateSource {
        source: specs::source("app", &["eu"]),
    });
    world.done(Action::DropSource {
        source: "app".parse().expect("a name"),
    });
}

#[test]
fn dropping_a_source_gives_up_the_holds_that_nobody_can_release() {
    let mut world = World::new();
    let job = world.planned_backup();
    world.control(job, holdfast_types::ControlVerb::Cancel);
    assert_eq!(world.ledger.holds().count(), 1);
    world.done(Action::UpdateSource {
        source: specs::source("app", &["eu"]),
    });
    let left: Vec<_> = world
        .ledger
        .holds()
        .flat_map(|hold| hold.releasing.clone())
        .collect();
    assert_eq!(left.len(), 1);
    world.done(Action::DropSource {
        source: "app".parse().expect("a name"),
    });
    assert_eq!(world.ledger.holds().count(), 0);
}

#[test]
fn unknown_things_are_named() {
    let mut world = World::new();
    let fault = world.refused(Action::FailJob {
        job: JobId(404),
        fault: holdfast_types::Fault::new(ErrorCode::Internal, "x"),
    });
    assert_eq!(fault.code, ErrorCode::NotFound);
    assert!(fault.message.contains("404"));
    let fault = world.refused(Action::RegisterSource {
        source: specs::source("app", &["eu"]),
    });
    assert_eq!(fault.code, ErrorCode::AlreadyExists);
    let fault = world.refused(Action::RegisterSource {
        source: specs::source("new", &["eu", "eu"]),
    });
    assert!(fault.message.contains("two members named eu"), "{fault}");
}
