//! Targets that some members lack, or all.

use holdfast_ledger::{Action, ReportBody};
use holdfast_types::{ErrorCode, JobId, JobSpec, JobState, Phase, Relation, TableName, Target};

use crate::specs;
use crate::world::{World, relation, tile};

/// A planned backup of a target on two members that have these relations.
fn planned(world: &mut World, target: Target, eu: &[Relation], us: &[Relation]) -> JobId {
    let mut spec = specs::full("app", &["eu", "us"], 10);
    spec.target = target;
    let job = world.submit(JobSpec::Backup(spec));
    world.done(Action::StartJob { job });
    for (view, relations) in world.lease_all(job).into_iter().zip([eu, us]) {
        let tables = relations.iter().filter(|held| !held.name.is_database());
        let spans = tables.flat_map(|held| tile(held.id.0, &[], 10)).collect();
        let plan = ReportBody::Plan {
            sequence: 0,
            relations: relations.to_vec(),
            spans,
            last: true,
        };
        world.accepted(&view, plan);
    }
    job
}

fn named(id: u64, name: &str) -> Relation {
    let name = name
        .parse()
        .unwrap_or_else(|_| TableName::of_database(name));
    Relation {
        name,
        ..relation(id)
    }
}

fn databases(names: &[&str]) -> Target {
    Target::Databases(names.iter().map(ToString::to_string).collect())
}

#[test]
fn a_target_that_no_member_has_fails_the_backup_by_name() {
    let tables = |names: &[&str]| {
        let names = names.iter().map(|name| name.parse().expect("a table"));
        Target::Tables(names.collect())
    };
    let cases = [
        (
            databases(&["bank", "shop", "void"]),
            "database \"shop\", \"void\"",
        ),
        (
            tables(&["bank.accounts", "bank.gone"]),
            "table \"bank.gone\"",
        ),
    ];
    for (target, text) in cases {
        let mut world = World::new();
        let accounts = [named(1, "bank.accounts")];
        let job = planned(&mut world, target, &accounts, &[]);
        assert_eq!(world.state(job), JobState::Failed);
        let job = world.ledger.job(job).expect("a job");
        let fault = job.fault().expect("an error");
        assert_eq!(fault.code, ErrorCode::NotFound);
        assert!(fault.message.starts_with(text), "{fault}");
        assert!(
            fault.message.contains("any member of source app"),
            "{fault}"
        );
        assert!(fault.hint.is_some());
    }
}

#[test]
fn one_member_that_has_it_is_enough_and_a_database_needs_no_tables() {
    let mut world = World::new();
    let (eu, us) = ([named(1, "bank.accounts")], [named(2, "void")]);
    let job = planned(&mut world, databases(&["bank", "void"]), &eu, &us);
    assert_eq!(world.state(job), JobState::Running);
    let phase = world.ledger.job(job).map(|job| job.phase());
    assert_eq!(phase, Some(Phase::Transferring));
}
