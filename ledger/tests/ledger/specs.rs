//! Sources and job specifications for the tests.

use holdfast_ledger::LayerRecord;
use holdfast_types::{
    BackupMember, BackupSpec, BackupTemplate, Cadence, CollectionAccess, ConnectionRecord, Digest,
    ExpireSpec, Hlc, HoldUse, JobSpec, LayerPath, Locality, MemberRecord, NewSchedule, OnFailure,
    OnPrevious, Pairing, ParentLayer, RestoreMember, RestoreOptions, RestoreSpec, ScheduleChange,
    ScheduleId, ScheduleKeys, Sealed, SourceKind, SourceRecord, Target, Timestamp, UserRecord,
    VerifySpec,
};

pub(crate) const COLLECTION: &str = "file:///backups";

pub(crate) fn locality(text: &str) -> Locality {
    text.parse().expect("a locality")
}

pub(crate) fn member(name: &str) -> MemberRecord {
    MemberRecord {
        name: name.parse().expect("a name"),
        locality: locality(&format!("region={name}")),
        address: format!("{name}:1"),
        secret: None,
        limits: holdfast_types::MemberLimits::default(),
    }
}

pub(crate) fn source(name: &str, members: &[&str]) -> SourceRecord {
    SourceRecord {
        name: name.parse().expect("a name"),
        kind: SourceKind::Mvcc,
        members: members.iter().map(|name| member(name)).collect(),
        registered_at: Timestamp::default(),
    }
}

pub(crate) fn hlc(second: u64) -> Hlc {
    Hlc::at(Timestamp::from_millis(second * 1000))
}

/// A full as of this second.
pub(crate) fn full(source: &str, members: &[&str], second: u64) -> BackupSpec {
    BackupSpec {
        source: source.parse().expect("a name"),
        kind: SourceKind::Mvcc,
        members: members
            .iter()
            .map(|name| BackupMember {
                member: member(name),
            })
            .collect(),
        target: Target::Source,
        collection: COLLECTION.to_owned(),
        access: CollectionAccess::default(),
        path: LayerPath::full(format!("full-{second:06}")),
        parent: None,
        end: hlc(second),
        history: false,
        execution_locality: Locality::default(),
        hold: HoldUse::Job,
        part_size: 1 << 20,
        encryption: None,
    }
}

/// An incremental on a layer, as of this second.
pub(crate) fn incremental(on: &LayerRecord, members: &[&str], second: u64) -> BackupSpec {
    BackupSpec {
        path: LayerPath::incremental(on.path.full.clone(), format!("day/{second:06}")),
        parent: Some(ParentLayer {
            path: on.path.clone(),
            manifest: on.manifest,
            end: on.end,
        }),
        history: true,
        ..full(on.source.as_str(), members, second)
    }
}

pub(crate) fn restore(source: &str, members: &[&str]) -> JobSpec {
    JobSpec::Restore(RestoreSpec {
        source: source.parse().expect("a name"),
        kind: SourceKind::Mvcc,
        members: members
            .iter()
            .map(|name| RestoreMember {
                member: member(name),
                from: name.parse().expect("a name"),
            })
            .collect(),
        target: Target::Source,
        collection: COLLECTION.to_owned(),
        access: CollectionAccess::default(),
        layers: vec![(LayerPath::full("full-000010"), Digest::of(b"manifest"))],
        as_of: hlc(10).into(),
        renamed: Default::default(),
        tables: Default::default(),
        options: RestoreOptions::default(),
        into_existing: false,
        execution_locality: Locality::default(),
        part_size: 1 << 20,
        encryption: None,
    })
}

pub(crate) fn verify() -> JobSpec {
    JobSpec::Verify(VerifySpec {
        collection: COLLECTION.to_owned(),
        access: CollectionAccess::default(),
        layers: vec![(LayerPath::full("full-000010"), Digest::of(b"manifest"))],
        execution_locality: Locality::default(),
        encryption: None,
    })
}

