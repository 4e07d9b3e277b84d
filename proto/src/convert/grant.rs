//! What a leader gives to a worker.

use bytes::Bytes;
use holdfast_types::{ByteCount, ClusterId, Fault, HoldId, JobSpec, Relation, RelationId, Sealed};

use super::{
    Lease, cluster_from_wire, from_json, malformed, sealed_to_wire, to_json, wire_to_sealed,
};
use crate::v1;

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
