//! The worker protocol as types: what a coordinator and a worker say to each other, checked once at the border.
//!
//! Whatever comes from the wire is untrusted: every conversion from it gives a [`Fault`] that names the field.

use bytes::Bytes;
use holdfast_types::{
    ByteCount, ClusterId, Digest, Epoch, ErrorCode, Fault, HoldId, JobId, JobSpec, MemberName,
    MemberRecord, ObjectRef, PlannedSpan, Position, Relation, RelationId, RowCount, Sealed,
    SettledDatabase, SourceKind, SourceName, TaskId,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;

use crate::fault::{fault_to_wire, wire_to_fault};
use crate::v1;

/// A lease as both sides name it: a task and the epoch of its holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lease {
    /// The task.
    pub task: TaskId,
    /// The lease's epoch.
    pub epoch: Epoch,
}

impl Lease {
    /// From the three numbers that messages carry.
    #[must_use]
    pub fn new(job: u64, task: u32, epoch: u64) -> Self {
        Self {
            task: TaskId {
                job: JobId(job),
                index: task,
            },
            epoch: Epoch(epoch),
        }
    }
}

impl fmt::Display for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.task, self.epoch)
    }
}

impl From<&v1::HeldLease> for Lease {
    fn from(wire: &v1::HeldLease) -> Self {
        Self::new(wire.job, wire.task, wire.epoch)
    }
}

impl From<Lease> for v1::HeldLease {
    fn from(lease: Lease) -> Self {
        Self {
            job: lease.task.job.0,
            task: lease.task.index,
            epoch: lease.epoch.0,
        }
    }
}

/// A lease, with all that is needed to do the task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The lease.
    pub lease: Lease,
    /// The job's specification.
    pub spec: JobSpec,
    /// The job's hold, if it needs one.
    pub hold: Option<HoldId>,
    /// The cluster that grants.
    pub cluster: ClusterId,
    /// What is to be done.
    pub work: Work,
}

/// What a grant asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// Place the hold, describe the member, cut it into spans.
    Plan {
        /// Index of the member in the specification.
        member: u32,
        /// About how many logical bytes a span should have.
        span_size: ByteCount,
    },
    /// Transfer one span.
    Span(SpanWork),
    /// Check and publish the tables of a restore on one member.
    Finish {
        /// Index of the member in the specification.
        member: u32,
        /// The relations restored there.
        relations: Vec<Relation>,
    },
    /// Undo a restore on one member.
    Revert {
        /// Index of the member in the specification.
        member: u32,
    },
}

/// One span to transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpanWork {
    /// Index of the member in the specification.
    pub member: u32,
    /// The relation (a verification: the layer's index).
    pub relation: RelationId,
    /// First key.
    pub start: Sealed,
    /// First key after.
    pub end: Sealed,
    /// Everything before this is done.
    pub frontier: Sealed,
    /// The relation as planned, if the specification does not tell.
    pub record: Option<Relation>,
    /// All other spans of the member are done: its last checkpoint says where its database ended, and what the layer holds of it.
    pub settles: bool,
    /// If it settles: the other relations of its database, as planned.
    pub planned: Vec<Relation>,
}

/// A relation for [`SpanWork::planned`]: JSON would write a definition four times as long.
#[must_use]
pub fn planned_to_wire(relation: &Relation) -> v1::PlannedRelation {
    let record = Relation {
        definition: Vec::new(),
        ..relation.clone()
    };
    v1::PlannedRelation {
        record: to_json(&record),
        definition: Bytes::copy_from_slice(&relation.definition),
    }
}

fn planned_from_wire(wire: &v1::PlannedRelation) -> Result<Relation, Fault> {
    let record: Relation = from_json(&wire.record, "span.planned")?;
    Ok(Relation {
        definition: wire.definition.to_vec(),
        ..record
    })
}

