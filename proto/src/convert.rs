//! The worker protocol as types: what a coordinator and a worker say to each other, checked once at the border.
//!
//! Whatever comes from the wire is untrusted: every conversion from it gives a [`Fault`] that names the field.

mod check;
mod grant;
mod hold;
mod lease;
mod report;

pub use check::{CheckAnswer, CheckOrder, CheckReport, CheckWhat};
pub use grant::{Grant, SpanWork, Work, planned_to_wire};
pub use hold::{HoldAnswer, HoldOrder};
pub use lease::Lease;
pub use report::{LeaseReport, LeaseReportBody};

use bytes::Bytes;
use holdfast_types::{
    ByteCount, ClusterId, Digest, ErrorCode, Fault, ObjectRef, PlannedSpan, RelationId, RowCount,
    Sealed,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::v1;

impl From<&ObjectRef> for v1::Object {
    fn from(object: &ObjectRef) -> Self {
        Self {
            name: object.name.clone(),
            length: object.length.0,
            digest: Bytes::copy_from_slice(&object.digest.0),
            rows: object.rows.0,
            logical: object.logical.0,
        }
    }
}

impl TryFrom<v1::Object> for ObjectRef {
    type Error = Fault;

    fn try_from(wire: v1::Object) -> Result<Self, Fault> {
        Ok(Self {
            digest: digest_from_wire(&wire.digest, "object.digest")?,
            name: wire.name,
            length: ByteCount(wire.length),
            rows: RowCount(wire.rows),
            logical: ByteCount(wire.logical),
        })
    }
}

impl From<&PlannedSpan> for v1::PlannedSpan {
    fn from(span: &PlannedSpan) -> Self {
        Self {
            relation: span.relation.0,
            start: sealed_to_wire(&span.start),
            end: sealed_to_wire(&span.end),
            weight: span.weight.0,
            settles: span.settles,
        }
    }
}

impl From<&v1::PlannedSpan> for PlannedSpan {
    fn from(wire: &v1::PlannedSpan) -> Self {
        Self {
            relation: RelationId(wire.relation),
            start: wire_to_sealed(&wire.start),
            end: wire_to_sealed(&wire.end),
            weight: ByteCount(wire.weight),
            settles: wire.settles,
        }
    }
}

/// Sealed bytes as a field.
#[must_use]
pub fn sealed_to_wire(sealed: &Sealed) -> Bytes {
    Bytes::copy_from_slice(sealed.as_bytes())
}

/// A field as sealed bytes; they are not opened, so nothing can be wrong with them here.
#[must_use]
pub fn wire_to_sealed(wire: &[u8]) -> Sealed {
    Sealed::from_sealed(wire)
}

/// A cluster id; `None` if the field is empty.
///
/// # Errors
/// The field is neither empty nor 16 bytes.
pub fn cluster_from_wire(wire: &[u8]) -> Result<Option<ClusterId>, Fault> {
    if wire.is_empty() {
        return Ok(None);
    }
    wire.try_into()
        .map(|bytes| Some(ClusterId(bytes)))
        .map_err(|_| malformed("cluster_id", "is not 16 bytes"))
}

/// A digest.
///
/// # Errors
/// The field is not 32 bytes; `field` names it.
pub fn digest_from_wire(wire: &[u8], field: &str) -> Result<Digest, Fault> {
    wire.try_into()
        .map(Digest)
        .map_err(|_| malformed(field, "is not 32 bytes"))
}

/// A value as JSON.
#[must_use]
pub fn to_json<T: Serialize>(value: &T) -> Bytes {
    serde_json::to_vec(value)
        .expect("the protocol's types are plain structs, enums and string-keyed maps, which JSON can hold")
        .into()
}

/// Reads a value from JSON.
///
/// # Errors
/// The field does not hold such a value; `field` names it. The content is not repeated: it may hold names and credentials.
pub fn from_json<T: DeserializeOwned>(bytes: &[u8], field: &str) -> Result<T, Fault> {
    serde_json::from_slice(bytes).map_err(|error| {
        malformed(
            field,
            &format!("cannot be read (column {})", error.column()),
        )
        .hint("is the peer of a newer version?")
    })
}

fn malformed(field: &str, what: &str) -> Fault {
    Fault::new(
        ErrorCode::InvalidArgument,
        format!("malformed message: {field} {what}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_types::{
        BackupMember, BackupSpec, Hlc, HoldId, JobSpec, LayerPath, Locality, MemberRecord,
        Relation, SettledDatabase, SourceKind, TableName, Target,
    };

    fn grant(work: Work) -> Grant {
        Grant {
            lease: Lease::new(7, 3, 2),
            spec: JobSpec::Backup(BackupSpec {
                source: "shop".parse().expect("a name"),
                kind: SourceKind::Mvcc,
                members: vec![BackupMember {
                    member: MemberRecord {
                        name: "m1".parse().expect("a name"),
                        locality: Locality::default(),
                        address: "localhost:1".to_owned(),
                        secret: Some(Sealed::from_sealed(vec![1, 2])),
                        limits: holdfast_types::MemberLimits {
                            streams: Some(2),
                            ..holdfast_types::MemberLimits::default()
                        },
                    },
                }],
                target: Target::Source,
                collection: "memory://c".to_owned(),
                access: holdfast_types::CollectionAccess::default(),
                path: LayerPath::full("2026/11/23-190800.00"),
                parent: None,
                end: Hlc::ZERO.next(),
                history: false,
                execution_locality: Locality::default(),
                part_size: 1 << 20,
                hold: holdfast_types::HoldUse::Chain(HoldId(4)),
                encryption: None,
            }),
            hold: Some(HoldId(9)),
            cluster: ClusterId([4; 16]),
            work,
        }
    }

    fn relation() -> Relation {
        Relation {
            id: RelationId(5),
            name: TableName {
                database: "app".to_owned(),
                table: "accounts".to_owned(),
            },
            created_at: Hlc::ZERO.into(),
            dropped_at: None,
            definition: vec![0, 255],
        }
    }

    #[test]
    fn every_grant_survives_the_wire() {
        let works = [
            Work::Plan {
                member: 1,
                span_size: ByteCount(64),
            },
            Work::Span(SpanWork {
                member: 0,
                relation: RelationId(5),
                start: Sealed::open_end(),
                end: Sealed::from_sealed(vec![3; 20]),
                frontier: Sealed::from_sealed(vec![2; 20]),
                record: Some(relation()),
                settles: true,
                planned: vec![relation(), relation()],
            }),
            Work::Finish {
                member: 0,
                relations: vec![relation()],
            },
            Work::Revert { member: 2 },
        ];
        for work in works {
            let grant = grant(work);
            let wire = v1::TaskGrant::from(&grant);
            assert_eq!(Grant::try_from(wire), Ok(grant));
        }
    }

    #[test]
    fn every_report_survives_the_wire() {
        let bodies = [
            LeaseReportBody::Plan {
                batch: 1,
                relations: vec![relation()],
                spans: vec![PlannedSpan {
                    relation: RelationId(5),
                    start: Sealed::open_end(),
                    end: Sealed::open_end(),
                    weight: ByteCount(11),
                    settles: true,
                }],
                last: true,
            },
            LeaseReportBody::Checkpoint {
                from: Sealed::open_end(),
                to: Sealed::from_sealed(vec![3; 20]),
                last: false,
                objects: vec![ObjectRef {
                    name: "7-3-2-0.hfs".to_owned(),
                    length: ByteCount(1),
                    digest: Digest([6; 32]),
                    rows: RowCount(2),
                    logical: ByteCount(3),
                }],
                read: ByteCount(1),
                written: ByteCount(2),
                rows: RowCount(3),
                settled: Some(SettledDatabase {
                    end: holdfast_types::Settled {
                        position: Hlc::ZERO.into(),
                        at: Hlc::ZERO,
                    },
                    relations: vec![relation()],
                    keeps_history: true,
                }),
            },
            LeaseReportBody::Done {
                rows: RowCount(1),
                fingerprint: Some(Digest([1; 32])),
            },
            LeaseReportBody::Released,
            LeaseReportBody::Failed {
                fault: Fault::new(ErrorCode::Corrupted, "object x is damaged").hint("restore it"),
            },
        ];
        for body in bodies {
            let report = LeaseReport {
                lease: Lease::new(7, 3, 2),
                sequence: 4,
                body,
            };
            let wire = v1::TaskReport::from(&report);
            assert_eq!(LeaseReport::try_from(wire), Ok(report));
        }
    }

    #[test]
    fn garbage_is_refused_by_the_name_of_its_field() {
        let mut wire = v1::TaskGrant::from(&grant(Work::Revert { member: 0 }));
        wire.spec = Bytes::from_static(b"{\"Backup\":");
        let fault = Grant::try_from(wire.clone()).expect_err("cut JSON");
        assert!(fault.message.contains("grant.spec"), "{fault}");
        wire.work = None;
        let fault = Grant::try_from(wire).expect_err("no work");
        assert!(fault.message.contains("grant.work"), "{fault}");
        assert!(digest_from_wire(&[1; 31], "object.digest").is_err());
        assert!(cluster_from_wire(&[1; 3]).is_err());
        assert_eq!(cluster_from_wire(&[]), Ok(None));
    }
}
