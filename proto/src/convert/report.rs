//! What a worker says of its tasks.

use bytes::Bytes;
use holdfast_types::{
    ByteCount, Digest, Fault, ObjectRef, PlannedSpan, Relation, RowCount, Sealed, SettledDatabase,
};

use super::{
    Lease, digest_from_wire, from_json, malformed, sealed_to_wire, to_json, wire_to_sealed,
};
use crate::fault::{fault_to_wire, wire_to_fault};
use crate::v1;

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
    /// Something that whoever asked for the job should know; the task goes on.
    Notes {
        /// What, for people.
        notes: Vec<String>,
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
            Self::Notes { .. } => false,
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
            LeaseReportBody::Notes { notes } => Wire::Notes(v1::TaskNotes {
                notes: notes.clone(),
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
            Some(Wire::Notes(said)) => LeaseReportBody::Notes { notes: said.notes },
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