impl From<&Grant> for v1::TaskGrant {
    fn from(grant: &Grant) -> Self {
        use v1::task_grant::Work as Wire;
        let work = match &grant.work {
            Work::Plan { member, span_size } => Wire::Plan(v1::PlanWork {
                member: *member,
                span_size: span_size.0,
            }),
            Work::Span(span) => Wire::Span(v1::SpanWork {
                member: span.member,
                relation: span.relation.0,
                start: sealed_to_wire(&span.start),
                end: sealed_to_wire(&span.end),
                frontier: sealed_to_wire(&span.frontier),
                relation_record: span.record.as_ref().map(to_json).unwrap_or_default(),
                settles: span.settles,
                planned: span.planned.iter().map(planned_to_wire).collect(),
            }),
            Work::Finish { member, relations } => Wire::Finish(v1::FinishWork {
                member: *member,
                relations: to_json(relations),
            }),
            Work::Revert { member } => Wire::Revert(v1::RevertWork { member: *member }),
        };
        Self {
            job: grant.lease.task.job.0,
            task: grant.lease.task.index,
            epoch: grant.lease.epoch.0,
            spec: to_json(&grant.spec),
            hold: grant.hold.map_or(0, |hold| hold.0),
            cluster_id: Bytes::copy_from_slice(&grant.cluster.0),
            work: Some(work),
        }
    }
}

impl TryFrom<v1::TaskGrant> for Grant {
    type Error = Fault;

    fn try_from(wire: v1::TaskGrant) -> Result<Self, Fault> {
        use v1::task_grant::Work as Wire;
        let work = match wire.work {
            Some(Wire::Plan(plan)) => Work::Plan {
                member: plan.member,
                span_size: ByteCount(plan.span_size),
            },
            Some(Wire::Span(span)) => Work::Span(SpanWork {
                member: span.member,
                relation: RelationId(span.relation),
                start: wire_to_sealed(&span.start),
                end: wire_to_sealed(&span.end),
                frontier: wire_to_sealed(&span.frontier),
                record: match span.relation_record.is_empty() {
                    true => None,
                    false => Some(from_json(&span.relation_record, "span.relation_record")?),
                },
                settles: span.settles,
                planned: span
                    .planned
                    .iter()
                    .map(planned_from_wire)
                    .collect::<Result<_, _>>()?,
            }),
            Some(Wire::Finish(finish)) => Work::Finish {
                member: finish.member,
                relations: from_json(&finish.relations, "finish.relations")?,
            },
            Some(Wire::Revert(revert)) => Work::Revert {
                member: revert.member,
            },
            None => return Err(malformed("grant.work", "is missing")),
        };
        Ok(Self {
            lease: Lease::new(wire.job, wire.task, wire.epoch),
            spec: from_json(&wire.spec, "grant.spec")?,
            hold: (wire.hold != 0).then_some(HoldId(wire.hold)),
            cluster: cluster_from_wire(&wire.cluster_id)?
                .ok_or_else(|| malformed("grant.cluster_id", "is missing"))?,
            work,
        })
    }
}

/// A worker's report of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseReport {
    /// The lease under which the worker speaks.
    pub lease: Lease,
    /// Grows by one with every report of a lease; the acknowledgement repeats it.
    pub sequence: u64,
    /// What it says.
    pub body: LeaseReportBody,
}

/// What a worker says of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseReportBody {
    /// Part of a plan.
    Plan {
        /// Counts from 0 within a lease.
        batch: u32,
        /// Relations on the member.
        relations: Vec<Relation>,
        /// Spans, in order.
        spans: Vec<PlannedSpan>,
        /// The plan is complete.
        last: bool,
    },
    /// Durable progress: everything in `[from, to)` is done.
    Checkpoint {
        /// The frontier before.
        from: Sealed,
        /// The frontier after.
        to: Sealed,
        /// The span is finished.
        last: bool,
        /// The objects that prove it.
        objects: Vec<ObjectRef>,
        /// Bytes read from the source (backup) or the collection (restore, verify).
        read: ByteCount,
        /// Bytes written to the collection (backup) or the source (restore).
        written: ByteCount,
        /// Rows.
        rows: RowCount,
        /// With the last one of a settling span: where its database ended, and what the layer holds of it.
        settled: Option<SettledDatabase>,
    },
    /// A finish or revert task is done.
    Done {
        /// Rows counted.
        rows: RowCount,
        /// Digest found.
        fingerprint: Option<Digest>,
    },
    /// The lease is given back; nothing is in flight.
    Released,
    /// The task failed.
    Failed {
        /// Why.
        fault: Fault,
    },
}

