//! Bytes that were ever written are read for ever. `tests/compat/ledger-v1` holds commands, outcomes and a snapshot as the first release
//! wrote them; today's code must read them and write the same ones.
//!
//! After a deliberate change of the encoding: raise the version, keep reading the old one, and let
//! `HOLDFAST_WRITE_FIXTURES=1 cargo test -p holdfast-ledger compat` write the fixture of the new one. What is there is never
//! overwritten.

#![expect(
    clippy::disallowed_methods,
    reason = "fixtures are files, and only this test looks for the switch"
)]

use std::path::PathBuf;

use holdfast_ledger::{
    Action, COMMAND_VERSION, Command, ExpiredChain, Grant, Ledger, LogPosition, OUTCOME_VERSION,
    PartRef, Report, ReportBody, SNAPSHOT_VERSION, decode_command, decode_outcome, encode_command,
    encode_outcome,
};
use holdfast_types::{
    ByteCount, ClusterId, ControlVerb, Digest, Epoch, ErrorCode, Fault, HoldId, Incarnation, JobId,
    JobSpec, LayerPath, Millis, RowCount, RunResult, ScheduleId, ScheduleVerb, TaskId, Timestamp,
};

use crate::specs;
use crate::world::{World, checkpoint, plan_of, settling_plan_of};

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/compat/ledger-v1")
}

/// One of each, in an order that makes a state worth keeping.
fn commands() -> Vec<Command> {
    let mut world = World::new();
    world.done(Action::InitCluster {
        cluster: ClusterId([9; 16]),
    });
    world.done(Action::SetSetting {
        name: "part_list_threshold".into(),
        value: 1,
    });
    world.done(Action::PutConnection {
        connection: specs::connection("vault", "memory://vault", 1),
        alter: false,
    });
    world.done(Action::PutUser {
        user: specs::user("ann", 1),
        alter: false,
    });
    let job = world.planned_backup();
    let leased = world.lease_all(job);
    world.accepted(&leased[0], checkpoint(&leased[0], None, 60, true));
    world.done(Action::PartWritten {
        job,
        part: 0,
        object: PartRef {
            name: "list-0".into(),
            length: ByteCount(7),
            digest: Digest::of(b"part"),
            entries: 1,
            store: 0,
        },
    });
    world.accepted(&leased[1], checkpoint(&leased[1], Some("k"), 20, true));
    world.accepted(&leased[2], ReportBody::Released);
    world.expire("us", 1, false);
    world.register("us", 2);
    world.control(job, ControlVerb::Pause);
    world.control(job, ControlVerb::Resume);
    let settled = world.submit(JobSpec::Backup(specs::full("app", &["eu"], 20)));
    world.done(Action::StartJob { job: settled });
    let plan = world.lease_all(settled).remove(0);
    world.accepted(&plan, settling_plan_of(5));
    for span in world.lease_all(settled) {
        world.accepted(&span, checkpoint(&span, None, 60, false));
    }
    let settling = world.lease_all(settled).remove(0);
    world.accepted(&settling, checkpoint(&settling, None, 60, true));
    let restore = world.submit(specs::restore("app", &["eu"]));
    world.done(Action::StartJob { job: restore });
    world.plan(restore);
    world.control(restore, ControlVerb::Cancel);
    let verify = world.submit(specs::verify());
    world.done(Action::StartJob { job: verify });
    let full = world.submit(JobSpec::Backup(specs::full("app", &["eu"], 30)));
    world.apply(Action::FailJob {
        job: full,
        fault: Fault::new(ErrorCode::Internal, "a reason").hint("a way out"),
    });
    world.done(Action::JobSwept {
        job: full,
        objects: 2,
        bytes: ByteCount(3),
    });
    let due = Timestamp::from_millis(5_000);
    world.done(Action::CreateSchedule {
        schedule: Box::new(specs::schedule(7, Some(8), due)),
        if_not_exists: false,
    });
    world.done(Action::FireSchedule {
        schedule: ScheduleId(7),
        due,
        next: due.plus(Millis(1_000)),
        result: Box::new(RunResult::Job(settled)),
        opened_by: Some(0),
    });
    world.done(Action::AlterSchedule {
        schedule: ScheduleId(8),
        change: Box::new(specs::change(7, due)),
    });
    world.done(Action::AlterSchedule {
        schedule: ScheduleId(8),
        change: Box::new(specs::change(4, due)),
    });
    world.apply(Action::PlanSchedule {
        schedule: ScheduleId(8),
        next: due,
    });
    world.done(Action::ControlSchedule {
        schedule: ScheduleId(8),
        verb: ScheduleVerb::Pause,
    });
    let expiry = world.submit(specs::expire(&["gone", "next"]));
    world.done(Action::StartJob { job: expiry });
    let chain = || "gone".to_owned();
    world.done(Action::BeginExpiry {
        job: expiry,
        chain: chain(),
    });
    world.done(Action::ChainExpired {
        job: expiry,
        chain: chain(),
        removed: ExpiredChain {
            objects: 7,
            bytes: ByteCount(70),
            refused: 1,
        },
        note: Some("locked".into()),
    });
    world.apply(Action::Batch(odd_actions()));
    world.log.into_iter().map(|(_, command)| command).collect()
}

