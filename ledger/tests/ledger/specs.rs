//! Sources and job specifications for the tests.

use holdfast_ledger::LayerRecord;
use holdfast_types::{
    BackupMember, BackupSpec, Digest, Hlc, HoldUse, JobSpec, LayerPath, Locality, MemberRecord,
    ParentLayer, RestoreMember, RestoreOptions, RestoreSpec, SourceKind, SourceRecord, Target,
    Timestamp, VerifySpec,
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
        layers: vec![(LayerPath::full("full-000010"), Digest::of(b"manifest"))],
        execution_locality: Locality::default(),
        encryption: None,
    })
}