impl LeaseReportBody {
    /// Whether the lease ends when this report is accepted.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Plan { last, .. } | Self::Checkpoint { last, .. } => *last,
            Self::Done { .. } | Self::Released | Self::Failed { .. } => true,
        }
    }
}

impl From<&LeaseReport> for v1::TaskReport {
    fn from(report: &LeaseReport) -> Self {
        use v1::task_report::Body as Wire;
        let body = match &report.body {
            LeaseReportBody::Plan {
                batch,
                relations,
                spans,
                last,
            } => Wire::Plan(v1::PlanBatch {
                batch: *batch,
                relations: relations.iter().map(to_json).collect(),
                spans: spans.iter().map(v1::PlannedSpan::from).collect(),
                last: *last,
            }),
            LeaseReportBody::Checkpoint {
                from,
                to,
                last,
                objects,
                read,
                written,
                rows,
                settled,
            } => Wire::Checkpoint(v1::SpanCheckpoint {
                from: sealed_to_wire(from),
                to: sealed_to_wire(to),
                last: *last,
                objects: objects.iter().map(v1::Object::from).collect(),
                bytes_read: read.0,
                bytes_written: written.0,
                rows: rows.0,
                settled: settled.as_ref().map(to_json).unwrap_or_default(),
            }),
            LeaseReportBody::Done { rows, fingerprint } => Wire::Done(v1::TaskDone {
                rows: rows.0,
                fingerprint: fingerprint
                    .map(|digest| Bytes::copy_from_slice(&digest.0))
                    .unwrap_or_default(),
            }),
            LeaseReportBody::Released => Wire::Released(v1::TaskReleased {}),
            LeaseReportBody::Failed { fault } => Wire::Failed(v1::TaskFailed {
                fault: Some(fault_to_wire(fault)),
            }),
        };
        Self {
            job: report.lease.task.job.0,
            task: report.lease.task.index,
            epoch: report.lease.epoch.0,
            sequence: report.sequence,
            body: Some(body),
        }
    }
}

impl TryFrom<v1::TaskReport> for LeaseReport {
    type Error = Fault;

    fn try_from(wire: v1::TaskReport) -> Result<Self, Fault> {
        use v1::task_report::Body as Wire;
        let body = match wire.body {
            Some(Wire::Plan(plan)) => LeaseReportBody::Plan {
                batch: plan.batch,
                relations: plan
                    .relations
                    .iter()
                    .map(|relation| from_json(relation, "plan.relations"))
                    .collect::<Result<_, _>>()?,
                spans: plan.spans.iter().map(PlannedSpan::from).collect(),
                last: plan.last,
            },
            Some(Wire::Checkpoint(checkpoint)) => LeaseReportBody::Checkpoint {
                from: wire_to_sealed(&checkpoint.from),
                to: wire_to_sealed(&checkpoint.to),
                last: checkpoint.last,
                objects: checkpoint
                    .objects
                    .into_iter()
                    .map(ObjectRef::try_from)
                    .collect::<Result<_, _>>()?,
                read: ByteCount(checkpoint.bytes_read),
                written: ByteCount(checkpoint.bytes_written),
                rows: RowCount(checkpoint.rows),
                settled: match checkpoint.settled.is_empty() {
                    true => None,
                    false => Some(from_json(&checkpoint.settled, "checkpoint.settled")?),
                },
            },
            Some(Wire::Done(done)) => LeaseReportBody::Done {
                rows: RowCount(done.rows),
                fingerprint: match done.fingerprint.is_empty() {
                    true => None,
                    false => Some(digest_from_wire(&done.fingerprint, "done.fingerprint")?),
                },
            },
            Some(Wire::Released(_)) => LeaseReportBody::Released,
            Some(Wire::Failed(failed)) => LeaseReportBody::Failed {
                fault: failed
                    .fault
                    .map(wire_to_fault)
                    .ok_or_else(|| malformed("failed.fault", "is missing"))?,
            },
            None => return Err(malformed("report.body", "is missing")),
        };
        Ok(Self {
            lease: Lease::new(wire.job, wire.task, wire.epoch),
            sequence: wire.sequence,
            body,
        })
    }
}

