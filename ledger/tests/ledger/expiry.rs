//! Chains that expire, and jobs that need them.

use holdfast_ledger::{Action, Effect, ExpiredChain, LayerRecord, Outcome};
use holdfast_types::{
    ByteCount, ControlVerb, ErrorCode, Fault, JobId, JobSpec, JobState, LayerPath,
};

use crate::specs::{self, COLLECTION, expire, full, incremental};
use crate::world::World;

/// A world with a chain at each of these seconds.
fn with_chains(seconds: &[u64]) -> (World, Vec<LayerRecord>) {
    let mut world = World::new();
    for second in seconds {
        world.submit(JobSpec::Backup(full("app", &["eu"], *second)));
        world.run_to_end();
    }
    let layers = world.ledger.catalogue().iter().cloned().collect();
    (world, layers)
}

fn begin(world: &mut World, job: JobId, chain: &str) {
    let chain = chain.to_owned();
    world.done(Action::BeginExpiry { job, chain });
}

fn ended(job: JobId, chain: &str) -> Action {
    Action::ChainExpired {
        job,
        chain: chain.to_owned(),
        removed: ExpiredChain {
            objects: 5,
            bytes: ByteCount(50),
            refused: 1,
        },
        note: Some(format!("{chain}: one stayed")),
    }
}

fn owed(job: JobId, chain: &str) -> Vec<Effect> {
    vec![Effect::ExpireChain {
        job,
        chain: chain.to_owned(),
    }]
}

#[test]
fn chains_go_one_after_another_and_leave_the_catalogue() {
    let (mut world, _) = with_chains(&[10, 20, 30]);
    let job = world.submit(expire(&["full-000010", "full-000020"]));
    world.done(Action::StartJob { job });
    assert_eq!(world.ledger.pending_effects(), owed(job, "full-000010"));
    begin(&mut world, job, "full-000010");
    assert_eq!(world.ledger.pending_effects(), owed(job, "full-000010"));
    world.done(ended(job, "full-000010"));
    assert_eq!(world.ledger.pending_effects(), owed(job, "full-000020"));
    let progress = world.ledger.progress(job).expect("a job");
    assert_eq!(progress.fraction_millionths, 333_333);
    // Told again by a leader that was thought dead.
    assert_eq!(world.apply(ended(job, "full-000010")), Outcome::NoOp);
    begin(&mut world, job, "full-000020");
    world.done(ended(job, "full-000020"));
    assert_eq!(world.state(job), JobState::Succeeded);
    let left: Vec<&str> = world
        .ledger
        .catalogue()
        .iter()
        .map(|layer| layer.path.full.as_str())
        .collect();
    assert_eq!(left, ["full-000030"]);
    let job = world.ledger.job(job).expect("a job");
    assert_eq!(job.expired().len(), 2);
    assert_eq!(job.expired()["full-000010"].refused, 1);
    assert_eq!(job.notes().len(), 2);
    let gone = world.ledger.jobs().filter(|job| job.layer_expired());
    assert_eq!(gone.count(), 2);
}

#[test]
fn a_job_that_removes_a_chain_is_neither_paused_nor_cancelled_before_that_is_done() {
    for (verb, rest) in [
        (ControlVerb::Pause, JobState::Paused),
        (ControlVerb::Cancel, JobState::Canceled),
    ] {
        let (mut world, _) = with_chains(&[10, 20, 30]);
        let job = world.submit(expire(&["full-000010", "full-000020"]));
        world.done(Action::StartJob { job });
        begin(&mut world, job, "full-000010");
        world.control(job, verb);
        assert!(!world.state(job).is_terminal());
        assert_ne!(world.state(job), JobState::Paused);
        assert_eq!(world.ledger.pending_effects(), owed(job, "full-000010"));
        world.done(ended(job, "full-000010"));
        assert_eq!(world.state(job), rest);
        assert_eq!(world.ledger.pending_effects(), []);
        let chain = "full-000020".to_owned();
        world.refused(Action::BeginExpiry { job, chain });
        if verb == ControlVerb::Pause {
            world.control(job, ControlVerb::Resume);
            assert_eq!(world.ledger.pending_effects(), owed(job, "full-000020"));
            world.run_to_end();
            assert_eq!(world.state(job), JobState::Succeeded);
        }
    }
}