/// Variants that the story above does not need; refused or without effect.
fn odd_actions() -> Vec<Action> {
    let task = TaskId {
        job: JobId(99),
        index: 1,
    };
    let report = |body| Report {
        task,
        epoch: Epoch(1),
        body,
    };
    vec![
        Action::DropSource {
            source: "gone".parse().expect("a name"),
        },
        Action::UpdateSource {
            source: specs::source("gone", &["eu"]),
        },
        Action::LayerCommitted {
            job: JobId(99),
            manifest: Digest::of(b"m"),
            length: ByteCount(1),
        },
        Action::HoldReleased {
            hold: HoldId(99),
            member: "eu".parse().expect("a name"),
        },
        Action::ForgetJobs {
            jobs: vec![JobId(99)],
        },
        Action::HoldAdvanced {
            hold: HoldId(99),
            member: "eu".parse().expect("a name"),
            layer: LayerPath::full("2026/01/01-000000.00"),
        },
        Action::DropHold { hold: HoldId(99) },
        Action::DropConnection {
            connection: "gone".parse().expect("a name"),
        },
        Action::DropUser {
            user: "gone".parse().expect("a name"),
        },
        Action::GrantLeases {
            grants: vec![Grant {
                task,
                worker: "worker-eu".parse().expect("a name"),
                incarnation: Incarnation(1),
            }],
        },
        Action::Reports {
            reports: vec![
                report(plan_of(3)),
                report(ReportBody::Done {
                    rows: RowCount(1),
                    fingerprint: Some(Digest::of(b"f")),
                }),
                report(ReportBody::Failed {
                    fault: Fault::new(ErrorCode::Unavailable, "away"),
                }),
                report(ReportBody::Notes {
                    notes: vec!["an extension of another version".to_owned()],
                }),
            ],
        },
    ]
}

/// Byte strings, each after its length.
fn pack(records: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for record in records {
        bytes.extend_from_slice(&(record.len() as u32).to_le_bytes());
        bytes.extend_from_slice(record);
    }
    bytes
}

fn unpack(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let (record, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
        records.push(record.to_vec());
        bytes = rest;
    }
    records
}

fn apply_all(commands: &[Command]) -> (Ledger, Vec<Vec<u8>>) {
    let mut ledger = Ledger::new();
    let outcomes = (1u64..)
        .zip(commands)
        .map(|(index, command)| {
            encode_outcome(&ledger.apply(LogPosition { term: 1, index }, command).0)
        })
        .collect();
    (ledger, outcomes)
}

#[test]
fn version_1_is_read_and_written_as_ever() {
    assert_eq!(
        (COMMAND_VERSION, OUTCOME_VERSION, SNAPSHOT_VERSION),
        (1, 1, 1)
    );
    let commands = commands();
    let (ledger, outcomes) = apply_all(&commands);
    let mut snapshot = Vec::new();
    ledger.write_snapshot(&mut snapshot).expect("written");
    let encoded: Vec<_> = commands.iter().map(encode_command).collect();
    let today = [
        ("commands.bin", pack(&encoded)),
        ("outcomes.bin", pack(&outcomes)),
        ("snapshot.bin", snapshot),
    ];
    if std::env::var_os("HOLDFAST_WRITE_FIXTURES").is_some() {
        std::fs::create_dir_all(directory()).expect("a directory");
        for (name, bytes) in &today {
            let path = directory().join(name);
            if !path.exists() {
                std::fs::write(path, bytes).expect("written");
            }
        }
    }
    for (name, bytes) in &today {
        let kept = std::fs::read(directory().join(name)).expect(name);
        assert!(
            kept == *bytes,
            "{name}: what is written differs from what version 1 has always been"
        );
    }
    let kept = |name| std::fs::read(directory().join(name)).expect(name);
    let read: Vec<_> = unpack(&kept("commands.bin"))
        .iter()
        .map(|bytes| decode_command(bytes).expect("a command"))
        .collect();
    assert_eq!(read, commands);
    for bytes in unpack(&kept("outcomes.bin")) {
        decode_outcome(&bytes).expect("an outcome");
    }
    let read = Ledger::read_snapshot(kept("snapshot.bin").as_slice()).expect("a snapshot");
    assert_eq!(read.digest(), ledger.digest());
}

#[test]
fn the_fixture_holds_every_action() {
    // Written out so that a new variant does not compile until the fixture has it.
    fn number(action: &Action) -> usize {
        match action {
            Action::InitCluster { .. } => 0,
            Action::Batch(_) => 1,
            Action::RegisterSource { .. } => 2,
            Action::UpdateSource { .. } => 3,
            Action::DropSource { .. } => 4,
            Action::SetSetting { .. } => 5,
            Action::RegisterWorker { .. } => 6,
            Action::ExpireWorker { .. } => 7,
            Action::SubmitJob { .. } => 8,
            Action::StartJob { .. } => 9,
            Action::ControlJob { .. } => 10,
            Action::FailJob { .. } => 11,
            Action::GrantLeases { .. } => 12,
            Action::Reports { .. } => 13,
            Action::PartWritten { .. } => 14,
            Action::LayerCommitted { .. } => 15,
            Action::HoldReleased { .. } => 16,
            Action::JobSwept { .. } => 17,
            Action::ForgetJobs { .. } => 18,
            Action::HoldAdvanced { .. } => 19,
            Action::DropHold { .. } => 20,
            Action::CreateSchedule { .. } => 21,
            Action::AlterSchedule { .. } => 22,
            Action::ControlSchedule { .. } => 23,
            Action::PlanSchedule { .. } => 24,
            Action::FireSchedule { .. } => 25,
            Action::PutConnection { .. } => 26,
            Action::DropConnection { .. } => 27,
            Action::PutUser { .. } => 28,
            Action::DropUser { .. } => 29,
            Action::BeginExpiry { .. } => 30,
            Action::ChainExpired { .. } => 31,
        }
    }
    let mut seen = [false; 32];
    for command in commands() {
        seen[number(&command.action)] = true;
        if let Action::Batch(actions) = &command.action {
            for action in actions {
                seen[number(action)] = true;
            }
        }
    }
    assert_eq!(seen, [true; 32]);
}