/// What is to become of a hold on a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldOrder {
    /// The hold.
    pub hold: HoldId,
    /// The source.
    pub source: SourceName,
    /// Its kind.
    pub kind: SourceKind,
    /// The member.
    pub member: MemberRecord,
    /// History up to here may go, and the hold stays; `None`: it ends.
    pub advance_to: Option<Position>,
}

/// What became of a [`HoldOrder`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldAnswer {
    /// The hold.
    pub hold: HoldId,
    /// The member.
    pub member: MemberName,
    /// As in the order.
    pub advance_to: Option<Position>,
    /// The error, if it could not be done.
    pub outcome: Result<(), Fault>,
}

impl From<&HoldAnswer> for v1::HoldOrderDone {
    fn from(answer: &HoldAnswer) -> Self {
        Self {
            hold: answer.hold.0,
            member: answer.member.to_string(),
            fault: answer.outcome.as_ref().err().map(fault_to_wire),
            advance_to: answer.advance_to.as_ref().map(to_json).unwrap_or_default(),
        }
    }
}

impl From<&HoldOrder> for v1::HoldOrder {
    fn from(order: &HoldOrder) -> Self {
        Self {
            hold: order.hold.0,
            source: order.source.to_string(),
            member: to_json(&order.member),
            kind: order.kind.to_string(),
            advance_to: order.advance_to.as_ref().map(to_json).unwrap_or_default(),
        }
    }
}

impl TryFrom<v1::HoldOrder> for HoldOrder {
    type Error = Fault;

    fn try_from(wire: v1::HoldOrder) -> Result<Self, Fault> {
        Ok(Self {
            hold: HoldId(wire.hold),
            source: wire.source.parse()?,
            kind: wire.kind.parse()?,
            member: from_json(&wire.member, "hold_order.member")?,
            advance_to: position_from_wire(&wire.advance_to, "hold_order.advance_to")?,
        })
    }
}

impl TryFrom<v1::HoldOrderDone> for HoldAnswer {
    type Error = Fault;

    fn try_from(wire: v1::HoldOrderDone) -> Result<Self, Fault> {
        Ok(Self {
            hold: HoldId(wire.hold),
            member: wire.member.parse()?,
            advance_to: position_from_wire(&wire.advance_to, "hold_order_done.advance_to")?,
            outcome: wire.fault.map_or(Ok(()), |fault| Err(wire_to_fault(fault))),
        })
    }
}

fn position_from_wire(wire: &[u8], field: &str) -> Result<Option<Position>, Fault> {
    match wire.is_empty() {
        true => Ok(None),
        false => from_json(wire, field).map(Some),
    }
}

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
    use holdfast_types::{BackupMember, BackupSpec, Hlc, LayerPath, Locality, TableName, Target};

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
                    },
                }],
                target: Target::Source,
                collection: "memory://c".to_owned(),
                path: LayerPath::full("2026/11/23-190800.00"),
                parent: None,
                end: Hlc::ZERO.next(),
                history: false,
                execution_locality: Locality::default(),
                part_size: 1 << 20,
                hold: holdfast_types::HoldUse::Chain(HoldId(4)),
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