#[test]
fn what_cannot_be_removed_ends_the_job() {
    for (verb, end) in [
        (None, JobState::Failed),
        (Some(ControlVerb::Pause), JobState::Failed),
        (Some(ControlVerb::Cancel), JobState::Canceled),
    ] {
        let (mut world, _) = with_chains(&[10, 20]);
        let job = world.submit(expire(&["full-000010"]));
        world.done(Action::StartJob { job });
        begin(&mut world, job, "full-000010");
        verb.map(|verb| world.control(job, verb));
        let fault = Fault::new(ErrorCode::FailedPrecondition, "the bucket is gone");
        world.apply(Action::FailJob { job, fault });
        assert_eq!(world.state(job), end, "{verb:?}");
        assert_eq!(world.ledger.pending_effects(), []);
        let job = world.ledger.job(job).expect("a job");
        assert_eq!(job.errors().len(), 1);
        // It may be what it was, or half gone: the next expiry finds the mark.
        world.submit(expire(&["full-000010"]));
    }
}

#[test]
fn what_is_needed_does_not_expire() {
    let (mut world, layers) = with_chains(&[10, 20]);
    let reader = world.submit(specs::verify());
    let fault = {
        let action = world.submission(expire(&["full-000020", "full-000010"]));
        world.refused(action)
    };
    assert_eq!(fault.code, ErrorCode::FailedPrecondition);
    assert!(
        fault.message.contains(&format!("job {reader} (VERIFY)")),
        "{fault}"
    );
    assert!(fault.message.contains("full-000010"), "{fault}");
    assert!(fault.hint.is_some());
    world.run_to_end();
    let writer = world.submit(JobSpec::Backup(incremental(&layers[0], &["eu"], 15)));
    let used = world.ledger.chains_in_use(COLLECTION);
    assert_eq!(used.keys().copied().collect::<Vec<_>>(), ["full-000010"]);
    assert!(
        used["full-000010"]
            .to_string()
            .contains(&format!("job {writer} (BACKUP)"))
    );
    assert!(world.ledger.chains_in_use("file:///other").is_empty());
    world.run_to_end();
    world.submit(expire(&["full-000010"]));
    let again = world.submission(expire(&["full-000010"]));
    world.refused(again);
}

#[test]
fn nobody_begins_to_need_what_is_about_to_go() {
    let (mut world, layers) = with_chains(&[10, 20]);
    let job = world.submit(expire(&["full-000010"]));
    let next = JobSpec::Backup(incremental(&layers[0], &["eu"], 15));
    for spec in [specs::verify(), specs::restore("app", &["eu"]), next] {
        let action = world.submission(spec);
        let fault = world.refused(action);
        assert_eq!(fault.code, ErrorCode::FailedPrecondition, "{fault}");
        assert!(
            fault.message.contains(&format!("removed by job {job}")),
            "{fault}"
        );
        assert!(fault.hint.is_some());
    }
    // Another chain is nobody's concern.
    world.submit(JobSpec::Backup(incremental(&layers[1], &["eu"], 25)));
    world.run_to_end();
    assert_eq!(world.state(job), JobState::Succeeded);
    let path = LayerPath::full("full-000010");
    assert_eq!(world.ledger.catalogue().layer(COLLECTION, &path), None);
}

#[test]
fn an_expiry_names_chains_each_once_and_not_too_many() {
    let mut world = World::new();
    let many: Vec<String> = (0..1001).map(|number| number.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for (chains, text) in [
        (&[][..], "names no chain"),
        (&["a", "b", "a"], "names chain 'a' twice"),
        (&many, "1001 chains"),
    ] {
        let action = world.submission(expire(chains));
        let fault = world.refused(action);
        assert_eq!(fault.code, ErrorCode::InvalidArgument);
        assert!(fault.message.contains(text), "{fault}");
    }
    let job = world.submit(expire(&["a", "b"]));
    world.done(Action::StartJob { job });
    for chain in ["b", "c"] {
        let chain = chain.to_owned();
        world.refused(Action::BeginExpiry { job, chain });
    }
    world.refused(ended(job, "a"));
}
