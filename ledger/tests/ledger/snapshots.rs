//! Snapshots: what was written is read, and damage anywhere is noticed.

use holdfast_ledger::{Ledger, ReportBody};
use holdfast_types::{ErrorCode, JobSpec};

use crate::specs;
use crate::world::{World, checkpoint, relation, tile};

/// A world with a bit of everything in it.
fn busy() -> World {
    let mut world = World::new();
    world.submit(JobSpec::Backup(specs::full("app", &["eu"], 5)));
    world.run_to_end();
    let job = world.planned_backup();
    let leased = world.lease_all(job);
    world.accepted(&leased[0], checkpoint(&leased[0], Some("c"), 10, true));
    world.accepted(&leased[1], checkpoint(&leased[1], None, 10, true));
    let other = world.submit(specs::restore("app", &["eu"]));
    world.done(holdfast_ledger::Action::StartJob { job: other });
    let plan = world.ledger.ready_tasks(other).next().expect("a plan").task;
    world.lease(plan, "eu").expect("a lease");
    let plan = world.view(plan);
    let body = ReportBody::Plan {
        sequence: 0,
        relations: vec![relation(1)],
        spans: tile(1, &["m"], 5),
        last: false,
    };
    world.accepted(&plan, body);
    world
}

fn snapshot(ledger: &Ledger) -> Vec<u8> {
    let mut bytes = Vec::new();
    ledger
        .write_snapshot(&mut bytes)
        .expect("memory takes everything");
    bytes
}

#[test]
fn what_was_written_is_read() {
    let mut world = busy();
    let bytes = snapshot(&world.ledger);
    let read = Ledger::read_snapshot(bytes.as_slice()).expect("a snapshot");
    assert_eq!(snapshot(&read), bytes);
    assert_eq!(read.digest(), world.ledger.digest());
    assert_eq!(read.chain_digest(), world.ledger.chain_digest());
    assert_eq!(read.applied(), world.ledger.applied());
    world.ledger = read;
    world.run_to_end();
}

#[test]
fn a_clone_does_not_see_what_comes_after() {
    let mut world = busy();
    let clone = world.ledger.clone();
    let digest = clone.digest();
    world.run_to_end();
    assert_eq!(clone.digest(), digest);
    assert_ne!(world.ledger.digest(), digest);
}

#[test]
fn every_cut_and_every_flipped_bit_is_noticed() {
    let bytes = snapshot(&busy().ledger);
    for cut in 0..bytes.len() {
        let fault = Ledger::read_snapshot(&bytes[..cut]).expect_err("cut off");
        assert_eq!(fault.code, ErrorCode::Corrupted, "{fault}");
    }
    for place in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[place] ^= 1 << (place % 8);
        let fault = Ledger::read_snapshot(damaged.as_slice()).expect_err("damaged");
        assert!(
            matches!(fault.code, ErrorCode::Corrupted | ErrorCode::Unsupported),
            "{place}: {fault}"
        );
    }
    let mut longer = bytes;
    longer.push(0);
    let fault = Ledger::read_snapshot(longer.as_slice()).expect_err("too long");
    assert!(fault.message.contains("goes on"), "{fault}");
}

#[test]
fn a_damaged_section_is_named() {
    let mut bytes = snapshot(&busy().ledger);
    let last = bytes.len() - 60;
    bytes[last] ^= 1;
    let fault = Ledger::read_snapshot(bytes.as_slice()).expect_err("damaged");
    assert!(fault.message.contains("(spans)"), "{fault}");
    assert!(fault.hint.is_some());
}

#[test]
fn an_empty_state_has_a_snapshot_too() {
    let bytes = snapshot(&Ledger::new());
    let read = Ledger::read_snapshot(bytes.as_slice()).expect("a snapshot");
    assert_eq!(read.digest(), Ledger::new().digest());
}
