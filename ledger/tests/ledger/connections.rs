//! External connections.

use holdfast_ledger::{Action, Ledger};
use holdfast_types::{ConnectionName, ControlVerb, ErrorCode, JobSpec};

use crate::specs;
use crate::world::World;

fn name(text: &str) -> ConnectionName {
    text.parse().expect("a name")
}

fn put(address: &str, secret: u8, alter: bool) -> Action {
    Action::PutConnection {
        connection: specs::connection("vault", address, secret),
        alter,
    }
}

#[test]
fn a_connection_is_made_once_and_changed_as_often_as_one_likes() {
    let mut world = World::new();
    let fault = world.refused(put("memory://a", 1, true));
    assert_eq!(fault.code, ErrorCode::NotFound);
    world.done(put("memory://a", 1, false));
    let fault = world.refused(put("memory://a", 1, false));
    assert_eq!(fault.code, ErrorCode::AlreadyExists);
    world.done(put("memory://b", 2, true));
    let found = world.ledger.connection(&name("vault")).expect("there");
    assert_eq!(found.address, "memory://b");
    world.done(Action::DropConnection {
        connection: name("vault"),
    });
    assert_eq!(world.ledger.connections().count(), 0);
}

#[test]
fn a_connection_that_a_job_uses_keeps_its_place() {
    let mut world = World::new();
    world.done(put("memory://a", 1, false));
    let mut spec = specs::full("app", &["eu"], 20);
    spec.access.connections = vec![name("vault")];
    let job = world.submit(JobSpec::Backup(spec.clone()));
    world.done(put("memory://a", 2, true));
    let drop = || Action::DropConnection {
        connection: name("vault"),
    };
    for action in [put("memory://b", 2, true), drop()] {
        let fault = world.refused(action);
        assert_eq!(fault.code, ErrorCode::FailedPrecondition);
        assert!(fault.message.contains(&job.to_string()), "{fault}");
    }
    world.control(job, ControlVerb::Cancel);
    world.done(Action::JobSwept {
        job,
        objects: 0,
        bytes: holdfast_types::ByteCount(0),
    });
    world.done(drop());
    let refused = world.apply(Action::SubmitJob {
        job: holdfast_types::JobId(4_000_000_000_000_000),
        hold: holdfast_types::HoldId(4_000_000_000_000_000),
        spec: Box::new(JobSpec::Backup(spec)),
        request: None,
    });
    assert!(
        format!("{refused:?}").contains("there is no connection vault"),
        "{refused:?}"
    );
}

#[test]
fn connections_are_in_snapshots() {
    let mut world = World::new();
    world.done(put("memory://a", 1, false));
    let mut bytes = Vec::new();
    world.ledger.write_snapshot(&mut bytes).expect("written");
    let read = Ledger::read_snapshot(bytes.as_slice()).expect("read");
    assert_eq!(read.digest(), world.ledger.digest());
    assert!(read.connection(&name("vault")).is_some());
}