pub(crate) fn expire(chains: &[&str]) -> JobSpec {
    JobSpec::Expire(ExpireSpec {
        collection: COLLECTION.to_owned(),
        access: CollectionAccess::default(),
        chains: chains.iter().map(ToString::to_string).collect(),
        rule: "OLDER THAN '1970-01-01T00:01:40Z'".to_owned(),
        execution_locality: Locality::default(),
    })
}

/// A schedule of the source `app`; with `incremental` a pair, whose halves have these ids.
pub(crate) fn schedule(full: u64, incremental: Option<u64>, next: Timestamp) -> NewSchedule {
    NewSchedule {
        label: format!("schedule {full}"),
        template: BackupTemplate {
            source: "app".parse().expect("a name"),
            target: Target::Source,
            collection: COLLECTION.to_owned(),
            access: CollectionAccess::default(),
            history: false,
            execution_locality: Locality::default(),
            keys: None,
        },
        full: ScheduleId(full),
        full_cadence: Cadence {
            cron: "0 0 * * 0".to_owned(),
            next,
        },
        incremental: incremental.map(|id| (ScheduleId(id), "0 * * * *".to_owned())),
        on_failure: OnFailure::Reschedule,
        on_previous: OnPrevious::Skip,
    }
}

/// Keys of a schedule; `secret` stands for what is sealed of them.
pub(crate) fn schedule_keys(secret: u8) -> ScheduleKeys {
    ScheduleKeys {
        passphrase: true,
        kms: vec!["vault://h/transit/k".to_owned()],
        sealed: Sealed::from_sealed(vec![secret; 24]),
    }
}

/// Some change of a schedule.
pub(crate) fn change(by: u16, next: Timestamp) -> ScheduleChange {
    let cadence = || Cadence {
        cron: "@daily".to_owned(),
        next,
    };
    let nothing = ScheduleChange::default();
    match by % 8 {
        0 => ScheduleChange {
            collection: Some(("file:///elsewhere".to_owned(), CollectionAccess::default())),
            ..nothing
        },
        1 => ScheduleChange {
            pairing: Some(Pairing::Single),
            full: Some(cadence()),
            ..nothing
        },
        2 => ScheduleChange {
            pairing: Some(Pairing::Pair(
                ScheduleId(u64::from(by / 7 % 16)),
                "@hourly".to_owned(),
            )),
            ..nothing
        },
        3 => ScheduleChange {
            on_failure: Some([OnFailure::Retry, OnFailure::Pause][usize::from(by / 7 % 2)]),
            on_previous: Some(OnPrevious::Start),
            ..nothing
        },
        4 => ScheduleChange {
            history: Some(true),
            label: Some("other".to_owned()),
            ..nothing
        },
        7 => ScheduleChange {
            keys: Some(schedule_keys(1)),
            ..nothing
        },
        5 => ScheduleChange {
            label: Some(String::new()),
            ..nothing
        },
        _ => ScheduleChange {
            incremental: Some(cadence()),
            ..nothing
        },
    }
}

/// A connection that leads to an address; `secret` stands for what is sealed of it.
pub(crate) fn user(name: &str, secret: u8) -> UserRecord {
    UserRecord {
        name: name.parse().expect("a name"),
        sealed: Sealed::from_sealed(vec![secret; 20]),
        created_at: Timestamp::from_millis(u64::from(secret)),
        changed_at: Timestamp::from_millis(u64::from(secret)),
    }
}

pub(crate) fn connection(name: &str, address: &str, secret: u8) -> ConnectionRecord {
    ConnectionRecord {
        name: name.parse().expect("a name"),
        address: address.to_owned(),
        shown: address.to_owned(),
        sealed: Sealed::from_sealed(vec![secret; 20]),
        changed_at: Timestamp::from_millis(u64::from(secret)),
    }
}
